"""Groups of one cause: standing discrepancies that one proposal and one approval may resolve together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import Q

from settlements.formats.lines import amount
from settlements.models import NOTHING, STANDING, Discrepancy, digest_of
from settlements.models.desk import Seen

MOST_GROUPS: Final = 8
# What one proposal takes: an approval locks, posts and records all of it in one transaction.
MOST_TOGETHER: Final = 10_000


@dataclass(frozen=True)
class Cause:
    """What makes discrepancies one group: kind, code, lane, and the difference to the cent (USD)."""

    kind: str
    code: str
    lane: str
    difference: Decimal

    @property
    def parameter(self) -> str:
        """As an address names it; `cause_named` reads it back."""
        return f"{self.kind}~{self.code}~{self.lane}~{self.difference}"

    @property
    def in_words(self) -> str:
        lane = f" · {self.lane}" if self.lane else ""
        code = self.code.replace("_", " ")
        return f"{self.kind} · {code}{lane} · {self.difference:+,.2f}"

    @property
    def condition(self) -> Q:
        """Of every discrepancy of this cause, standing or not."""
        return Q(kind=self.kind, code=self.code, lane=self.lane, difference=self.difference)


@dataclass(frozen=True)
class Group:
    """Standing discrepancies of one cause: how many, and since when (real clock)."""

    cause: Cause
    count: int
    oldest: datetime

    @property
    def net(self) -> Decimal:
        """USD in all."""
        return self.cause.difference * self.count


@dataclass(frozen=True)
class Groups:
    """The largest groups among the newest standing discrepancies; `is_bounded`: others stand beyond."""

    largest: Sequence[Group]
    is_bounded: bool


@dataclass(frozen=True)
class Free:
    """What of a cause stands and waits in no proposal, the oldest first, as many as one may take."""

    rows: Sequence[Seen]
    is_more: bool

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def net(self) -> Decimal:
        """USD in all."""
        return sum((actual - expected for _, expected, actual in self.rows), NOTHING)

    @property
    def sha256(self) -> str:
        """What a person saw who proposes about exactly these, whichever way."""
        return digest_of("", self.rows)


def cause_named(text: str) -> Cause | None:
    """The cause that an address names; None when it names none."""
    parts = text.split("~")
    if len(parts) != 4 or "\0" in text:
        return None
    kind, code, lane, difference = parts
    usd = amount(difference)
    return None if usd is None else Cause(kind, code, lane, usd)


def groups_of_one_cause(*, among: int) -> Groups:
    """The largest groups among so many of the newest standing discrepancies (R47)."""
    standing = Discrepancy.objects.filter(STANDING).order_by("-opened_at", "-id")
    columns = ("kind", "code", "lane", "difference", "opened_at")
    rows = list(standing.values_list(*columns)[: among + 1])
    is_bounded = len(rows) > among
    del rows[among:]
    counted = Counter(Cause(*row[:4]) for row in rows)
    # Newest first, so the last one met of each cause is its oldest.
    oldest = {Cause(*row[:4]): row[4] for row in rows}
    largest = [
        Group(cause, count, oldest[cause]) for cause, count in counted.most_common(MOST_GROUPS)
    ]
    return Groups(largest, is_bounded)


def free_of(cause: Cause) -> Free:
    """What one proposal about this cause would be about, were it made now."""
    standing = Discrepancy.objects.filter(STANDING, cause.condition)
    free = standing.filter(proposal__isnull=True).order_by("id")
    rows = list(free.values_list("pk", "expected", "actual")[: MOST_TOGETHER + 1])
    return Free(rows[:MOST_TOGETHER], len(rows) > MOST_TOGETHER)
