"""The way of a charge, from owed to collected: read this file first.

A charge is due. A relay puts its dispatch on the queue; a worker receives it and comes here:

1. `attempt_charge`: `take` decides in tx 1, under the creator's lock and by the charge's row alone,
   what this receive does (the rows of docs/states.md, first that fits); an attempt is committed.
2. The gateway is called with no transaction open.
3. `outcomes.record_outcome`: tx 2 writes the outcome on the attempt, moves the charge, posts what was
   captured, asks `dunning` what follows a decline, and records the event.

A time-out is not a decline: the attempt stays open, the charge is in doubt, and `rescue.resolve`
asks the processor. Every function here may run twice. What makes that safe: the creator's lock,
derived identifiers, outcomes that are final, and moves that compare before they set.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from checkout import dunning, ledger, routing
from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.failpoints import failpoint
from checkout.gateways import Answer, ChargeRequest, Gateway, InDoubt, NotFound, Outcome
from checkout.messages import Receive
from checkout.models import (
    OWED,
    Attempt,
    AttemptKind,
    Charge,
    ChargeState,
    Instrument,
    RetryCounter,
    Verdict,
)
from checkout.moves import (
    dispatch,
    exhaust,
    locked_charge,
    open_repair_case,
    repair_paid,
    void,
)
from checkout.outcomes import Fate, record_outcome

logger = logging.getLogger(__name__)

S = ChargeState


@dataclass(frozen=True)
class Send:
    """tx 1 committed an attempt: send it, if `since` (monotonic seconds) is not too long ago."""

    attempt_id: UUID
    lane: str
    sends: int
    request: ChargeRequest
    since: float


@dataclass(frozen=True)
class Ask:
    """The open attempt may not be sent again: ask what became of it."""

    attempt_id: UUID
    lane: str
    sends: int


Decision: TypeAlias = Fate | Send | Ask


def attempt_charge(
    *, receive: Receive, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages
) -> Fate:
    """Do what this receive of a dispatch is there for, and say what becomes of its message.

    A second delivery of the same message finds the row moved on and changes nothing. Raises
    commit.DatabaseAway, UnknownCharge; the caller then leaves the message.
    """
    decision = committed(
        lambda: take(receive=receive, clock=clock, gateways=gateways, ages=ages),
        deadline=ages.database_wait_before_call,
        clock=clock,
    )
    if isinstance(decision, Fate):
        return decision
    failpoint("charging.intent_committed")
    answer = call(decision, clock=clock, gateway=gateways[decision.lane], ages=ages)
    if answer is None:
        return Fate.LEAVE
    failpoint("charging.answered")
    fate = committed(
        lambda: record_outcome(
            attempt_id=decision.attempt_id,
            answer=answer,
            sends=decision.sends,
            receive=receive,
            now=clock.now(),
            ages=ages,
        ),
        deadline=ages.database_wait_after_call,
        clock=clock,
    )
    failpoint("charging.outcome_committed")
    return fate


def take(
    *, receive: Receive, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages
) -> Decision:
    """tx 1: the rows of docs/states.md in their order, first that fits (row 12 is the caller's).

    An applied capture is looked at before void and receivable, because a paid charge has nothing
    receivable either (docs/decisions/0003).
    """
    charge = locked_charge(receive.charge_id)
    # Read after the lock was waited for: `last_sent_at` must never be earlier than it was.
    now = clock.now()
    if _is_stale(charge, receive):  # row 1
        return Fate.ACKNOWLEDGE
    attempt = charge.open_attempt()
    if attempt and (charge.state != S.ATTEMPTING or attempt.kind == AttemptKind.PAGE):  # row 2
        return Fate.ACKNOWLEDGE
    charge.change(last_seen_at=now.real, sweeps=0)
    if attempt:  # rows 3, 4
        return _carry_on(charge, attempt, clock=clock, gateways=gateways, now=now, ages=ages)
    if charge.state == S.ATTEMPTING:
        # Nothing is open: only a hand's edit leaves this. It is owed like any failed charge.
        charge.move(S.FAILED_THEN_RETRY)
    ended = _settle_if_over(charge, now=now, ages=ages)  # rows 5 to 7
    if ended:
        return ended
    instrument = Instrument.newest_of(charge.creator_id)
    if instrument is None or instrument.dead_at:  # row 8
        exhaust(charge, plan=dunning.AwaitInstrument(), now=now)
        return Fate.ACKNOWLEDGE
    # Rows 9 to 11.
    return _begin(charge, instrument, clock=clock, gateways=gateways, now=now, ages=ages)


def _is_stale(charge: Charge, receive: Receive) -> bool:
    present = (receive.round, receive.dispatch) == (charge.round, charge.dispatch)
    return not present or (charge.state not in OWED and charge.state != S.ATTEMPTING)


def _carry_on(
    charge: Charge,
    attempt: Attempt,
    *,
    clock: Clock,
    gateways: Mapping[str, Gateway],
    now: Moment,
    ages: Ages,
) -> Send | Ask:
    """A worker died or was too slow: send the same key again, or only ask (R24)."""
    age = now.real - attempt.started_at
    margin = timedelta(seconds=ages.idempotency_margin)
    forgotten = age > gateways[attempt.lane].idempotent_for - margin
    held = routing.holding(charge=charge, lane=attempt.lane, now=now)
    if charge.void_requested or held or forgotten:
        return Ask(attempt_id=attempt.pk, lane=attempt.lane, sends=attempt.sends)
    attempt.change(
        sends=attempt.sends + 1,
        last_sent_at=now.real,
        next_query_at=now.real + timedelta(seconds=ages.resolve_after),
    )
    return _send(charge, attempt, token=attempt.instrument.token, clock=clock)


def _settle_if_over(charge: Charge, *, now: Moment, ages: Ages) -> Fate | None:
    """Rows 5 to 7: nothing is to be collected, or not in this round."""
    if charge.applied_capture():
        repair_paid(charge, now=now)
        return Fate.ACKNOWLEDGE
    closed = ledger.receivable(charge_id=charge.pk) <= 0
    if charge.void_requested or closed:
        void(charge, now=now)
        if closed:
            open_repair_case(charge, reason="its receivable is closed; voided again", now=now)
        return Fate.ACKNOWLEDGE
    if charge.counted_attempts() >= dunning.ATTEMPTS_A_ROUND:
        plan = dunning.after_round(step=charge.step, now=now.business, days=ages.dunning_days)
        exhaust(charge, plan=plan, now=now)
        return Fate.ACKNOWLEDGE
    return None


def _begin(
    charge: Charge,
    instrument: Instrument,
    *,
    clock: Clock,
    gateways: Mapping[str, Gateway],
    now: Moment,
    ages: Ages,
) -> Decision:
    """Rows 9 to 11: dispatch again what may not be sent now, else begin an attempt."""
    try:
        lane = routing.lane_for(country=charge.creator.country, on=now.business.date()).lane
    except routing.NoLane as error:
        logger.warning("no lane", extra={"charge_id": charge.pk, "reason": error.refusal.reason})
        lane = ""
    if lane and lane != charge.lane:
        # A hold of its lane is lifted for the charges whose row names that lane.
        charge.change(lane=lane)
    wait = _wait_before(charge, instrument, lane=lane, gateways=gateways, now=now, ages=ages)
    if wait:
        dispatch(charge, now=now, available_at=wait)
        return Fate.ACKNOWLEDGE
    attempt = _new_attempt(charge, instrument, lane=lane, now=now, ages=ages)
    return _send(charge, attempt, token=instrument.token, clock=clock)


def _wait_before(
    charge: Charge,
    instrument: Instrument,
    *,
    lane: str,
    gateways: Mapping[str, Gateway],
    now: Moment,
    ages: Ages,
) -> datetime | None:
    """When a charge that may not be sent now is to be dispatched again; None when it may be."""
    if lane not in gateways:
        return now.real + timedelta(seconds=ages.sweep_after)
    held = routing.held_until(charge=charge, lane=lane, now=now, ages=ages)
    if held:
        return held
    rests = _rests_until(instrument, now=now, ages=ages)
    if rests:
        return rests
    if Charge.objects.filter(creator_id=charge.creator_id, state=S.ATTEMPTING).exists():
        return now.real + timedelta(seconds=ages.attempting_redispatch)
    return _too_early(charge, now=now)


def _rests_until(instrument: Instrument, *, now: Moment, ages: Ages) -> datetime | None:
    """R30: when the instrument may be tried again; None while it has attempts left in its window.

    That may be weeks away, so we look again only every `sweep_most`: another card may have come.
    What was not sent reached no network: an hour's outage must not cap a card for a month (R52).
    """
    window = timedelta(seconds=ages.attempts_window)
    recent = Attempt.objects.filter(instrument=instrument, started_at__gt=now.real - window)
    sent = recent.exclude(verdict=Verdict.NOT_SENT)
    starts = sent.order_by("-started_at").values_list("started_at", flat=True)
    full = list(starts[ages.attempts_per_instrument - 1 : ages.attempts_per_instrument])
    if not full:
        return None
    return min(full[0] + window, now.real + timedelta(seconds=ages.sweep_most))


def _too_early(charge: Charge, *, now: Moment) -> datetime | None:
    """Row 10: the last attempt ended less than 0.8 of its backoff ago."""
    attempts = charge.round_attempts()
    ended = attempts[-1].ended_at if attempts else None
    if charge.retry_at is None or ended is None:
        return None
    early = now.real < ended + 0.8 * (charge.retry_at - ended)
    return charge.retry_at if early else None


def _new_attempt(
    charge: Charge, instrument: Instrument, *, lane: str, now: Moment, ages: Ages
) -> Attempt:
    """Row 11: the highest number of the round + 1; triggers refuse it if paid or the fourth."""
    number = max((a.number for a in charge.round_attempts()), default=0) + 1
    charge.move(S.ATTEMPTING, lane=lane, retry_at=None)
    if number > 1:
        RetryCounter.increment(charge.creator_id)
    return Attempt.objects.create(
        id=Attempt.derive_id(charge_id=charge.pk, round=charge.round, number=number),
        charge=charge,
        creator_id=charge.creator_id,
        instrument=instrument,
        lane=lane,
        round=charge.round,
        number=number,
        amount=charge.amount,
        started_at=now.real,
        last_sent_at=now.real,
        next_query_at=now.real + timedelta(seconds=ages.resolve_after),
    )


def _send(charge: Charge, attempt: Attempt, *, token: str, clock: Clock) -> Send:
    request = ChargeRequest(
        reference=attempt.pk,
        amount=attempt.amount,
        currency=attempt.currency,
        token=token,
        creator=charge.creator_id,
        subscription=charge.subscription_id,
        charge=charge.pk,
        round=attempt.round,
        number=attempt.number,
    )
    return Send(attempt.pk, attempt.lane, attempt.sends, request, since=clock.monotonic())


def call(
    decision: Send | Ask, *, clock: Clock, gateway: Gateway, ages: Ages
) -> Outcome | Answer | None:
    """Call the processor, with no transaction open; None when it is too late to send (R20).

    A process may have been frozen since the commit: what it would send now, another worker or the
    resolver may already have decided about.
    """
    if isinstance(decision, Ask):
        answer = gateway.query(decision.attempt_id, deadline=ages.gateway_deadline)
        # A worker asks once and does not judge: how often and how late is the resolver's business.
        return InDoubt("not found yet") if isinstance(answer, NotFound) else answer
    if clock.monotonic() - decision.since > ages.send_within:
        return None
    failpoint("charging.before_send")
    return gateway.charge(decision.request, deadline=ages.gateway_deadline)
