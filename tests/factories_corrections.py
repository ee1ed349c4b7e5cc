"""A day whose file says other than we captured, its payout landed: what clearing is off by, and who corrects it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

from checkout.gateways import DeclineClass, Declined
from checkout.models import Attempt
from processor.statement import Capture, render
from settlements import payouts, reconciliation, resolving
from settlements.models import Discrepancy, Payout, Proposal, Way
from tests.factories import LANE, World
from tests.factories_bank import Credit, bank_take_in
from tests.factories_matches import paid
from tests.factories_settlements import captures, take_in

DAY = date(2026, 1, 31)
LEFT = date(2026, 2, 2)  # two days after the captures, as the sandbox does
WHY = "asked the processor"
Told = Callable[[list[Capture]], list[Capture]]


def proved(world: World) -> None:
    payouts.prove(clock=world.clock, ages=world.ages)


def found(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def landed(world: World, folder: Path, told: Told) -> None:
    """Two captures of 19.99 and one that was declined; what the file tells of them has landed."""
    paid(world), paid(world)
    world.gateway.answers = [lambda _: Declined(DeclineClass.FUNDS, "insufficient_funds")]
    paid(world)
    world.clock.forward(days=3, seconds=3 * 3600)
    known = told(captures(Attempt.objects.filter(lane=LANE).order_by("id")))
    take_in(
        render(account=LANE, captures=known, first=DAY, last=LEFT),
        world=world,
        folder=folder,
        name="told.csv",
    )
    proved(world)
    left = Payout.objects.get()
    credit = Credit(str(left.paid), date(2026, 2, 3), end_to_end=left.reference)
    bank_take_in([credit], world=world, folder=folder, first=LEFT, last=date(2026, 2, 8))
    proved(world)
    found(world)


def of_nobody(known: list[Capture]) -> list[Capture]:
    return [*known, replace(known[0], reference="torn-1", processor_reference="sbx_torn")]


def one_missing(known: list[Capture]) -> list[Capture]:
    return known[1:]


def one_by(cents: str) -> Told:
    return lambda known: [replace(known[0], amount=known[0].amount + Decimal(cents)), *known[1:]]


def one_twice(known: list[Capture]) -> list[Capture]:
    return [*known, replace(known[0], processor_reference="sbx_again")]


def one_in_parts(known: list[Capture]) -> list[Capture]:
    first = known[0]
    again = replace(first, processor_reference="sbx_part", amount=Decimal("9.90"))
    return [replace(first, amount=Decimal("10.00")), again, *known[1:]]


def one_declined(known: list[Capture]) -> list[Capture]:
    declined = Attempt.objects.get(outcome="declined")
    return [*known, replace(known[0], reference=str(declined.pk), processor_reference="sbx_no")]


def true(known: list[Capture]) -> list[Capture]:
    return known


def proposed(world: World, *rows: Discrepancy, way: Way = Way.CORRECTED) -> Proposal:
    return resolving.propose(
        discrepancy_ids=[row.pk for row in rows],
        way=way,
        by="ann",
        reason=WHY,
        now=world.clock.now(),
    )


def approved(world: World, proposal: Proposal) -> None:
    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason=WHY, now=world.clock.now()
    )


def corrected(world: World, row: Discrepancy) -> Proposal:
    """One proposes, another approves."""
    proposal = proposed(world, row)
    approved(world, proposal)
    return proposal


def opened_again(world: World, row: Discrepancy) -> None:
    resolving.reopen(discrepancy_ids=[row.pk], by="ann", reason=WHY, now=world.clock.now())
