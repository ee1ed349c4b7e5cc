"""What becomes of an attempt and its charge once the processor has answered: tx 2 of an attempt.

`record_outcome` is the one way in, for a worker, the resolver, a webhook and a statement line. It is
the tables "State × event" and "Outcome × attempt" of docs/states.md, cell by cell.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from checkout import dunning, ledger, routing
from checkout.clock import Ages, Moment
from checkout.gateways import (
    Answer,
    Approved,
    Declined,
    Expired,
    InDoubt,
    NotFound,
    NotSent,
    Outcome,
    Pending,
    Redirect,
)
from checkout.messages import Receive
from checkout.models import (
    TERMINAL,
    Ask,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Awaits,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Hold,
    HoldKind,
    HoldScope,
    Instrument,
    Verdict,
)
from checkout.money import require_usd
from checkout.moves import (
    dispatch,
    exhaust,
    locked_attempt,
    open_case,
    record_charge_event,
    seen,
    void,
)

logger = logging.getLogger(__name__)

S = ChargeState
# Only from these does an outcome move the charge; elsewhere it is written on the attempt alone.
UNDECIDED = frozenset({S.ATTEMPTING, S.IN_DOUBT, S.PENDING})


class Fate(StrEnum):
    """What becomes of the message that was received."""

    ACKNOWLEDGE = "acknowledge"
    LEAVE = "leave"


@dataclass(frozen=True)
class Asked:
    """What a "not found" is judged by (R22): when the question left (real UTC), and for how long
    after a send, and how often, this processor may still say so of what it has."""

    at: datetime
    minimum_age: timedelta
    repeats: int
    question: Ask = Ask.OUTCOME


def record_outcome(
    *,
    attempt_id: UUID,
    answer: Outcome | Answer,
    sends: int,
    receive: Receive | None,
    now: Moment,
    ages: Ages,
    asked: Asked | None = None,
) -> Fate:
    """tx 2: write what the processor said, and do what follows from it (docs/states.md).

    `sends` is what the attempt's counter was when it was sent or asked about: "not sent", "not
    found" and "expired" are believed only if nobody sent since. `asked` belongs to a query; without
    it a "not found" settles nothing. `receive` is None for the resolver, a webhook or a statement.
    Written again, it changes nothing: a final outcome is only overwritten by a capture.
    """
    charge, attempt = locked_attempt(attempt_id)
    if not attempt.is_open:
        if isinstance(answer, Approved) and not attempt.has_capture:
            _capture(charge, attempt, answer, now=now)
            return Fate.ACKNOWLEDGE
        return fate_of_message(charge, receive, now=now)
    if isinstance(answer, NotFound | Expired) and attempt.sends != sends:
        answer = InDoubt("sent again since the question")
    _write(charge, attempt, answer, asked=asked, receive=receive, now=now, ages=ages)
    logger.info(
        "outcome recorded",
        extra={
            "charge_id": charge.pk,
            "attempt_id": attempt.pk,
            "answer": type(answer).__name__,
            "outcome": attempt.outcome,
            "state": charge.state,
        },
    )
    return fate_of_message(charge, receive, now=now)


def _write(
    charge: Charge,
    attempt: Attempt,
    answer: Outcome | Answer,
    *,
    asked: Asked | None,
    receive: Receive | None,
    now: Moment,
    ages: Ages,
) -> None:
    match answer:
        case Approved():
            _capture(charge, attempt, answer, now=now)
        case Declined():
            _decline(charge, attempt, answer, receive=receive, now=now, ages=ages)
        case NotSent():
            _not_sent(charge, attempt, answer, now=now, ages=ages)
        case NotFound():
            _not_found(charge, attempt, asked=asked, now=now, ages=ages)
        case Expired():
            not_charged(charge, attempt, verdict=Verdict.EXPIRED, now=now, ages=ages)
        case InDoubt():
            _doubt(charge, attempt, answer.reason, failed=answer.lane_failed, now=now, ages=ages)
        case Pending() | Redirect():
            _pending(charge, attempt, expires_at=answer.expires_at, now=now, ages=ages)
        case _:
            assert_never(answer)


def fate_of_message(charge: Charge, receive: Receive | None, *, now: Moment) -> Fate:
    """Leave a message only if it is to come again: the footnote of docs/states.md.

    That is: failed then retry, in its round, its dispatch the present one, and SQS has a receive
    left to give. At receive 3 a new dispatch takes its place, or nothing would ever come again.
    """
    if receive is None or charge.state != S.FAILED_THEN_RETRY:
        return Fate.ACKNOWLEDGE
    if (receive.round, receive.dispatch) != (charge.round, charge.dispatch):
        return Fate.ACKNOWLEDGE
    if receive.count >= dunning.ATTEMPTS_A_ROUND:
        dispatch(charge, now=now, available_at=charge.retry_at)
        return Fate.ACKNOWLEDGE
    return Fate.LEAVE


def _capture(charge: Charge, attempt: Attempt, approved: Approved, *, now: Moment) -> None:
    """The processor has the money: apply it if still owed, else keep it as an unapplied receipt."""
    require_usd(approved.currency)
    takes_it = (
        charge.state not in TERMINAL
        and charge.applied_capture() is None
        and ledger.receivable(charge_id=charge.pk) > 0
    )
    _end(
        attempt,
        AttemptOutcome.CAPTURED if takes_it else AttemptOutcome.UNAPPLIED,
        now=now,
        verdict=Verdict.NONE,
        captured_amount=approved.amount,
        captured_currency=approved.currency,
        processor_reference=approved.processor_reference,
    )
    if not takes_it:
        _keep_unapplied(charge, attempt, now=now)
        return
    ledger.post_capture(charge=charge, attempt=attempt, amount=approved.amount, now=now)
    charge.move(S.SUCCEEDED, awaits=Awaits.NOTHING, next_round_at=None, **seen(now))
    captured = str(approved.amount)
    record_charge_event(charge, "charge.succeeded", attempt, now=now, captured_amount=captured)
    if charge.void_requested:
        open_case(
            CaseKind.REFUND_AFTER_CANCEL,
            charge,
            subject=str(attempt.pk),
            amount=approved.amount,
            reason="captured although the cancel had been asked for",
            proposal=f"refund {approved.amount} USD",
            now=now,
        )


def _keep_unapplied(charge: Charge, attempt: Attempt, *, now: Moment) -> None:
    amount = attempt.captured_amount
    if amount is None:
        raise ValueError(f"attempt {attempt.pk} has no captured amount")
    ledger.post_unapplied(charge=charge, attempt=attempt, amount=amount, now=now)
    record_charge_event(charge, "receipt.unapplied", attempt, now=now, captured_amount=str(amount))
    open_case(
        CaseKind.UNAPPLIED_RECEIPT,
        charge,
        subject=str(attempt.pk),
        amount=amount,
        reason=f"captured for a charge that is {charge.state} and cannot take it",
        proposal=f"refund {amount} USD",
        now=now,
    )


def _decline(
    charge: Charge,
    attempt: Attempt,
    declined: Declined,
    *,
    receive: Receive | None,
    now: Moment,
    ages: Ages,
) -> None:
    """A final no: the instrument may die of it; the plan says what follows."""
    _end(
        attempt,
        AttemptOutcome.DECLINED,
        now=now,
        decline_class=declined.decline_class,
        decline_code=declined.code,
        processor_reference=declined.processor_reference,
    )
    record_charge_event(
        charge, "charge.declined", attempt, now=now, decline_class=declined.decline_class.value
    )
    plan = dunning.after_decline(
        decline_class=declined.decline_class,
        counted=charge.counted_attempts(),
        step=charge.step,
        now=now.business,
        days=ages.dunning_days,
    )
    if isinstance(plan, dunning.AwaitInstrument):
        Instrument.objects.filter(pk=attempt.instrument_id, dead_at__isnull=True).update(
            dead_at=now.real, dead_reason=declined.code[:64]
        )
    if charge.state not in UNDECIDED or attempt.round != charge.round:
        return
    if charge.void_requested:
        void(charge, now=now)
    elif isinstance(plan, dunning.RetryInRound):
        _retry_in_round(charge, attempt, receive=receive, now=now, ages=ages)
    else:
        exhaust(charge, plan=plan, now=now)


def _retry_in_round(
    charge: Charge, attempt: Attempt, *, receive: Receive | None, now: Moment, ages: Ages
) -> None:
    """The message in hand brings it back after the backoff; without one, a new dispatch does.

    A charge that is no longer attempting was moved by another who held this same message, and who
    acknowledged it: what is in hand may be gone, so it brings nothing back.
    """
    comes_again = receive is not None and charge.state == S.ATTEMPTING
    wait = ages.backoff_after(receive.count if receive else 1)
    retry_at = now.real + timedelta(seconds=wait)
    charge.move(S.FAILED_THEN_RETRY, retry_at=retry_at, last_seen_at=now.real)
    if not comes_again or attempt.kind == AttemptKind.PAGE:
        dispatch(charge, now=now, available_at=retry_at)


def _not_sent(
    charge: Charge, attempt: Attempt, answer: NotSent, *, now: Moment, ages: Ages
) -> None:
    """Believed only if nobody else sent with this key, now, under the lock (R20)."""
    if answer.lane_refused:
        _pause_refused_lane(charge, attempt, answer, now=now)
    if attempt.sends != 1:
        _doubt(charge, attempt, answer.reason, failed=True, now=now, ages=ages)
        return
    _fail_lane(attempt, now=now, ages=ages)
    attempt.change(doubt=answer.reason[:200])
    not_charged(charge, attempt, verdict=Verdict.NOT_SENT, now=now, ages=ages)


def _not_found(
    charge: Charge, attempt: Attempt, *, asked: Asked | None, now: Moment, ages: Ages
) -> None:
    """Counts as not charged when asked late enough and heard often enough (R22).

    The time of the question counts, not of this write: a resolver may have been frozen in between.
    Asked before its time, by a webhook or a statement line, it counts in no repeat: three of them
    within a second are one.
    """
    due = attempt.last_sent_at + _silence(asked, ages=ages)
    due = max(due, attempt.next_query_at or due)
    if asked is None or asked.at < due:
        _doubt(charge, attempt, "not found yet", failed=False, now=now, ages=ages)
        attempt.change(next_query_at=due)
        return
    attempt.change(not_found=attempt.not_found + 1)
    if attempt.not_found < asked.repeats:
        _doubt(charge, attempt, "not found", failed=False, now=now, ages=ages)
        attempt.change(next_query_at=now.real + timedelta(seconds=ages.resolve_steps[0]))
        return
    not_charged(charge, attempt, verdict=Verdict.NOT_FOUND, now=now, ages=ages)


def _silence(asked: Asked | None, *, ages: Ages) -> timedelta:
    return silence(asked.minimum_age if asked else None, ages=ages)


def silence(minimum_age: timedelta | None, *, ages: Ages) -> timedelta:
    """How long after `last_sent_at`, the commit before a send, "not found" means nothing (R22).

    The first byte may leave `send_within` after that commit, and a gateway's deadline later; the
    processor's own minimum age counts from then.
    """
    leaving = timedelta(seconds=ages.send_within + ages.gateway_deadline)
    least = timedelta(seconds=ages.resolve_after)
    return leaving + max(minimum_age or least, least)


def not_charged(
    charge: Charge, attempt: Attempt, *, verdict: Verdict, now: Moment, ages: Ages
) -> None:
    """The attempt took no money: it counts in nothing, and the charge is dispatched at once.

    What was merely not found is asked again until a statement covers its day (R22).
    """
    again = now.real + timedelta(seconds=ages.resolve_steps[-1])
    _end(attempt, AttemptOutcome.NOT_CHARGED, now=now, verdict=verdict)
    attempt.change(next_query_at=again if verdict == Verdict.NOT_FOUND else None)
    record_charge_event(charge, "charge.not_charged", attempt, now=now)
    if charge.state not in UNDECIDED or attempt.round != charge.round:
        return
    if charge.void_requested:
        void(charge, now=now)
        return
    charge.move(S.FAILED_THEN_RETRY, retry_at=None)
    dispatch(charge, now=now)


def _doubt(
    charge: Charge, attempt: Attempt, reason: str, *, failed: bool, now: Moment, ages: Ages
) -> None:
    """Not known: never a decline (R20). The resolver asks, first soon, then rarely."""
    if failed:
        _fail_lane(attempt, now=now, ages=ages)
    step = ages.resolve_steps[min(attempt.queries, len(ages.resolve_steps) - 1)]
    attempt.change(doubt=reason[:200], next_query_at=now.real + timedelta(seconds=step))
    if charge.state == S.ATTEMPTING:
        charge.move(S.IN_DOUBT, **seen(now))
        record_charge_event(charge, "charge.in_doubt", attempt, now=now)


def _pending(
    charge: Charge, attempt: Attempt, *, expires_at: datetime | None, now: Moment, ages: Ages
) -> None:
    """The processor decides later: ask at its expiry, or as for any open attempt."""
    later = now.real + timedelta(seconds=ages.resolve_after)
    # It knows the attempt: what it did not find before was no sign of anything.
    attempt.change(
        expires_at=expires_at, next_query_at=min(expires_at or later, later), not_found=0
    )
    if charge.state == S.ATTEMPTING:
        charge.move(S.PENDING, **seen(now))
        record_charge_event(charge, "charge.pending", attempt, now=now)


def _end(attempt: Attempt, outcome: AttemptOutcome, *, now: Moment, **changes: object) -> None:
    attempt.change(
        outcome=outcome, ended_at=now.real, booked_at=now.business, next_query_at=None, **changes
    )
    if attempt.doubt:
        # What people proposed about it meanwhile needs nobody's approval any more.
        proposed = Case.objects.filter(kind=CaseKind.IN_DOUBT, subject=str(attempt.pk))
        proposed.filter(closed_at__isnull=True).update(
            closed_at=now.real, closed_because=f"the processor answered: {outcome.value}"
        )


def _fail_lane(attempt: Attempt, *, now: Moment, ages: Ages) -> None:
    attempt.change(lane_failed_at=now.real)
    routing.note_lane_failure(lane=attempt.lane, now=now, ages=ages)


def _pause_refused_lane(charge: Charge, attempt: Attempt, answer: NotSent, *, now: Moment) -> None:
    """401 or 403: our key is not accepted; nothing more is sent on this lane until a person acts.

    Calls that were on their way hear the same; the lane is paused, and a person told, once.
    """
    paused = Hold.objects.in_force(now.real).filter(kind=HoldKind.PAUSE, scope=HoldScope.LANE)
    if paused.filter(subject=attempt.lane, until__isnull=True).exists():
        return
    hold = routing.place_hold(
        kind=HoldKind.PAUSE,
        scope=HoldScope.LANE,
        subject=attempt.lane,
        reason=answer.reason[:300],
        by="gateway",
        until=None,
        now=now,
    )
    open_case(
        CaseKind.LANE_REFUSED,
        charge,
        subject=f"{attempt.lane}:{hold.pk}",
        reason=f"lane {attempt.lane} refused our key: {answer.reason}"[:500],
        proposal="renew the key, then resume the lane",
        now=now,
    )
