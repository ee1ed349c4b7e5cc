"""Two runners at one charge: the lock lets one first, and the other finds what the first has done.

Where the order decides, the second runner comes while the first one's call is on its way (no transaction
is open then); where it must not, real threads start behind a barrier (R25, F12, F13, F33).
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from checkout import ledger, rescue, routing
from checkout.charging import take
from checkout.commit import committed
from checkout.dunning import NextRoundAt
from checkout.failpoints import Crash
from checkout.gateways import ChargeRequest, NotFound, NotSent, Outcome
from checkout.messages import Receive
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    HoldKind,
    HoldScope,
    LedgerAccount,
    LedgerEntry,
)
from checkout.moves import exhaust
from checkout.outcomes import Fate, record_outcome
from tests.factories import World, attempts, creator, dispatches, fresh
from tests.fakes import approve
from tests.situations import (
    NEVER,
    SOFT,
    WHOLE,
    add_instrument,
    ask,
    cancel,
    dies,
    drain,
    exhausted_awaits_an_instrument,
    exhausted_on_a_date,
    failed_then_retry,
    in_doubt,
    letter,
    letters_of,
    not_found_for_good,
    open_attempt,
    published,
    requeue,
    write_off,
)
from tests.together import somebody_waits_for_a_lock, together
from tests.waiting import wait_for

TASKS = 50


@pytest.fixture
def world() -> World:
    return World()


def during_the_call(world: World, *meanwhile: Callable[[], object], answer: Outcome | None = None):
    """The next call captures (or hears `answer`), after something else happened."""

    def act(request: ChargeRequest) -> Outcome:
        for happens in meanwhile:
            happens()
        return answer or approve(request)

    world.gateway.answers = [act]


def one_capture(world: World, charge: Charge) -> None:
    """I2 and I3 of one charge that was collected once."""
    assert world.gateway.captured == Decimal("19.99")
    assert Attempt.objects.filter(charge=charge, outcome=AttemptOutcome.CAPTURED).count() == 1
    assert LedgerEntry.objects.filter(charge=charge, kind="captured").count() == 1
    assert ledger.receivable(charge_id=charge.pk) == 0


# --- Many at once ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_fifty_parallel_tasks_of_a_creator_make_one_call_at_a_time(world: World) -> None:
    """R25: the index on attempting charges, the lock of the creator and row 9 leave one call."""
    who = creator(clock=world.clock)
    charges = [world.due_charge(of=who) for _ in range(TASKS)]
    done = threading.Semaphore(0)

    def slow(request: ChargeRequest) -> Outcome:
        for _ in range(TASKS - 1):
            assert done.acquire(timeout=60)
        return approve(request)

    world.gateway.answers = [slow]

    def task(charge: Charge) -> Fate:
        try:
            return world.receive(charge)
        finally:
            done.release()

    fates = together(*(lambda c=charge: task(c) for charge in charges))

    assert fates == [Fate.ACKNOWLEDGE] * TASKS
    assert len(world.gateway.sent) == 1
    assert Charge.objects.filter(state=ChargeState.SUCCEEDED).count() == 1
    assert Charge.objects.filter(state=ChargeState.DUE, dispatch=2).count() == TASKS - 1


@pytest.mark.django_db(transaction=True)
def test_ten_deliveries_of_one_dispatch_at_once_make_one_attempt_and_one_capture(
    world: World,
) -> None:
    """R23, R25, I2: whoever comes while it is under way sends the same key, nobody another."""
    charge = world.due_charge()

    fates = together(*(lambda: world.receive(charge) for _ in range(10)))

    assert fates == [Fate.ACKNOWLEDGE] * 10
    assert {request.reference for request in world.gateway.sent} == {attempts(charge)[0].pk}
    assert letters_of(charge) == "A"
    one_capture(world, charge)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_a_cancel_and_a_receive_at_once_never_charge_after_the_cancel_took_effect(
    world: World, turn: int
) -> None:
    """F33: voided without a call, or captured with a refund case; nothing between."""
    charge = world.due_charge()

    results = together(lambda: world.receive(charge), lambda: cancel(world, charge))

    assert not [result for result in results if isinstance(result, Exception)]
    state, void = fresh(charge).state, fresh(charge).void_requested
    refund = Case.objects.filter(charge=charge, kind=CaseKind.REFUND_AFTER_CANCEL).exists()
    assert (state, bool(world.gateway.sent), void, refund) in {
        (ChargeState.VOIDED, False, False, False),
        (ChargeState.SUCCEEDED, True, True, True),
        (ChargeState.SUCCEEDED, True, False, False),
    }
    assert ledger.receivable(charge_id=charge.pk) == 0


@pytest.mark.django_db(transaction=True)
def test_two_people_requeue_at_once_and_one_round_opens(world: World) -> None:
    """F33: compare-and-set on the state; the second is told that somebody was first."""
    charge = exhausted_on_a_date(world)

    results = together(lambda: requeue(world, charge), lambda: requeue(world, charge))

    assert sorted(type(result).__name__ for result in results) == ["NoneType", "NotRequeueable"]
    assert fresh(charge).round == 2
    assert len(dispatches(charge)) == 2


@pytest.mark.django_db(transaction=True)
def test_a_dunning_date_a_requeue_and_a_write_off_at_once_leave_one_winner(world: World) -> None:
    """F33."""
    charge = exhausted_on_a_date(world)
    world.clock.move_business(days=3)

    together(
        lambda: rescue.open_next_rounds(clock=world.clock, ages=world.ages),
        lambda: requeue(world, charge),
        lambda: write_off(world, charge),
    )

    after = fresh(charge)
    assert (after.state, after.round) in {(ChargeState.DUE, 2), (ChargeState.WRITTEN_OFF, 1)}
    assert len(dispatches(charge)) == after.round


@pytest.mark.django_db(transaction=True)
def test_a_lift_during_a_receive_brings_forward_what_that_receive_delays(world: World) -> None:
    """R52: the receive still saw the hold; a lift that missed its dispatch would delay it for hours."""
    charge = world.due_charge()
    hold = routing.place_hold(
        kind=HoldKind.HOLD,
        scope=HoldScope.ALL,
        subject="",
        reason="a test stops collection",
        by="operator",
        until=None,
        now=world.clock.now(),
    )
    held = threading.Event()

    def receives() -> None:
        receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)
        with transaction.atomic():
            take(receive=receive, clock=world.clock, gateways=world.gateways, ages=world.ages)
            held.set()
            wait_for(somebody_waits_for_a_lock, 60, "the lift to wait for this receive")

    def lifts() -> None:
        assert held.wait(60)
        with transaction.atomic():
            routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())

    results = together(receives, lifts)

    assert not [result for result in results if isinstance(result, Exception)]
    assert dispatches(charge)[-1].pending.available_at == world.clock.real_now()


@pytest.mark.django_db(transaction=True)
def test_a_dunning_date_that_moved_while_it_waited_for_the_lock_opens_nothing(
    world: World,
) -> None:
    """F33: found due, locked by a person's requeue whose round is exhausted when the lock is free."""
    charge = exhausted_on_a_date(world)
    now = world.clock.move_business(days=3)
    locked = threading.Event()

    def person() -> None:
        with transaction.atomic():
            requeued = rescue.requeue(
                charge_id=charge.pk, by="operator", reason="asked for", now=now
            )
            locked.set()
            wait_for(somebody_waits_for_a_lock, 60, "the dunning date to wait for the creator")
            exhaust(requeued, plan=NextRoundAt(at=now.business + timedelta(days=5)), now=now)

    def dunning() -> int:
        assert locked.wait(60)
        return rescue.open_next_rounds(clock=world.clock, ages=world.ages)

    results = together(person, dunning)

    assert not [result for result in results if isinstance(result, Exception)]
    assert (fresh(charge).state, fresh(charge).round) == (ChargeState.EXHAUSTED, 2)


@pytest.mark.django_db(transaction=True)
def test_two_new_instruments_at_once_open_one_round(world: World) -> None:
    charge = exhausted_awaits_an_instrument(world)

    together(
        lambda: add_instrument(world, charge, "tok_one"),
        lambda: add_instrument(world, charge, "tok_two"),
    )

    assert (fresh(charge).state, fresh(charge).round) == (ChargeState.DUE, 2)
    assert len(dispatches(charge)) == 2


@pytest.mark.django_db(transaction=True)
def test_two_drains_of_one_letter_at_once_make_one_case_and_one_dispatch(world: World) -> None:
    """R33."""
    charge = world.due_charge()
    dead = letter(charge)

    together(lambda: drain(world, dead), lambda: drain(world, dead))

    assert Case.objects.filter(kind=CaseKind.DEAD_LETTER).count() == 1
    assert fresh(charge).dispatch == 2


@pytest.mark.django_db(transaction=True)
def test_the_resolver_and_a_worker_at_once_apply_one_capture(world: World) -> None:
    """F13: the processor captured, the worker hears it while the resolver asks."""
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    world.gateway.journal[attempt.pk] = WHOLE
    now = world.clock.now()

    def worker_writes() -> Fate:
        receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)
        return committed(
            lambda: record_outcome(
                attempt_id=attempt.pk,
                answer=WHOLE,
                sends=1,
                receive=receive,
                now=now,
                ages=world.ages,
            ),
            deadline=5,
            clock=world.clock,
        )

    def resolver_asks() -> None:
        rescue.resolve_attempt(
            attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
        )

    results = together(worker_writes, resolver_asks)

    assert not [result for result in results if isinstance(result, Exception)]
    assert fresh(charge).state == ChargeState.SUCCEEDED
    one_capture(world, charge)
    assert not Case.objects.filter(kind=CaseKind.UNAPPLIED_RECEIPT).exists()


# --- Committed before the call ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_attempt_is_committed_before_each_call_and_no_transaction_is_open(
    world: World,
) -> None:
    """R19: another session sees key, reference and sends while the request is on its way."""
    charge = world.due_charge()
    seen: list[tuple[object, ...]] = []

    def look(request: ChargeRequest) -> Outcome:
        assert not connection.in_atomic_block
        seen.append((request.reference, *together(lambda: state_and_sends(charge))))
        return approve(request)

    def look_and_lose_the_answer(request: ChargeRequest) -> Outcome:
        look(request)
        raise Crash

    world.gateway.answers = [look_and_lose_the_answer, look]
    with pytest.raises(Crash):
        world.receive(charge)
    world.receive(charge, count=2)

    first = Attempt.derive_id(charge_id=charge.pk, round=1, number=1)
    assert seen == [(first, ("attempting", 1)), (first, ("attempting", 2))]


def state_and_sends(charge: Charge) -> tuple[str, int]:
    return str(fresh(charge).state), attempts(charge)[0].sends


# --- Something happens while the call is on its way -------------------------------------------------


@pytest.mark.django_db
def test_two_workers_after_the_visibility_expired_capture_once(world: World) -> None:
    """F12: the second worker carries on with the same key while the first one is frozen in its call."""
    charge = world.due_charge()
    during_the_call(world, lambda: world.receive(charge, count=2))

    fate = world.receive(charge, count=1)

    assert fate == Fate.ACKNOWLEDGE
    assert [request.reference for request in world.gateway.sent] == [attempts(charge)[0].pk] * 2
    assert attempts(charge)[0].sends == 2
    assert fresh(charge).state == ChargeState.SUCCEEDED
    one_capture(world, charge)


@pytest.mark.django_db
def test_a_decline_heard_by_two_workers_counts_once(world: World) -> None:
    """F12: the second to write finds the attempt final; the footnote decides about its message."""
    charge = world.due_charge()
    second: list[Fate] = []
    during_the_call(
        world,
        lambda: world.gateway.answers.append(SOFT),
        lambda: second.append(world.receive(charge, count=2)),
        answer=SOFT,
    )

    fate = world.receive(charge, count=1)

    assert (fate, second) == (Fate.LEAVE, [Fate.LEAVE])
    assert letters_of(charge) == "S"
    assert fresh(charge).dispatch == 1


@pytest.mark.django_db
def test_the_third_receive_of_two_workers_dispatches_again(world: World) -> None:
    """†: nothing would come again after receive 3, so a new dispatch does; the first worker then acks."""
    charge = world.due_charge()
    second: list[Fate] = []
    during_the_call(
        world,
        lambda: world.gateway.answers.append(SOFT),
        lambda: second.append(world.receive(charge, count=3)),
        answer=SOFT,
    )

    fate = world.receive(charge, count=2)

    assert second == [Fate.ACKNOWLEDGE]
    assert fate == Fate.ACKNOWLEDGE
    assert fresh(charge).dispatch == 2
    assert letters_of(charge) == "S"


@pytest.mark.django_db
def test_not_sent_is_not_believed_when_another_worker_has_sent_since(world: World) -> None:
    """R20: the first hears "refused" after the second's request was captured without an answer."""
    charge = world.due_charge()

    def second_worker() -> None:
        # Its request reaches the processor, its process dies before tx 2.
        dies(world, charge, at="charging.answered", count=2)

    during_the_call(world, second_worker, answer=NotSent("connection refused"))

    world.receive(charge, count=1)

    assert fresh(charge).state == ChargeState.IN_DOUBT
    assert letters_of(charge) == "?"
    ask(world, open_attempt(charge), WHOLE)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    one_capture(world, charge)


@pytest.mark.django_db
def test_a_resolver_s_not_found_is_dropped_when_a_worker_sent_since_the_query(
    world: World,
) -> None:
    """F13, R22: `sends` before the query and under the lock differ, so the verdict is worth nothing."""
    charge = world.due_charge()
    dies(world, charge, at="charging.before_send")
    attempt = open_attempt(charge)
    world.clock.forward(seconds=700)

    def not_found_yet_sent_right_after(reference):
        world.receive(charge, count=2)
        return NotFound()

    world.gateway.query_answers = [not_found_yet_sent_right_after]
    rescue.resolve_attempt(
        attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
    )

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert attempts(charge)[0].not_found == 0
    one_capture(world, charge)


@pytest.mark.django_db
def test_a_resolver_that_wins_leaves_the_worker_nothing_to_do(world: World) -> None:
    """F13: the resolver finds the capture while the worker still waits for its answer."""
    charge = world.due_charge()

    def resolver_finds_it() -> None:
        attempt = open_attempt(charge)
        world.gateway.journal[attempt.pk] = WHOLE
        ask(world, attempt, WHOLE)

    during_the_call(world, resolver_finds_it)

    fate = world.receive(charge)

    assert fate == Fate.ACKNOWLEDGE
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert LedgerEntry.objects.filter(charge=charge, kind="captured").count() == 1


@pytest.mark.django_db
def test_a_decline_written_by_the_resolver_is_overwritten_by_the_worker_s_capture(
    world: World,
) -> None:
    """R27: a final decline gives way to a capture, and to nothing else."""
    charge = world.due_charge()
    during_the_call(world, lambda: ask(world, open_attempt(charge), SOFT))

    world.receive(charge)

    assert letters_of(charge) == "A"
    assert fresh(charge).state == ChargeState.SUCCEEDED
    one_capture(world, charge)


@pytest.mark.django_db
def test_a_cancel_during_the_call_lets_the_answer_decide(world: World) -> None:
    """F33: captured → succeeded and a refund case."""
    charge = world.due_charge()
    during_the_call(world, lambda: cancel(world, charge))

    world.receive(charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED
    case = Case.objects.get(kind=CaseKind.REFUND_AFTER_CANCEL)
    assert (case.amount, case.proposal) == (Decimal("19.99"), "refund 19.99 USD")


@pytest.mark.django_db
@pytest.mark.parametrize("answer", [SOFT, NEVER, NotSent("refused")], ids=["soft", "never", "0"])
def test_a_cancel_during_the_call_voids_what_was_not_charged(world: World, answer: Outcome) -> None:
    """F33: nobody is charged after a cancel took effect."""
    charge = world.due_charge()
    during_the_call(world, lambda: cancel(world, charge), answer=answer)

    world.receive(charge)
    world.clock.forward(seconds=301)
    fate = world.receive(charge, count=2)

    assert fresh(charge).state == ChargeState.VOIDED
    assert fate == Fate.ACKNOWLEDGE
    assert len(world.gateway.sent) == 1
    assert ledger.balance(account=LedgerAccount.REVENUE) == 0


@pytest.mark.django_db
def test_a_new_instrument_during_a_call_that_kills_the_old_one_opens_the_next_round(
    world: World,
) -> None:
    """F33: nobody will add it a second time."""
    charge = world.due_charge()
    during_the_call(world, lambda: add_instrument(world, charge), answer=NEVER)

    world.receive(charge)

    assert (fresh(charge).state, fresh(charge).round) == (ChargeState.DUE, 2)
    world.receive(charge)
    assert [a.instrument.token for a in attempts(charge)] == ["tok_approve", "tok_other"]
    assert fresh(charge).state == ChargeState.SUCCEEDED


@pytest.mark.django_db
def test_a_message_of_the_old_round_changes_nothing_after_a_requeue(world: World) -> None:
    """F23, F33: a requeue opened the next round; the old dispatch, delivered late, is stale."""
    charge = exhausted_on_a_date(world)
    requeue(world, charge)

    fate = world.receive(charge, round=1, dispatch=1, count=2)

    assert fate == Fate.ACKNOWLEDGE
    assert fresh(charge).state == ChargeState.DUE
    assert len(world.gateway.sent) == 1


@pytest.mark.django_db
def test_a_sweep_during_the_wait_makes_the_first_message_stale(world: World) -> None:
    """F23: duplicated and reordered deliveries of two dispatches end in one capture."""
    charge = failed_then_retry(world)
    Charge.objects.filter(pk=charge.pk).update(last_seen_at=world.clock.real_now())
    published(charge)
    world.clock.forward(seconds=1201)
    rescue.sweep(clock=world.clock, ages=world.ages)

    fates = [
        world.receive(charge, dispatch=d, count=c) for d, c in ((1, 2), (2, 1), (1, 3), (2, 2))
    ]

    assert fates == [Fate.ACKNOWLEDGE] * 4
    assert letters_of(charge) == "SA"
    one_capture(world, charge)


@pytest.mark.django_db
def test_a_late_capture_of_an_older_attempt_while_the_next_is_under_way(world: World) -> None:
    """R26, R27: both are recorded; the second one's money waits for its refund."""
    charge = in_doubt(world)
    first = open_attempt(charge)
    not_found_for_good(world, first)
    during_the_call(world, lambda: ask(world, first, WHOLE))

    world.receive(charge)

    assert letters_of(charge) == "AU"
    assert ledger.balance(account=LedgerAccount.UNAPPLIED_RECEIPTS) == Decimal("-19.99")
    assert ledger.balance(account=LedgerAccount.CLEARING) == Decimal("39.98")
    case = Case.objects.get(kind=CaseKind.UNAPPLIED_RECEIPT)
    assert case.proposal == "refund 19.99 USD"
