"""F17: a consumer that is killed before or after its effect; offset after effect, dedupe by event id."""

import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from checkout.messages import Acknowledged
from checkout.topics import EventProducer, Topic, Topics
from devstack.kafka import Kafka
from devstack.process import Process, python_environment
from tests.relays import outgoing

pytestmark = pytest.mark.system

NAMES = UUID("00000000-0000-5000-8000-0000000000f1")
SCRIPT = Path(__file__).with_name("reference_consumer.py")
CREATORS = [uuid5(NAMES, name) for name in ("aigerim", "bolat")]
EVENTS = 6
BEFORE, AFTER = "before its effect", "after its effect"
_numbers = count(1)


@dataclass(frozen=True)
class Published:
    """A topic of one partition with each creator's events, and the last one's id."""

    servers: str
    topic: str
    last: UUID


@pytest.fixture
def published(kafka: Kafka | None, settings: Any) -> Iterator[Published]:
    """As a relay that died between send and mark leaves them (F15): the first half stands there twice."""
    servers = str(settings.KAFKA_BOOTSTRAP_SERVERS)
    topic = Topic(partitions=1, replication=1, name=f"consumed-{next(_numbers)}.v1")
    Topics(servers).declare(topic)
    each = [outgoing(creator, n) for n in range(1, EVENTS + 1) for creator in CREATORS]
    half = each[: len(each) // 2]
    producer = EventProducer(servers, topic.name, timeout=10)
    for batch in (half, each):
        assert all(isinstance(answer, Acknowledged) for answer in producer.send(batch))
    yield Published(servers, topic.name, each[-1].event_id)
    producer.purge()


@dataclass(frozen=True)
class Told:
    """What a consumer knows in the end."""

    died: int | None
    ended: int | None
    events: list[int]
    gaps: int


def consumed(published: Published, folder: Path, habit: str, dies: str) -> Told:
    """Run it until it is killed at that point, then again until it has read everything."""
    name = f"{habit}, {dies}"
    folder = folder / name.replace(" ", "-")
    folder.mkdir()
    codes: list[int | None] = []
    for number, killed_at in enumerate((dies, "")):
        process = Process(
            [sys.executable, str(SCRIPT), str(folder / "effects")],
            env=python_environment()
            | {
                "KAFKA_BOOTSTRAP_SERVERS": published.servers,
                "TOPIC": published.topic,
                "GROUP": f"{published.topic}-{name.replace(',', '')}",
                "UNTIL": str(published.last),
                "HABIT": habit,
                "DIES": killed_at,
            },
            log=folder / f"log-{number}",
        )
        process.start()
        process.wait(seconds=60)
        codes.append(process.exit_code)
        process.stop()
    with closing(sqlite3.connect(folder / "effects")) as database:
        totals = database.execute("SELECT events FROM totals ORDER BY creator").fetchall()
        gaps = database.execute("SELECT count(*) FROM gaps").fetchone()[0]
    died, ended = codes
    return Told(died, ended, events=[each[0] for each in totals], gaps=gaps)


CASES = {
    # The eighth record is a repeated one; the fourteenth comes but once.
    ("effect first", f"{BEFORE} 14"): ([EVENTS, EVENTS], 0),
    ("effect first", f"{AFTER} 14"): ([EVENTS, EVENTS], 0),
    ("effect first", f"{AFTER} 8"): ([EVENTS, EVENTS], 0),
    # What the test would see if it were done wrongly: one event lost, and those sent twice counted twice.
    ("offset first", f"{BEFORE} 14"): ([EVENTS - 1, EVENTS], 1),
    ("forgets ids", f"{AFTER} 3"): ([EVENTS + 4, EVENTS + 3], 0),
}


def test_f17_a_consumer_killed_before_or_after_its_effect_counts_each_event_once(
    published: Published, tmp_path: Path
) -> None:
    """Each in a group of its own; the last two do it wrongly, and are seen to."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        runs = {case: pool.submit(consumed, published, tmp_path, *case) for case in CASES}
        told = {case: run.result(180) for case, run in runs.items()}

    assert {(one.died, one.ended) for one in told.values()} == {(-9, 0)}
    found = {case: (sorted(one.events), one.gaps) for case, one in told.items()}
    assert found == {case: (sorted(events), gaps) for case, (events, gaps) in CASES.items()}
