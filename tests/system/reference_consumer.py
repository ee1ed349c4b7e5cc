"""A consumer as docs/events.md asks for, in a process of its own; and two that do it wrongly.

It counts each creator's events in SQLite: an effect that is seen when it happens twice, or never. The
environment says where to read and to write, when to stop (`UNTIL`, an event's id), and where to die of
SIGKILL (`DIES`: the point and the number of the event there).
"""

import os
import signal
import sqlite3
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from confluent_kafka import Consumer, Message

TABLES = """
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS totals (creator TEXT PRIMARY KEY, events INTEGER, sequence INTEGER);
CREATE TABLE IF NOT EXISTS gaps (creator TEXT, sequence INTEGER);
"""


@dataclass(frozen=True)
class Event:
    """The attributes that a consumer needs before it looks at the data."""

    id: str
    creator: str
    sequence: int

    @classmethod
    def of(cls, message: Message) -> "Event":
        headers = dict(message.headers() or [])
        said = {name: value.decode() for name, value in headers.items() if isinstance(value, bytes)}
        return cls(said["ce_id"], said["ce_partitionkey"], int(said["ce_sequence"]))


def take_effect(database: sqlite3.Connection, event: Event, *, remembers: bool = True) -> None:
    """Count the event, once: its id and its effect are in one transaction, so neither is without the other."""
    with database:
        added = database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event.id]).rowcount
        if remembers and not added:
            return
        before = database.execute(
            "SELECT sequence FROM totals WHERE creator = ?", [event.creator]
        ).fetchone()
        if event.sequence > (before[0] if before else 0) + 1:
            database.execute("INSERT INTO gaps VALUES (?, ?)", [event.creator, event.sequence])
        database.execute(
            "INSERT INTO totals VALUES (?, 1, ?) ON CONFLICT (creator) DO UPDATE"
            " SET events = events + 1, sequence = max(sequence, excluded.sequence)",
            [event.creator, event.sequence],
        )


def consume(consumer: Consumer, database: sqlite3.Connection, *, habit: str, until: str) -> None:
    """Effect, then offset. Killed anywhere, the event is read again and its id is known."""
    for number in count(1):
        message = next_of(consumer)
        event = Event.of(message)
        if habit == "offset first":
            consumer.commit(message=message, asynchronous=False)
        dies_at("before its effect", number)
        take_effect(database, event, remembers=habit != "forgets ids")
        dies_at("after its effect", number)
        if habit != "offset first":
            consumer.commit(message=message, asynchronous=False)
        if event.id == until:
            return


def next_of(consumer: Consumer) -> Message:
    while True:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            return message


def dies_at(point: str, number: int) -> None:
    if os.environ.get("DIES") == f"{point} {number}":
        os.kill(os.getpid(), signal.SIGKILL)


def main(file: Path) -> None:
    database = sqlite3.connect(file)
    database.executescript(TABLES)
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["GROUP"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # A member with a name takes its own place again at once; the local Kafka would wait for a
            # nameless one that was killed until its next start, a real one for the session's timeout.
            "group.instance.id": os.environ["GROUP"].replace(" ", "-"),
            "log_level": 0,
        }
    )
    consumer.subscribe([os.environ["TOPIC"]])
    try:
        consume(consumer, database, habit=os.environ["HABIT"], until=os.environ["UNTIL"])
    finally:
        consumer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
