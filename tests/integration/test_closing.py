"""Periods are closed once, with every fact that was recorded before the cut, and never change."""

import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection, transaction

from checkout import failpoints
from checkout.failpoints import Crash
from checkout.gateways import Approved
from checkout.models import Attempt, Charge, Creator, OutboxMessage
from checkout.topics import validate_payload
from settlements.calendar import Rule
from settlements.closing import BATCH, Closed, close_periods, count_due
from settlements.models import OpenPeriod, Settlement, SettlementLine
from settlements.settling import change_schedule, store_default_schedules
from tests.factories import World, creator
from tests.factories_payouts import with_lines
from tests.factories_settlements import statement_text, take_in

pytestmark = pytest.mark.django_db

FEBRUARY = (date(2026, 2, 1), date(2026, 3, 1))
FEE = Decimal("-0.88")  # 2.9 % of 19.99 + 0.30


@pytest.fixture
def world() -> World:
    return World()


def paid(world: World, *, of: Creator | None = None, price: str = "19.99") -> Charge:
    charge = world.due_charge(of=of, price=price)
    store_default_schedules(now=world.clock.now())
    world.receive(charge)
    return charge


def close(world: World, *, batch: int = BATCH) -> Closed:
    return close_periods(clock=world.clock, ages=world.ages, batch=batch)


def to(world: World, day: str) -> None:
    """Let time pass until this day's midnight, UTC."""
    now = world.clock.business_now()
    target = now.fromisoformat(f"{day}T00:00:00+00:00")
    world.clock.forward(seconds=(target - now).total_seconds())


def lines(settlement: Settlement) -> list[tuple[str, str]]:
    found = SettlementLine.objects.filter(settlement=settlement).order_by("id")
    return sorted((line.kind, str(line.amount)) for line in found)


def closed_events() -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(type="settlement.closed").order_by("id"))


def raw(sql: str) -> None:
    """One statement, and what is deferred right after it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)


# --- What a settlement holds ---------------------------------------------------------------------------


def test_a_period_becomes_a_settlement_the_moment_it_is_over(world):
    charge = paid(world)
    to(world, "2026-02-01")
    world.clock.forward(seconds=-1)
    assert close(world) == Closed(0, 0, Decimal("0.00"))

    world.clock.forward(seconds=1)
    assert close(world) == Closed(1, 1, Decimal("19.99"))
    assert close(world) == Closed(0, 0, Decimal("0.00"))

    settlement = Settlement.objects.get()
    assert (settlement.period_start, settlement.period_end) == (date(2026, 1, 1), date(2026, 2, 1))
    assert settlement.lands_on == date(2026, 2, 2)
    assert (settlement.charged, settlement.net, settlement.line_count) == (
        Decimal("19.99"),
        Decimal("19.99"),
        1,
    )
    line = settlement.lines.get()
    assert (line.kind, line.charge_id, line.occurred_at) == (
        "charge",
        charge.pk,
        Attempt.objects.get().booked_at,
    )
    period = OpenPeriod.objects.get()
    assert (period.starts_on, period.ends_on) == FEBRUARY


def test_a_fact_that_is_told_after_the_cut_falls_into_the_next_with_its_own_date(
    world, tmp_path: Path
):
    paid(world)
    to(world, "2026-02-01")
    close(world)
    world.clock.forward(seconds=6 * 3600)
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)

    to(world, "2026-03-01")
    close(world)

    late = Settlement.objects.get(period_start=FEBRUARY[0])
    assert lines(late) == [("fee", str(FEE))]
    assert late.lines.get().occurred_at.date() == date(2026, 1, 31)
    assert (late.fees, late.net) == (FEE, FEE)


def test_a_close_that_comes_late_does_not_take_what_came_after_the_cut(world):
    """The cut is the period's end, whenever the run comes."""
    who = creator(clock=world.clock)
    paid(world, of=who)
    to(world, "2026-02-03")
    paid(world, of=who, price="4.99")

    close(world)

    assert [str(s.net) for s in Settlement.objects.all()] == ["19.99"]
    to(world, "2026-03-01")
    close(world)
    assert [str(s.net) for s in Settlement.objects.order_by("period_start")] == ["19.99", "4.99"]


@pytest.mark.parametrize("moved", [0, 400])
def test_a_file_accepted_after_the_cut_waits_for_the_next_however_late_the_close(
    world, tmp_path: Path, moved: int
):
    """By the business clock: acceptance is stored in real time, and a test clock may be ahead of it."""
    world.clock.move_business(days=-moved)  # the capture's day stays Jan 31, the real one is 400 on
    world.clock.forward(days=moved)
    paid(world)
    to(world, "2026-02-01")
    world.clock.forward(seconds=6 * 3600)
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)
    to(world, "2026-02-04")

    close(world)
    to(world, "2026-03-01")
    close(world)

    assert [lines(s) for s in Settlement.objects.order_by("period_start")] == [
        [("charge", "19.99")],
        [("fee", str(FEE))],
    ]


def test_a_file_accepted_before_the_cut_is_in_its_own_period(world, tmp_path: Path):
    to(world, "2026-02-02")
    paid(world)
    to(world, "2026-02-03")
    take_in(statement_text(date(2026, 2, 2)), world=world, folder=tmp_path)
    to(world, "2026-03-01")

    close(world)

    assert lines(Settlement.objects.get()) == [("charge", "19.99"), ("fee", str(FEE))]


@pytest.mark.parametrize(
    ("type", "gross", "fee", "expected"),
    [
        ("refund", "-5.00", "0.00", [("refund", "-5.00")]),
        ("refund", "-5.00", "0.10", [("fee", "-0.10"), ("refund", "-5.00")]),
        ("dispute", "-19.99", "15.00", [("dispute", "-19.99"), ("fee", "-15.00")]),
        ("dispute_fee", "-15.00", "0.00", [("fee", "-15.00")]),
        ("reversal", "19.99", "0.00", [("reversal", "19.99")]),
        ("adjustment", "0.03", "0.00", [("adjustment", "0.03")]),
        ("fee", "-1.00", "0.00", [("fee", "-1.00")]),
        ("reserve_hold", "-2.00", "0.00", []),
    ],
)
def test_each_kind_of_line_counts_in_its_own_total(
    world, tmp_path: Path, type, gross, fee, expected
):
    paid(world)
    attempt = Attempt.objects.get()
    net = Decimal(gross) - Decimal(fee)
    extra = f"x-1,{type},{attempt.pk},,2026-01-31T13:00:00Z,{gross},{fee},{net},USD,po_1\n"
    text = statement_text(date(2026, 1, 31))
    head, _, closing = text.rstrip("\n").rpartition("\n")
    balance = Decimal(closing.split(",")[7]) + net
    closing = closing.replace(closing.split(",")[7], f"{balance:.2f}")
    world.clock.forward(seconds=13 * 3600)  # Feb 1st, 01:00
    take_in(f"{head}\n{extra}{closing}\n", world=world, folder=tmp_path)
    to(world, "2026-03-01")

    close(world)

    settlement = Settlement.objects.get(period_start=FEBRUARY[0])
    assert lines(settlement) == sorted([("fee", str(FEE)), *expected])
    assert settlement.net == FEE + sum((Decimal(amount) for _, amount in expected), Decimal(0))


@pytest.mark.parametrize(
    ("written", "named"), [("lower", True), ("upper", True), ("bare", False), ("within", False)]
)
def test_a_line_names_an_attempt_in_any_case_and_in_no_other_form(
    world, tmp_path: Path, written, named
):
    """As a charge line does (statements.py), and as it is booked (test_booking.py)."""
    paid(world)
    id = str(Attempt.objects.get().pk)
    forms = {"lower": id, "upper": id.upper(), "bare": id.replace("-", ""), "within": f"x {id}"}
    world.clock.forward(days=1)
    text = with_lines(
        statement_text(date(2026, 1, 31)),
        ("refund", "-5.00", "0.00"),
        reference=forms[written],
    )
    take_in(text, world=world, folder=tmp_path)
    to(world, "2026-03-01")

    close(world)

    kinds = SettlementLine.objects.filter(kind="refund")
    assert [(line.attempt_id, line.amount) for line in kinds] == (
        [(UUID(id), Decimal("-5.00"))] if named else []
    )


def test_a_period_without_facts_has_no_settlement_and_tells_nothing(world):
    world.due_charge()
    store_default_schedules(now=world.clock.now())
    to(world, "2026-02-01")

    assert close(world) == Closed(1, 0, Decimal("0.00"))

    assert not Settlement.objects.exists()
    assert closed_events() == []
    assert OpenPeriod.objects.get().starts_on == FEBRUARY[0]


def test_days_of_downtime_are_caught_up_period_by_period(world):
    who = paid(world).creator
    with transaction.atomic():
        daily = Rule("day", (1,), 0, "following")
        change_schedule(creator_id=who.pk, rule=daily, by="test", now=world.clock.now())
    to(world, "2026-02-02")
    paid(world, of=who, price="4.99")
    to(world, "2026-02-04")
    paid(world, of=who, price="9.99")
    to(world, "2026-02-06")

    assert close(world).periods == 6  # January, and the 1st to the 5th

    found = Settlement.objects.order_by("period_start").values_list("period_start", "net")
    assert [(str(start), str(net)) for start, net in found] == [
        ("2026-01-01", "19.99"),
        ("2026-02-02", "4.99"),
        ("2026-02-04", "9.99"),
    ]
    assert {s.schedule.version for s in Settlement.objects.exclude(period_start="2026-01-01")} == {
        2
    }
    assert count_due(today=world.clock.business_now().date()) == 0


# --- Told once -----------------------------------------------------------------------------------------


def test_a_close_is_told_with_its_totals_and_nothing_of_the_person(world):
    """R46, R51."""
    charge = paid(world)
    to(world, "2026-02-01")

    close(world)

    (told,) = closed_events()
    settlement = Settlement.objects.get()
    validate_payload(told.type, told.payload)
    assert (told.key, told.subject) == (charge.creator_id, settlement.pk)
    assert told.event_seq == Creator.objects.get(pk=charge.creator_id).event_seq
    assert settlement.pk == Settlement.derive_id(
        creator_id=charge.creator_id, period_start="2026-01-01"
    )
    assert '"net":"19.99"' in told.payload


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("nth", [1, 3, 4, 5, 7, 8])
def test_a_run_that_died_at_any_commit_closes_each_period_once_when_run_again(world, nth):
    """Eight commits: three first periods, none left, three settlements, none left."""
    for _ in range(3):
        paid(world)
    to(world, "2026-02-01")

    with _dying_at("commit.written", nth), pytest.raises(Crash):
        close(world, batch=1)
    assert Settlement.objects.count() == len(closed_events()) == max(0, min(nth - 5, 3))
    close(world, batch=1)

    assert Settlement.objects.count() == SettlementLine.objects.count() == 3
    assert len(closed_events()) == 3
    assert count_due(today=date(2026, 2, 1)) == 0


class _dying_at:  # noqa: N801  reads as a word
    """Die when the failpoint is reached for the nth time."""

    def __init__(self, name: str, nth: int) -> None:
        self.name, self.left = name, nth

    def __enter__(self) -> None:
        failpoints.enable(self.name, self._die)

    def __exit__(self, *_: object) -> None:
        failpoints.disable(self.name)

    def _die(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


@pytest.mark.django_db(transaction=True)
def test_two_closers_at_once_close_each_period_once(world):
    for _ in range(4):
        paid(world)
    to(world, "2026-02-01")
    barrier, found = threading.Barrier(2), []

    def run() -> None:
        try:
            barrier.wait(20)
            found.append(close_periods(clock=world.clock, ages=world.ages, batch=1))
        finally:
            connection.close()

    together(run, run)

    assert sum(each.settlements for each in found) == 4
    assert Settlement.objects.count() == len(closed_events()) == 4


@pytest.mark.django_db(transaction=True)
def test_r44_a_close_beside_other_writers_leaves_no_gap(world):
    """A close and a capture of the same creator take turns at its lock."""
    who = paid(world).creator
    to(world, "2026-02-01")
    due = world.due_charge(of=who, price="4.99")
    barrier = threading.Barrier(2)

    def with_others(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                barrier.wait(20)
                work()
            finally:
                connection.close()

        return run

    together(
        with_others(lambda: close_periods(clock=world.clock, ages=world.ages)),
        with_others(lambda: world.receive(due)),
    )

    told = OutboxMessage.objects.filter(key=who.pk, door="kafka").order_by("id")
    numbers = list(told.values_list("event_seq", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert str(Settlement.objects.get().net) == "19.99"


@pytest.mark.django_db(transaction=True)
def test_a_close_and_a_change_of_the_schedule_at_once_leave_no_gap(world):
    """Whichever is first: January is closed under the first version, February opens under its own."""
    who = paid(world).creator
    to(world, "2026-02-01")
    barrier = threading.Barrier(2)

    def change() -> None:
        try:
            barrier.wait(20)
            with transaction.atomic():
                weekly = Rule("week", (1,), 1, "following")
                change_schedule(creator_id=who.pk, rule=weekly, by="test", now=world.clock.now())
        finally:
            connection.close()

    def run() -> None:
        try:
            barrier.wait(20)
            close_periods(clock=world.clock, ages=world.ages)
        finally:
            connection.close()

    together(change, run)

    assert Settlement.objects.get().schedule.version == 1
    period = OpenPeriod.objects.get()
    assert (period.starts_on, period.ends_on, period.schedule.version) == (*FEBRUARY, 1)
    to(world, "2026-03-01")
    close(world)
    period = OpenPeriod.objects.get()
    assert (period.starts_on, period.ends_on) == (FEBRUARY[1], date(2026, 3, 2))  # a Monday
    assert period.schedule.version == 2


def test_a_calendar_of_which_a_year_is_missing_is_named(world, caplog):
    """R17: the day is then one of weekends alone."""
    paid(world)
    to(world, "2026-02-01")
    close(world)
    assert [r.calendar for r in caplog.records if r.msg == "calendar without holidays"] == [
        "us-fed"
    ]

    call_command(
        "load_holidays", "us-fed", "--years", "2026", "--reason", "a year", stdout=StringIO()
    )
    caplog.clear()
    to(world, "2026-03-01")
    close(world)
    assert [r for r in caplog.records if r.msg == "calendar without holidays"] == []


def together(*runs: Callable[[], None]) -> None:
    threads = [threading.Thread(target=run) for run in runs]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def test_no_transaction_locks_more_than_a_thousand_creators():
    assert BATCH <= 1000


# --- What the database refuses -------------------------------------------------------------------------


@pytest.fixture
def closed(world: World) -> Settlement:
    paid(world)
    to(world, "2026-02-01")
    close(world)
    return Settlement.objects.get()


ANOTHER_LINE = """
    INSERT INTO settlements_settlementline
      (settlement_id, kind, attempt_id, charge_id, lane, occurred_at, amount, statement_line_id)
    SELECT settlement_id, {kind}, attempt_id, charge_id, lane, occurred_at, amount, {line}
    FROM settlements_settlementline
"""
ANOTHER_SETTLEMENT = """
    INSERT INTO settlements_settlement
    SELECT (json_populate_record(s, {changed}::json)).* FROM settlements_settlement s
"""


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "UPDATE settlements_settlement SET net = net + 0.01, charged = charged + 0.01",
            "never changes",
        ),
        ("UPDATE settlements_settlement SET lands_on = lands_on + 1", "never changes"),
        ("UPDATE settlements_settlement SET proved_at = NULL", "never changes"),
        ("DELETE FROM settlements_settlement", "never changes"),
        ("UPDATE settlements_settlementline SET amount = 19.98", "never changed or deleted"),
        ("DELETE FROM settlements_settlementline", "never changed or deleted"),
        (ANOTHER_LINE.format(kind="kind", line="NULL"), "settlement_line_capture_once"),
        (ANOTHER_LINE.format(kind="'fee'", line="NULL"), "settlement_line_kind"),
        (ANOTHER_LINE.format(kind="'gift'", line="NULL"), "settlement_line_kind"),
        (
            ANOTHER_SETTLEMENT.format(
                changed="""'{"id": "00000000-0000-5000-8000-00000000000a"}'"""
            ),
            "overlaps|settlement_once",
        ),
        (
            ANOTHER_SETTLEMENT.format(
                changed="""'{"id": "00000000-0000-5000-8000-00000000000a",
                "period_start": "2026-01-31", "period_end": "2026-02-05"}'"""
            ),
            "overlaps",
        ),
        (
            ANOTHER_SETTLEMENT.format(
                changed="""'{"id": "00000000-0000-5000-8000-00000000000a",
                "period_start": "2026-02-01", "period_end": "2026-03-01"}'"""
            ),
            "its lines say",
        ),
        (
            ANOTHER_SETTLEMENT.format(
                changed="""'{"id": "00000000-0000-5000-8000-00000000000a", "net": "0.01",
                "period_start": "2026-02-01", "period_end": "2026-03-01"}'"""
            ),
            "settlement_net",
        ),
    ],
)
def test_r34_raw_sql_cannot_make_a_settlement_say_something_else(closed, sql, said):
    with pytest.raises(DatabaseError, match=said):
        raw(sql)


def test_a_line_added_to_a_closed_settlement_is_refused(closed, world, tmp_path: Path):
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)

    with pytest.raises(DatabaseError, match="its lines say"):
        raw(
            "INSERT INTO settlements_settlementline (settlement_id, kind, attempt_id, charge_id, lane,"
            " occurred_at, amount, statement_line_id) SELECT s.settlement_id, 'fee', s.attempt_id,"
            " s.charge_id, s.lane, s.occurred_at, -0.88, l.id FROM settlements_settlementline s,"
            " settlements_statementline l"
        )


# --- By command ----------------------------------------------------------------------------------------


def test_the_command_closes_and_says_what(world):
    paid(world)
    out = StringIO()

    call_command("close_settlements", json=True, stdout=out)  # by the machine's clock: long over

    assert '"settlements": 1, "net": "19.99"' in out.getvalue()
    assert Settlement.objects.count() == 1


def test_the_command_ends_with_2_while_the_database_is_away(monkeypatch):
    """What was closed until then stays closed; it is run again."""

    def away(*_: object, **__: object) -> None:
        raise OperationalError("the connection was refused")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "cursor", away)
        with pytest.raises(CommandError, match="could not run") as error:
            call_command("close_settlements")

    assert error.value.returncode == 2


def test_a_capture_short_of_its_charge_is_settled_as_captured(world):
    world.gateway.answers = [lambda r: Approved(r.amount - Decimal("0.03"), "USD", "short")]
    paid(world)
    to(world, "2026-02-01")

    assert close(world).net == Decimal("19.96")
