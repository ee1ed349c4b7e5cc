"""What was allowed to happen, and when: read from the rows after healing, by nothing of the product's.

The oracle asks whether everything came out right; this asks whether it was done as it may be: nothing
sent under a hold or after a cancel, no card tried too soon, too often or after it died, no round cut
short, nothing billed before its day.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Door,
    Hold,
    HoldScope,
    LedgerAccount,
    LedgerPosting,
    OutboxMessage,
    RetryCounter,
    Subscription,
    SubscriptionTerms,
    Verdict,
)
from checkout.outbox import event_id
from tests.simulation.world import World

S = ChargeState
O = AttemptOutcome  # noqa: E741
IN_ROUND = frozenset({"issuer_soft", "technical"})
FOR_GOOD = frozenset({"never", "customer_action"})
# What the processor must have answered for an attempt to be so; of what is not charged, by verdict.
ANSWERED: dict[str, str] = {
    O.CAPTURED: "Approved",
    O.UNAPPLIED: "Approved",
    O.DECLINED: "Declined",
    Verdict.NOT_SENT: "NotSent",
    Verdict.NOT_FOUND: "NotFound",
    Verdict.EXPIRED: "Expired",
}
ZERO = Decimal("0.00")


def broken_rules(world: World) -> Iterator[str]:
    """Every sentence says what was done that may not be."""
    attempts = list(
        Attempt.objects.select_related("charge__terms").order_by("started_at", "round", "number")
    )
    told = _told()
    yield from _held(attempts)
    yield from _heard(world, attempts)
    yield from _sent_again(world, attempts)
    yield from _after_cancel(world, attempts)
    yield from _cards(world, attempts)
    yield from _rounds(world, attempts, told)
    yield from _dunning(world, told)
    yield from _billed()
    yield from _accounts()
    yield from _amounts_told(told, attempts)
    yield from _counted(attempts)
    yield from _written_once(attempts)


@dataclass(frozen=True)
class _Told:
    """An event about a charge as it stands in the outbox; `at` on the business clock."""

    type: str
    charge: UUID
    round: int
    at: datetime
    data: dict[str, Any]


def _told() -> list[_Told]:
    rows = OutboxMessage.objects.filter(door=Door.KAFKA, type__startswith="charge.")
    found = []
    for row in rows.order_by("id"):
        data = json.loads(row.payload)
        at = datetime.fromisoformat(data["occurred_at"])
        found.append(_Told(row.type, row.subject, data["round"], at, data))
    return found


# --- Sending ---------------------------------------------------------------------------------------


def _held(attempts: Iterable[Attempt]) -> Iterator[str]:
    """R52: nothing is sent while a hold, a pause or a breaker is in force."""
    holds = list(Hold.objects.all())
    refused = {case.subject.partition(":")[0] for case in _cases(CaseKind.LANE_REFUSED)}
    for attempt in attempts:
        for sent in {attempt.started_at, attempt.last_sent_at}:
            for hold in holds:
                ends = min(filter(None, (hold.until, hold.lifted_at)), default=None)
                if hold.placed_at < sent and (not ends or sent < ends) and _covers(hold, attempt):
                    yield f"attempt {attempt} was sent under the {hold.kind} {hold.scope}"
        if attempt.doubt.startswith("403") and attempt.lane not in refused:
            yield f"lane {attempt.lane} refused our key and nobody was told"


def _covers(hold: Hold, attempt: Attempt) -> bool:
    subject = {
        HoldScope.ALL: hold.subject,
        HoldScope.LANE: attempt.lane,
        HoldScope.PLAN: attempt.charge.terms.plan_id,
        HoldScope.CREATOR: str(attempt.creator_id),
    }[HoldScope(hold.scope)]
    return hold.subject == subject


def _heard(world: World, attempts: Iterable[Attempt]) -> Iterator[str]:
    """R20, R28: an outcome is what the processor answered to our own call, whoever else tells it."""
    for attempt in attempts:
        by = attempt.verdict if attempt.outcome == O.NOT_CHARGED else attempt.outcome
        answer = ANSWERED.get(by)
        if answer and (attempt.pk, answer) not in world.heard:
            yield f"attempt {attempt} is {attempt.outcome} {attempt.verdict}, nobody answered so"


def _after_cancel(world: World, attempts: Iterable[Attempt]) -> Iterator[str]:
    """F33: nothing is begun, sent or billed after a cancel was answered."""
    for attempt in attempts:
        at = world.cancelled.get(attempt.charge.subscription_id)
        if at and max(attempt.started_at, attempt.last_sent_at) > at:
            yield f"attempt {attempt} was sent after its subscription was cancelled"
    for subscription in Subscription.objects.filter(pk__in=world.cancelled):
        if subscription.state != "cancelled":
            yield f"subscription {subscription} was cancelled and is {subscription.state}"
        at = world.cancelled[subscription.pk]
        if subscription.charges.filter(created_at__gt=at).exists():
            yield f"subscription {subscription} was billed after it was cancelled"


def _sent_again(world: World, attempts: Iterable[Attempt]) -> Iterator[str]:
    """R20, R24: no key is sent that may be forgotten; "not sent" is what the lane said, and nobody else."""
    remembered = timedelta(seconds=world.ages.idempotent_for - world.ages.idempotency_margin)
    for attempt in attempts:
        age = attempt.last_sent_at - attempt.started_at
        if age > remembered:
            yield f"attempt {attempt} was sent again after {age}, its key may be forgotten"
        if attempt.verdict == Verdict.NOT_SENT and attempt.pk not in world.not_sent:
            yield f"attempt {attempt} counts as not sent, and no call of it was turned away"


def _cards(world: World, attempts: Iterable[Attempt]) -> Iterator[str]:
    """R29, R30: a card that was refused for good is not tried again, and none too often."""
    of_card = defaultdict(list)
    for attempt in attempts:
        of_card[attempt.instrument_id].append(attempt)
    most, window = world.ages.attempts_per_instrument, world.ages.attempts_window
    for tries in of_card.values():
        ends = [a.ended_at for a in tries if a.decline_class in FOR_GOOD and a.ended_at]
        dead = min(ends, default=None)
        if dead and any(a.started_at > dead for a in tries):
            yield "a card was tried again after it was refused for good"
        starts = sorted(a.started_at for a in tries if a.verdict != Verdict.NOT_SENT)
        spans = zip(starts, starts[most:], strict=False)
        if any(last - first < timedelta(seconds=window) for first, last in spans):
            yield f"a card was tried more than {most} times in {window:g} s"


# --- Rounds ----------------------------------------------------------------------------------------


def _rounds(world: World, attempts: Iterable[Attempt], told: Iterable[_Told]) -> Iterator[str]:
    """R23, R29: three attempts a round, a backoff apart, and none after the funds were missing."""
    rounds = defaultdict(list)
    for attempt in attempts:
        if attempt.charge_id not in world.rewritten:
            rounds[attempt.charge_id, attempt.round].append(attempt)
    wait = timedelta(seconds=0.8 * min(world.ages.backoff))
    for tries in rounds.values():
        for before, after in pairwise(tries):
            yield from _too_soon(before, after, wait)
    for each in told:
        is_over = each.type == "charge.exhausted" and each.data["awaits"] != "instrument"
        if is_over and each.charge not in world.rewritten:
            yield from _is_over(rounds[each.charge, each.round])


def _too_soon(before: Attempt, after: Attempt, wait: timedelta) -> Iterator[str]:
    if before.has_capture:
        return  # it was found after all, when its decline had been written
    ended = before.ended_at
    if before.decline_class == "funds":
        yield f"attempt {after} followed one without funds in its round"
    if before.decline_class in IN_ROUND and ended and after.started_at < ended + wait:
        yield f"attempt {after} began {after.started_at - ended} after the one before"


def _is_over(tries: list[Attempt]) -> Iterator[str]:
    """A round that ends by a date or by nothing at all had its three attempts, or no funds."""
    counted = [attempt for attempt in tries if attempt.outcome != O.NOT_CHARGED]
    if any(attempt.has_capture for attempt in tries):
        return  # a capture was found after all
    if not counted or (counted[-1].decline_class in IN_ROUND and len(counted) != 3):
        yield f"a round was over after {len(counted)} attempts, not three"


def _dunning(world: World, told: Iterable[_Told]) -> Iterator[str]:
    """R18, R29: a dunning date is days of the plan away by the business clock, and is waited for."""
    days = {timedelta(days=day) for day in world.ages.dunning_days}
    dates: dict[tuple[UUID, int], datetime] = {}
    for each in told:
        if each.charge in world.rewritten:
            continue
        if each.type == "charge.exhausted" and each.data["awaits"] == "date":
            dates[each.charge, each.round] = at = datetime.fromisoformat(each.data["next_round_at"])
            if at - each.at not in days:
                yield f"a dunning date is {at - each.at} away"
        elif each.type == "charge.round_opened" and each.charge not in world.requeued:
            due = dates.get((each.charge, each.round - 1))
            if due and each.at < due:
                yield f"round {each.round} was opened {due - each.at} before its date"


# --- Billing ---------------------------------------------------------------------------------------


def _billed() -> Iterator[str]:
    """R7, R11, R12: nothing is billed before its day, no terms reach back, the anchor stays."""
    for subscription in Subscription.objects.prefetch_related("charges", "terms"):
        zone = subscription.time_zone
        if subscription.next_billing_at != _begins(subscription.next_period_start, zone):
            yield f"{subscription} is to be billed at {subscription.next_billing_at}"
        for charge in subscription.charges.all():
            if charge.billed_at < _begins(charge.period_start, zone):
                yield f"the period of {charge.period_start} was billed at {charge.billed_at}"
        agreed = sorted(subscription.terms.all(), key=lambda terms: terms.starts_on)
        for before, terms in pairwise(agreed):
            if _begins(terms.starts_on, zone) <= terms.created_at:
                yield f"terms of {terms.created_at} begin on {terms.starts_on}"
            if _interval(before) == _interval(terms) and before.anchor != terms.anchor:
                yield f"the anchor moved from {before.anchor} to {terms.anchor}"


def _interval(terms: SubscriptionTerms) -> tuple[str, int]:
    return terms.interval, terms.interval_count


def _begins(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(0), ZoneInfo(zone)).astimezone(UTC)


def _accounts() -> Iterator[str]:
    """R34: what was voided is no revenue, and only what was written off is a loss."""
    held: dict[tuple[UUID, str], Decimal] = defaultdict(lambda: ZERO)
    for posting in LedgerPosting.objects.all():
        if posting.charge_id:
            held[posting.charge_id, posting.account] += posting.amount
    for charge in Charge.objects.all():
        revenue, loss = (
            held[charge.pk, LedgerAccount.REVENUE],
            held[charge.pk, LedgerAccount.WRITE_OFF],
        )
        if revenue != (ZERO if charge.state == S.VOIDED else -charge.amount):
            yield f"a charge of {charge.amount} that is {charge.state} is revenue of {-revenue}"
        if loss != (charge.amount if charge.state == S.WRITTEN_OFF else ZERO):
            yield f"a charge of {charge.amount} that is {charge.state} is a loss of {loss}"


def _amounts_told(told: Iterable[_Told], attempts: Iterable[Attempt]) -> Iterator[str]:
    """I4: an event of a capture tells what was captured; analytics bills by it."""
    captured = {(a.charge_id, a.round, a.number): a.captured_amount for a in attempts}
    for each in told:
        if "captured_amount" in each.data:
            amount = captured.get((each.charge, each.round, each.data["number"]))
            if str(amount) != each.data["captured_amount"]:
                yield f"{each.type} tells {each.data['captured_amount']}, captured was {amount}"


def _counted(attempts: Iterable[Attempt]) -> Iterator[str]:
    """R56: the figure of retries is the attempts numbered above 1."""
    figure = sum(RetryCounter.objects.values_list("count", flat=True))
    retries = sum(attempt.number > 1 for attempt in attempts)
    if figure != retries:
        yield f"{retries} attempts are numbered above 1, the counter says {figure}"


TOLD_AS = {
    O.CAPTURED: "charge.succeeded",
    O.UNAPPLIED: "receipt.unapplied",
    O.DECLINED: "charge.declined",
    O.NOT_CHARGED: "charge.not_charged",
}


def _written_once(attempts: Iterable[Attempt]) -> Iterator[str]:
    """STATES, outcome × attempt: a final outcome is written when it is told, and never again."""
    rows = OutboxMessage.objects.filter(door=Door.KAFKA, type__in=TOLD_AS.values())
    told_at = dict(rows.values_list("event_id", "created_at"))
    for attempt in attempts:
        event = event_id(
            subject=attempt.charge_id,
            type=TOLD_AS.get(O(attempt.outcome), ""),
            round=attempt.round,
            number=attempt.number,
        )
        at = told_at.get(event)
        if at and at != attempt.ended_at:
            yield f"attempt {attempt} was {attempt.outcome} at {at}, and again at {attempt.ended_at}"


def _cases(kind: CaseKind) -> Iterable[Case]:
    return Case.objects.filter(kind=kind)
