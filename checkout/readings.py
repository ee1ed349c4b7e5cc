"""What the state of collection is now, read in a few cheap queries; metrics and triage show it.

Each reading uses an index and looks at what is open, never at the whole history.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db import connection
from django.db.models import Count, Exists, Min, OuterRef, QuerySet, Sum

from checkout.models import (
    Attempt,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Heartbeat,
    Hold,
    HoldScope,
    RetryCounter,
    UnreplicatedCommits,
)

DEAD: Final = (CaseKind.DEAD_LETTER, CaseKind.UNREADABLE_MESSAGE)
NOTHING: Final = Decimal("0.00")


@dataclass(frozen=True)
class Pile:
    """Things that wait: how many, how much USD, and since when (real time) the oldest does."""

    count: int = 0
    usd: Decimal = NOTHING
    oldest: datetime | None = None

    def age(self, now: datetime) -> float:
        """Seconds the oldest has waited, 0 when there is none."""
        return max(0.0, (now - self.oldest).total_seconds()) if self.oldest else 0.0


@dataclass(frozen=True)
class Retries:
    """Attempts numbered above 1 on a lane, by what became of the attempt before."""

    lane: str
    cause: str
    count: int


def retry_count() -> int:
    """Attempts numbered above 1 in their round, ever: 16 rows summed, 0 before the first (R56)."""
    total: int | None = RetryCounter.objects.aggregate(total=Sum("count"))["total"]
    return total or 0


def unreplicated_commits() -> int:
    """Commits the server acknowledged without their standby, ever."""
    count: int | None = UnreplicatedCommits.objects.aggregate(total=Sum("count"))["total"]
    return count or 0


_RETRIES: Final = """
    SELECT a.lane,
           coalesce(nullif(b.decline_class, ''), nullif(b.verdict, ''), b.outcome, 'no attempt before'),
           count(*)
    FROM checkout_attempt a
    LEFT JOIN checkout_attempt b
      ON b.charge_id = a.charge_id AND b.round = a.round AND b.number = a.number - 1
    WHERE a.started_at > %s AND a.number > 1
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2
"""


def retries_since(since: datetime) -> list[Retries]:
    """Why attempts were repeated since a real time: a decline class, or what is not a decline."""
    with connection.cursor() as cursor:
        cursor.execute(_RETRIES, [since])
        return [Retries(lane, cause, count) for lane, cause, count in cursor.fetchall()]


def heartbeats(now: datetime) -> dict[str, float]:
    """Seconds since each worker, relay and job last gave a sign of life."""
    rows = Heartbeat.objects.order_by("name").values_list("name", "beat_at")
    return {name: max(0.0, (now - beat_at).total_seconds()) for name, beat_at in rows}


def worker_age(ages: dict[str, float]) -> float | None:
    """Seconds since any worker last polled its queue; None when none ever did."""
    return min((age for name, age in ages.items() if name.startswith("worker")), default=None)


def in_doubt() -> Pile:
    """Charges whose attempt's outcome is not known."""
    return _pile(Charge.objects.filter(state=ChargeState.IN_DOUBT), since="last_seen_at")


def open_cases() -> dict[str, Pile]:
    """What a person must look at, by kind."""
    rows = (
        Case.objects.filter(closed_at__isnull=True)
        .values("kind")
        .order_by("kind")
        .annotate(count=Count("id"), usd=Sum("amount"), oldest=Min("opened_at"))
    )
    return {r["kind"]: Pile(r["count"], r["usd"] or NOTHING, r["oldest"]) for r in rows}


def dead_letters(cases: dict[str, Pile]) -> Pile:
    """Messages that died or could not be read and still wait for a person."""
    piles = [cases[kind] for kind in DEAD if kind in cases]
    return Pile(
        count=sum(pile.count for pile in piles),
        usd=sum((pile.usd for pile in piles), NOTHING),
        oldest=min((pile.oldest for pile in piles if pile.oldest), default=None),
    )


def oldest_owed() -> Charge | None:
    """The charge that is due for longest and was never tried; the relay or the worker sleeps."""
    tried = Attempt.objects.filter(charge=OuterRef("pk"))
    due = Charge.objects.filter(~Exists(tried), state=ChargeState.DUE)
    return due.order_by("created_at", "id").first()


def holds(now: datetime) -> list[Hold]:
    """Holds, pauses and breakers in force, oldest first."""
    return list(Hold.objects.in_force(now).order_by("placed_at", "id"))


def paused_lanes(in_force: Collection[Hold], *, lanes: Collection[str]) -> set[str]:
    """Lanes on which nothing is sent now."""
    if any(hold.scope == HoldScope.ALL for hold in in_force):
        return set(lanes)
    return {hold.subject for hold in in_force if hold.scope == HoldScope.LANE} & set(lanes)


def _pile(rows: QuerySet[Charge], *, since: str) -> Pile:
    found = rows.aggregate(count=Count("pk"), usd=Sum("amount"), oldest=Min(since))
    return Pile(found["count"], found["usd"] or NOTHING, found["oldest"])
