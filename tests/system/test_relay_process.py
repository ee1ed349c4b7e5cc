"""The relay as a process: killed with SIGKILL between send and mark, standing by, ended in order."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from checkout.models import Door, Heartbeat
from checkout.queue import Queue
from checkout.relay import ENDED, SqsSender, relay_batch
from checkout.topics import Record, TopicReader
from devstack.kafka import Kafka
from devstack.process import Process, python_environment
from devstack.sqs import Sqs
from tests import factories
from tests.factories import World
from tests.fakes import FakeClock
from tests.queues import new_queue
from tests.relays import database_url, direct, rows, tell, unpublished
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def topic(kafka: Kafka | None) -> None:
    call_command("kafka_topics")


@contextmanager
def relay(door: str, folder: Path, name: str = "relay", **environment: str) -> Iterator[Process]:
    """`manage.py relay` until the block ends."""
    url = database_url()
    process = Process(
        [sys.executable, "manage.py", "relay", door],
        env=python_environment()
        | {"DATABASE_URL": url, "DATABASE_DIRECT_URL": url, "KAFKA_MESSAGE_TIMEOUT": "2"}
        | environment,
        log=folder / f"{name}.log",
    )
    process.start()
    try:
        yield process
    finally:
        process.stop()


def read(settings: Any, creator: Any) -> list[Record]:
    """A creator's records, in order of their offsets."""
    found = TopicReader(settings.KAFKA_BOOTSTRAP_SERVERS).read_back(offsets={})
    return sorted(
        (record for record in found if record.key == str(creator.pk)), key=lambda r: r.offset
    )


def test_killed_between_send_and_mark_sends_the_event_again_with_its_id(
    topic: None, clock: FakeClock, tmp_path: Path, settings: Any
) -> None:
    """F15: a duplicate only after a crash, with the same id, in order (R44)."""
    creator = factories.creator(clock=clock)
    tell(creator, 1, 2, clock=clock)

    with relay("kafka", tmp_path, FAILPOINTS="relay.sent_unmarked=kill") as first:
        assert first.wait(seconds=30), "it dies at the failpoint"
    killed, left = first.exit_code, len(unpublished())
    with relay("kafka", tmp_path, "second"):
        wait_for(lambda: not unpublished(), 40, "the next leader's marks")

    assert (killed, left) == (-9, 3)
    found = read(settings, creator)
    assert [record.sequence for record in found] == [1, 2, 3, 1, 2, 3]
    assert [r.event_id for r in found[:3]] == [r.event_id for r in found[3:]]
    assert [row.published.kafka_offset for row in rows(creator)] == [r.offset for r in found[3:]]


def test_killed_between_send_and_mark_the_queue_drops_the_second_dispatch(
    sqs: Sqs | None, clock: FakeClock, tmp_path: Path
) -> None:
    """F5: sent to SQS and not marked; sent again, SQS knows its deduplication id."""
    queue = new_queue()
    names = {"SQS_QUEUE": queue.name, "SQS_DEAD_LETTER_QUEUE": queue.dead_letter_name}
    for _ in range(3):
        World(clock=clock).due_charge()

    with relay("sqs", tmp_path, FAILPOINTS="relay.sent_unmarked=kill", **names) as first:
        assert first.wait(seconds=30), "it dies at the failpoint"
    sent, left = queue.waiting().visible, len(unpublished("sqs"))
    with relay("sqs", tmp_path, "second", **names):
        wait_for(lambda: not unpublished("sqs"), 20, "the next leader's marks")

    assert (sent, left) == (3, 3)
    assert queue.waiting().visible == 3


@pytest.mark.parametrize("failpoint", ["relay.before_send", "relay.marked"])
def test_killed_elsewhere_nothing_is_lost_or_doubled(
    sqs: Sqs | None, clock: FakeClock, tmp_path: Path, failpoint: str
) -> None:
    queue = new_queue()
    World(clock=clock).due_charge()

    with relay("sqs", tmp_path, FAILPOINTS=f"{failpoint}=kill", SQS_QUEUE=queue.name) as first:
        assert first.wait(seconds=30), "it dies at the failpoint"
    publish(queue, clock)

    assert queue.waiting().visible == 1
    assert not unpublished("sqs")


def publish(queue: Queue, clock: FakeClock) -> None:
    with direct() as lock_connection:
        relay_batch(
            door=Door.SQS,
            send=SqsSender(queue).send,
            now=clock.real_now(),
            lock_connection=lock_connection,
        )


def test_the_one_that_stands_by_takes_over_from_a_killed_leader(
    topic: None, clock: FakeClock, tmp_path: Path, settings: Any
) -> None:
    """R44: no gap, no crossing; and SIGTERM ends in order."""
    who = [factories.creator(clock=clock) for _ in range(3)]

    with relay("kafka", tmp_path, "one") as one:
        wait_for(lambda: not unpublished(), 30, "the first one leading")
        with relay("kafka", tmp_path, "two") as two:
            wait_for(lambda: "stands by" in log(two), 30, "the second one standing by")
            for number in range(1, 11):
                for creator in who:
                    tell(creator, number, clock=clock)
            one.kill()
            for creator in who:
                tell(creator, *range(11, 21), clock=clock)
            wait_for(lambda: not unpublished(), 40, "the second one's work")
            two.stop()

    assert two.exit_code == 0
    assert Heartbeat.objects.get(name="relay-kafka").detail == ENDED
    for creator in who:
        firsts: dict[int | None, int] = defaultdict(int)
        for place, record in enumerate(read(settings, creator)):
            firsts.setdefault(record.sequence, place)
        assert list(firsts) == list(range(1, 22))


def log(process: Process) -> str:
    assert process.log is not None
    return process.log.read_text() if process.log.exists() else ""
