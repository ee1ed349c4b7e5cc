"""Subscriptions: started at checkout, changed at the next period, cancelled, past due, ended.

Every function but `review` runs in its caller's transaction, under the creator's lock.
"""

import logging
from datetime import date, timedelta
from functools import partial
from typing import TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.models import Exists, Max, OuterRef, QuerySet

from checkout import outbox, routing
from checkout.billing import Period, begins_at, bill, period_end
from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.models import (
    TERMINAL,
    Awaits,
    Charge,
    ChargeState,
    Creator,
    Door,
    Instrument,
    OutboxMessage,
    Plan,
    Subscription,
    SubscriptionState,
    SubscriptionTerms,
)
from checkout.moves import locked_charge, open_round
from checkout.rescue import cancel_charge

logger = logging.getLogger(__name__)


class CreatorExists(Exception):
    """The account has a creator with this external id and other facts."""

    def __init__(self, creator: Creator) -> None:
        super().__init__(
            f"creator {creator.external_id!r} exists as {creator.pk}, with other facts"
        )
        self.creator = creator


class UnknownCreator(Exception):
    """The account has no such creator."""


class UnknownPlan(Exception):
    """There is no plan with this code."""


class UnknownTimeZone(Exception):
    """The time zone is not an IANA name."""


class DeadInstrument(Exception):
    """The token was refused for good before; the creator has to use another card (R29)."""


class NotActive(Exception):
    """The subscription is cancelled or has ended."""


class NoTerms(Exception):
    """The subscription's terms of a period are not there: somebody deleted them (R7)."""


class CheckoutState(TypedDict):
    """What the frontend shows: open, processing, succeeded, declined, in_doubt or expired."""

    state: str
    decline_class: str | None
    try_other_card: bool | None


def register_creator(
    *,
    account_id: UUID,
    external_id: str,
    name: str,
    email: str,
    country: str,
    time_zone: str,
    now: Moment,
) -> Creator:
    """Register a creator of an account; the same facts again find the same creator.

    Raises CreatorExists when the external id has other facts, UnknownTimeZone, and routing.NoLane
    for a country that no processor may serve.
    """
    require_time_zone(time_zone)
    routing.lane_for(country=country, on=now.business.date())
    facts = {"name": name, "email": email, "country": country, "time_zone": time_zone}
    creator, created = Creator.objects.get_or_create(
        id=Creator.derive_id(account_id=account_id, external_id=external_id),
        defaults={
            "account_id": account_id,
            "external_id": external_id,
            "created_at": now.real,
            **facts,
        },
    )
    if not created:
        if any(getattr(creator, field) != value for field, value in facts.items()):
            raise CreatorExists(creator)
        return creator
    outbox.record_event(
        creator_id=creator.pk,
        type="creator.created",
        subject=creator.pk,
        data={"creator_id": str(creator.pk), "occurred_at": now.business.isoformat()},
        now=now,
    )
    return creator


def require_time_zone(time_zone: str) -> None:
    """Raise UnknownTimeZone unless this is an IANA name, such as Asia/Almaty."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(f"{time_zone!r} is not a time zone; write Asia/Almaty") from None


def start_checkout(
    *,
    account_id: UUID,
    creator_id: UUID,
    plan_code: str,
    token: str,
    idempotency_key: str,
    now: Moment,
) -> Charge:
    """Start a subscription and its first charge, due now; the subscription's id is derived.

    Run in the transaction that stores the idempotency record. Raises UnknownCreator, UnknownPlan,
    DeadInstrument, routing.NoLane.
    """
    creator = _locked_creator(account_id=account_id, creator_id=creator_id)
    plan = Plan.objects.filter(code=plan_code).first()
    if plan is None:
        raise UnknownPlan(f"there is no plan {plan_code!r}")
    routing.lane_for(country=creator.country, on=now.business.date())
    add_instrument(creator_id=creator.pk, token=token, now=now)
    subscription_id = Subscription.derive_id(account_id=account_id, idempotency_key=idempotency_key)
    today = now.business.astimezone(ZoneInfo(creator.time_zone)).date()
    subscription = Subscription.objects.create(
        id=subscription_id,
        creator=creator,
        time_zone=creator.time_zone,
        started_at=now.business,
        next_period_start=today,
        next_billing_at=now.business,
    )
    terms = SubscriptionTerms.objects.create(
        subscription=subscription,
        plan=plan,
        price=plan.price,
        interval=plan.interval,
        interval_count=plan.interval_count,
        anchor=today,
        starts_on=today,
        created_at=now.business,
    )
    _record(subscription, "subscription.started", now=now, plan=plan.code, price=str(plan.price))
    bill([_first_period(creator, terms)], now=now)
    return Charge.objects.select_related("terms").get(subscription=subscription)


def _first_period(creator: Creator, terms: SubscriptionTerms) -> Period:
    end = period_end(
        anchor=terms.anchor,
        interval=terms.interval,
        count=terms.interval_count,
        start=terms.starts_on,
    )
    return Period(
        subscription_id=terms.subscription_id,
        creator_id=creator.pk,
        terms_id=terms.pk,
        plan=terms.plan_id,
        price=terms.price,
        start=terms.starts_on,
        end=end,
        next_at=begins_at(end, creator.time_zone),
        country=creator.country,
    )


def add_instrument(*, creator_id: UUID, token: str, now: Moment) -> Instrument:
    """Make this token the creator's newest instrument, and open what was waiting for one.

    Raises DeadInstrument for a token that was declined for good.
    """
    Creator.lock([creator_id])
    instrument, created = Instrument.objects.get_or_create(
        id=Instrument.derive_id(creator_id=creator_id, token=token),
        defaults={"creator_id": creator_id, "token": token, "created_at": now.real},
    )
    if instrument.dead_at:
        raise DeadInstrument("this card was declined for good before; the creator must use another")
    if created:
        outbox.record_event(
            creator_id=creator_id,
            type="instrument.added",
            subject=instrument.pk,
            data={
                "creator_id": str(creator_id),
                "instrument_id": str(instrument.pk),
                "occurred_at": now.business.isoformat(),
            },
            now=now,
        )
    else:
        # Added again, it is the newest again: the one that is charged.
        Instrument.objects.filter(pk=instrument.pk).update(created_at=now.real)
    waiting = Charge.objects.filter(creator_id=creator_id, awaits=Awaits.INSTRUMENT)
    for charge_id in waiting.order_by("period_start", "id").values_list("id", flat=True):
        open_round(locked_charge(charge_id), step=0, now=now)
    return instrument


def change_plan(*, subscription_id: UUID, plan_code: str, now: Moment) -> SubscriptionTerms:
    """Agree on another plan from the next period on; the present period keeps its terms (R7).

    The anchor stays where the interval stays, so the 31st comes back. Agreed again, it changes and
    tells nothing. Raises UnknownPlan, NotActive, NoTerms.
    """
    subscription = _locked_subscription(subscription_id)
    if subscription.state not in {SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE}:
        raise NotActive(f"subscription {subscription_id} is {subscription.state}")
    plan = Plan.objects.filter(code=plan_code).first()
    if plan is None:
        raise UnknownPlan(f"there is no plan {plan_code!r}")
    starts_on = _next_period_to_begin(subscription, now=now)
    agreed = subscription.terms.filter(starts_on=starts_on).first()
    if agreed and (agreed.plan_id, agreed.price) == (plan.code, plan.price):
        return agreed
    before = _terms_on(subscription, starts_on - timedelta(days=1))
    same = (before.interval, before.interval_count) == (plan.interval, plan.interval_count)
    terms, _ = SubscriptionTerms.objects.update_or_create(
        subscription=subscription,
        starts_on=starts_on,
        defaults={
            "plan": plan,
            "price": plan.price,
            "interval": plan.interval,
            "interval_count": plan.interval_count,
            "anchor": before.anchor if same else starts_on,
            "created_at": now.business,
        },
    )
    _record(
        subscription,
        "subscription.plan_changed",
        key=f"{starts_on}:{plan.code}:{_times_told(subscription, 'subscription.plan_changed')}",
        now=now,
        plan=plan.code,
        price=str(plan.price),
        starts_on=starts_on.isoformat(),
    )
    return terms


def _terms_on(subscription: Subscription, day: date) -> SubscriptionTerms:
    terms = subscription.terms.filter(starts_on__lte=day).order_by("-starts_on").first()
    if terms is None:
        raise NoTerms(
            f"subscription {subscription.pk} has no terms for {day}; they are never deleted, so"
            " bring the row back from a backup"
        )
    return terms


def _next_period_to_begin(subscription: Subscription, *, now: Moment) -> date:
    """The first period that has not begun; later than the next to be billed when billing is behind.

    No earlier than what was agreed last: `now` was read before the lock was waited for, and who held
    it may have read a later one. Terms before others would cut a period in two (R7).
    """
    start = subscription.next_period_start
    while begins_at(start, subscription.time_zone) <= now.business:
        terms = _terms_on(subscription, start)
        start = period_end(
            anchor=terms.anchor,
            interval=terms.interval,
            count=terms.interval_count,
            start=start,
        )
    agreed_last = subscription.terms.aggregate(day=Max("starts_on"))["day"]
    return max(start, agreed_last or start)


def cancel(*, subscription_id: UUID, by: str, reason: str, now: Moment) -> Subscription:
    """End a subscription now: no further period is billed, what is owed and not in flight is voided.

    A charge whose attempt is open is asked to become void: the processor's answer decides (I1).
    Cancelled again, it changes nothing.
    """
    subscription = _locked_subscription(subscription_id)
    if subscription.state in {SubscriptionState.CANCELLED, SubscriptionState.ENDED}:
        return subscription
    _close(subscription, SubscriptionState.CANCELLED, now=now)
    for charge_id in (
        subscription.charges.exclude(state__in=TERMINAL)
        .order_by("period_start")
        .values_list("id", flat=True)
    ):
        cancel_charge(charge_id=charge_id, now=now)
    _record(subscription, "subscription.cancelled", now=now)
    logger.info("cancelled", extra={"subscription_id": subscription_id, "by": by, "why": reason})
    return subscription


def review(*, clock: Clock, ages: Ages, limit: int = 1000) -> int:
    """Mark subscriptions past due, active again, or ended; each in its own transaction.

    Past due: a charge is exhausted. Active again: none is, and none is tried in a later round, which
    pays nothing yet. Ended: past due for longer than
    `past_due_ends` on the business clock; it is billed no further. Returns how many changed.
    """
    now, changed = clock.now(), 0
    unpaid = _exhausted(Charge.objects.filter(subscription=OuterRef("pk")))
    behind = _behind(Charge.objects.filter(subscription=OuterRef("pk")))
    late = now.business - timedelta(seconds=ages.past_due_ends)
    active = Subscription.objects.filter(state=SubscriptionState.ACTIVE)
    past_due = Subscription.objects.filter(state=SubscriptionState.PAST_DUE)
    for found, event in (
        (active.filter(Exists(unpaid)), "subscription.past_due"),
        (past_due.filter(~Exists(behind)), "subscription.resumed"),
        (past_due.filter(Exists(unpaid), past_due_since__lte=late), "subscription.ended"),
    ):
        for subscription_id in list(found.values_list("id", flat=True)[:limit]):
            changed += committed(
                partial(_review_one, subscription_id, event, now=now),
                deadline=ages.database_wait_before_call,
                clock=clock,
            )
    return changed


def _review_one(subscription_id: UUID, event: str, *, now: Moment) -> int:
    subscription = _locked_subscription(subscription_id)
    unpaid = _exhausted(subscription.charges.all()).order_by("period_start").first()
    behind = _behind(subscription.charges.all()).exists()
    was, key = subscription.state, ""
    if event == "subscription.past_due" and was == SubscriptionState.ACTIVE and unpaid:
        # Nothing was exhausted when it last resumed, so this charge in this round is a new reason.
        key = f"{unpaid.period_start}:{unpaid.round}"
        _change(subscription, state=SubscriptionState.PAST_DUE, past_due_since=now.business)
    elif event == "subscription.resumed" and was == SubscriptionState.PAST_DUE and not behind:
        # What was exhausted is settled now and stays so: the count has grown since it last resumed.
        key = str(subscription.charges.filter(state__in=TERMINAL).count())
        _change(subscription, state=SubscriptionState.ACTIVE, past_due_since=None)
    elif event == "subscription.ended" and was == SubscriptionState.PAST_DUE and unpaid:
        _close(subscription, SubscriptionState.ENDED, now=now)
    else:
        return 0
    _record(subscription, event, key=key, now=now)
    return 1


def _exhausted(charges: QuerySet[Charge]) -> QuerySet[Charge]:
    return charges.filter(state=ChargeState.EXHAUSTED)


def _behind(charges: QuerySet[Charge]) -> QuerySet[Charge]:
    """Charges that were exhausted once and are not settled: exhausted, or in a later round."""
    later_round = charges.filter(round__gt=1).exclude(state__in=TERMINAL)
    return _exhausted(charges) | later_round


def checkout_state(charge: Charge) -> CheckoutState:
    """What the first charge means to the frontend (DESIGN section 4, "Checkout state")."""
    decline_class: str | None = None
    match ChargeState(charge.state):
        case ChargeState.DUE:
            state = "open" if charge.round == 1 else "processing"
        case ChargeState.ATTEMPTING | ChargeState.FAILED_THEN_RETRY | ChargeState.PENDING:
            state = "processing"
        case ChargeState.IN_DOUBT:
            state = "in_doubt"
        case ChargeState.SUCCEEDED:
            state = "succeeded"
        case ChargeState.EXHAUSTED | ChargeState.WRITTEN_OFF:
            state = "declined"
            last = charge.attempts.exclude(decline_class="").order_by("-round", "-number").first()
            decline_class = last.decline_class if last else None
        case ChargeState.VOIDED:
            state = "expired"
    other_card = charge.awaits == Awaits.INSTRUMENT if state == "declined" else None
    return {"state": state, "decline_class": decline_class, "try_other_card": other_card}


def _locked_creator(*, account_id: UUID, creator_id: UUID) -> Creator:
    known = Creator.objects.filter(pk=creator_id, account_id=account_id).exists()
    if not known:
        raise UnknownCreator(f"there is no creator {creator_id}")
    return Creator.lock([creator_id])[creator_id]


def _locked_subscription(subscription_id: UUID) -> Subscription:
    creator_id = Subscription.objects.values_list("creator_id", flat=True).get(pk=subscription_id)
    Creator.lock([creator_id])
    return Subscription.objects.get(pk=subscription_id)


def _close(subscription: Subscription, state: SubscriptionState, *, now: Moment) -> None:
    """End it under its creator's lock: not before what a bill run wrote that had the lock first.

    `now` was read before this one waited for the lock, and a bill run may have read a later one.
    """
    billed = subscription.charges.aggregate(last=Max("billed_at"))["last"]
    _change(subscription, state=state, closed_at=max(now.business, billed or now.business))


def _change(subscription: Subscription, **changes: object) -> None:
    Subscription.objects.filter(pk=subscription.pk).update(**changes)
    for name, value in changes.items():
        setattr(subscription, name, value)


def _record(
    subscription: Subscription, type: str, *, key: str = "", now: Moment, **extra: object
) -> None:
    """Record an event; `key` tells apart events of one type that may happen more than once.

    It comes from the fact, never from a clock: a restored database tells the same fact again under
    the same id (R51).
    """
    outbox.record_event(
        creator_id=subscription.creator_id,
        type=type,
        subject=subscription.pk,
        data={
            "subscription_id": str(subscription.pk),
            "creator_id": str(subscription.creator_id),
            "state": str(subscription.state),
            "occurred_at": now.business.isoformat(),
            **extra,
        },
        key=key,
        now=now,
    )


def _times_told(subscription: Subscription, type: str) -> int:
    """How many events of this type the subscription has; its creator is locked."""
    told = OutboxMessage.objects.filter(subject=subscription.pk, door=Door.KAFKA, type=type)
    return told.count()
