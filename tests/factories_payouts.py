"""One capture of 19.99 and its way to the bank: the file that states it, the payout, the credit."""

from datetime import date
from decimal import Decimal
from pathlib import Path

from checkout.models import Attempt
from settlements import payouts, reconciliation, resolving
from settlements.closing import close_periods
from settlements.models import Discrepancy, Kind, Payout, Way
from settlements.settling import store_default_schedules
from tests.factories import LANE, World
from tests.factories_bank import Credit, bank_take_in
from tests.factories_settlements import statement_text, take_in

LAST_OF_JANUARY = date(2026, 1, 31)
LEFT = date(2026, 2, 2)  # two days after the captures, as the sandbox does
NAME = f"po_{LANE}_20260131"
NET = Decimal("19.11")  # 19.99 less 2.9 % and 0.30


def captured_world() -> World:
    """A capture of the last of January, its settlement closed; three days later."""
    world = World()
    world.receive(charge := world.due_charge())
    assert Attempt.objects.filter(charge=charge, outcome="captured").exists()
    store_default_schedules(now=world.clock.now())
    world.clock.forward(days=1)
    close_periods(clock=world.clock, ages=world.ages)
    world.clock.forward(days=2)
    return world


def prove(world: World) -> payouts.Proved:
    return payouts.prove(clock=world.clock, ages=world.ages)


def stated(world: World, folder: Path) -> Payout:
    """The processor's file, from the capture to the day its payout left, gathered."""
    take_in(statement_text(LAST_OF_JANUARY, LEFT), world=world, folder=folder)
    prove(world)
    return Payout.objects.get(reference=NAME)


def credited(world: World, folder: Path, *credits: Credit, first: date = LEFT) -> None:
    bank_take_in(credits, world=world, folder=folder, first=first, last=date(2026, 2, 8))


def named(amount: str = str(NET), **other: object) -> Credit:
    return Credit(amount, date(2026, 2, 3), **({"end_to_end": NAME} | other))  # type: ignore[arg-type]


def accepted_short(world: World, folder: Path, amount: str = "4.11") -> Discrepancy:
    """Two people accept what the bank kept of the payout."""
    stated(world, folder)
    credited(world, folder, named(amount))
    prove(world)
    return accepted(world)


def accepted(world: World) -> Discrepancy:
    """Two people accept by how much the one credit is less than what left; it lands, and is booked."""
    reconciliation.reconcile(clock=world.clock, ages=world.ages, kinds=[Kind.PAYOUT])
    short = Discrepancy.objects.get(fingerprint__endswith=":bank")
    now = world.clock.now()
    proposal = resolving.propose(
        discrepancy_ids=[short.pk], way=Way.ACCEPTED, by="ann", reason="wire fee of 15.00", now=now
    )
    prove(world)
    assert Payout.objects.get().landed_on is None
    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason="by the tariff", now=now
    )
    prove(world)
    return short


def with_lines(
    text: str, *lines: tuple[str, str, str], reference: str = "", of: Decimal = NET
) -> str:
    """The statement of one day with more lines: type, gross and fee of each, in the same payout."""
    head, _, closing = text.rstrip("\n").rpartition("\n")
    rows, balance = [], of
    for n, (type, gross, fee) in enumerate(lines):
        net = Decimal(gross) - Decimal(fee)
        balance += net
        rows.append(
            f"x-{n},{type},{reference},,2026-01-31T13:00:00Z,{gross},{fee},{net},USD,{NAME}"
        )
    closing = closing.replace(f",{of},USD", f",{balance},USD")
    return "\n".join([head, *rows, closing]) + "\n"
