"""Each planted fault is named to the cent, and clean records raise no alarm (R37, R38, R54)."""

import threading
from datetime import time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.db.models import F

from checkout import billing, failpoints, outcomes, subscriptions
from checkout.failpoints import Crash
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import Charge, ChargeState, LedgerPosting
from settlements import reconciliation
from settlements.models import (
    Code,
    DirtyKind,
    Discrepancy,
    Kind,
    ReconcileDirty,
    ReconciliationRun,
)
from tests.factories import World, attempts, creator, fresh, plan
from tests.factories_settlements import edit, statement_text, take_in, triggers_off
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def look_again(world: World) -> ReconciliationRun:
    return reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def full(world: World, *kinds: Kind) -> ReconciliationRun:
    return reconciliation.reconcile(
        clock=world.clock, ages=world.ages, kinds=kinds or reconciliation.KINDS
    )


def named(**filters: Any) -> list[tuple[str, str, str]]:
    """Kind, code and difference of every discrepancy that is open; here no files are waited for."""
    rows = Discrepancy.objects.filter(cleared_at__isnull=True, **filters)
    rows = rows.exclude(code=Code.LATE_FILE)
    return [
        (row.kind, row.code, str(row.difference)) for row in rows.order_by("kind", "code", "id")
    ]


def paid(world: World, **facts: Any) -> Charge:
    charge = world.due_charge(**facts)
    world.receive(charge)
    return fresh(charge)


def short(request: Any) -> Approved:
    return Approved(request.amount - Decimal("0.03"), "USD", "short")


# --- No false alarm ------------------------------------------------------------------------------


def test_clean_records_raise_no_alarm(world):
    """R38: none of the ways a charge may legally go is a discrepancy."""
    hard = Declined(DeclineClass.NEVER, "stolen_card")
    paid(world)
    world.due_charge()
    world.gateway.answers = [InDoubt("time-out"), hard]
    world.receive(world.due_charge())
    world.receive(world.due_charge())
    cancelled = world.due_charge()
    with transaction.atomic():
        subscriptions.cancel(
            subscription_id=cancelled.subscription_id, by="test", reason="", now=world.clock.now()
        )

    run = look_again(world)

    assert named() == []
    assert run.creators == 5
    assert full(world).opened == 0


def test_three_months_of_billing_raise_no_alarm(world):
    """R11, R12: two computations of the calendar agree, from the 31st, across daylight saving."""
    for zone in ("Asia/Almaty", "America/New_York", "Africa/Cairo", "Pacific/Auckland"):
        who = creator(clock=world.clock, time_zone=zone)
        world.receive(world.due_charge(of=who))
    for _ in range(90):
        world.clock.forward(days=1)
        billing.bill_due(clock=world.clock, ages=world.ages)
    for charge in Charge.objects.exclude(state=ChargeState.SUCCEEDED):
        world.receive(charge)

    look_again(world)

    assert Charge.objects.count() == 16
    assert named() == []
    full(world)
    assert named() == []


def test_a_changed_plan_raises_no_alarm(world):
    """R7: the new price counts from the next period on, and may be changed again until then."""
    charge = paid(world)
    for code, price in (("better", "29.99"), ("best", "39.99")):
        with transaction.atomic():
            subscriptions.change_plan(
                subscription_id=charge.subscription_id,
                plan_code=plan(code, price).code,
                now=world.clock.now(),
            )
        look_again(world)
    world.clock.forward(days=31)
    billing.bill_due(clock=world.clock, ages=world.ages)

    look_again(world)

    assert named() == []
    assert Charge.objects.filter(amount="39.99").count() == 1


# --- Billing and captured ------------------------------------------------------------------------


def test_a_row_shorted_behind_the_triggers_is_named_with_creator_and_charge(world):
    """R37: 19.99 was owed, the row says 19.96; session_replication_role was replica."""
    charge = paid(world)
    look_again(world)

    edit("UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", charge.pk)
    look_again(world)

    found = Discrepancy.objects.get(kind=Kind.BILLING)
    assert (found.code, found.charge_id, found.creator_id) == (
        Code.UNDER_CHARGE,
        charge.pk,
        charge.creator_id,
    )
    assert (found.expected, found.actual, found.difference) == (
        Decimal("19.99"),
        Decimal("19.96"),
        Decimal("-0.03"),
    )
    assert found.explanation.startswith("Under-charge of 0.03 USD: 19.99 was owed")


def test_amount_and_expectation_shorted_together_are_still_named(world):
    """R37: the calendar's own computation is the second opinion, not the charge's stored one."""
    charge = world.due_charge()

    edit(
        "UPDATE checkout_charge SET amount = 19.96, expected_amount = 19.96 WHERE id = %s",
        charge.pk,
    )
    look_again(world)

    assert named(charge=charge) == [
        ("billing", "expectation", "-0.03"),
        ("billing", "under_charge", "-0.03"),
    ]


def test_a_short_capture_is_named(world):
    """R37: the processor captured 0.03 less than was owed."""
    world.gateway.answers = [short]
    charge = paid(world)

    look_again(world)

    assert named() == [("captured", "under_charge", "-0.03")]
    found = Discrepancy.objects.get()
    assert found.charge_id == charge.pk
    assert found.explanation == ("Under-charge of 0.03 USD: 19.99 was owed, 19.96 was captured.")


def test_a_surplus_is_named_too(world):
    """R38: the tolerance is 0.00 on both sides."""
    world.gateway.answers = [lambda r: Approved(r.amount + Decimal("0.01"), "USD", "more")]
    paid(world)

    look_again(world)

    assert ("captured", "surplus", "0.01") in named()


def test_a_second_capture_is_named(world):
    """R26: money that the charge cannot take is owed back."""
    world.gateway.answers = [Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")]
    charge = world.due_charge()
    world.receive(charge)
    world.clock.forward(seconds=300)
    world.receive(charge, count=2)
    first, _ = attempts(charge)
    with transaction.atomic():
        outcomes.record_outcome(
            attempt_id=first.pk,
            answer=Approved(Decimal("19.99"), "USD", "late"),
            sends=first.sends,
            receive=None,
            now=world.clock.now(),
            ages=world.ages,
        )

    look_again(world)

    assert named() == [("captured", "unapplied", "19.99")]


def test_a_paid_row_rewritten_to_failed_then_retry_is_named(world):
    """F27: the state says otherwise, the capture stands."""
    charge = paid(world)
    look_again(world)

    edit("UPDATE checkout_charge SET state = 'failed_then_retry' WHERE id = %s", charge.pk)
    look_again(world)

    assert named() == [("captured", "state", "19.99")]
    assert "says failed_then_retry" in Discrepancy.objects.get().explanation


def test_a_rewriting_that_was_healed_before_the_pass_is_named_and_cleared(world):
    """F27: the worker put the row right first; that it was rewritten is still on record."""
    charge = paid(world)
    look_again(world)

    edit("UPDATE checkout_charge SET state = 'failed_then_retry' WHERE id = %s", charge.pk)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    look_again(world)

    found = Discrepancy.objects.get()
    assert (found.kind, found.code, found.charge_id) == ("captured", "rewritten", charge.pk)
    assert "state from succeeded to failed_then_retry" in found.explanation
    assert found.cleared_because == "evidence"


def agreed_from_next_period(world) -> Charge:
    charge = paid(world)
    with transaction.atomic():
        subscriptions.change_plan(
            subscription_id=charge.subscription_id,
            plan_code=plan("better", "29.99").code,
            now=world.clock.now(),
        )
    look_again(world)
    return charge


def test_terms_shorted_before_their_first_charge_are_named_and_stay_so(world):
    """R7, R37: no charge was computed from them yet, so nothing else would ever miss the cents."""
    charge = agreed_from_next_period(world)

    edit(
        "UPDATE checkout_subscriptionterms SET price = price - 0.03 WHERE subscription_id = %s"
        " AND plan_id = 'better'",
        charge.subscription_id,
    )
    look_again(world)
    early = named()
    world.clock.forward(days=31)
    billing.bill_due(clock=world.clock, ages=world.ages)
    look_again(world)
    full(world)

    assert early == [("billing", "under_charge", "-0.03")]
    assert named() == early
    found = Discrepancy.objects.get(kind=Kind.BILLING)
    assert found.creator_id == charge.creator_id
    assert found.explanation.startswith(
        "Under-charge of 0.03 USD: 29.99 was agreed from 2026-02-28, the terms say 29.96"
    )


def test_terms_of_another_plan_than_was_agreed_are_named(world):
    """R7: the price is right, the calendar would not be."""
    charge = agreed_from_next_period(world)

    edit(
        "UPDATE checkout_subscriptionterms SET interval = 'year' WHERE subscription_id = %s"
        " AND plan_id = 'better'",
        charge.subscription_id,
    )
    look_again(world)

    assert named() == [("billing", "period", "0.00")]


def test_terms_rewritten_with_their_charge_are_named(world):
    """R7: the price a charge was computed from never changes, so its rewriting is the fault."""
    charge = world.due_charge()
    look_again(world)

    edit("UPDATE checkout_subscriptionterms SET price = 19.96 WHERE id = %s", charge.terms_id)
    edit(
        "UPDATE checkout_charge SET amount = 19.96, expected_amount = 19.96 WHERE id = %s",
        charge.pk,
    )
    edit(
        "UPDATE checkout_ledgerposting SET amount = sign(amount) * 19.96 WHERE charge_id = %s",
        charge.pk,
    )
    look_again(world)
    full(world)

    assert ("billing", "rewritten", "-0.03") in named()
    assert any("price from 19.99 to 19.96" in d.explanation for d in Discrepancy.objects.all())


def test_a_capture_without_an_attempt_is_named(world):
    """R36: the attempt was deleted behind the service; state and books still speak of it."""
    charge = paid(world)
    look_again(world)

    edit("DELETE FROM checkout_attempt WHERE charge_id = %s", charge.pk)
    look_again(world)

    assert ("captured", "state", "-19.99") in named()
    assert ("ledger", "extra", "19.99") in named()


# --- Periods -------------------------------------------------------------------------------------


def test_a_period_that_was_not_billed_is_named_once_billing_had_its_time(world):
    """R15, R55: nothing changed but the time, and the incremental pass finds it all the same."""
    charge = paid(world)
    look_again(world)
    world.clock.forward(days=28)
    look_again(world)
    assert named() == []

    world.clock.forward(seconds=world.ages.bill_within + 1)
    look_again(world)

    found = Discrepancy.objects.get(kind=Kind.PERIODS)
    assert (found.kind, found.code, found.expected) == ("periods", "missing", Decimal("19.99"))
    assert found.creator_id == charge.creator_id
    assert "2026-02-28 to 2026-03-31" in found.explanation


def test_a_jump_of_the_business_clock_is_no_missing_period(world):
    """The test clock moves months at once; billing still has its real seconds."""
    paid(world)
    look_again(world)

    world.clock.move_business(days=90)
    look_again(world)
    assert named() == []
    billing.bill_due(clock=world.clock, ages=world.ages)
    world.clock.forward(seconds=world.ages.bill_within + 1)
    look_again(world)

    assert named() == []


def test_a_missing_period_is_cleared_by_its_charge(world):
    """R54: gone it is cleared by evidence, and never deleted."""
    paid(world)
    look_again(world)
    world.clock.forward(days=30)
    look_again(world)
    world.clock.forward(days=1)
    look_again(world)
    assert [code for _, code, _ in named()] == ["missing"]

    billing.bill_due(clock=world.clock, ages=world.ages)
    look_again(world)

    assert named() == []
    assert Discrepancy.objects.get(kind=Kind.PERIODS).cleared_because == "evidence"


def test_a_calendar_edited_behind_the_service_is_named(world):
    """R55: a next billing date moved away would hide every later period."""
    charge = paid(world)
    look_again(world)

    edit(
        "UPDATE checkout_subscription SET next_billing_at = next_billing_at + interval '1 year',"
        " next_period_start = next_period_start + 365 WHERE id = %s",
        charge.subscription_id,
    )
    look_again(world)
    assert [code for _, code, _ in named()] == ["next_billing"]

    world.clock.forward(days=30)
    look_again(world)
    world.clock.forward(days=1)
    look_again(world)
    assert [code for _, code, _ in named()] == ["missing", "next_billing"]


def test_a_zone_that_the_server_does_not_know_is_named_and_stops_nothing(world):
    """R12: one row of nonsense must not keep every other cent from being named."""
    charge, short_one = paid(world), paid(world)
    look_again(world)

    edit(
        "UPDATE checkout_subscription SET time_zone = 'Mars/Olympus',"
        " next_billing_at = next_billing_at - interval '11 hours' WHERE id = %s",
        charge.subscription_id,
    )
    edit("UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", short_one.pk)
    look_again(world)

    assert named() == [("billing", "under_charge", "-0.03"), ("periods", "next_billing", "0.00")]


def test_a_charge_for_a_day_on_which_no_period_begins_is_named(world):
    """R14: an extra charge is money the creator does not owe."""
    charge = paid(world)
    look_again(world)

    edit("UPDATE checkout_charge SET period_start = period_start + 1 WHERE id = %s", charge.pk)
    look_again(world)

    assert ("periods", "extra", "19.99") in named()


def test_a_cancel_that_waited_while_a_bill_run_wrote_raises_no_alarm(world):
    """R38: it read the time first and had the lock second; it closes what was billed by then."""
    charge = paid(world)
    asked_at = world.clock.now()
    world.clock.forward(days=31)
    assert billing.bill_due(clock=world.clock, ages=world.ages).charges == 1

    with transaction.atomic():
        subscriptions.cancel(
            subscription_id=charge.subscription_id, by="test", reason="", now=asked_at
        )
    look_again(world)

    assert named() == []


# --- Ledger --------------------------------------------------------------------------------------


def test_a_capture_that_is_not_in_the_books_is_named(world):
    """R36."""
    charge = paid(world)
    look_again(world)

    edit(
        "DELETE FROM checkout_ledgerposting USING checkout_ledgerentry e"
        " WHERE e.id = entry_id AND e.kind = 'captured'"
    )
    edit("DELETE FROM checkout_ledgerentry WHERE kind = 'captured'")
    look_again(world)

    assert ("ledger", "missing", "-19.99") in named(charge=charge)
    assert ("ledger", "receivable", "19.99") in named(charge=charge)


def test_a_posting_changed_by_a_cent_is_named_three_times_over(world):
    """R34, R35, R36: the entry does not balance, the capture and the receivable do not agree."""
    paid(world)
    look_again(world)
    posting = LedgerPosting.objects.get(account="clearing")

    edit("UPDATE checkout_ledgerposting SET amount = 19.98 WHERE id = %s", posting.pk)
    look_again(world)

    assert named() == [("ledger", "amount", "-0.01"), ("ledger", "unbalanced", "-0.01")]


# --- Found again, gone, and two at once ------------------------------------------------------------


def test_a_discrepancy_found_again_is_the_same_row(world):
    """R54."""
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", charge.pk)
    look_again(world)
    first = Discrepancy.objects.get(kind=Kind.BILLING)

    world.clock.forward(seconds=60)
    full(world)
    edit("UPDATE checkout_charge SET amount = 19.95 WHERE id = %s", charge.pk)
    look_again(world)

    again = Discrepancy.objects.get(kind=Kind.BILLING)
    assert (again.pk, again.opened_at) == (first.pk, first.opened_at)
    assert again.difference == Decimal("-0.04")


def test_a_healed_row_is_cleared_by_evidence_and_opens_again_as_the_same(world):
    """R54."""
    charge = paid(world)
    for amount in ("19.96", "19.99", "19.96"):
        edit("UPDATE checkout_charge SET amount = %s WHERE id = %s", amount, charge.pk)
        look_again(world)

    found = Discrepancy.objects.get(kind=Kind.BILLING, code=Code.UNDER_CHARGE)
    assert found.cleared_at is None
    assert len(named()) == 1


def test_what_the_version_before_found_of_a_line_is_cleared_by_evidence(world, tmp_path):
    """It looked at a line by its creator; this one by the attempt that the line names."""
    paid(world)
    day = world.clock.business_now().date()
    world.clock.forward(days=1)
    take_in(statement_text(day), world=world, folder=tmp_path)
    by_a_cent = "UPDATE settlements_statementline SET gross = gross + %s, net = net + %s"
    edit(by_a_cent, "-0.01", "-0.01")
    look_again(world)
    found = Discrepancy.objects.filter(kind=Kind.STATEMENT, code=Code.AMOUNT)
    found.update(key=F("creator_id"))
    ReconcileDirty.objects.all().delete()  # it marked nothing either
    look_again(world)

    edit(by_a_cent, "0.01", "0.01")
    look_again(world)

    assert named(kind=Kind.STATEMENT) == []
    assert found.get().cleared_because == "evidence"


@pytest.mark.parametrize(
    "hidden",
    [
        "UPDATE settlements_discrepancy SET cleared_at = now(), cleared_because = 'evidence'",
        "UPDATE settlements_discrepancy SET fingerprint = 'x:' || id",
        "DELETE FROM settlements_discrepancy",
    ],
)
def test_r55_what_was_hidden_by_hand_is_named_again_by_the_next_pass(world, hidden):
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = amount - 0.03 WHERE id = %s", charge.pk)
    look_again(world)
    was = named()

    edit(hidden)
    look_again(world)

    fingerprints = Discrepancy.objects.filter(cleared_at__isnull=True)
    assert {f"billing:under_charge:{charge.pk}"} <= set(
        fingerprints.values_list("fingerprint", flat=True)
    )
    assert set(named()) == set(was)


def test_a_mark_of_the_version_before_is_of_all_that_a_creator_has(world):
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = amount - 0.03 WHERE id = %s", charge.pk)
    ReconcileDirty.objects.all().delete()

    ReconcileDirty.objects.create(kind=DirtyKind.CREATOR, subject=charge.creator_id)
    look_again(world)

    assert ("billing", "under_charge", "-0.03") in named()


def test_a_discrepancy_is_never_deleted(world):
    """R54, in the database."""
    world.gateway.answers = [short]
    paid(world)
    look_again(world)

    with pytest.raises(Exception, match="never changed or deleted"), transaction.atomic():
        Discrepancy.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_a_late_commit_is_found_by_the_pass_after_it(world):
    """R55: a pass ran while the fault was made but not committed; no watermark steps over it."""
    charge = paid(world)
    look_again(world)
    made, passed = threading.Event(), threading.Event()

    def edit_slowly() -> None:
        try:
            with triggers_off() as cursor:
                cursor.execute(
                    "UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", [charge.pk]
                )
                made.set()
                assert passed.wait(20)
        finally:
            connection.close()

    editor = threading.Thread(target=edit_slowly)
    editor.start()
    assert made.wait(20)
    paid(world)
    look_again(world)
    assert named() == []
    passed.set()
    editor.join()

    look_again(world)

    assert named() == [("billing", "under_charge", "-0.03")]
    assert ReconcileDirty.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_passes_at_once_open_one_discrepancy(world):
    """R54: the passes take turns; the second finds the marks consumed and clears nothing."""
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", charge.pk)
    barrier, errors = threading.Barrier(2), []

    def run() -> None:
        try:
            barrier.wait(20)
            look_again(world)
        except Exception as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connection.close()

    passes = [threading.Thread(target=run) for _ in range(2)]
    for one in passes:
        one.start()
    for one in passes:
        one.join()

    assert errors == []
    assert named() == [("billing", "under_charge", "-0.03")]


def test_a_pass_over_some_kinds_leaves_the_marks(world):
    """What the other kinds have to look at is not consumed by one that does not."""
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = 19.96 WHERE id = %s", charge.pk)

    full(world, Kind.LEDGER)
    assert named() == []
    look_again(world)

    assert named() == [("billing", "under_charge", "-0.03")]


@pytest.mark.django_db(transaction=True)
def test_a_pass_waits_for_the_one_before_it(world):
    """R54: it would clear what the other has found and not recorded yet."""
    paid(world)
    done = threading.Event()

    def run() -> None:
        try:
            look_again(world)
            done.set()
        finally:
            connection.close()

    second = threading.Thread(target=run)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [reconciliation.LOCK])
        second.start()
        wait_for(lambda: _waits_for_a_lock(cursor), 20, "the second pass to wait its turn")
        assert not done.is_set()
    second.join(20)

    assert done.is_set()


def _waits_for_a_lock(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(cursor.fetchone()[0])


def test_the_application_role_may_run_a_pass(world):
    """The processes sign in with a login that owns nothing; a pass must not need more than it has."""
    paid(world)
    edit("UPDATE checkout_charge SET amount = 19.96")

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE checkout_app")
        full(world)
        world.receive(world.due_charge())
        look_again(world)
        cursor.execute("RESET ROLE")

    assert named() == [("billing", "under_charge", "-0.03")]


def test_a_full_pass_takes_everything_slice_by_slice(world):
    """R55: between two slices an incremental pass may run; each creator is in exactly one."""
    charges = [paid(world) for _ in range(6)]
    ReconcileDirty.objects.all().delete()
    edit("UPDATE checkout_charge SET amount = 19.96")
    ReconcileDirty.objects.all().delete()

    run = reconciliation.reconcile(clock=world.clock, ages=world.ages, at_once=1)

    assert (run.creators, run.opened) == (len(charges), len(charges))
    assert len(named(code=Code.UNDER_CHARGE)) == len(charges)


def test_judging_as_of_another_time_records_nothing(world):
    paid(world)
    now = world.clock.now()
    later = world.clock.forward(days=40).business

    found = reconciliation.look(as_of=later, now=now)

    assert [finding.code for finding in found] == ["missing"]
    assert Discrepancy.objects.count() == 0
    assert ReconcileDirty.objects.count() > 0


# --- Every night ---------------------------------------------------------------------------------


def due(world: World) -> bool:
    """In a zone where the world's noon is 17:00."""
    almaty = ZoneInfo("Asia/Almaty")
    return reconciliation.is_full_due(at=time(1), zone=almaty, now=world.clock.now())


def test_a_full_pass_is_due_once_a_night_in_the_finance_zone(world):
    assert due(world)
    full(world)
    assert not due(world)
    assert world.clock.forward(seconds=7.9 * 3600).real.hour == 19  # 00:54 in Almaty
    assert not due(world)
    world.clock.forward(seconds=0.2 * 3600)
    assert due(world)
    full(world)
    assert not due(world)


def test_a_pass_of_some_kinds_or_one_that_was_cut_short_is_no_nightly_one(world):
    full(world, Kind.LEDGER)
    assert due(world)
    paid(world)

    def die() -> None:
        raise Crash

    failpoints.enable("reconcile.slice_committed", die)
    try:
        with pytest.raises(Crash):
            full(world)
    finally:
        failpoints.disable("reconcile.slice_committed")

    assert not due(world)  # what cut it short may do so again: not at once
    world.clock.forward(seconds=3601)
    assert due(world)
