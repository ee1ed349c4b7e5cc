"""A discrepancy says its arithmetic where there is one, out of the rows around it (issue: Explained)."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from checkout.gateways import Approved
from checkout.models import Attempt, LedgerPosting
from settlements import payouts, reconciliation, resolving
from settlements.clues import clues_of
from settlements.explaining import Explanation, explain
from settlements.models import Discrepancy, FeeTerms, Kind, StatementLine, Way
from settlements.roles import VIEWER
from tests.factories import LANE, World
from tests.factories_roles import member, pages_at
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db

DAY = date(2026, 1, 31)


@pytest.fixture
def world() -> World:
    FeeTerms.objects.create(
        lane=LANE, valid_from=date(2020, 1, 1), rate=Decimal("0.029"), fixed=Decimal("0.30")
    )
    return World()


def captured(world: World) -> Attempt:
    charge = world.due_charge()
    world.receive(charge)
    return Attempt.objects.get(charge=charge)


def told(world: World, folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """The day's file with its charge lines changed, and a pass over it."""
    world.clock.forward(days=1)
    header, opening, *rows, closing = statement_text(DAY).splitlines()
    rows = change(rows)
    total = sum((Decimal(row.split(",")[7]) for row in [opening, *rows]), Decimal("0.00"))
    closing = ",".join([*closing.split(",")[:7], f"{total:.2f}", *closing.split(",")[8:]])
    take_in("\n".join([header, opening, *rows, closing, ""]), world=world, folder=folder)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)


def of(attempt: Attempt, rows: list[str]) -> str:
    return next(row for row in rows if str(attempt.pk) in row)


def only(**facts: object) -> Discrepancy:
    return Discrepancy.objects.get(cleared_at__isnull=True, **facts)


def explained(found: Discrepancy, why: str) -> Explanation:
    (each,) = [each for each in explain(clues_of(found)) if each.why == why]
    return each


def entry(found: Explanation) -> list[tuple[str, str]]:
    return [(move.account, str(move.amount)) for move in found.entry]


def test_a_short_capture_proposes_the_entry_that_two_people_post(world: World) -> None:
    world.gateway.answers = [lambda r: Approved(r.amount - Decimal("0.03"), "USD", "short")]
    attempt = captured(world)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    found = only(kind=Kind.CAPTURED)
    says = explained(found, "captured short")
    now = world.clock.now()
    proposal = resolving.propose(
        discrepancy_ids=[found.pk], way=Way.CORRECTED, by="ann", reason="short", now=now
    )

    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason="short", now=now
    )

    posted = LedgerPosting.objects.filter(charge=attempt.charge_id, entry__kind="corrected")
    assert sorted(posted.values_list("account", "amount")) == sorted(
        (move.account, move.amount) for move in says.entry
    )


def test_a_line_that_is_net_where_gross_was_meant_equals_the_fee(
    world: World, tmp_path: Path
) -> None:
    captured(world)

    def net_as_gross(rows: list[str]) -> list[str]:
        fields = rows[0].split(",")
        return [",".join([*fields[:5], "19.11", "0.00", "19.11", *fields[8:]])]

    told(world, tmp_path, net_as_gross)

    says = explained(only(kind=Kind.STATEMENT, code="amount"), "equals the fee")
    assert entry(says) == [("fees", "0.88"), ("clearing", "-0.88")]


def test_a_line_that_is_missing_and_one_that_is_there_twice(world: World, tmp_path: Path) -> None:
    """Of two creators, as much each: the money may have been told of the wrong one, too."""
    lost, doubled = captured(world), captured(world)

    told(world, tmp_path, lambda rows: [of(doubled, rows), of(doubled, rows)])

    missing, twice = only(code="missing"), only(code="duplicate")
    assert entry(explained(missing, "one line missing")) == [
        ("write_off", "19.99"),
        ("clearing", "-19.99"),
    ]
    assert entry(explained(twice, "twice")) == [
        ("unapplied_receipts", "-19.99"),
        ("clearing", "19.99"),
    ]
    other = explained(missing, "another creator's")
    assert f"discrepancy {twice.pk}" in other.says
    assert [move.amount for move in other.entry] == [Decimal("19.99"), Decimal("-19.99")]
    assert lost.creator_id != doubled.creator_id


def test_a_capture_two_minutes_before_midnight_is_a_matter_of_the_cut(
    world: World, tmp_path: Path
) -> None:
    now = world.clock.business_now()
    late = now.replace(hour=23, minute=58, second=0)
    world.clock.forward(seconds=(late - now) // timedelta(seconds=1))
    attempt = captured(world)

    told(world, tmp_path, lambda rows: [row for row in rows if str(attempt.pk) not in row])

    says = explained(only(code="missing"), "cut-off day")
    assert "2 min before the end of its day" in says.says or "1 min before" in says.says
    assert "2026-02-01" in says.says
    assert says.entry == ()


def test_a_payout_that_is_short_by_one_of_its_lines_names_it(world: World, tmp_path: Path) -> None:
    captured(world), captured(world)
    world.clock.forward(days=3)
    take_in(statement_text(DAY, DAY + timedelta(days=2)), world=world, folder=tmp_path)
    payouts.prove(clock=world.clock, ages=world.ages)
    edit("UPDATE settlements_payout SET paid = paid - 19.11")

    reconciliation.reconcile(clock=world.clock, ages=world.ages, kinds=[Kind.PAYOUT])

    found = Discrepancy.objects.get(kind=Kind.PAYOUT, explanation__contains="lines come to")
    lines = [each for each in explain(clues_of(found)) if each.why == "one line missing"]
    ids = (
        StatementLine.objects.filter(type="charge").order_by("id").values_list("line_id", flat=True)
    )
    assert [each.says.split(",")[1].split()[0] for each in lines] == list(ids)


def test_the_page_of_a_discrepancy_shows_the_entry(world: World) -> None:
    world.gateway.answers = [lambda r: Approved(r.amount - Decimal("0.03"), "USD", "short")]
    captured(world)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    found = only(kind=Kind.CAPTURED)

    with pages_at(world.clock):
        page = member(VIEWER).get(f"/admin/settlements/discrepancy/{found.pk}/change/")

    shown = page.content.decode()
    assert "captured short" in shown
    assert "write_off" in shown
    assert "-0.03" in shown
