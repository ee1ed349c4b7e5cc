"""Bill runs against a real database: once each period, in order, in the subscription's zone.

Rules R7, R11 to R16, R44, R51; faults F21, and the OffCalendar case.
"""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from django.db import connection, transaction

from checkout import billing, failpoints, ledger, subscriptions
from checkout.billing import BATCH, Billed, OffCalendar, bill_due, hold_bill_run
from checkout.failpoints import Crash
from checkout.models import (
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Creator,
    Door,
    LedgerAccount,
    LedgerEntry,
    OutboxMessage,
    Subscription,
    SubscriptionState,
    SubscriptionTerms,
)
from checkout.rescue import open_next_rounds, requeue
from checkout.subscriptions import NoTerms
from tests.factories import World, creator, fresh, plan, subscription_of
from tests.fakes import START
from tests.situations import FUNDS, cancel, exhausted_on_a_date, write_off
from tests.together import somebody_waits_for_a_lock, together
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def go_to(world: World, moment: str) -> None:
    """Move both clocks to this UTC time."""
    to = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    world.clock.hands["real"] = to - START


def local(world: World, moment: str, hours: float) -> None:
    """Move both clocks to this local time of a zone so many hours ahead of UTC."""
    to = datetime.fromisoformat(moment).replace(tzinfo=UTC) - timedelta(hours=hours)
    world.clock.hands["real"] = to - START


def bill(world: World, **how: int) -> Billed:
    return bill_due(clock=world.clock, ages=world.ages, **how)


def starts(charge: Charge) -> list[str]:
    rows = Charge.objects.filter(subscription=charge.subscription_id).order_by("created_at", "id")
    return [
        day.isoformat()
        for day in rows.order_by("period_start").values_list("period_start", flat=True)
    ]


# --- Once each period ------------------------------------------------------------------------------


def test_the_first_period_is_billed_at_checkout_and_the_next_at_its_date(world: World) -> None:
    charge = world.due_charge()

    go_to(world, "2026-02-27T23:59:59")
    early = bill(world)
    go_to(world, "2026-02-28T00:00:00")
    due = bill(world)

    assert (early.charges, due.charges, due.amount) == (0, 1, Decimal("19.99"))
    assert starts(charge) == ["2026-01-31", "2026-02-28"]


def test_a_bill_run_writes_charge_books_event_and_dispatch(world: World) -> None:
    """R44: all in one statement, in one transaction."""
    first = world.due_charge()
    go_to(world, "2026-02-28T00:00:00")

    bill(world)

    charge = Charge.objects.exclude(pk=first.pk).get()
    assert (charge.state, charge.round, charge.dispatch) == (ChargeState.DUE, 1, 1)
    assert (charge.amount, charge.expected_amount) == (Decimal("19.99"), Decimal("19.99"))
    assert (charge.period_start, charge.period_end) == (date(2026, 2, 28), date(2026, 3, 31))
    assert charge.billed_at == world.clock.business_now()
    assert ledger.receivable(charge_id=charge.pk) == Decimal("19.99")
    assert ledger.balance(account=LedgerAccount.REVENUE) == Decimal("-39.98")
    rows = OutboxMessage.objects.filter(subject=charge.pk).order_by("door")
    assert [(row.door, row.type) for row in rows] == [
        (Door.KAFKA, "charge.billed"),
        (Door.SQS, "charge.due"),
    ]


def test_a_billed_charge_can_be_collected(world: World) -> None:
    first = world.due_charge()
    go_to(world, "2026-02-28T00:00:00")
    bill(world)
    charge = Charge.objects.exclude(pk=first.pk).get()

    world.receive(charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_the_same_run_again_bills_nothing(world: World) -> None:
    """R15."""
    world.due_charge()
    go_to(world, "2026-02-28T00:00:00")

    runs = [bill(world).charges for _ in range(3)]

    assert runs == [1, 0, 0]


def test_identifiers_are_derived_and_repeat_after_a_restore(world: World) -> None:
    """R51: charge, entry, event and dispatch of a period are the same ones again."""
    charge = world.due_charge()
    go_to(world, "2026-02-28T00:00:00")

    def identifiers() -> list[object]:
        bill(world)
        later = Charge.objects.exclude(pk=charge.pk)
        rows = OutboxMessage.objects.filter(subject__in=later.values("pk"))
        entries = LedgerEntry.objects.filter(charge__in=later)
        return [
            *later.values_list("pk", flat=True),
            *rows.order_by("door").values_list("event_id", flat=True),
            *entries.values_list("pk", flat=True),
        ]

    seen = []
    for _ in range(2):
        before = transaction.savepoint()
        seen.append(identifiers())
        transaction.savepoint_rollback(before)

    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
    assert seen[0][0] == Charge.derive_id(
        subscription_id=charge.subscription_id, period_start=date(2026, 2, 28)
    )


def test_days_of_downtime_are_caught_up_period_by_period_in_order(world: World) -> None:
    """R16: each missed period once."""
    charge = world.due_charge()
    go_to(world, "2026-07-01T00:00:00")

    billed = bill(world)

    assert billed == Billed(5, Decimal("99.95"))
    assert starts(charge) == [
        "2026-01-31",
        "2026-02-28",
        "2026-03-31",
        "2026-04-30",
        "2026-05-31",
        "2026-06-30",
    ]
    events = OutboxMessage.objects.filter(type="charge.billed").order_by("event_seq")
    days = [row.payload.split('"period_start":"')[1][:10] for row in events]
    assert days == starts(charge)


def test_forty_eight_months_are_billed_once_each_whenever_the_run_comes(world: World) -> None:
    """R14, R15, F21: contiguous, without a sliver, and the same in SQL's own calendar."""
    charge = world.due_charge()
    for day in range(0, 48 * 31, 9):
        world.clock.hands["real"] = timedelta(days=day)
        bill(world)

    rows = Charge.objects.filter(subscription=charge.subscription_id).order_by("period_start")
    periods = list(rows.values_list("period_start", "period_end", "amount", "expected_amount"))
    assert len(periods) >= 48
    assert all(before[1] == after[0] for before, after in pairwise(periods))
    assert all(amount == expected for _, _, amount, expected in periods)


# --- Zones -----------------------------------------------------------------------------------------


def test_a_run_at_2330_and_one_at_0030_local_bill_once(world: World) -> None:
    """R12: 28 February begins in Almaty five hours before it does in Greenwich."""
    charge = world.due_charge(of=creator(clock=world.clock, time_zone="Asia/Almaty"))
    counts = []
    for moment in ("2026-02-27T23:30", "2026-02-28T00:30", "2026-02-28T23:30", "2026-03-01T00:30"):
        local(world, moment, 5)
        counts.append(bill(world).charges)

    assert counts == [0, 1, 0, 0]
    assert starts(charge) == ["2026-01-31", "2026-02-28"]


@pytest.mark.parametrize(("time", "first"), [("23:30", "2026-01-30"), ("00:30", "2026-01-31")])
def test_a_checkout_around_local_midnight_begins_on_its_local_day(
    world: World, time: str, first: str
) -> None:
    """R12: in the zone of the subscription, not in UTC, where both are 30 January."""
    local(world, f"{first}T{time}", 5)
    charge = world.due_charge(of=creator(clock=world.clock, time_zone="Asia/Almaty"))

    local(world, "2026-01-31T01:00", 5)
    again = bill(world)

    assert charge.period_start.isoformat() == first
    assert again.charges == 0


@pytest.mark.parametrize(
    ("zone", "anchor", "around"),
    [
        # Clocks skip midnight on these days, or have it twice.
        ("Asia/Beirut", "2026-02-28T12:00", "2026-03-28"),
        ("Africa/Cairo", "2026-03-24T12:00", "2026-04-24"),
        ("America/Havana", "2026-02-08T12:00", "2026-03-08"),
        ("America/Havana", "2026-10-01T12:00", "2026-11-01"),
        ("Atlantic/Azores", "2026-09-25T12:00", "2026-10-25"),
    ],
)
def test_in_spring_gap_and_autumn_fold_a_job_bills_once(
    world: World, zone: str, anchor: str, around: str
) -> None:
    """R13: whichever half hour it runs at."""
    go_to(world, anchor)
    charge = world.due_charge(of=creator(clock=world.clock, time_zone=zone))
    day = datetime.fromisoformat(around).replace(tzinfo=UTC)
    billed = 0
    for half_hours in range(-48, 72):
        world.clock.hands["real"] = day + timedelta(minutes=30 * half_hours) - START
        billed += bill(world).charges

    assert billed == 1
    assert starts(charge)[1][:7] == around[:7]


def test_a_zone_keeps_its_subscription_when_the_creator_moves(world: World) -> None:
    """R12: the one zone its subscription declares."""
    who = creator(clock=world.clock, time_zone="Asia/Almaty")
    world.due_charge(of=who)
    Creator.objects.filter(pk=who.pk).update(time_zone="America/New_York")

    local(world, "2026-02-28T00:00", 5)

    assert bill(world).charges == 1


# --- Terms -----------------------------------------------------------------------------------------


def change_plan(world: World, charge: Charge, code: str) -> SubscriptionTerms:
    with transaction.atomic():
        return subscriptions.change_plan(
            subscription_id=charge.subscription_id, plan_code=code, now=world.clock.now()
        )


def test_a_plan_changes_at_the_next_period_and_a_charge_keeps_its_terms(world: World) -> None:
    """R7."""
    charge = world.due_charge()
    plan("dearer", "29.99")
    go_to(world, "2026-02-10T00:00:00")

    change_plan(world, charge, "dearer")
    go_to(world, "2026-04-01T00:00:00")
    bill(world)

    rows = Charge.objects.filter(subscription=charge.subscription_id).order_by("period_start")
    seen = [(row.period_start.isoformat(), str(row.amount), row.terms.plan_id) for row in rows]
    assert seen == [
        ("2026-01-31", "19.99", "monthly-19-99"),
        ("2026-02-28", "29.99", "dearer"),
        ("2026-03-31", "29.99", "dearer"),
    ]


def test_a_change_while_billing_is_behind_does_not_reach_periods_that_have_begun(
    world: World,
) -> None:
    """R7, R16: the run is two periods late; what had begun is owed at the old price."""
    charge = world.due_charge()
    plan("dearer", "29.99")
    go_to(world, "2026-04-10T00:00:00")

    terms = change_plan(world, charge, "dearer")
    go_to(world, "2026-05-01T00:00:00")
    bill(world)

    rows = Charge.objects.filter(subscription=charge.subscription_id).order_by("period_start")
    assert terms.starts_on == date(2026, 4, 30)
    assert [str(row.amount) for row in rows] == ["19.99", "19.99", "19.99", "29.99"]
    assert all(row.amount == row.expected_amount for row in rows)


def test_a_price_of_the_plan_itself_changes_nothing_that_was_agreed(world: World) -> None:
    """R7: terms are dated rows."""
    charge = world.due_charge()
    charge.terms.plan.price = Decimal("99.99")
    charge.terms.plan.save()
    go_to(world, "2026-02-28T00:00:00")

    assert bill(world).amount == Decimal("19.99")


def test_another_interval_starts_its_own_calendar_at_the_change(world: World) -> None:
    charge = world.due_charge()
    plan("yearly", "199.00", "year")
    change_plan(world, charge, "yearly")
    go_to(world, "2028-03-01T00:00:00")

    bill(world)

    assert starts(charge) == ["2026-01-31", "2026-02-28", "2027-02-28", "2028-02-28"]


def test_changing_back_before_the_period_leaves_one_row_of_terms_a_day(world: World) -> None:
    charge = world.due_charge()
    plan("dearer", "29.99")
    change_plan(world, charge, "dearer")
    world.clock.forward(seconds=1)
    change_plan(world, charge, "monthly-19-99")
    go_to(world, "2026-02-28T00:00:00")

    assert bill(world).amount == Decimal("19.99")
    assert SubscriptionTerms.objects.filter(subscription=charge.subscription_id).count() == 2


def test_terms_that_somebody_deleted_are_missed_by_name(world: World) -> None:
    """R7: the foreign key of the first charge keeps them; only a hand past the triggers removes them."""
    charge = world.due_charge()
    plan("dearer", "29.99")
    backup = SubscriptionTerms.objects.get(subscription=charge.subscription_id)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        SubscriptionTerms.objects.filter(subscription=charge.subscription_id)._raw_delete("default")
        cursor.execute("SET LOCAL session_replication_role = origin")

    with pytest.raises(NoTerms, match=f"subscription {charge.subscription_id} has no terms for"):
        change_plan(world, charge, "dearer")
    go_to(world, "2026-04-10T00:00:00")
    with pytest.raises(NoTerms, match="has no terms for 2026-02-28"):
        change_plan(world, charge, "dearer")
    backup.save(force_insert=True)
    assert change_plan(world, charge, "dearer").starts_on == date(2026, 4, 30)


def test_a_plan_agreed_again_changes_and_tells_nothing(world: World) -> None:
    charge = world.due_charge()
    plan("dearer", "29.99")

    first = change_plan(world, charge, "dearer")
    world.clock.forward(seconds=1)
    again = change_plan(world, charge, "dearer")

    assert (again, again.created_at) == (first, first.created_at)
    assert told(charge) == ["started", "plan_changed"]


def test_a_cancelled_subscription_is_not_billed(world: World) -> None:
    charge = world.due_charge()
    cancel(world, charge)
    go_to(world, "2026-12-31T00:00:00")

    assert bill(world).charges == 0


def test_an_older_reading_of_the_clock_agrees_on_nothing_before_what_is_agreed(
    world: World,
) -> None:
    """A change that waited for the lock holds an older `now` than the one that went before it (R7).

    Terms that start before others cut one period in two: it is billed to an end that the calendar of
    the proof does not have.
    """
    charge = world.due_charge()
    plan("weekly", "4.99", "week")
    plan("yearly", "199.00", "year")
    read_before = world.clock.now()
    go_to(world, "2026-02-28T00:00:00")
    agreed = change_plan(world, charge, "weekly")

    with transaction.atomic():
        later = subscriptions.change_plan(
            subscription_id=charge.subscription_id, plan_code="yearly", now=read_before
        )

    assert later.starts_on == agreed.starts_on == date(2026, 3, 31)
    go_to(world, "2026-04-30T12:00:00")
    bill(world)
    rows = Charge.objects.filter(subscription=charge.subscription_id).order_by("period_start")
    assert [f"{row.period_start}..{row.period_end}" for row in rows] == [
        "2026-01-31..2026-02-28",
        "2026-02-28..2026-03-31",
        "2026-03-31..2027-03-31",
    ]


# --- Many ------------------------------------------------------------------------------------------


def test_batches_bill_everything_once(world: World) -> None:
    for _ in range(5):
        world.due_charge()
    go_to(world, "2026-04-01T00:00:00")

    billed = bill(world, batch=2)

    assert billed == Billed(10, Decimal("199.90"))


def test_a_batch_that_was_billed_before_does_not_end_the_run(world: World) -> None:
    """R15: after a partial restore its charges are there; what stands behind it is still owed."""
    first, second = world.due_charge(), world.due_charge()
    go_to(world, "2026-02-28T00:00:00")
    bill(world)
    there = {first.subscription_id: "2026-02-28", second.subscription_id: "2026-03-31"}
    for subscription_id, start in there.items():
        day = date.fromisoformat(start)
        Subscription.objects.filter(pk=subscription_id).update(
            next_period_start=day, next_billing_at=billing.begins_at(day, "UTC")
        )
    go_to(world, "2026-04-01T00:00:00")

    billed = bill(world, batch=1)

    assert billed.charges == 2
    assert starts(first) == starts(second) == ["2026-01-31", "2026-02-28", "2026-03-31"]


def test_many_subscriptions_of_one_creator_are_told_in_their_sequence(world: World) -> None:
    """R44: within a creator the outbox ids grow as event_seq does, without a gap."""
    who = creator(clock=world.clock)
    for _ in range(12):
        world.due_charge(of=who)
    go_to(world, "2026-03-31T00:00:00")

    bill(world)

    rows = OutboxMessage.objects.filter(key=who.pk, door=Door.KAFKA).order_by("id")
    sequence = list(rows.values_list("event_seq", flat=True))
    assert sequence == list(range(1, len(sequence) + 1))
    assert Creator.objects.get(pk=who.pk).event_seq == len(sequence)


@pytest.mark.django_db(transaction=True)
def test_two_bill_runs_at_once_bill_once(world: World) -> None:
    """R15: the second waits for the creators and reads again."""
    for _ in range(4):
        world.due_charge()
    go_to(world, "2026-04-01T00:00:00")

    runs = together(lambda: bill(world, batch=2), lambda: bill(world, batch=2))

    billed = [run for run in runs if isinstance(run, Billed)]
    assert len(billed) == 2
    assert sum(run.charges for run in billed) == 8
    assert Charge.objects.count() == 12


@pytest.mark.django_db(transaction=True)
def test_a_cancel_that_the_run_waited_for_is_not_billed(world: World) -> None:
    """F33: found due, then read again under the creator's lock."""
    charge = world.due_charge()
    go_to(world, "2026-02-28T00:00:00")
    locked = threading.Event()

    def person() -> None:
        with transaction.atomic():
            subscriptions.cancel(
                subscription_id=charge.subscription_id,
                by="platform",
                reason="asked for",
                now=world.clock.now(),
            )
            locked.set()
            wait_for(somebody_waits_for_a_lock, 60, "the bill run to wait for the creator")

    def run() -> Billed:
        assert locked.wait(60)
        return bill(world)

    results = together(person, run)

    assert results == [None, Billed(0, Decimal("0.00"))]
    assert Charge.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_run_that_died_after_its_first_batch_adds_nothing_twice(world: World) -> None:
    """R15."""
    for _ in range(3):
        world.due_charge()
    go_to(world, "2026-02-28T00:00:00")

    def die() -> None:
        raise Crash

    failpoints.enable("bill.batch_committed", die)
    try:
        with pytest.raises(Crash):
            bill(world, batch=1)
    finally:
        failpoints.disable("bill.batch_committed")
    again = bill(world, batch=1)

    assert again.charges == 2
    assert Charge.objects.count() == 6


def test_no_transaction_locks_more_than_a_thousand_creators() -> None:
    assert BATCH <= 1000


# --- Off the calendar ------------------------------------------------------------------------------


@pytest.fixture
def off_calendar(world: World) -> Charge:
    """A hand moved the next period by a day: no period begins there."""
    charge = world.due_charge()
    Subscription.objects.filter(pk=charge.subscription_id).update(
        next_period_start=date(2026, 2, 27)
    )
    go_to(world, "2026-02-28T00:00:00")
    return charge


def test_a_run_off_the_calendar_bills_nothing_and_waits(world: World, off_calendar: Charge) -> None:
    with pytest.raises(
        OffCalendar, match=r"1 of 1 charges, 19.99 USD .* are 0.00 USD; .*no charge"
    ):
        bill(world)

    assert Charge.objects.count() == 1


def test_a_run_off_in_its_price_waits_too(world: World) -> None:
    """The plan's terms were rewritten so that charge and calendar disagree in USD alone."""
    world.due_charge()
    dear = billing.Period(**(first_due(world).__dict__ | {"price": Decimal("19.98")}))

    with pytest.raises(OffCalendar, match=r"19\.98 USD"):
        billing.bill([dear], now=world.clock.now())


def first_due(world: World) -> billing.Period:
    go_to(world, "2026-02-28T00:00:00")
    subscription = Subscription.objects.get()
    return billing._periods([subscription.pk], now=world.clock.now())[0]


def approve(world: World, case: Case, *, by: str) -> Case:
    return billing.approve_bill_run(
        case_id=case.pk, by=by, reason="seen with support", now=world.clock.now()
    )


def held(world: World) -> Case:
    """What the timetable does with a run that is off."""
    with pytest.raises(OffCalendar) as refused:
        bill(world)
    return hold_bill_run(off=refused.value, now=world.clock.now())


def test_a_run_is_approved_once_and_not_by_its_proposer(world: World, off_calendar: Charge) -> None:
    """R43."""
    case = held(world)
    with pytest.raises(billing.NotApprovable):
        approve(world, case, by=case.proposed_by)

    approved = approve(world, case, by="second person")

    assert (approved.approved_by, approved.closed_because) == ("second person", "seen with support")
    with pytest.raises(billing.NotApprovable):
        approve(world, case, by="third person")


def test_an_approved_run_bills_as_planned_that_day_and_shows_the_difference(
    world: World, off_calendar: Charge
) -> None:
    case = held(world)
    assert case.amount == Decimal("19.99")
    assert str(off_calendar.subscription_id) in case.reason
    approve(world, case, by="second person")

    billed = bill(world)

    charge = Charge.objects.exclude(pk=off_calendar.pk).get()
    assert billed.charges == 1
    assert (charge.amount, charge.expected_amount) == (Decimal("19.99"), Decimal("0.00"))


def test_an_approval_is_of_the_charges_that_were_shown_and_of_no_others(
    world: World, off_calendar: Charge
) -> None:
    """R43: what goes off later that day waits for an approval of its own."""
    approve(world, held(world), by="second person")
    other = world.due_charge()
    Subscription.objects.filter(pk=other.subscription_id).update(
        next_period_start=date(2026, 3, 1), next_billing_at=world.clock.business_now()
    )

    case = held(world)

    assert case.approved_by == ""
    (named,) = case.detail["off"]
    assert str(other.subscription_id) in named
    assert Charge.objects.count() == 2
    approve(world, case, by="second person")
    assert bill(world).charges == 2


@pytest.mark.parametrize("approval", ["none", "of the day before"])
def test_an_approval_counts_for_its_own_day(
    world: World, off_calendar: Charge, approval: str
) -> None:
    if approval == "of the day before":
        approve(world, held(world), by="second person")
        go_to(world, "2026-03-01T00:00:00")

    with pytest.raises(OffCalendar):
        bill(world)


def test_a_held_run_is_one_case(world: World, off_calendar: Charge) -> None:
    for _ in range(3):
        held(world)

    assert Case.objects.filter(kind=CaseKind.BILL_RUN).count() == 1


def test_sql_and_python_agree_on_every_period_of_every_interval(world: World) -> None:
    """The expected amount is a second opinion: the same dates from a calendar of its own (R11)."""
    charge = world.due_charge()
    disagreements = []
    with connection.cursor() as cursor:
        for unit, count in (("week", 1), ("week", 3), ("month", 1), ("month", 5), ("year", 1)):
            for anchor in (date(2024, 1, 29), date(2024, 1, 31), date(2024, 2, 29)):
                days = [
                    billing.period_date(anchor=anchor, interval=unit, count=count, k=k)
                    for k in range(48)
                ]
                cursor.execute(
                    "SELECT array_agg(checkout_period_date(%s, %s, %s, k) ORDER BY k)"
                    " FROM generate_series(0, 47) AS k",
                    [anchor, unit, count],
                )
                if cursor.fetchone()[0] != days:
                    disagreements.append((unit, count, anchor))

    assert disagreements == []
    assert charge.expected_amount == charge.amount


# --- Past due --------------------------------------------------------------------------------------


def review(world: World) -> int:
    return subscriptions.review(clock=world.clock, ages=world.ages)


def told(charge: Charge) -> list[str]:
    rows = OutboxMessage.objects.filter(subject=charge.subscription_id).order_by("event_seq")
    return [kind.removeprefix("subscription.") for kind in rows.values_list("type", flat=True)]


def test_an_exhausted_charge_makes_its_subscription_past_due_and_payment_resumes_it(
    world: World,
) -> None:
    charge = exhausted_on_a_date(world)
    assert review(world) == 1
    world.clock.move_business(days=3)
    open_next_rounds(clock=world.clock, ages=world.ages)
    world.receive(charge)

    assert (review(world), review(world)) == (1, 0)

    assert subscription_of(charge).state == SubscriptionState.ACTIVE
    assert told(charge) == ["started", "past_due", "resumed"]


def test_a_next_round_that_pays_nothing_does_not_look_like_a_payment(world: World) -> None:
    """Past due since the first exhaustion: else dunning would put off the end for ever."""
    charge = exhausted_on_a_date(world)
    review(world)
    since = subscription_of(charge).past_due_since
    world.clock.move_business(days=3)
    open_next_rounds(clock=world.clock, ages=world.ages)

    assert review(world) == 0
    world.gateway.answers = [FUNDS]
    world.receive(charge)
    review(world)

    assert subscription_of(charge).past_due_since == since
    assert told(charge) == ["started", "past_due"]


def test_a_subscription_long_past_due_ends_and_is_billed_no_further(world: World) -> None:
    charge = exhausted_on_a_date(world)
    review(world)
    world.clock.move_business(days=60)

    review(world)

    assert subscription_of(charge).state == SubscriptionState.ENDED
    assert bill(world).charges == 0


def test_a_written_off_charge_leaves_its_subscription_active(world: World) -> None:
    charge = exhausted_on_a_date(world)
    review(world)
    write_off(world, charge)

    review(world)

    assert subscription_of(charge).state == SubscriptionState.ACTIVE


def test_a_subscription_s_events_have_the_same_ids_when_they_happen_again(world: World) -> None:
    """R51: a database restored from before repeats them, at another time of any clock."""
    charge = exhausted_on_a_date(world)
    cheap = charge.terms.plan_id
    plan("dearer", "29.99")

    def story(late: float) -> list[tuple[str, UUID]]:
        world.clock.forward(seconds=late)
        for code in ("dearer", cheap, "dearer"):
            change_plan(world, charge, code)
        review(world)
        with transaction.atomic():
            requeue(charge_id=charge.pk, by="operator", reason="asked", now=world.clock.now())
        world.receive(charge)
        review(world)
        rows = OutboxMessage.objects.filter(subject=charge.subscription_id).order_by("event_seq")
        return list(rows.values_list("type", "event_id"))

    restore_point = transaction.savepoint()
    first = story(late=1)
    transaction.savepoint_rollback(restore_point)
    again = story(late=777)

    assert first == again
    assert len({event_id for _, event_id in first}) == len(first) == 6


def test_each_time_it_falls_behind_is_an_event_of_its_own(world: World) -> None:
    """R51: what came of one charge and what came of the next, whichever way the first was settled."""
    charge = exhausted_on_a_date(world)
    review(world)
    write_off(world, charge)
    review(world)
    go_to(world, "2026-02-28T00:00:00")
    bill(world)
    following = Charge.objects.get(subscription=charge.subscription_id, state=ChargeState.DUE)
    world.gateway.answers = [FUNDS]
    world.receive(following)
    review(world)
    write_off(world, following)
    review(world)

    assert told(charge) == ["started", "past_due", "resumed", "past_due", "resumed"]


def test_a_charge_id_is_that_of_its_subscription_and_period() -> None:
    """R51."""
    subscription = UUID("00000000-0000-5000-8000-000000000002")

    ids = {
        Charge.derive_id(subscription_id=subscription, period_start=date(2026, 1, day))
        for day in (1, 1, 2)
    }

    assert len(ids) == 2
