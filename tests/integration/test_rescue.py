"""What heals the way of a charge: the resolver, the sweep, the drain, webhooks, and what people decide.

Rules R20 to R24, R28, R33; faults F6 to F9, F22, F24, F25, F30.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from checkout import failpoints, ledger, rescue
from checkout.gateways import Answer, Approved, InDoubt, NotFound, Pending
from checkout.messages import DeadLetter, Receive
from checkout.models import (
    Attempt,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Creator,
    PendingMessage,
    Verdict,
    WebhookDelivery,
)
from checkout.money import NotUsd
from checkout.outcomes import Fate
from tests.factories import World, attempts, dispatches, events, fresh, publish, unknown_id
from tests.fakes import START, charged_but_silent
from tests.line import Line
from tests.situations import (
    BELIEVED_AFTER,
    SOFT,
    TIMED_OUT,
    WHOLE,
    add_instrument,
    ask,
    attempting,
    cancel,
    crashing_at,
    dies,
    drain,
    exhausted_awaits_an_instrument,
    failed_then_retry,
    in_doubt,
    letter,
    letters_of,
    not_found_for_good,
    open_attempt,
    pending,
    published,
    requeue,
    rewrite,
    succeeded,
    written_off,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def resolve(world: World) -> int:
    return rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)


def since_start(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - START).total_seconds()


# --- The resolver ----------------------------------------------------------------------------------


def test_an_attempt_in_doubt_is_asked_about_after_a_minute_then_ever_more_rarely(
    world: World,
) -> None:
    """1 min, 5 min, 1 h, then daily."""
    charge = in_doubt(world)
    gaps = []
    for _ in range(6):
        before, due = world.clock.real_now(), open_attempt(charge).next_query_at
        assert due is not None
        gaps.append((due - before).total_seconds())
        world.clock.forward(seconds=gaps[-1])
        world.gateway.query_answers = [InDoubt("still away")]
        assert resolve(world) == 1

    assert gaps == [60, 300, 3600, 86400, 86400, 86400]
    assert fresh(charge).state == ChargeState.IN_DOUBT


def test_any_other_open_attempt_is_asked_about_300_s_after_its_last_send(world: World) -> None:
    charge = attempting(world)
    world.clock.forward(seconds=200)
    dies(world, charge, count=2)
    world.clock.forward(seconds=299)
    assert resolve(world) == 0

    world.clock.forward(seconds=1)

    assert resolve(world) == 1
    assert since_start(open_attempt(charge).last_sent_at) == 200


def test_not_found_is_worth_nothing_before_the_minimum_age(world: World) -> None:
    """R22: a request may still be on its way."""
    charge = in_doubt(world)
    world.clock.forward(seconds=BELIEVED_AFTER - 1)

    ask(world, open_attempt(charge), NotFound())

    assert open_attempt(charge).not_found == 0
    assert fresh(charge).state == ChargeState.IN_DOUBT


def test_not_found_counts_when_heard_three_times_after_the_minimum_age(world: World) -> None:
    """R22."""
    charge = in_doubt(world)
    world.clock.forward(seconds=BELIEVED_AFTER)

    ask(world, open_attempt(charge), NotFound(), NotFound())
    assert letters_of(charge) == "?"
    ask(world, open_attempt(charge), NotFound())

    assert letters_of(charge) == "0"
    assert fresh(charge).state == ChargeState.FAILED_THEN_RETRY
    assert attempts(charge)[0].verdict == Verdict.NOT_FOUND


def test_not_found_thrice_within_a_second_counts_once(world: World) -> None:
    """R22: webhooks may have it asked about at any time; repeats are worth something apart alone."""
    charge = in_doubt(world)
    world.clock.forward(seconds=BELIEVED_AFTER)

    for _ in range(3):
        ask(world, open_attempt(charge), NotFound())
        world.clock.forward(seconds=-59)

    assert open_attempt(charge).not_found == 1
    assert letters_of(charge) == "?"


def test_a_not_found_heard_early_and_written_late_counts_for_nothing(world: World) -> None:
    """R22: a resolver that was frozen after its question believes no more than it asked."""
    charge = in_doubt(world)

    def frozen(reference: UUID) -> NotFound:
        world.clock.forward(seconds=86400)
        return NotFound()

    world.clock.forward(seconds=60)
    world.gateway.query_answers = [frozen]
    resolve(world)

    assert open_attempt(charge).not_found == 0
    assert letters_of(charge) == "?"


def test_how_late_and_how_often_not_found_counts_is_the_processor_s_own_fact(
    world: World,
) -> None:
    """R22: two processors may differ; the settings only say what the sandbox's lanes are built with."""
    world.gateway.minimum_age, world.gateway.not_found_repeats = timedelta(hours=2), 1
    charge = in_doubt(world)
    world.clock.forward(seconds=7200)
    ask(world, open_attempt(charge), NotFound())
    assert letters_of(charge) == "?"

    world.clock.forward(seconds=60)
    ask(world, open_attempt(charge), NotFound())

    assert letters_of(charge) == "0"


def test_not_found_counts_from_the_start_again_once_the_processor_knew_the_attempt(
    world: World,
) -> None:
    """R22: it flutters, so its not-founds before were worth nothing."""
    charge = in_doubt(world)
    world.clock.forward(seconds=BELIEVED_AFTER)

    ask(world, open_attempt(charge), NotFound(), NotFound(), Pending(None))
    world.clock.forward(seconds=300)
    ask(world, open_attempt(charge), NotFound(), NotFound())

    assert letters_of(charge) == "?"


@pytest.mark.parametrize("paid_by_another", [False, True])
def test_what_turns_up_pending_for_an_attempt_that_is_over_is_ended_at_the_processor(
    world: World, paid_by_another: bool
) -> None:
    """R22, R26: another attempt took its place; this one's capture would be owed back."""
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    not_found_for_good(world, attempt)
    if paid_by_another:
        world.receive(charge)
    world.gateway.journal[attempt.pk] = Pending(None)
    world.clock.forward(days=1)

    resolve(world)

    assert world.gateway.expired == [attempt.pk]
    assert letters_of(charge) == ("0A" if paid_by_another else "0")


def test_a_lost_request_is_sent_again_as_a_new_attempt_only_after_it_is_final(
    world: World,
) -> None:
    """F8, R23: in doubt, queried, not found, and then one capture."""
    charge = in_doubt(world)
    line = Line(world)

    line.run(seconds=2400, step=60)

    assert letters_of(charge) == "0A"
    assert world.gateway.captured == Decimal("19.99")


@pytest.mark.parametrize(
    "answer", [TIMED_OUT, InDoubt("500", lane_failed=True)], ids=["late", "500"]
)
def test_what_was_charged_and_answered_late_is_found_by_query(world: World, answer) -> None:
    """F9: never failed, never a new key."""
    charge = world.due_charge()
    world.gateway.answers = [charged_but_silent(world.gateway, answer)]
    line = Line(world)

    line.run(seconds=120)

    assert letters_of(charge) == "A"
    assert len(world.gateway.sent) == 1
    assert events(charge) == ["charge.billed", "charge.in_doubt", "charge.succeeded"]


def test_a_not_found_verdict_is_asked_again_daily_until_a_statement_covers_its_day(
    world: World,
) -> None:
    """R22."""
    charge = in_doubt(world)
    not_found_for_good(world, open_attempt(charge))
    attempt, asked = attempts(charge)[0], len(world.gateway.asked)
    for _ in range(2):
        world.clock.forward(days=1)
        assert resolve(world) == 1

    stopped = rescue.stop_asking(attempt_ids=[attempt.pk], now=world.clock.now())
    world.clock.forward(days=1)

    assert stopped == 1
    assert resolve(world) == 0
    assert len(world.gateway.asked) == asked + 2


def test_a_frozen_worker_s_capture_after_the_verdict_is_found_by_asking_again(
    world: World,
) -> None:
    """The last defence of the model: the late capture is applied if still owed."""
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    not_found_for_good(world, attempt)
    world.gateway.journal[attempt.pk] = WHOLE
    world.clock.forward(days=1)

    resolve(world)

    assert letters_of(charge) == "A"
    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_statements_stop_the_asking_only_about_what_was_not_found(world: World) -> None:
    charge = in_doubt(world)

    stopped = rescue.stop_asking(attempt_ids=[open_attempt(charge).pk], now=world.clock.now())

    assert stopped == 0
    assert open_attempt(charge).next_query_at is not None


def test_nothing_but_an_answer_leads_out_of_doubt(world: World) -> None:
    """R21: no receive, sweep, drain, dunning date, new card or requeue moves it, for a month."""
    charge = in_doubt(world)
    add_instrument(world, charge)
    published(charge)
    for _ in range(30):
        world.clock.forward(days=1)
        world.receive(charge, count=2)
        rescue.sweep(clock=world.clock, ages=world.ages)
        rescue.open_next_rounds(clock=world.clock, ages=world.ages)
    drain(world, letter(charge))
    with pytest.raises(rescue.NotRequeueable):
        requeue(world, charge)

    assert fresh(charge).state == ChargeState.IN_DOUBT
    assert len(world.gateway.sent) == 1


def test_an_attempt_in_doubt_does_not_block_the_creator_s_other_charges(world: World) -> None:
    doubtful = in_doubt(world)
    other = world.due_charge(of=Creator.objects.get(pk=doubtful.creator_id))

    world.receive(other)

    assert fresh(other).state == ChargeState.SUCCEEDED


def test_one_attempt_that_cannot_be_asked_about_stops_no_other(world: World) -> None:
    broken, good = in_doubt(world), in_doubt(world)
    bad = open_attempt(broken).pk
    world.gateway.journal[open_attempt(good).pk] = WHOLE

    def ask_or_break(reference: UUID) -> Answer:
        if reference == bad:
            raise ConnectionError("not even a doubt")
        return WHOLE

    world.gateway.query_answers = [ask_or_break, ask_or_break]
    world.clock.forward(seconds=60)

    resolve(world)

    assert fresh(good).state == ChargeState.SUCCEEDED
    assert fresh(broken).state == ChargeState.IN_DOUBT
    assert open_attempt(broken).next_query_at == world.clock.real_now() + timedelta(seconds=60)


@pytest.mark.parametrize("currency", ["EUR", "KZT", "usd", ""])
def test_a_capture_in_another_currency_is_never_booked(world: World, currency: str) -> None:
    """R9, R28: it stays in doubt, for two people."""
    charge = in_doubt(world)

    with pytest.raises(NotUsd):
        ask(world, open_attempt(charge), Approved(Decimal("19.99"), currency, "ref"))

    assert letters_of(charge) == "?"
    assert fresh(charge).state == ChargeState.IN_DOUBT


def test_a_capture_short_by_three_cents_is_booked_as_captured(world: World) -> None:
    """R36, R37: the books hold what was captured; reconciliation names the difference."""
    charge = in_doubt(world)

    ask(world, open_attempt(charge), Approved(Decimal("19.96"), "USD", "ref"))

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert attempts(charge)[0].captured_amount == Decimal("19.96")
    assert ledger.receivable(charge_id=charge.pk) == Decimal("0.03")


def test_a_pending_charge_is_asked_about_before_its_expiry_and_expired_after(
    world: World,
) -> None:
    charge = pending(world)
    for _ in range(11):
        world.clock.forward(seconds=300)
        assert resolve(world) == 1
        assert world.gateway.expired == []

    world.clock.forward(seconds=300)
    resolve(world)

    assert world.gateway.expired == [attempts(charge)[0].pk]
    assert attempts(charge)[0].verdict == Verdict.EXPIRED


def test_a_cancelled_pending_charge_is_expired_at_the_processor_at_once(world: World) -> None:
    """F33: void_requested, then expire()."""
    charge = pending(world)
    cancel(world, charge)

    assert resolve(world) == 1

    assert fresh(charge).state == ChargeState.VOIDED
    assert world.gateway.expired == [attempts(charge)[0].pk]


def test_a_pending_charge_that_was_paid_while_we_expired_it_succeeds(world: World) -> None:
    """expire() answers what the processor knows, not what we wish."""
    charge = pending(world)
    cancel(world, charge)
    attempt = open_attempt(charge)
    still_pending = world.gateway.journal[attempt.pk]

    def paid_right_after(reference: UUID) -> Answer:
        world.gateway.journal[reference] = WHOLE
        return Pending(None)

    world.gateway.query_answers = [paid_right_after]
    resolve(world)

    assert isinstance(still_pending, Pending)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert Case.objects.filter(kind=CaseKind.REFUND_AFTER_CANCEL).count() == 1


# --- The sweep -------------------------------------------------------------------------------------


def test_a_silent_charge_is_swept_after_20_minutes_then_twice_as_late_up_to_6_hours(
    world: World,
) -> None:
    """F30: a schedule never evaporates."""
    charge = world.due_charge()
    gaps: list[float] = []
    last = world.clock.real_now()
    while len(gaps) < 7:
        published(charge)
        world.clock.forward(seconds=600)
        if rescue.sweep(clock=world.clock, ages=world.ages):
            gaps.append((world.clock.real_now() - last).total_seconds())
            last = world.clock.real_now()

    assert gaps == [1200, 2400, 4800, 9600, 19200, 21600, 21600]
    assert fresh(charge).dispatch == 8


@pytest.mark.parametrize("state", ["attempting", "in_doubt", "pending"])
def test_what_a_hand_left_undecided_with_nothing_open_is_owed_again(
    world: World, state: str
) -> None:
    """F27, F30: no message and no attempt would ever come for it, and it would block its creator."""
    charge = failed_then_retry(world)
    published(charge)
    rewrite(charge, state=state)

    world.clock.forward(seconds=1199)
    early = rescue.sweep(clock=world.clock, ages=world.ages)
    world.clock.forward(seconds=1)
    rescue.sweep(clock=world.clock, ages=world.ages)
    world.receive(charge)

    assert early == 0
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE, charge=charge).count() == 1


def test_a_paid_charge_that_a_hand_left_undecided_is_not_charged_again(world: World) -> None:
    """F27."""
    charge = succeeded(world)
    published(charge)
    rewrite(charge, state=ChargeState.IN_DOUBT)
    world.clock.forward(seconds=1200)

    rescue.sweep(clock=world.clock, ages=world.ages)
    world.receive(charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert letters_of(charge) == "A"


def test_a_queue_that_lost_everything_is_filled_again(world: World) -> None:
    """F30."""
    charges = [world.due_charge() for _ in range(3)]
    line = Line(world)
    line.relay()
    line.messages.clear()

    line.run(seconds=1500, step=100)

    assert {fresh(charge).state for charge in charges} == {ChargeState.SUCCEEDED}
    assert world.gateway.captured == Decimal("59.97")


def test_a_receive_starts_the_doubling_anew(world: World) -> None:
    charge = failed_then_retry(world)
    Charge.objects.filter(pk=charge.pk).update(sweeps=5)
    world.clock.forward(seconds=10)

    world.receive(charge, count=2)

    assert fresh(charge).sweeps == 0


@pytest.mark.parametrize("message", ["unpublished", "just published", "parked"])
def test_the_sweep_waits_for_what_the_outbox_still_has(world: World, message: str) -> None:
    charge = world.due_charge()
    world.clock.forward(seconds=1300)
    now = world.clock.real_now()
    row = dispatches(charge)[0]
    if message == "just published":
        publish(row, at=now - timedelta(seconds=1199))
    elif message == "parked":
        PendingMessage.objects.filter(pk=row.pk).update(parked_at=now)

    assert rescue.sweep(clock=world.clock, ages=world.ages) == 0


def test_a_charge_heard_of_between_the_search_and_the_lock_is_not_swept(world: World) -> None:
    """The search found two; while the first was dispatched, a worker received the other."""
    charges = [world.due_charge() for _ in range(2)]
    for charge in charges:
        published(charge)
    world.clock.forward(seconds=1200)

    def receive_the_other() -> None:
        failpoints.disable("sweep.dispatched")
        other = next(charge for charge in charges if fresh(charge).dispatch == 1)
        world.gateway.answers = [SOFT]
        world.receive(other)

    failpoints.enable("sweep.dispatched", receive_the_other)
    try:
        rescue.sweep(clock=world.clock, ages=world.ages)
    finally:
        failpoints.disable("sweep.dispatched")

    assert sorted(fresh(charge).dispatch for charge in charges) == [1, 2]


def test_a_run_without_faults_needs_no_sweep_no_resolver_and_no_drain(world: World) -> None:
    """I7: a rescue hides a defect."""
    world.gateway.answers = [SOFT, SOFT]
    charge = world.due_charge()
    line = Line(world)
    swept = []
    for _ in range(70):
        line.relay()
        line.work()
        swept.append(rescue.sweep(clock=world.clock, ages=world.ages) + resolve(world))
        world.clock.forward(seconds=10)

    assert letters_of(charge) == "SSA"
    assert (set(swept), line.dead, line.receives) == ({0}, [], 3)


@pytest.mark.parametrize("declines", [0, 1, 3])
def test_a_duplicate_past_the_queue_s_own_deduplication_charges_nothing_twice(
    world: World, declines: int
) -> None:
    """F5, F23: the same dispatch is on the queue twice, under two message ids."""
    world.gateway.answers = [SOFT] * declines
    charge = world.due_charge()
    line = Line(world)
    line.relay()
    line.messages.append(replace(line.messages[0], id="a second id"))

    line.run(seconds=1100, step=50)

    assert letters_of(charge) == {0: "A", 1: "SA", 3: "SSS"}[declines]
    assert len(world.gateway.sent) == len(attempts(charge))
    assert (line.messages, line.dead) == ([], [])


# --- Dead letters ----------------------------------------------------------------------------------


def test_every_dead_letter_has_exactly_one_case_committed_before_its_delete(world: World) -> None:
    """R33: a crash between the two finds the case there, and only deletes."""
    charge = world.due_charge()
    dead = letter(charge)

    with crashing_at("drain.case_committed"):
        drain(world, dead)
    assert Case.objects.filter(kind=CaseKind.DEAD_LETTER).count() == 1
    deleted = drain(world, dead)

    assert deleted == [dead]
    assert Case.objects.filter(kind=CaseKind.DEAD_LETTER).count() == 1
    assert fresh(charge).dispatch == 2


def test_a_letter_whose_delete_failed_is_deleted_at_the_next_drain(world: World) -> None:
    """R33; and the letters behind it are not kept waiting."""
    first, second = letter(world.due_charge()), letter(world.due_charge(), name="letter-2")
    deleted: list[DeadLetter] = []

    def delete(one: DeadLetter) -> None:
        if one is first and not deleted:
            raise ConnectionError("SQS is away")
        deleted.append(one)

    drained = rescue.drain_dead_letters(
        letters=[first, second], delete=delete, clock=world.clock, ages=world.ages
    )

    assert (drained, deleted) == (1, [second])
    assert Case.objects.filter(kind=CaseKind.DEAD_LETTER).count() == 2


@pytest.mark.parametrize("what", ["unreadable", "of an unknown charge"])
def test_a_letter_that_nobody_understands_leaves_an_open_case(world: World, what: str) -> None:
    """F22, R33: kept with its body, for a person."""
    receive = None if what == "unreadable" else Receive(unknown_id("charge"), 1, 1, 3)
    dead = DeadLetter("m-1", "r-1", '{"not": "ours"}', receive)

    drain(world, dead)

    case = Case.objects.get(subject="m-1")
    assert (case.closed_at, case.detail["body"]) == (None, '{"not": "ours"}')


def test_a_body_that_cannot_be_read_is_kept_once(world: World) -> None:
    """F22."""
    for _ in range(2):
        rescue.keep_unreadable(
            subject="m-1", body="\ufffd", reason="no JSON", now=world.clock.now()
        )

    assert Case.objects.get(kind=CaseKind.UNREADABLE_MESSAGE).reason == "no JSON"


def test_a_body_that_was_kept_is_no_second_case_when_it_comes_as_a_dead_letter(
    world: World,
) -> None:
    """F22, R33: a worker kept it, and died before it acknowledged; the next ones died as well."""
    rescue.keep_unreadable(subject="m-1", body="{", reason="no JSON", now=world.clock.now())
    dead = DeadLetter("m-1", "r-1", "{", None)

    deleted = drain(world, dead)

    assert deleted == [dead]
    assert Case.objects.get().kind == CaseKind.UNREADABLE_MESSAGE


def test_a_worker_that_dies_three_times_leaves_a_letter_and_one_capture(world: World) -> None:
    """F6: the drain never charges again; the open attempt goes to the resolver."""
    charge = world.due_charge()
    line = Line(world)
    deaths = iter(range(3))

    def die_thrice() -> None:
        if next(deaths, None) is not None:
            raise failpoints.Crash

    failpoints.enable("charging.before_send", die_thrice)
    try:
        for _ in range(100):
            line.relay()
            line.work()
            rescue.drain_dead_letters(
                letters=list(line.dead),
                delete=line.dead.remove,
                clock=world.clock,
                ages=world.ages,
            )
            world.clock.forward(seconds=10)
    finally:
        failpoints.disable("charging.before_send")

    case = Case.objects.get(kind=CaseKind.DEAD_LETTER)
    assert case.closed_because == "its attempt is open: in doubt, the resolver asks"
    assert world.gateway.sent == []
    line.run(seconds=1800, step=60)
    assert letters_of(charge) == "0A"
    assert world.gateway.captured == Decimal("19.99")


@pytest.mark.parametrize("which", ["succeeded", "voided", "exhausted"])
def test_a_redrive_by_hand_of_a_finished_charge_does_nothing(world: World, which: str) -> None:
    """F25."""
    charge = succeeded(world) if which == "succeeded" else world.due_charge()
    if which == "voided":
        cancel(world, charge)
    if which == "exhausted":
        charge = exhausted_awaits_an_instrument(world)
    before, sent = fresh(charge), len(world.gateway.sent)

    fates = [world.receive(charge, count=count) for count in (1, 2, 3)]

    after = fresh(charge)
    assert fates == [Fate.ACKNOWLEDGE] * 3
    assert (after.state, after.dispatch, after.round) == (
        before.state,
        before.dispatch,
        before.round,
    )
    assert len(world.gateway.sent) == sent


# --- Webhooks --------------------------------------------------------------------------------------


def webhook(world: World, reference: UUID | None, name: str = "evt-1") -> WebhookDelivery:
    """Stored and answered, as the edge does after it checked the signature."""
    return WebhookDelivery.objects.create(
        processor="sandbox",
        event_id=name,
        reference=reference,
        kind="charge.succeeded",
        body="{}",
        received_at=world.clock.real_now(),
        next_try_at=world.clock.real_now(),
    )


def apply(world: World) -> int:
    return rescue.apply_webhooks(clock=world.clock, gateways=world.gateways, ages=world.ages)


def test_a_webhook_is_confirmed_by_query_before_it_counts(world: World) -> None:
    """R28: its word alone moves nothing."""
    told, lied = in_doubt(world), in_doubt(world)
    world.gateway.journal[open_attempt(told).pk] = WHOLE
    webhook(world, open_attempt(told).pk)
    webhook(world, open_attempt(lied).pk, "evt-2")

    assert apply(world) == 2

    assert fresh(told).state == ChargeState.SUCCEEDED
    assert fresh(lied).state == ChargeState.IN_DOUBT


def test_a_webhook_replayed_or_out_of_order_changes_nothing(world: World) -> None:
    """F24: the charge is final already; another event about it comes late."""
    charge = succeeded(world)
    before = events(charge)
    webhook(world, attempts(charge)[0].pk)
    webhook(world, attempts(charge)[0].pk, "evt-2")

    apply(world)

    assert events(charge) == before
    assert not Case.objects.exists()


def test_a_webhook_that_comes_before_its_attempt_is_applied_later(world: World) -> None:
    """F24: tried after 2, 4, 8 … seconds."""
    charge = world.due_charge()
    first = Attempt.derive_id(charge_id=charge.pk, round=1, number=1)
    webhook(world, first)
    assert apply(world) == 0
    world.gateway.answers = [charged_but_silent(world.gateway, TIMED_OUT)]
    world.receive(charge)
    world.clock.forward(seconds=2)

    assert apply(world) == 1

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert WebhookDelivery.objects.get().applied_at == world.clock.real_now()


@pytest.mark.parametrize("reference", [unknown_id("nobody"), None], ids=["unknown", "none"])
def test_a_webhook_of_nothing_of_ours_is_given_up_in_the_end_and_kept(
    world: World, reference: UUID | None
) -> None:
    webhook(world, reference)
    for _ in range(25):
        apply(world)
        world.clock.forward(days=1)

    kept = WebhookDelivery.objects.get()
    assert (kept.tries, kept.next_try_at, kept.applied_at) == (20, None, None)
    assert kept.note == "no attempt of ours has this reference"


def test_one_webhook_that_cannot_be_applied_stops_no_other(world: World) -> None:
    """F24: it would stand first in every pass."""
    broken, good = in_doubt(world), in_doubt(world)
    webhook(world, open_attempt(broken).pk)
    webhook(world, open_attempt(good).pk, "evt-2")
    world.gateway.query_answers = [Approved(Decimal("19.99"), "EUR", "ref"), WHOLE]

    assert apply(world) == 1

    assert fresh(good).state == ChargeState.SUCCEEDED
    assert WebhookDelivery.objects.get(event_id="evt-1").tries == 1


# --- The chaos night --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["succeeded", "exhausted"])
def test_a_row_rewritten_behind_the_triggers_is_found_by_the_sweep_and_healed(
    world: World, name: str
) -> None:
    """F27: not charged a second time, and a person is told of the paid one."""
    make = succeeded if name == "succeeded" else exhausted_awaits_an_instrument
    charge = make(world)
    sent = len(world.gateway.sent)
    published(charge)
    rewrite(charge, state=ChargeState.FAILED_THEN_RETRY, awaits="", next_round_at=None)

    Line(world).run(seconds=1500, step=100)

    assert fresh(charge).state == ChargeState(name)
    assert len(world.gateway.sent) == sent
    repaired = Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE, charge=charge)
    assert repaired.exists() == (name == "succeeded")


def test_a_cancel_that_meets_a_rewritten_write_off_finds_it_written_off(world: World) -> None:
    """F27, R34: its loss is booked, and a voided charge with a loss is a lie in the books."""
    charge = written_off(world)
    rewrite(charge, state=ChargeState.FAILED_THEN_RETRY)

    cancel(world, charge)

    assert fresh(charge).state == ChargeState.WRITTEN_OFF
    assert events(charge).count("charge.voided") == 0
    assert Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE, charge=charge).count() == 1
