"""Which lane may charge a creator, and why; and what keeps a lane from being used now."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Q, QuerySet

from checkout.clock import Ages, Moment
from checkout.models import (
    OWED,
    Attempt,
    Charge,
    Door,
    Hold,
    HoldKind,
    HoldScope,
    PendingMessage,
    RoutingRule,
)


@dataclass(frozen=True)
class Refusal:
    """Why no lane may serve a country: the rule's own words and source, or that there is none."""

    country: str
    reason: str
    source: str


class NoLane(Exception):
    """No processor may charge creators of this country on this date."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"no processor may serve {refusal.country}: {refusal.reason}")
        self.refusal = refusal


class UnknownHold(Exception):
    """There is no such hold in force."""


def lane_for(*, country: str, on: date) -> RoutingRule:
    """The newest rule of the country that is valid on the date; it names the lane, and why.

    Raises NoLane when there is no rule or the rule refuses the country.
    """
    rule = (
        RoutingRule.objects.filter(Q(valid_to__isnull=True) | Q(valid_to__gt=on))
        .filter(country=country, valid_from__lte=on)
        .order_by("-valid_from")
        .first()
    )
    if rule is None:
        raise NoLane(Refusal(country, "no rule allows this country", "routing rules"))
    if not rule.lane:
        raise NoLane(Refusal(country, rule.reason, rule.source))
    return rule


def lanes_on(on: date) -> dict[str, str]:
    """The lane of every country on a date, as `lane_for` would find it; for a bill run."""
    rules = RoutingRule.objects.filter(Q(valid_to__isnull=True) | Q(valid_to__gt=on))
    ordered = rules.filter(valid_from__lte=on).order_by("valid_from")
    return dict(ordered.values_list("country", "lane"))


def holding(*, charge: Charge, lane: str, now: Moment) -> Hold | None:
    """A hold, pause or open breaker that keeps this charge from being sent now; the longest one."""
    here = (
        Q(scope=HoldScope.ALL)
        | Q(scope=HoldScope.LANE, subject=lane)
        | Q(scope=HoldScope.PLAN, subject=charge.terms.plan_id)
        | Q(scope=HoldScope.CREATOR, subject=str(charge.creator_id))
    )
    return min(
        Hold.objects.in_force(now.real).filter(here),
        key=lambda hold: (hold.until is not None, -(hold.until or now.real).timestamp()),
        default=None,
    )


def held_until(*, charge: Charge, lane: str, now: Moment, ages: Ages) -> datetime | None:
    """When a charge that is held now is to be dispatched again; None when nothing holds it.

    At the hold's end; one without an end lets it go when it is lifted. Either way it is looked at
    after `sweep_most`, should a lift have been missed. The hold's row is locked, because two run
    here: a lift that commits after this receive must see the dispatch that it is to bring forward.
    """
    held = holding(charge=charge, lane=lane, now=now)
    if held is None:
        return None
    rows = Hold.objects.select_for_update(no_key=True).filter(pk=held.pk)
    if rows.filter(lifted_at__isnull=True).first() is None:
        return held_until(charge=charge, lane=lane, now=now, ages=ages)
    look = now.real + timedelta(seconds=ages.sweep_most)
    return min(held.until, look) if held.until else look


def place_hold(
    *,
    kind: HoldKind,
    scope: HoldScope,
    subject: str,
    reason: str,
    by: str,
    until: datetime | None,
    now: Moment,
) -> Hold:
    """Stop dispatch for all, a lane, a plan or a creator until a real time, or until lifted.

    It spends no receive, attempt, round or dead letter: what arrives meanwhile is dispatched again
    (R52).
    """
    return Hold.objects.create(
        kind=kind,
        scope=scope,
        subject=subject,
        reason=reason,
        placed_by=by,
        placed_at=now.real,
        until=until,
    )


def lift_hold(*, hold_id: int, by: str, now: Moment) -> Hold:
    """End a hold and let what it delayed go at once.

    Rows that wait for a backoff come forward too; the receive then finds them early and dispatches
    them again (STATES, row 10). Raises UnknownHold when it is not in force.
    """
    lifted = Hold.objects.in_force(now.real).filter(pk=hold_id)
    if lifted.update(lifted_at=now.real, lifted_by=by) != 1:
        raise UnknownHold(f"hold {hold_id} is not in force")
    hold = Hold.objects.get(pk=hold_id)
    PendingMessage.objects.filter(
        door=Door.SQS,
        parked_at__isnull=True,
        available_at__gt=now.real,
        message__subject__in=_owed_under(hold).values("id"),
    ).update(available_at=now.real)
    return hold


def note_lane_failure(*, lane: str, now: Moment, ages: Ages) -> Hold | None:
    """Open the breaker of a lane that failed too often within the window.

    A failure is an attempt that was not sent, or a 5xx; the caller has just recorded one on its
    attempt. Two transactions may both open it; the second row changes nothing.
    """
    since = now.real - timedelta(seconds=ages.breaker_window)
    failures = Attempt.objects.filter(lane=lane, lane_failed_at__gt=since).count()
    if failures < ages.breaker_failures:
        return None
    return place_hold(
        kind=HoldKind.BREAKER,
        scope=HoldScope.LANE,
        subject=lane,
        reason=f"{failures} attempts failed at the lane within {ages.breaker_window:g} s",
        by="breaker",
        until=now.real + timedelta(seconds=ages.breaker_open),
        now=now,
    )


def _owed_under(hold: Hold) -> QuerySet[Charge]:
    owed = Charge.objects.filter(state__in=OWED)
    match HoldScope(hold.scope):
        case HoldScope.ALL:
            return owed
        case HoldScope.LANE:
            return owed.filter(lane=hold.subject)
        case HoldScope.PLAN:
            return owed.filter(terms__plan_id=hold.subject)
        case HoldScope.CREATOR:
            return owed.filter(creator_id=hold.subject)
