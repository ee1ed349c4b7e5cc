"""The worker as a process: order, outage, receives, dead letters, broken bodies. Real SQS, stub tasks."""

import base64
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from checkout.messages import DeadLetter
from checkout.queue import Queue
from devstack.sqs import Sqs
from tests.queues import Run, Worker, creator_id, dispatch, new_queue, worker
from tests.waiting import wait_for

pytestmark = pytest.mark.system

CREATORS = [f"creator-{number}" for number in range(6)]
# Seconds a message left at its first, second and third receive waits.
BACKOFF = "1,2,1"


@pytest.fixture(scope="module")
def running(
    sqs: Sqs | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Worker, Queue]]:
    """One worker for the tests that neither stop it nor its queue; each has creators of its own."""
    queue = new_queue()
    with worker(queue, tmp_path_factory.mktemp("worker"), AGE_BACKOFF=BACKOFF) as process:
        yield process, queue
        process.process.kill()


def runs_of(running: Worker, name: str) -> list[Run]:
    """Runs of one creator, in the order they began."""
    key = str(creator_id(name))
    return sorted((r for r in running.runs() if r.creator == key), key=lambda run: run.begun)


def messages_run(running: Worker) -> set[tuple[str, int]]:
    return {(run.creator, run.dispatch) for run in running.runs()}


def test_eight_children_keep_each_creator_in_order(running: tuple[Worker, Queue]) -> None:
    """Without the estimate of one message a call, runs of one creator overlap (issue, point 5)."""
    process, queue = running
    messages = [dispatch(who, number, seconds=0.05) for number in range(1, 17) for who in CREATORS]
    queue.send(messages)

    wait_for(lambda: len(messages_run(process)) >= len(messages), 60, "every message run")

    for runs in (runs_of(process, who) for who in CREATORS):
        assert [run.dispatch for run in runs] == list(range(1, 17))
        assert all(one.ended <= other.begun for one, other in pairwise(runs)), "overlap"
    assert len({run.pid for run in process.runs()}) > 1, "one child did it all"


def test_a_failing_message_is_received_three_times_with_its_backoff(
    running: tuple[Worker, Queue],
) -> None:
    """Counts 1, 2, 3, each after the backoff of the one before; then a dead letter."""
    process, queue = running
    queue.send([dispatch("failing", 1, fate="raise"), dispatch("failing", 2)])

    wait_for(lambda: len(runs_of(process, "failing")) == 4, 40, "three receives, then the next")

    first, second, third, after = runs_of(process, "failing")
    assert [run.receive for run in (first, second, third)] == [1, 2, 3]
    assert second.begun - first.ended >= 0.9
    assert third.begun - second.ended >= 1.9
    assert after.dispatch == 2
    [letter] = wait_for(lambda: letters(queue, "failing"), 20, "its dead letter")
    assert letter.receive is not None
    assert letter.receive.dispatch == 1
    queue.delete(letter)


def letters(queue: Queue, creator: str) -> list[DeadLetter]:
    """Dead letters that name a creator; others are seen again after their visibility."""
    found = list(queue.dead_letters())
    return [letter for letter in found if str(creator_id(creator)) in letter.body]


@pytest.mark.parametrize("fate", ["leave", "die"])
def test_a_left_or_lost_receive_comes_again_after_its_backoff(
    running: tuple[Worker, Queue], fate: str
) -> None:
    """F6: a child killed with SIGKILL does not burn its receives in seconds."""
    process, queue = running
    queue.send([dispatch(fate, 1, fate=fate)])

    wait_for(lambda: len(runs_of(process, fate)) == 3, 40, "three receives")

    first, second, third = runs_of(process, fate)
    assert [run.receive for run in (first, second, third)] == [1, 2, 3]
    assert second.begun - first.ended >= 0.9
    assert third.begun - second.ended >= 1.9


def test_worker_consumes_again_after_an_outage_and_ends_in_order(
    sqs: Sqs | None, tmp_path: Path
) -> None:
    """F29: kombu stops for ever after one failed poll; the warning is logged once."""
    if sqs is None:
        pytest.skip("the SQS of this run is not ours to stop")
    queue = new_queue()
    queue.send([dispatch("early", 1)])

    with worker(queue, tmp_path) as process:
        wait_for(lambda: len(process.runs()) == 1, 30, "the first message")
        sqs.stop()
        wait_for(lambda: "SQS does not answer" in process.log(), 20, "the outage noticed")
        time.sleep(5)  # the length of the outage is what is tested
        sqs.start()
        queue.send([dispatch(who, number) for number in range(2, 10) for who in CREATORS])
        # The first one may run twice: its acknowledgement can fall into the outage.
        wait_for(lambda: len(messages_run(process)) == 49, 40, "every message after the outage")
        queue.send([dispatch("slow", 1, seconds=1.5), dispatch("slow", 2)])
        wait_for(lambda: queue.waiting().in_flight == 1, 10, "the slow message in flight")
        process.process.stop()  # SIGTERM

    assert process.log().count("SQS does not answer") == 1
    assert process.process.exit_code == 0
    assert runs_of(process, "slow")[0].dispatch == 1
    assert queue.waiting().in_flight == 0, "what was received was run and acknowledged"


def envelope(inside: str, **changes: Any) -> str:
    """A Celery message whose body is this text, in base64 as kombu sends it."""
    message = {
        "body": base64.b64encode(inside.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "checkout.attempt_charge", "id": "broken", "lang": "py"},
        "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "x"},
    }
    return base64.b64encode(json.dumps(message | changes).encode()).decode()


BROKEN = {
    "no envelope": "a sentence",
    "a number": "42",
    "not base64 inside": envelope("[]", body="%%%"),
    "broken json inside": envelope("[[], {"),
    "no keywords": envelope("[[], {}, {}]"),
    "a list of nothing": envelope("[]"),
    "pickle": envelope("[[], {}, {}]", **{"content-type": "application/x-python-serialize"}),
    "no headers": envelope("[[], {}, {}]", headers={}),
    "a wrong round": envelope(
        json.dumps([[], {"charge_id": str(creator_id("x")), "round": "1", "dispatch": 1}, {}])
    ),
}


def test_broken_bodies_are_kept_and_the_group_goes_on(running: tuple[Worker, Queue]) -> None:
    """F22: each is handed to the task that keeps it as a case; nothing is silently acknowledged."""
    process, queue = running
    key = str(creator_id("poisoned"))
    for name, body in BROKEN.items():
        put(queue, body, group=key, name=name)
    queue.send([dispatch("poisoned", 1)])

    wait_for(lambda: runs_of(process, "poisoned"), 30, "the good message behind the broken ones")

    kept_file = process.runs_file.with_name(process.runs_file.name + ".kept")
    kept = [json.loads(line) for line in kept_file.read_text().splitlines()]
    assert len(kept) == len(BROKEN)
    assert all(each["reason"] and each["message_id"] for each in kept)
    assert kept[0]["body"] == "a sentence"


def test_an_unknown_task_becomes_a_dead_letter(running: tuple[Worker, Queue]) -> None:
    """F22: a task of a newer version is received three times and then explained by drain."""
    _, queue = running
    headers = {"task": "checkout.of_tomorrow", "id": str(creator_id("tomorrow"))}
    put(queue, envelope("[[], {}, {}]", headers=headers), group="someone", name="unknown")

    [letter] = wait_for(lambda: letters(queue, "tomorrow"), 40, "its dead letter")

    assert letter.receive is None
    assert "checkout.of_tomorrow" in letter.body


def put(queue: Queue, body: str, *, group: str, name: str) -> None:
    """Send any text past our own relay."""
    queue.client.send_message(
        QueueUrl=queue.url,
        MessageBody=body,
        MessageGroupId=group,
        MessageDeduplicationId=name.replace(" ", "-"),
    )
