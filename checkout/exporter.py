"""The figures for Prometheus, read from PostgreSQL at scrape time; and the two health checks.

Every web process answers with the same figures, so rules take max(), not sum(). When the database is
away only `checkout_database_up 0` and the queue's own figures are there: a retry count of 0 would be a
lie that increase() believes.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Lock
from typing import Final, Protocol, TypeAlias

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from checkout import metrics, outbox, queue, readings, wiring
from checkout.commit import is_lost
from checkout.link import patience
from checkout.models import CaseKind
from checkout.queue import Waiting

logger = logging.getLogger(__name__)

READING_MILLISECONDS: Final = 2_000
RECENT: Final = timedelta(minutes=10)
READY_SECONDS: Final = 1.0
QUEUE_SECONDS: Final = 15.0
QUEUE_PATIENCE: Final = 1.0

Figures: TypeAlias = Iterable[tuple[Mapping[str, str], float | Decimal]]
Reading: TypeAlias = Callable[[datetime], Iterable[Metric]]


# --- Reading, each within its own short transaction ------------------------------------------------


class Readings(Collector):
    """A Prometheus collector that runs readings and leaves out what fails.

    The lost database is noticed once, not once a reading: each try would wait for a connection.
    """

    def __init__(self, *, readings: Iterable[Reading]) -> None:
        self._readings = tuple(readings)

    def describe(self) -> list[Metric]:
        """Nothing: being registered must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures, read at this moment of the real clock."""
        now = wiring.clock().real_now()
        for reading in self._readings:
            try:
                yield from _within_limit(reading, now)
            except DatabaseError as error:
                connection.close()
                logger.warning("a figure could not be read", extra={"reading": reading.__name__})
                if is_lost(error):
                    return


def _within_limit(reading: Reading, now: datetime) -> list[Metric]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {READING_MILLISECONDS}")
        return list(reading(now))


def gauge(name: str, what: str, figures: Figures) -> Metric:
    """A figure that goes up and down, with the labels of its rows."""
    rows = list(figures)
    labels = sorted({label for row, _ in rows for label in row})
    # Prometheus knows floats alone; the books never see this figure again.
    metric = GaugeMetricFamily(name, what, labels=labels)
    for row, value in rows:
        metric.add_metric([row.get(label, "") for label in labels], float(value))
    return metric


# --- The figures of checkout -----------------------------------------------------------------------


def read_retry_count(now: datetime) -> Iterator[Metric]:  # noqa: ARG001
    """The users' own figure: of unknown type, since a counter's name would end in _total (R56)."""
    count = UnknownMetricFamily(
        metrics.RETRY_COUNT, "Attempts numbered above 1 in their round, ever", labels=["queue"]
    )
    count.add_metric(["fifo"], readings.retry_count())
    yield count


def read_unreplicated(now: datetime) -> Iterator[Metric]:  # noqa: ARG001
    yield CounterMetricFamily(
        metrics.UNREPLICATED,
        "Commits acknowledged without the standby they should have waited for, ever",
        value=readings.unreplicated_commits(),
    )


def read_recent_retries(now: datetime) -> Iterator[Metric]:
    yield gauge(
        metrics.RETRIES_RECENT,
        "Attempts numbered above 1 within 10 minutes, by lane and by what became of the one before",
        (
            ({"lane": retries.lane, "cause": retries.cause}, retries.count)
            for retries in readings.retries_since(now - RECENT)
        ),
    )


def read_outbox(now: datetime) -> Iterator[Metric]:
    doors = outbox.depth(now=now)
    yield gauge(
        metrics.OUTBOX_DEPTH,
        f"Messages that should have left, up to {outbox.MOST_COUNTED}",
        (({"door": door.value}, depth.waiting) for door, depth in doors.items()),
    )
    yield gauge(
        metrics.OUTBOX_OLDEST,
        "Seconds the oldest message waits to leave",
        (({"door": door.value}, depth.oldest_seconds) for door, depth in doors.items()),
    )
    yield gauge(
        metrics.OUTBOX_PARKED,
        "Messages that were refused and wait for a person",
        (({"door": door.value}, depth.parked) for door, depth in doors.items()),
    )


def read_heartbeats(now: datetime) -> Iterator[Metric]:
    ages = readings.heartbeats(now)
    yield gauge(
        metrics.HEARTBEAT,
        "Seconds since the last sign of life",
        (({"name": name}, age) for name, age in ages.items()),
    )
    worker = readings.worker_age(ages)
    if worker is not None:
        yield gauge(
            metrics.LAST_POLL, "Seconds since a worker last polled its queue", [({}, worker)]
        )


def read_cases(now: datetime) -> Iterator[Metric]:  # noqa: ARG001
    cases = readings.open_cases()
    every = {kind: cases.get(kind, readings.Pile()) for kind in CaseKind.values}
    yield gauge(
        metrics.CASES_OPEN,
        "What a person must look at",
        (({"kind": kind}, pile.count) for kind, pile in every.items()),
    )
    yield gauge(
        metrics.CASES_USD,
        "USD of what a person must look at",
        (({"kind": kind}, pile.usd) for kind, pile in every.items()),
    )
    dead = readings.dead_letters(cases)
    yield gauge(metrics.DEAD_LETTERS, "Dead letters with an open case", [({}, dead.count)])
    yield gauge(metrics.DEAD_LETTERS_USD, "USD of those dead letters", [({}, dead.usd)])


def read_in_doubt(now: datetime) -> Iterator[Metric]:
    pile = readings.in_doubt()
    yield gauge(metrics.IN_DOUBT, "Charges whose outcome is not known", [({}, pile.count)])
    yield gauge(metrics.IN_DOUBT_USD, "USD of those charges", [({}, pile.usd)])
    yield gauge(metrics.IN_DOUBT_OLDEST, "Seconds the oldest is in doubt", [({}, pile.age(now))])


def read_oldest_owed(now: datetime) -> Iterator[Metric]:
    charge = readings.oldest_owed()
    age = (now - charge.created_at).total_seconds() if charge else 0.0
    yield gauge(
        metrics.OLDEST_OWED,
        "Seconds the oldest due charge waits for its first attempt",
        [({}, max(0.0, age))],
    )


def read_holds(now: datetime) -> Iterator[Metric]:
    in_force = readings.holds(now)
    paused = readings.paused_lanes(in_force, lanes=settings.LANES)
    yield gauge(
        metrics.LANE_PAUSED,
        "1 while nothing is sent on the lane",
        (({"lane": lane}, lane in paused) for lane in sorted(settings.LANES)),
    )
    yield gauge(metrics.HOLDS, "Holds, pauses and breakers in force", [({}, len(in_force))])


CHECKOUT: Final[tuple[Reading, ...]] = (
    read_retry_count,
    read_unreplicated,
    read_outbox,
    read_heartbeats,
    read_in_doubt,
    read_cases,
    read_oldest_owed,
    read_holds,
    read_recent_retries,
)


# --- The queue's own count, which only SQS knows ---------------------------------------------------


class QueueDepth(Collector):
    """How many messages SQS holds, of a queue that may be slow, or dead: no scrape waits for it long.

    One thread asks, at most every QUEUE_SECONDS; a scrape takes its last answer. While SQS does not
    answer, only `checkout_queue_up 0` is there: an old depth would hide that nobody counts.
    """

    def __init__(self, ask: Callable[[], Waiting]) -> None:
        self._ask = ask
        self._asker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queue-depth")
        self._mutex = Lock()
        self._asked_at = -math.inf
        self._question: Future[Waiting] | None = None

    def describe(self) -> list[Metric]:
        """Nothing, as Readings."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Whether SQS answers, and the three figures if it does."""
        waiting = self._last_answer()
        yield gauge(metrics.QUEUE_UP, "1 while SQS answers", [({}, waiting is not None)])
        known = [waiting] if waiting else []
        yield gauge(
            metrics.QUEUE_VISIBLE,
            "Messages a worker may receive now, about",
            [({}, each.visible) for each in known],
        )
        yield gauge(
            metrics.QUEUE_IN_FLIGHT,
            "Messages received and neither acknowledged nor back, about",
            [({}, each.in_flight) for each in known],
        )
        yield gauge(
            metrics.DEAD_LETTER_QUEUE,
            "Messages in the dead-letter queue, not yet drained into cases, about",
            [({}, each.dead) for each in known],
        )

    def _last_answer(self) -> Waiting | None:
        try:
            return self._present_question().result(timeout=QUEUE_PATIENCE)
        except (TimeoutError, *queue.REFUSALS) as error:
            logger.warning("the queue does not say its depth: %s", type(error).__name__)
            return None

    def _present_question(self) -> "Future[Waiting]":
        """The last question while it is young or still unanswered, else a new one."""
        now = wiring.clock().monotonic()
        with self._mutex:
            old = now - self._asked_at >= QUEUE_SECONDS
            if self._question is None or (old and self._question.done()):
                self._asked_at = now
                self._question = self._asker.submit(self._ask)
            return self._question


def _waiting() -> Waiting:
    return wiring.queue().waiting()


# --- What is answered --------------------------------------------------------------------------------


class View(Protocol):
    def __call__(self, request: HttpRequest) -> HttpResponse: ...


class DatabaseUp(Collector):
    """Whether the database answers; asked first, so that an outage costs one wait."""

    def __init__(self, behind: Iterable[Collector]) -> None:
        self._behind = tuple(behind)

    def describe(self) -> list[Metric]:
        """Nothing, as Readings."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Up or not; the figures behind it only when it is."""
        up = _answers()
        yield gauge(metrics.DATABASE_UP, "1 while PostgreSQL answers", [({}, up)])
        if up:
            for collector in self._behind:
                yield from collector.collect()


def _answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        return False
    return True


def metrics_of(*groups: Iterable[Reading]) -> View:
    """The /metrics view over the readings of both apps; config/urls.py names them.

    No sign-in: it is scraped inside the cluster, and no label or value names a person.
    """
    registry = CollectorRegistry()
    registry.register(DatabaseUp([Readings(readings=group) for group in groups]))
    registry.register(QueueDepth(_waiting))

    def metrics_view(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return metrics_view


def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """This process answers. It asks nothing of others: restarting it would not mend them."""
    return JsonResponse({"state": "alive"})


# One probe at a time: against a black hole, which answers no time-out of a socket, a second one
# would only wait behind it.
_probe: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")


def readyz(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Whether requests should come here: PostgreSQL answers within READY_SECONDS, else 503."""
    answer = _probe.submit(_database_answers)
    try:
        ready = answer.result(timeout=READY_SECONDS)
    except TimeoutError:
        answer.cancel()
        ready = False
    if ready:
        return JsonResponse({"state": "ready"})
    refused = JsonResponse({"state": "the database does not answer"}, status=503)
    refused["Retry-After"] = "5"
    return refused


def _database_answers() -> bool:
    """Asked on this thread's own connection, which is closed again at once."""
    try:
        # Else a silent database would keep the one thread that asks, for ever.
        with patience(READY_SECONDS):
            return _answers()
    finally:
        connection.close()
