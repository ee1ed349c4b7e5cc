"""Clock work: jobs that run again and again, each in one process of the whole fleet at a time.

Every job has a thread, so that a slow one (the resolver waits for processors) delays no other, and
a PostgreSQL session advisory lock, so that a second timetable stands by job by job. No queue is
involved: the rescuers do not ride what they rescue. A job's turn may be cut short anywhere and run
again elsewhere; each job says itself what makes that safe.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from django.db import Error, connection

from checkout.clock import Clock, Moment
from checkout.commit import is_lost
from checkout.link import patience
from checkout.models import Heartbeat

logger = logging.getLogger(__name__)

# How often a second timetable looks whether the first one is still there.
STANDBY_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 1.0
# A turn that is under way at SIGTERM may finish; a cut one is safe, so nobody waits for ever.
STOP_SECONDS: Final = 20.0
# A full comparison's longest statement takes seconds a million charges; only a silent database takes this.
STATEMENT_SECONDS: Final = 600.0
BEAT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Job:
    """Work to do every so many seconds; what `work` returns is shown with its sign of life."""

    name: str
    every: float
    work: Callable[[], object]


@dataclass(frozen=True)
class Turns:
    """Of one turn each: the jobs that failed, and those that another process runs."""

    failed: Sequence[str]
    elsewhere: Sequence[str]


class JobLocks:
    """This process's session advisory locks, all on one connection, for many threads.

    A pooler in transaction mode would lose them: `connect` must go past it.
    """

    def __init__(self, *, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._mutex = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._held: set[str] = set()

    def mine(self, name: str) -> bool:
        """Whether this process may run the job now; takes the lock if it is free.

        Raises psycopg.OperationalError while the database is away; then every lock is lost.
        """
        with self._mutex:
            try:
                return self._mine(name)
            except psycopg.OperationalError:
                self._close()
                raise

    def close(self) -> None:
        """Give every lock back."""
        with self._mutex:
            self._close()

    def _mine(self, name: str) -> bool:
        if self._connection is None:
            self._connection = self._connect()
        if name in self._held:
            self._connection.execute("SELECT 1")
            return True
        row = self._connection.execute(
            "SELECT pg_try_advisory_lock(%s)", [lock_key(name)]
        ).fetchone()
        if row is not None and row[0]:
            self._held.add(name)
        return name in self._held

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._held.clear()


@dataclass
class Timetable:
    """The jobs of one process. `stop` ends it: it is set by a signal, or by a test."""

    jobs: Sequence[Job]
    locks: JobLocks
    clock: Clock
    beat_every: float
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run every job in its own thread until `stop` is set; returns when the turns are over."""
        threads = [
            threading.Thread(target=self._keep, args=[job], name=job.name, daemon=True)
            for job in self.jobs
        ]
        for thread in threads:
            thread.start()
        while not self.stop.is_set() and all(thread.is_alive() for thread in threads):
            self._beat_if_possible()
            self.stop.wait(self.beat_every)
        # A thread that ended by itself is a fault of this module: end, and let the supervisor start anew.
        self.stop.set()
        deadline = self.clock.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - self.clock.monotonic()))
        self.locks.close()
        connection.close()

    def run_once(self) -> Turns:
        """Give each job whose lock is free one turn, in order; a running timetable keeps the others."""
        free = [job for job in self.jobs if self.locks.mine(job.name)]
        turns = Turns(
            failed=[job.name for job in free if not self._turn(job)],
            elsewhere=[job.name for job in self.jobs if job not in free],
        )
        self.locks.close()
        return turns

    def _keep(self, job: Job) -> None:
        """A job's thread: its turns while the lock is ours, whatever happens to the database."""
        away = False
        while not self.stop.is_set():
            try:
                if self.locks.mine(job.name):
                    self._turn(job)
                    self.stop.wait(job.every)
                else:
                    self.stop.wait(STANDBY_SECONDS)
                away = False
            except psycopg.OperationalError as error:
                if not away:
                    logger.warning(
                        "the database is away", extra={"job": job.name, "why": str(error)}
                    )
                away = True
                self.stop.wait(AWAY_SECONDS)
        connection.close()

    def _turn(self, job: Job) -> bool:
        """One run of a job; a failure is logged and shown, and ends nothing but this turn."""
        begun = self.clock.monotonic()
        with patience(STATEMENT_SECONDS):
            return self._worked(job, begun)

    def _worked(self, job: Job, begun: float) -> bool:
        try:
            done = job.work()
            detail = f"{_short(done)} in {self.clock.monotonic() - begun:.2f} s"
            beat(name=f"job:{job.name}", detail=detail, now=self.clock.now())
        except Exception as error:
            if is_lost(error):
                logger.warning("the database went away", extra={"job": job.name})
            else:
                logger.exception("a job failed", extra={"job": job.name})
            with suppress(Error):
                note_failure(name=f"job:{job.name}", error=error, now=self.clock.now())
            connection.close()
            return False
        return True

    def _beat_if_possible(self) -> None:
        detail = f"{len(self.jobs)} jobs"
        try:
            with patience(BEAT_SECONDS):
                beat(name="timetable", detail=detail, now=self.clock.now())
        except Error:
            connection.close()


def beat(*, name: str, detail: str, now: Moment) -> None:
    """Write a sign of life: the row's age is what an alert watches."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, beat_at=now.real, detail=detail[:300])],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["beat_at", "detail"],
    )


def note_failure(*, name: str, error: Exception, now: Moment) -> None:
    """Say that a job failed without renewing its sign of life, so that it ages until a turn ends well."""
    detail = f"failed at {now.real:%Y-%m-%d %H:%M:%S} UTC: {type(error).__name__}"
    if not Heartbeat.objects.filter(name=name).update(detail=detail):
        beat(name=name, detail=detail, now=now)


def lock_key(name: str) -> int:
    """The advisory lock's number, the same in every process and version."""
    return int.from_bytes(hashlib.sha256(f"timetable:{name}".encode()).digest()[:8], signed=True)


def _short(done: object) -> str:
    return "done" if done is None else str(done)[:200]
