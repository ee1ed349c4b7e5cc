"""Committed messages → the SQS queue or the Kafka topic: the only way out for events and dispatches.

One leader a door, by a session advisory lock on a direct connection; a second process stands by. The
doors know nothing of each other, so Kafka away never stops collection. What may happen twice: a send
whose mark was lost. It carries the same id again: SQS drops it, Kafka's consumers know it (F5, F15).
"""

import gc
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any, Final, Protocol

import psycopg

from checkout import outbox
from checkout.clock import Clock
from checkout.failpoints import failpoint
from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.models import Door
from checkout.queue import Queue
from checkout.topics import EventProducer

logger = logging.getLogger(__name__)

BATCH: Final = 1000
# About a second's work: then the leader gives its sign of life.
BACKLOG_BATCHES: Final = 30
COLLECT_AFTER: Final = 100_000
POLL_SECONDS: Final = 0.1
STANDBY_SECONDS: Final = 0.5
BEAT_SECONDS: Final = 5.0
FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 5.0
# What the last sign of life of a leader that left nothing under way says.
ENDED: Final = "ended in order"

_BEAT: Final = """
    INSERT INTO checkout_heartbeat (name, beat_at, detail) VALUES (%(name)s, %(now)s, %(detail)s)
    ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at, detail = excluded.detail
"""

# A primary that was demoted under our connection refuses the first write; the next connect finds the other.
AWAY: Final = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
Connect = Callable[[], psycopg.Connection[Any]]
Send = Callable[[Sequence[Outgoing]], list[Answer]]
# Waits for the broker's answers to what it was handed, one for each, in order.
Answers = Callable[[], list[Answer]]
HandOver = Callable[[Sequence[Outgoing]], Answers]


class Sender(Protocol):
    """A door's broker: SQS, Kafka, or a fake."""

    @property
    def lingers(self) -> float:
        """Seconds for which what a dead leader sent may still arrive."""
        ...

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Send in order and wait for the acknowledgements; one answer for each, in order."""
        ...

    def hand_over(self, messages: Sequence[Outgoing]) -> Answers:
        """As `send`, but wait only when the result is called: other work fits between."""
        ...

    def purge(self) -> None:
        """Forget what is under way."""
        ...


@dataclass(frozen=True)
class SqsSender:
    """The door to the queue: a call is over when it returns, so nothing lingers."""

    queue: Queue
    lingers: float = 0.0

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        return self.queue.send(messages)

    def hand_over(self, messages: Sequence[Outgoing]) -> Answers:
        """Each call waits by itself, so there is nothing left to wait for."""
        return at_once(self.send)(messages)

    def purge(self) -> None:
        """Nothing is kept between two calls."""


@dataclass(frozen=True)
class KafkaSender:
    """The door to the topic: its producer keeps trying in the background until its time-out."""

    producer: EventProducer

    @property
    def lingers(self) -> float:
        return self.producer.timeout

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        return self.producer.send(messages)

    def hand_over(self, messages: Sequence[Outgoing]) -> Answers:
        return self.producer.hand_over(messages)

    def purge(self) -> None:
        self.producer.purge()


class MarkFailed(Exception):
    """The database did not take the marks: the lock may be lost, so this process must end.

    Whoever leads next sends the same messages again, with the same ids.
    """


@dataclass(frozen=True)
class Batch:
    """What one turn did, and how many messages it read."""

    read: int
    settled: outbox.Settled


def relay_batch(
    *,
    door: Door,
    send: Send,
    now: datetime,
    lock_connection: psycopg.Connection[Any],
    limit: int = BATCH,
) -> Batch:
    """Send the oldest unpublished messages of a door and mark what was acknowledged.

    `now` is real time. No transaction is open while the broker is waited for. Raises
    psycopg.OperationalError if nothing could be read, MarkFailed if the marks were not taken.
    """
    messages = outbox.claim(lock_connection, door=door, now=now, limit=limit)
    if not messages:
        return Batch(0, outbox.Settled())
    sent = _end(messages, _begin(at_once(send), messages))
    return Batch(len(messages), _settle(lock_connection, sent, door=door, now=now))


def relay_backlog(
    *,
    door: Door,
    hand_over: HandOver,
    now: datetime,
    lock_connection: psycopg.Connection[Any],
    limit: int = BATCH,
    batches: int = BACKLOG_BATCHES,
) -> outbox.Settled:
    """Relay full batches one after the other: each is marked while the next one is being sent.

    What is sent and marked is as if `relay_batch` ran again and again: after a failure the batch that
    was read ahead is dropped unsent, so nothing overtakes a failed message of its key; while something
    is parked, nothing is read ahead. Ends with the first batch that is not full or had a failure, or
    after `batches`. Raises as `relay_batch`.
    """
    total, sent = outbox.Settled(), None
    if outbox.has_parked(lock_connection, door=door):
        return total
    messages = outbox.claim(lock_connection, door=door, now=now, limit=limit)
    for _ in range(batches):
        if not messages:
            break
        before, is_full = sent, len(messages) == limit
        sent, following = _send_meanwhile(
            hand_over, messages, lock_connection, before, door=door, now=now, ahead=limit * is_full
        )
        total += outbox.Settled(marked=len(before.messages) if before else 0)
        if sent.has_failures or not is_full:
            break
        messages = following
    return total + _settle(lock_connection, sent, door=door, now=now) if sent else total


@dataclass(frozen=True)
class Sent:
    """A batch that the broker answered and the database does not know of yet."""

    messages: Sequence[Outgoing]
    answers: Sequence[Answer]

    @property
    def has_failures(self) -> bool:
        return any(isinstance(answer, Refused) for answer in self.answers)

    @property
    def acknowledged(self) -> list[Acknowledged]:
        return [answer for answer in self.answers if isinstance(answer, Acknowledged)]


def at_once(send: Send) -> HandOver:
    """For a broker whose send cannot be cut in two: it is over when the messages are handed over."""

    def hand_over(messages: Sequence[Outgoing]) -> Answers:
        answers = send(messages)
        return lambda: answers

    return hand_over


def _begin(hand_over: HandOver, messages: Sequence[Outgoing]) -> Answers:
    failpoint("relay.before_send")
    return hand_over(messages)


def _end(messages: Sequence[Outgoing], answers: Answers) -> Sent:
    sent = Sent(messages, answers())
    failpoint("relay.sent_unmarked")
    return sent


def _settle(
    lock_connection: psycopg.Connection[Any], sent: Sent, *, door: Door, now: datetime
) -> outbox.Settled:
    try:
        settled = outbox.settle(
            lock_connection, door=door, messages=sent.messages, answers=sent.answers, now=now
        )
    except psycopg.Error as error:
        raise MarkFailed(f"{len(sent.messages)} messages sent, marks refused: {error}") from error
    _marked(sent)
    return settled


def _marked(sent: Sent | None) -> None:
    """The marks of a batch, if there was one, are committed."""
    if sent:
        failpoint("relay.marked")


def _send_meanwhile(
    hand_over: HandOver,
    messages: Sequence[Outgoing],
    lock_connection: psycopg.Connection[Any],
    before: Sent | None,
    *,
    door: Door,
    now: datetime,
    ahead: int,
) -> tuple[Sent, list[Outgoing]]:
    """Send a batch while the database marks the one before it and reads `ahead` messages behind it.

    One thread, and no wait for one alone: the statements go out, then the batch; their results are read
    while it travels, and their transaction is over before the broker is waited for.
    """
    try:
        with lock_connection.pipeline():
            if before:
                outbox.mark_published(lock_connection, door=door, sent=before.acknowledged, now=now)
            claiming = outbox.claiming(
                lock_connection, door=door, now=now, limit=ahead, after=messages[-1].id
            )
            answers = _begin(hand_over, messages)
        following = claiming.fetchall()
    except psycopg.Error as error:
        raise MarkFailed(f"{len(messages)} messages sent, marks refused: {error}") from error
    _marked(before)
    return _end(messages, answers), following


@dataclass
class Outage:
    """Waits longer after each failure, up to a cap, and says only when it begins and ends."""

    what: str
    stop: Event
    failures: int = field(default=0, init=False)

    def failed(self, why: object) -> None:
        """Log the first failure and wait; returns early when the process is to stop."""
        if not self.failures:
            logger.warning("%s: trying again until it works: %s", self.what, why)
        self.stop.wait(min(FIRST_DELAY * 2**self.failures, LONGEST_DELAY))
        self.failures = min(self.failures + 1, 10)

    def worked(self) -> None:
        if self.failures:
            logger.info("%s: works again", self.what)
        self.failures = 0


@dataclass
class Relay:
    """One process at one door. `stop` ends it: set by a signal, or by a test."""

    door: Door
    sender: Sender
    connect: Connect
    clock: Clock
    stop: Event = field(default_factory=Event)

    def run(self) -> None:
        """Lead or stand by until `stop` is set; comes back by itself when a part was away.

        1. Connect, and take the door's lock or wait for it.
        2. Wait out what a leader that died may still have under way.
        3. Relay batch after batch; at once after a full one, else every 100 ms.

        Raises MarkFailed after purging the producer: the supervisor starts a process anew.
        """
        quiet_collector()
        database = Outage("database", self.stop)
        while not self.stop.is_set():
            try:
                with self.connect() as lock_connection:
                    database.worked()
                    if self._stand_by(lock_connection):
                        self._lead(lock_connection)
            except AWAY as error:
                database.failed(error)
            except MarkFailed:
                self.sender.purge()
                raise

    def _stand_by(self, lock_connection: psycopg.Connection[Any]) -> bool:
        """Wait for the door's lock; False when the process is to stop."""
        told = False
        while not self.stop.is_set():
            row = lock_connection.execute(
                "SELECT pg_try_advisory_lock(%s)", [lock_key(self.door)]
            ).fetchone()
            if row is not None and row[0]:
                return True
            if not told:
                logger.info("relay stands by", extra={"door": str(self.door)})
            told = True
            self.stop.wait(STANDBY_SECONDS)
        return False

    def _lead(self, lock_connection: psycopg.Connection[Any]) -> None:
        if not self._waited_out(lock_connection):
            return
        logger.info("relay leads", extra={"door": str(self.door)})
        broker = Outage(f"{self.door} door", self.stop)
        beaten, total, again = -BEAT_SECONDS, 0, 0
        while not self.stop.is_set():
            if self.clock.monotonic() - beaten >= BEAT_SECONDS:
                self._beat(lock_connection, f"{total} messages sent since the start")
                beaten = self.clock.monotonic()
            settled = self._turn(lock_connection)
            total, again = total + settled.marked, settled.again
            if again and not settled.marked:
                broker.failed(f"{again} messages were not acknowledged")
            elif settled.marked:
                broker.worked()
            if settled.marked < BATCH:
                self.stop.wait(POLL_SECONDS)
        self._beat(lock_connection, "stopped" if again else ENDED)

    def _turn(self, lock_connection: psycopg.Connection[Any]) -> outbox.Settled:
        """One batch; and the backlog behind it, if it was full and all of it arrived."""
        sender, now = self.sender, self.clock.real_now()
        batch = relay_batch(
            door=self.door, send=sender.send, now=now, lock_connection=lock_connection
        )
        if batch.settled.marked < BATCH or self.stop.is_set():
            return batch.settled
        return batch.settled + relay_backlog(
            door=self.door, hand_over=sender.hand_over, now=now, lock_connection=lock_connection
        )

    def _waited_out(self, lock_connection: psycopg.Connection[Any]) -> bool:
        """A killed leader's producer, or one that only lost its lock, may still deliver for a while.

        Sent beside it, a creator's events could cross. A leader that ended in order left nothing.
        False when the process is to stop before that time is over.
        """
        row = lock_connection.execute(
            "SELECT detail FROM checkout_heartbeat WHERE name = %s", [self._name]
        ).fetchone()
        if row is None or row[0] == ENDED or not self.sender.lingers:
            return True
        logger.info("relay waits out its predecessor", extra={"seconds": self.sender.lingers})
        end = self.clock.monotonic() + self.sender.lingers
        while not self.stop.is_set() and (left := end - self.clock.monotonic()) > 0:
            self._beat(lock_connection, "waits out its predecessor")
            self.stop.wait(min(left, 1.0))
        return not self.stop.is_set()

    def _beat(self, lock_connection: psycopg.Connection[Any], detail: str) -> None:
        """A sign of life; written by the leader alone, on the connection that makes it one."""
        now = self.clock.real_now()
        lock_connection.execute(_BEAT, {"name": self._name, "now": now, "detail": detail})

    @property
    def _name(self) -> str:
        return f"relay-{self.door}"


def quiet_collector() -> None:
    """Have Python's garbage collector look seldom: a batch makes thousands of objects and no cycle.

    What was loaded at the start never becomes garbage; walking it would cost a batch 200 ms.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


def lock_key(door: Door) -> int:
    """The door's advisory lock, the same in every process and version."""
    return int.from_bytes(hashlib.sha256(f"relay:{door}".encode()).digest()[:8], signed=True)
