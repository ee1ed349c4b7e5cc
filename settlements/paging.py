"""When the pager rings for finance: above a set count or USD, or when nothing compares any more.

One cent pages nobody. A day's file that is late or set aside is told to finance and rings no pager
either, however many days it covers: its own discrepancies are not counted here.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

from django.db.models import Count, F, Sum
from django.db.models.functions import Abs

from settlements.models import NAMED_AS_FILES, NOTHING, STANDING, Discrepancy, RunMode
from settlements.readings import freshness
from settlements.topic import topic_read_at


class Reason(Enum):
    """Why the pager rings; the value is the metric's label."""

    COUNT = "count"
    USD = "usd"
    STOPPED = "comparison_stopped"
    TOPIC = "topic_unread"


@dataclass(frozen=True)
class Limits:
    """Up to these, nobody is paged: standing discrepancies, their absolute USD, seconds without a pass."""

    count: int
    usd: Decimal
    stopped: float


@dataclass(frozen=True)
class Standing:
    """What the limits are held against. Ages are seconds; None is never, or of a topic without a record."""

    count: int
    usd: Decimal
    pass_age: float | None
    topic_age: float | None

    def above(self, limits: Limits) -> set[Reason]:
        """Every reason to page now; a comparison that never ran has stopped."""
        claims = {
            Reason.COUNT: self.count > limits.count,
            Reason.USD: self.usd > limits.usd,
            Reason.STOPPED: self.pass_age is None or self.pass_age > limits.stopped,
            Reason.TOPIC: self.topic_age is not None and self.topic_age > limits.stopped,
        }
        return {reason for reason, holds in claims.items() if holds}


def standing(*, now: datetime) -> Standing:
    """What stands at this real time, and how old the last pass and the last reading of the topic are."""
    found = (
        Discrepancy.objects.filter(STANDING)
        .exclude(NAMED_AS_FILES)
        .aggregate(number=Count("id"), money=Sum(Abs(F("difference"))))
    )
    passes = {last.mode: last.age(now) for last in freshness()}
    read_at = topic_read_at()
    return Standing(
        count=found["number"],
        usd=found["money"] or NOTHING,
        pass_age=passes.get(RunMode.INCREMENTAL),
        topic_age=(now - read_at).total_seconds() if read_at else None,
    )
