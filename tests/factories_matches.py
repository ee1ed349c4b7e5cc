"""Statement files whose lines do not say whose they are, and matches of them by hand."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

from checkout.gateways import InDoubt
from checkout.models import Attempt, Charge
from processor.statement import Capture, render
from settlements import matching, reconciliation
from settlements.models import Proposal, ReconciliationRun, StatementLine
from tests.factories import LANE, World
from tests.factories_settlements import captures, take_in

WHY = "support of the processor named it"
TORN = "torn-"


def paid(world: World, price: str = "19.99") -> Attempt:
    charge = world.due_charge(price=price)
    world.receive(charge)
    return attempt_of(charge)


def doubtful(world: World, price: str = "199.00") -> Attempt:
    world.gateway.answers = [lambda _: InDoubt("silence")]
    return paid(world, price)


def attempt_of(charge: Charge) -> Attempt:
    return Attempt.objects.get(charge=charge)


def told(
    world: World,
    folder: Path,
    *amounts: str,
    without: Collection[Attempt] = (),
    named: Sequence[tuple[Attempt, str]] = (),
) -> list[StatementLine]:
    """The day passes and its file comes: true captures but `without`, and lines that name nobody.

    `named` are lines that name an attempt, with an amount. Returns the lines that name nobody.
    """
    at = world.clock.business_now()
    hidden = {str(each.pk) for each in without}
    known = [c for c in captures(Attempt.objects.filter(lane=LANE)) if c.reference not in hidden]
    extra = [(f"{TORN}{at:%m%d}-{n}", amount) for n, amount in enumerate(amounts, start=1)] + [
        (str(attempt.pk), amount) for attempt, amount in named
    ]
    known += [
        Capture(reference, f"sbx_{at:%m%d}_{n}", at, Decimal(amount))
        for n, (reference, amount) in enumerate(extra)
    ]
    world.clock.forward(days=1, seconds=3 * 3600)
    day = at.date()
    text = render(account=LANE, captures=known, first=day, last=day)
    take_in(text, world=world, folder=folder, name=f"{day}.csv")
    find(world)
    return list(
        StatementLine.objects.filter(reference__startswith=f"{TORN}{at:%m%d}").order_by("pk")
    )


def find(world: World) -> ReconciliationRun:
    return reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def match_of(lines: Sequence[StatementLine], attempts: Sequence[Attempt]) -> matching.Match:
    return matching.draft_match(
        line_ids=[line.pk for line in lines], attempt_ids=[each.pk for each in attempts]
    )


def proposed_match(
    world: World,
    lines: Sequence[StatementLine],
    attempts: Sequence[Attempt],
    *,
    seen: str = "",
    by: str = "ann",
) -> Proposal:
    return matching.propose(
        line_ids=[line.pk for line in lines],
        attempt_ids=[each.pk for each in attempts],
        seen=seen or match_of(lines, attempts).sha256,
        by=by,
        reason=WHY,
        now=world.clock.now(),
        gateways=world.gateways,
        ages=world.ages,
    )


def approved_match(
    world: World, proposal: Proposal, *, by: str = "bob", seen: str = ""
) -> Proposal:
    return matching.approve(
        proposal_id=proposal.pk,
        seen=seen or proposal.sha256,
        by=by,
        reason=WHY,
        now=world.clock.now(),
        gateways=world.gateways,
        ages=world.ages,
    )
