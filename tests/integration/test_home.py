"""Finance's home: what is proved, what waits for which file, what differs; warnings first (R47, R53)."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checkout import metrics
from checkout.clock import Clock, Moment
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import AttemptTally
from checkout.tallies import Tally
from settlements import books, reconciliation, resolving
from settlements.days import Days, days_to_prove
from settlements.exporter import read_exports
from settlements.exports import runs
from settlements.models import (
    STANDING,
    Discrepancy,
    ExportForm,
    ExportWhat,
    ReconciliationRun,
    Way,
)
from settlements.roles import ANALYST, APPROVER, VIEWER
from tests.factories import LANE, World
from tests.factories_roles import member, pages_at, user_of
from tests.factories_settlements import statement_text, take_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with pages_at(world.clock):
        yield world


def captured(world: World, by: str = "0.00", price: str = "19.99") -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"ref-{request.reference}")
    ]
    world.receive(world.due_charge(price=price))


def passed(world: World) -> Days:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    return days_to_prove(now=world.clock.business_now())


def home(client: Client) -> str:
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


# --- The days ------------------------------------------------------------------------------------


def test_a_capture_awaits_its_file_and_then_is_proved(world: World, tmp_path: Path) -> None:
    """R53: nothing is missing before its file is there."""
    captured(world)
    captured(world)
    before = passed(world)
    (waiting,) = before.awaiting
    assert (waiting.lane, waiting.day, waiting.captures) == (
        "cis",
        date(2026, 1, 31),
        Tally(2, Decimal("39.98")),
    )
    assert before.proved == Tally()

    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)
    # Proved to the end, and not closed yet.
    after = passed(world)
    assert (after.awaiting, after.first) == ([], date(2026, 1, 31))
    assert after.proved == Tally(2, Decimal("39.98"))
    world.clock.forward(days=1)
    captured(world)
    later = passed(world)
    assert [each.captures.count for each in later.awaiting] == [1]


def test_what_differs_is_neither_proved_nor_awaited(world: World, tmp_path: Path) -> None:
    """R38: three discrepancies, 0.07 absolute and +0.01 net; the others are proved."""
    for by in ("0.03", "-0.03", "0.01", "0.00", "0.00"):
        captured(world, by)
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)

    days = passed(world)

    assert (days.proved.count, days.discrepant.count, days.awaiting) == (2, 3, [])
    assert (days.differing.count, days.differing.absolute, days.differing.net) == (
        3,
        Decimal("0.07"),
        Decimal("0.01"),
    )
    assert days.captures == 5


def test_a_late_file_says_by_how_much(world: World) -> None:
    captured(world)
    passed(world)
    world.clock.move_business(days=1)
    (waiting,) = passed(world).awaiting
    assert waiting.due_at is not None
    assert waiting.late(waiting.due_at + timedelta(hours=1)) == timedelta(hours=1)
    assert waiting.late(waiting.due_at - timedelta(hours=1)) is None


def test_what_two_people_resolved_is_proved(world: World, tmp_path: Path) -> None:
    captured(world, "-0.03")
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)
    assert passed(world).discrepant.count == 1
    now = world.clock.now()
    proposal = resolving.propose(
        discrepancy_ids=[Discrepancy.objects.get(STANDING).pk],
        way=Way.CORRECTED,
        by="ann",
        reason="looked at",
        now=now,
    )
    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason="agreed", now=now
    )

    days = passed(world)

    assert (days.proved.count, days.discrepant.count) == (1, 0)


def test_home_opens_on_the_days_since_the_last_close(world: World) -> None:
    """What is older and still open was carried over by name: it warns, and its cent still counts."""
    captured(world, "-0.03")
    before = passed(world)
    assert (before.closed, before.first) == (None, date(2026, 1, 31))
    world.clock.forward(days=1, seconds=2 * 3600)
    passed(world)
    reasons = {"file": "late, asked for", "discrepancy": "looked into"}
    now = world.clock.now()
    close = books.propose_close(day=before.first, reasons=reasons, by="ann", now=now)
    books.approve_close(close_id=close.pk, seen=close.sha256, by="bob", reason="agreed", now=now)

    days = passed(world)

    assert (days.closed, days.first) == (date(2026, 1, 31), date(2026, 2, 1))
    assert (days.captures, days.older, days.differing.count) == (0, 1, 1)
    with pages_at(world.clock):
        client = member(VIEWER)
        page = home(client)
        files = "/admin/settlements/statementexpectation/?there=no"
        older = client.get(f"{files}&before={days.first}").content.decode()
        assert f"{files}&amp;before={days.first}" in client.get("/admin/").content.decode()
        assert "<strong>1 statement expectation</strong>" in older
    assert "since the close of 2026-01-31" in page
    assert "1 day of a lane before 2026-02-01 without an accepted file" in page


def test_home_goes_a_month_back_at_most_and_reads_no_older_figure(world: World) -> None:
    captured(world)
    now = world.clock.business_now()
    AttemptTally.objects.create(
        slot=now - timedelta(days=90), lane=LANE, outcome="captured", count=7, usd=Decimal("70.00")
    )

    days = days_to_prove(now=now)

    assert days.first == now.date() - timedelta(days=30)
    assert days.captures == 1


# --- The page ------------------------------------------------------------------------------------


def test_home_says_it_in_one_line_each(world: World, tmp_path: Path) -> None:
    captured(world, "-0.03")
    captured(world)
    passed(world)

    page = home(member(VIEWER))

    assert re.search(
        r"0 proved , 1 await the file of cis for 2026-01-31, due \S+ \S+ UTC , "
        r"1 discrepant \(0.03 absolute, -0.03 net\) \.",
        page,
    )
    assert "with a discrepancy about the charge 1 19.96" in page
    assert "2 captures" in page
    assert "as of" in page


def test_warnings_come_first(world: World) -> None:
    shown = home(member(VIEWER))
    assert shown.index("No pass of reconciliation has run yet") < shown.index("0 proved")


def test_a_pass_that_could_not_compare_everything_is_a_warning_at_once(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert "Not everything can be compared" not in home(member(VIEWER))

    ReconciliationRun.objects.update(ended_at=None)

    assert "Not everything can be compared" in home(member(VIEWER))


@pytest.mark.parametrize(("minutes", "warned"), [(14, False), (125, True)])
def test_an_export_that_nobody_makes_is_a_warning_and_a_figure(
    world: World, minutes: int, warned: bool
) -> None:
    now = Clock().real_now()
    asked_at = now - timedelta(minutes=minutes)
    runs.ask(
        what=ExportWhat.CHARGES,
        form=ExportForm.CSV,
        query="",
        words="all",
        by="ann",
        reason="the auditor",
        now=Moment(asked_at, asked_at),
    )

    said = "An export that was asked for 2 h ago is not made" in home(member(VIEWER))

    assert said is warned
    oldest = [m for m in read_exports(now) if m.name == metrics.EXPORTS_OLDEST]
    assert [sample.value for m in oldest for sample in m.samples] == [minutes * 60]


def test_what_waits_for_me_is_by_name_and_role(world: World) -> None:
    captured(world, "-0.03")
    passed(world)
    ann = user_of(ANALYST, name="ann")
    row = Discrepancy.objects.get(STANDING)
    now = world.clock.now()
    resolving.assign(discrepancy_ids=[row.pk], to="ann", by="ann", reason="mine", now=now)
    resolving.propose(
        discrepancy_ids=[row.pk], way=Way.CORRECTED, by="ann", reason="short", now=now
    )

    hers = home(member(ANALYST, name=ann.username))
    his = home(member(APPROVER, name="bob"))
    both = home(member(ANALYST, APPROVER, name="ann"))

    assert "discrepancies assigned to me 1 -0.03" in hers
    assert "proposals to approve" not in hers
    assert "proposals to approve or refuse 1 -0.03" in his
    # Her own is not hers to approve.
    assert "proposals to approve or refuse 0 0.00" in both


def test_states_declines_and_doubt_are_told(world: World) -> None:
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    world.receive(world.due_charge())
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    world.receive(world.due_charge(price="199.00"))

    page = home(member(VIEWER))

    assert "exhausted 1 19.99" in page
    assert "in doubt 1 199.00" in page
    assert "messages wait to leave by sqs" in page


def test_who_has_no_role_is_told_so() -> None:
    client = Client()
    client.force_login(User.objects.create_user("new", is_staff=True))

    assert "no role yet" in home(client)


def test_r47_home_counts_no_table(world: World) -> None:
    """Figures are kept or of what is open: no COUNT over charges, attempts or messages, no DISTINCT."""
    captured(world)
    client = member(ANALYST, APPROVER)
    with CaptureQueriesContext(connection) as captured_queries:
        client.get("/admin/")
    asked = [query["sql"] for query in captured_queries.captured_queries]
    for sql in asked:
        assert "DISTINCT" not in sql
        if re.search(r"count\(", sql, re.IGNORECASE):
            assert not re.search(r'FROM "?checkout_(charge|attempt)"? ', sql), sql
    assert len(asked) < 40
