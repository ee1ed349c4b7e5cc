"""The only place that reads a clock or waits; and the ages and deadlines the service lives by.

Two clocks: the **business clock** dates terms, periods and dunning; the **real clock** dates
visibility, backoff, sweep, resolve, the breaker and signatures. A test clock moves the business
clock of every process at once through a file (R18); it is refused in production.
"""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Final

DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Moment:
    """One reading of both clocks, UTC. Rows of one transaction share one moment."""

    real: datetime
    business: datetime


@dataclass(frozen=True)
class Clock:
    """Reads the time. `business_offset_file` holds seconds to add to the real time, or is None."""

    business_offset_file: Path | None = None

    def now(self) -> Moment:
        """Both clocks, read once."""
        real = self.real_now()
        return Moment(real=real, business=real + self.business_offset())

    def real_now(self) -> datetime:
        """The time now, UTC."""
        return datetime.now(UTC)

    def business_now(self) -> datetime:
        """The time by which money is owed, UTC: the real time plus the test clock's offset."""
        return self.real_now() + self.business_offset()

    def business_offset(self) -> timedelta:
        """Read anew each time, so that a running process sees the clock move."""
        if self.business_offset_file is None or not self.business_offset_file.exists():
            return timedelta()
        return timedelta(seconds=float(self.business_offset_file.read_text("ascii") or "0"))

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back; for deadlines only."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait this many real seconds."""
        time.sleep(seconds)


def start_and_end(first: date, last: date, zone: tzinfo = UTC) -> tuple[datetime, datetime]:
    """The instants (UTC) between which these days of a zone lie, both included; the second is not."""
    begins, ends = (
        datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
        for day in (first, last + DAY)
    )
    return begins, ends


class DisorderedAges(Exception):
    """The ages break R32: a worker could outlive its message's visibility."""


@dataclass(frozen=True)
class Ages:
    """Every age and deadline, in seconds; the defaults are production's (DESIGN section 4)."""

    # These few are counts, not seconds.
    COUNTS: ClassVar = frozenset(
        {"not_found_repeats", "breaker_failures", "attempts_per_instrument"}
    )

    visibility: float = 300
    # Seconds a message waits after its first, second and third receive, if left.
    backoff: tuple[float, ...] = (300, 300, 300)
    # R32: 40 + 30 + 15 stay under the soft limit, that under the hard one, that under visibility.
    database_wait_before_call: float = 40
    database_wait_after_call: float = 15
    gateway_deadline: float = 30
    soft_limit: float = 90
    hard_limit: float = 120
    request_deadline: float = 5
    # Nothing is sent when more than this passed since the commit that raised `sends` (R20).
    send_within: float = 60
    # An open attempt outside `in_doubt` is asked about this long after its last send.
    resolve_after: float = 300
    # Delays of the queries of an attempt in doubt; the last one repeats.
    resolve_steps: tuple[float, ...] = (60, 300, 3600, 86400)
    # What the sandbox promises: "not found" counts only so long after a send, and so often (R22).
    not_found_after: float = 600
    not_found_repeats: int = 3
    # How long the processor returns the first answer for a repeated key, and our margin (R24).
    idempotent_for: float = 86400
    idempotency_margin: float = 3600
    sweep_after: float = 1200
    sweep_most: float = 21600
    # Delay of a dispatch that met another charge of its creator attempting.
    attempting_redispatch: float = 60
    breaker_failures: int = 5
    breaker_window: float = 60
    breaker_open: float = 60
    attempts_per_instrument: int = 15
    attempts_window: float = 30 * 86400
    # Dunning dates: days after an exhausted round, by step; then a person decides.
    dunning_days: tuple[float, ...] = (3, 5, 7)
    # Business clock: a subscription this long past due ends.
    past_due_ends: float = 60 * 86400
    reconcile_every: float = 15
    # A period not billed this long after its subscription reached it is a discrepancy.
    bill_within: float = 900
    # Business clock: a statement is late this long after the end of its day.
    statement_due: float = 6 * 3600
    timetable_every: float = 5
    worker_heartbeat: float = 5
    idempotency_kept: float = 30 * 86400

    def __post_init__(self) -> None:
        waits = (
            self.database_wait_before_call + self.gateway_deadline + self.database_wait_after_call
        )
        order = (waits, self.soft_limit, self.hard_limit, self.visibility)
        if any(low >= high for low, high in pairwise(order)):
            raise DisorderedAges(
                "R32: database waits + gateway deadline < soft limit < hard limit < visibility; "
                f"these are {' < '.join(map(str, order))} seconds"
            )

    def backoff_after(self, receive: int) -> float:
        """Seconds a message left at this receive (1, 2, 3) waits before SQS hands it over again."""
        return self.backoff[min(receive, len(self.backoff)) - 1]
