"""What a load run amounts to: per window, how many, how long, and how long nothing could be written."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

DONE: Final = "done"
REFUSED: Final = "refused"
FAILED: Final = "failed"
FOUND: Final = "finding"


@dataclass(frozen=True)
class Operation:
    """One request with all its repetitions, as the one who waits for it sees it; times in seconds.

    `outcome` is DONE, REFUSED (an expected 4xx), FAILED (patience ended: the goal is none) or FOUND (an
    answer that should not be).
    """

    begun: float
    ended: float
    what: str
    tries: int
    outcome: str
    is_write: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


@dataclass(frozen=True)
class Finding:
    """An answer that should not have been given; `said` is its body, cut."""

    at: float
    what: str
    status: int
    said: str


@dataclass(frozen=True)
class Window:
    """The figures between two moments of a run. Latencies are of operations that began in it, in seconds,
    repetitions and waits included; `gap` is the longest time without an acknowledged write.
    """

    name: str
    seconds: float
    arrivals: int
    shed: int
    requests: int
    repeated: int
    answers: dict[str, int]
    acknowledged: int
    failed: int
    p50: float
    p95: float
    p99: float
    gap: float


@dataclass
class Tally:
    """What happened, by the monotonic clock (seconds). One thread writes; others may read any time."""

    begun: float
    ended: float | None = None
    arrivals: list[float] = field(default_factory=list)
    # Arrivals that were not begun, because too many were under way: our own bound, not the service's.
    shed: list[float] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def window(self, name: str, *, since: float, until: float) -> Window:
        """The figures of what began between two times."""

        def within(times: Iterable[float]) -> int:
            return sum(since <= at < until for at in times)

        operations = [each for each in list(self.operations) if since <= each.begun < until]
        took = sorted(each.seconds for each in operations)
        answers = Counter(said for at, said in list(self.answers) if since <= at < until)
        return Window(
            name=name,
            seconds=round(until - since, 3),
            arrivals=within(list(self.arrivals)),
            shed=within(list(self.shed)),
            requests=sum(answers.values()),
            repeated=sum(each.tries - 1 for each in operations),
            answers=dict(answers.most_common()),
            acknowledged=within(list(self.writes)),
            failed=sum(each.outcome == FAILED for each in operations),
            p50=percentile(took, 0.50),
            p95=percentile(took, 0.95),
            p99=percentile(took, 0.99),
            gap=round(self.longest_silence(since=since, until=until), 3),
        )

    def longest_silence(self, *, since: float, until: float) -> float:
        """The most seconds without an acknowledged write, from the last one before `since` on.

        A silence that is not over by `until` is counted to `until`: what comes later is another's.
        """
        writes = sorted(at for at in list(self.writes) if at < until)
        first = max((at for at in writes if at <= since), default=max(self.begun, since))
        places = [first, *(at for at in writes if at > first), until]
        return max((b - a for a, b in pairwise(places)), default=0.0)

    def buckets(self, *, seconds: float = 1.0) -> list[int]:
        """Acknowledged writes in each stretch of so many seconds, from the beginning to the last one."""
        counts = Counter(int((at - self.begun) / seconds) for at in list(self.writes))
        return [counts[number] for number in range(max(counts, default=-1) + 1)]

    def failed(self) -> list[Operation]:
        """The operations whose patience ended without an answer; the goal is none."""
        return [each for each in list(self.operations) if each.outcome == FAILED]


def percentile(ordered: Sequence[float], part: float) -> float:
    """The nearest-rank percentile of values in order; 0 of none."""
    if not ordered:
        return 0.0
    rank = -(-part * len(ordered) // 1)
    return round(ordered[max(0, int(rank) - 1)], 3)
