"""What heals the way of a charge: ask about open attempts, dispatch what went silent, drain the
dead letters, open the next round, and what a person decides.

None of it rides the queue it rescues: the timetable runs these under a PostgreSQL lock of their own,
and each works charge by charge, in transactions of its own, so that one broken charge stops no other.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from django.db import connection

from checkout import ledger
from checkout.clock import Ages, Clock, Moment
from checkout.commit import DatabaseAway, committed
from checkout.failpoints import failpoint
from checkout.gateways import Answer, Gateway, Pending, in_words
from checkout.messages import DeadLetter
from checkout.models import (
    OWED,
    TERMINAL,
    Ask,
    Attempt,
    AttemptQuery,
    Awaits,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    EntryKind,
    Instrument,
    Verdict,
    WebhookDelivery,
)
from checkout.moves import (
    UnknownCharge,
    dispatch,
    locked_attempt,
    locked_charge,
    open_case,
    open_repair_case,
    open_round,
    record_charge_event,
    repair_paid,
    seen,
    void,
)
from checkout.outcomes import UNDECIDED, Asked, record_outcome

logger = logging.getLogger(__name__)

S = ChargeState
T = TypeVar("T")
WEBHOOK_TRIES: Final = 20


class NotRequeueable(Exception):
    """The charge is not one that a person may open a round for; the message says why."""


class NotWritable(Exception):
    """The charge is not one that may be written off; the message says why."""


class NotClosable(Exception):
    """The case is closed already, or not by a look alone; the message says which."""


# What somebody only has to look into. Money to give back and a bill run ask for two people (R43).
LOOKED_INTO: Final = frozenset(
    {
        CaseKind.DEAD_LETTER,
        CaseKind.UNREADABLE_MESSAGE,
        CaseKind.REPAIRED_CHARGE,
        CaseKind.PARKED_MESSAGE,
        CaseKind.LANE_REFUSED,
    }
)


# --- Open attempts: ask the processor --------------------------------------------------------------


def resolve(*, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages, limit: int = 200) -> int:
    """Ask about every attempt whose time to ask has come, whatever its charge's state says.

    Returns how many were asked about. An attempt whose answer fails is asked again at its next time;
    it never keeps the others from being asked.
    """
    due = Attempt.objects.to_ask_about(clock.now().real).values_list("id", flat=True)[:limit]
    return _each(
        list(due),
        lambda attempt_id: resolve_attempt(
            attempt_id=attempt_id, clock=clock, gateways=gateways, ages=ages
        ),
        otherwise=lambda attempt_id: _ask_later(attempt_id, now=clock.now(), ages=ages),
    )


def _each(
    things: Iterable[T], do: Callable[[T], object], *, otherwise: Callable[[T], object] = repr
) -> int:
    """Do it to each, and `otherwise` to one that failed: it is logged and stops no other.

    Returns how many went well. Raises commit.DatabaseAway, which is no single thing's fault.
    """
    done = 0
    for thing in things:
        try:
            do(thing)
            done += 1
        except DatabaseAway:
            raise
        except Exception:
            logger.exception("rescue failed", extra={"subject": str(thing)})
            otherwise(thing)
    return done


def resolve_attempt(
    *, attempt_id: UUID, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages
) -> None:
    """Ask the processor by our own reference and write what it says; no transaction open meanwhile.

    A worker may send the same key while we ask: `sends` read before the query tells, under the lock,
    whether a "not found" is still worth anything (R22). Raises commit.DatabaseAway.
    """
    attempt = Attempt.objects.select_related("charge").get(pk=attempt_id)
    sends, gateway, now = attempt.sends, gateways[attempt.lane], clock.now()
    question, answer = _ask(attempt, gateway=gateway, now=now, ages=ages)
    asked = Asked(now.real, gateway.minimum_age, gateway.not_found_repeats, question)
    failpoint("resolve.answered")
    committed(
        lambda: _write_answer(
            attempt_id, answer, sends=sends, asked=asked, now=clock.now(), ages=ages
        ),
        deadline=ages.database_wait_before_call,
        clock=clock,
        # A question that is counted twice would be the next one's delay.
        once=True,
    )


def _ask(attempt: Attempt, *, gateway: Gateway, now: Moment, ages: Ages) -> tuple[Ask, Answer]:
    """Query; what is pending and is not to be captured any more is ended at the processor.

    That is: beyond its expiry, asked to be void, or of an attempt or a charge that is over. A later
    attempt may have taken its place by then, and one more capture would be owed back.
    """
    answer = gateway.query(attempt.pk, deadline=ages.gateway_deadline)
    if not isinstance(answer, Pending):
        return Ask.OUTCOME, answer
    expires_at = answer.expires_at or attempt.expires_at
    is_late = expires_at is not None and expires_at <= now.real
    is_over = not attempt.is_open or attempt.charge.state in TERMINAL
    if is_late or is_over or attempt.charge.void_requested:
        return Ask.END, gateway.expire(attempt.pk, deadline=ages.gateway_deadline)
    return Ask.OUTCOME, answer


def _write_answer(
    attempt_id: UUID, answer: Answer, *, sends: int, asked: Asked, now: Moment, ages: Ages
) -> None:
    _, attempt = locked_attempt(attempt_id)
    moments = {"asked_at": asked.at, "answered_at": now.real}
    AttemptQuery.record(attempt, asked=asked.question, answer=in_words(answer), **moments)
    if not attempt.is_open:
        # What was merely not found is asked again, daily, until a statement covers it.
        again = attempt.verdict == Verdict.NOT_FOUND
        later = now.real + timedelta(seconds=ages.resolve_steps[-1])
        attempt.change(next_query_at=later if again else None)
    record_outcome(
        attempt_id=attempt_id,
        answer=answer,
        sends=sends,
        asked=asked,
        receive=None,
        now=now,
        ages=ages,
    )


def _ask_later(attempt_id: UUID, *, now: Moment, ages: Ages) -> None:
    later = now.real + timedelta(seconds=ages.resolve_steps[0])
    Attempt.objects.filter(pk=attempt_id, next_query_at__isnull=False).update(next_query_at=later)


def stop_asking(*, attempt_ids: Iterable[UUID], now: Moment) -> int:  # noqa: ARG001
    """An accepted statement covers these attempts' day: what it does not list was not captured."""
    covered = Attempt.objects.filter(pk__in=list(attempt_ids), verdict=Verdict.NOT_FOUND)
    return covered.update(next_query_at=None)


def apply_webhooks(
    *, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages, limit: int = 200
) -> int:
    """Confirm stored webhooks by query, each in its own transaction; a webhook is only a hint (R28).

    One that names an attempt we do not know yet is tried again, later and later (F24). Returns how
    many were applied. Applied twice, the second query finds the outcome already written.
    """
    now = clock.now()
    due = WebhookDelivery.objects.filter(applied_at__isnull=True, next_try_at__lte=now.real)
    waiting = list(due.order_by("next_try_at", "id")[:limit])
    ours = Attempt.objects.in_bulk([d.reference for d in waiting if d.reference])
    for delivery in waiting:
        if delivery.reference not in ours:
            _try_webhook_later(delivery, note="no attempt of ours has this reference", now=now)
    return _each(
        [delivery for delivery in waiting if delivery.reference in ours],
        partial(_apply_webhook, clock=clock, gateways=gateways, ages=ages),
        otherwise=partial(_try_webhook_later, note="its attempt could not be asked about", now=now),
    )


def _apply_webhook(
    delivery: WebhookDelivery, *, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages
) -> None:
    if delivery.reference:
        resolve_attempt(attempt_id=delivery.reference, clock=clock, gateways=gateways, ages=ages)
    failpoint("webhook.outcome_committed")
    WebhookDelivery.objects.filter(pk=delivery.pk).update(applied_at=clock.now().real, note="")


def _try_webhook_later(delivery: WebhookDelivery, *, note: str, now: Moment) -> None:
    """Twice as late each time, up to a day; after `WEBHOOK_TRIES` it is only kept."""
    tries = delivery.tries + 1
    later = now.real + timedelta(seconds=min(2**tries, 86400))
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        tries=tries, next_try_at=None if tries >= WEBHOOK_TRIES else later, note=note
    )


# --- Silence: dispatch again -----------------------------------------------------------------------

_SILENT = """
    SELECT c.id FROM checkout_charge c
    WHERE c.state IN ('due', 'failed_then_retry')
      AND c.last_seen_at <= %(now)s - make_interval(secs => %(after)s)
      AND c.last_seen_at <= %(now)s - make_interval(
            secs => least(%(most)s, %(after)s * 2 ^ least(c.sweeps, 20)))
      AND NOT EXISTS (SELECT 1 FROM checkout_attempt a
                      WHERE a.charge_id = c.id AND a.outcome = 'open')
      AND NOT EXISTS (SELECT 1 FROM checkout_outboxmessage m
                      LEFT JOIN checkout_publishedmessage p ON p.message_id = m.id
                      WHERE m.subject = c.id AND m.door = 'sqs'
                        AND (p.message_id IS NULL
                             OR p.published_at > %(now)s - make_interval(secs => %(after)s)))
    ORDER BY c.last_seen_at, c.id
    LIMIT %(limit)s
"""


# Undecided, and nothing is open whose answer could decide it: no receive or resolver comes for it.
_STRANDED = """
    SELECT c.id FROM checkout_charge c
    WHERE c.state IN ('attempting', 'in_doubt', 'pending')
      AND c.last_seen_at <= %(now)s - make_interval(secs => %(after)s)
      AND NOT EXISTS (SELECT 1 FROM checkout_attempt a
                      WHERE a.charge_id = c.id AND a.outcome = 'open')
    ORDER BY c.last_seen_at, c.id
    LIMIT %(limit)s
"""


def sweep(*, clock: Clock, ages: Ages, limit: int = 1000) -> int:
    """Dispatch what is owed, was published, and was not heard of for `sweep_after`: doubling each time.

    A schedule never evaporates, even if the queue loses everything (F30). A message that was merely
    slow becomes stale by this, and is acknowledged without a call. What a hand left undecided with
    nothing open is owed again. Returns how many were dispatched.
    """
    now = clock.now()
    silent = _silent_charges(now=now, ages=ages, limit=limit)

    def dispatch_one(charge_id: UUID) -> None:
        committed(
            partial(_sweep_one, charge_id, now=now, ages=ages),
            deadline=ages.database_wait_before_call,
            clock=clock,
        )
        failpoint("sweep.dispatched")

    return _each(silent, dispatch_one)


def _silent_charges(*, now: Moment, ages: Ages, limit: int) -> list[UUID]:
    values: dict[str, datetime | float] = {
        "now": now.real,
        "after": ages.sweep_after,
        "most": ages.sweep_most,
        "limit": limit,
    }
    found: list[UUID] = []
    with connection.cursor() as cursor:
        # Apart, so that the planner sees the index of what is owed and quiet.
        for query in (_SILENT, _STRANDED):
            cursor.execute(query, values)
            found += [row[0] for row in cursor.fetchall()]
    return found


def _sweep_one(charge_id: UUID, *, now: Moment, ages: Ages) -> None:
    charge = locked_charge(charge_id)
    # A receive or an outcome came between the search and the lock: it is not silent any more.
    heard = charge.last_seen_at > now.real - timedelta(seconds=ages.sweep_after)
    if charge.state not in OWED | UNDECIDED or charge.open_attempt() or heard:
        return
    if charge.state in UNDECIDED:
        # Only a hand's edit leaves this. It is owed like any failed charge, unless it is paid: the
        # receive looks.
        open_repair_case(charge, reason=f"{charge.state} without an open attempt", now=now)
        charge.move(S.FAILED_THEN_RETRY)
    charge.change(sweeps=min(charge.sweeps + 1, 20))
    dispatch(charge, now=now)
    logger.warning("swept", extra={"charge_id": charge.pk, "sweeps": charge.sweeps})


def open_next_rounds(*, clock: Clock, ages: Ages, limit: int = 1000) -> int:
    """Open the next round of exhausted charges whose dunning date has come (business clock)."""
    now = clock.now()
    due = Charge.objects.filter(awaits=Awaits.DATE, next_round_at__lte=now.business)
    ids = list(due.order_by("next_round_at", "id").values_list("id", flat=True)[:limit])

    def open_one(charge_id: UUID) -> None:
        committed(
            partial(_open_next_round, charge_id, now=now),
            deadline=ages.database_wait_before_call,
            clock=clock,
        )
        failpoint("dunning.round_opened")

    return _each(ids, open_one)


def _open_next_round(charge_id: UUID, *, now: Moment) -> None:
    charge = locked_charge(charge_id)
    date = charge.next_round_at
    if charge.awaits == Awaits.DATE and date and date <= now.business:
        open_round(charge, step=1, now=now)


# --- Dead letters ----------------------------------------------------------------------------------


def drain_dead_letters(
    *,
    letters: Iterable[DeadLetter],
    delete: Callable[[DeadLetter], None],
    clock: Clock,
    ages: Ages,
) -> int:
    """Turn each dead letter into exactly one case, committed before the letter is deleted (R33).

    A crash between the two finds the case already there, and only deletes. Returns how many.
    """

    def drain(letter: DeadLetter) -> None:
        committed(
            partial(_explain, letter, now=clock.now(), ages=ages),
            deadline=ages.database_wait_before_call,
            clock=clock,
        )
        failpoint("drain.case_committed")
        delete(letter)

    return _each(letters, drain)


def _explain(letter: DeadLetter, *, now: Moment, ages: Ages) -> None:
    # A worker that could not read it may have kept it, and died before it acknowledged (F22).
    kept = (CaseKind.DEAD_LETTER, CaseKind.UNREADABLE_MESSAGE)
    if Case.objects.filter(kind__in=kept, subject=letter.message_id).exists():
        return
    charge, closed_because = _act_on(letter, now=now, ages=ages)
    open_case(
        CaseKind.DEAD_LETTER,
        charge,
        subject=letter.message_id,
        amount=charge.amount if charge else None,
        reason="received three times without an acknowledgement",
        detail={"body": letter.body[:4000]},
        closed_at=now.real if closed_because else None,
        closed_because=closed_because,
        now=now,
    )


def _act_on(letter: DeadLetter, *, now: Moment, ages: Ages) -> tuple[Charge | None, str]:
    """What docs/states.md says of this letter; an empty reason leaves its case to a person."""
    if letter.receive is None:
        return None, ""
    try:
        charge = locked_charge(letter.receive.charge_id)
    except UnknownCharge:
        return None, ""
    if letter.receive.round != charge.round:
        return charge, "a newer round is under way"
    attempt = charge.open_attempt()
    if charge.state == S.ATTEMPTING and attempt:
        charge.move(S.IN_DOUBT, **seen(now))
        soon = now.real + timedelta(seconds=ages.resolve_steps[0])
        attempt.change(next_query_at=soon, doubt="its worker died")
        record_charge_event(charge, "charge.in_doubt", attempt, now=now)
        return charge, "its attempt is open: in doubt, the resolver asks"
    if charge.state not in OWED:
        return charge, f"the charge is {charge.state}"
    if attempt:
        return charge, "its attempt is open: the resolver asks"
    if letter.receive.dispatch != charge.dispatch:
        return charge, "a newer dispatch is under way"
    dispatch(charge, now=now)
    return charge, f"dispatched again as {charge.round}:{charge.dispatch}"


def keep_unreadable(*, subject: str, body: str, reason: str, now: Moment) -> Case:
    """Keep a message that cannot be read, before anybody acknowledges it (F22)."""
    return open_case(
        CaseKind.UNREADABLE_MESSAGE,
        None,
        subject=subject,
        reason=reason[:500],
        detail={"body": body[:4000]},
        now=now,
    )


# --- What a person decides -------------------------------------------------------------------------


def requeue(*, charge_id: UUID, by: str, reason: str, now: Moment) -> Charge:
    """Open another round of an exhausted charge; it takes no dunning step.

    Runs in the caller's transaction. Raises NotRequeueable for another state (somebody was first) and
    for a creator whose newest instrument is dead.
    """
    charge = locked_charge(charge_id)
    if charge.state != S.EXHAUSTED:
        raise NotRequeueable(f"charge {charge_id} is {charge.state}; only exhausted ones may")
    instrument = Instrument.newest_of(charge.creator_id)
    if instrument is None or instrument.dead_at:
        raise NotRequeueable(
            f"charge {charge_id}: its instrument is dead; the creator adds another"
        )
    open_round(charge, step=0, now=now)
    logger.info("requeued", extra={"charge_id": charge.pk, "by": by, "reason": reason})
    return charge


def write_off(*, charge_id: UUID, by: str, reason: str, now: Moment) -> Charge:
    """Give an exhausted charge up: its receivable goes to the write-off account; terminal."""
    charge = locked_charge(charge_id)
    if charge.state != S.EXHAUSTED or charge.open_attempt():
        raise NotWritable(f"charge {charge_id} is {charge.state}; only exhausted ones may")
    ledger.close_receivable(charge=charge, kind=EntryKind.WRITTEN_OFF, now=now)
    charge.move(S.WRITTEN_OFF, awaits=Awaits.NOTHING, next_round_at=None, **seen(now))
    record_charge_event(charge, "charge.written_off", now=now)
    logger.info("written off", extra={"charge_id": charge.pk, "by": by, "reason": reason})
    return charge


def close_case(*, case_id: int, by: str, reason: str, now: Moment) -> Case:
    """Close a case that a person looked into; the reason and the name stay with it.

    Runs in the caller's transaction. Raises NotClosable for one that is closed or that only two people
    may decide.
    """
    case = Case.objects.select_for_update(no_key=True).get(pk=case_id)
    if case.closed_at:
        raise NotClosable(f"it is closed: {case.closed_because}")
    if case.kind not in LOOKED_INTO:
        raise NotClosable("it proposes what a second person has to approve")
    case.closed_at, case.closed_because = now.real, f"{by}: {reason}"[:500]
    case.save(update_fields=["closed_at", "closed_because"])
    logger.info("case closed", extra={"case": case.pk, "by": by, "reason": reason})
    return case


def cancel_charge(*, charge_id: UUID, now: Moment) -> Charge:
    """Void a charge that nothing is open for; ask that an open one become void.

    While an attempt is open the processor may already have captured: `void_requested` lets the
    outcome decide, not charged → voided, captured → succeeded and a refund case. What is paid stays
    paid, whatever its row says (R26).
    """
    charge = locked_charge(charge_id)
    attempt = charge.open_attempt()
    if charge.applied_capture():
        if charge.state not in TERMINAL:
            repair_paid(charge, now=now)
    elif charge.state in {S.DUE, S.FAILED_THEN_RETRY, S.EXHAUSTED} and attempt is None:
        void(charge, now=now)
    elif charge.state in {S.ATTEMPTING, S.IN_DOUBT, S.PENDING} or attempt:
        charge.change(void_requested=True)
        if attempt and charge.state == S.PENDING:
            attempt.change(next_query_at=now.real)
    return charge
