"""The worker with its real tasks: its sign of life, broken messages as cases, the database away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from checkout.models import Case, CaseKind, Heartbeat
from checkout.queue import Queue
from devstack.proxy import Proxy
from devstack.sqs import Sqs
from tests.queues import creator_id, new_queue, worker
from tests.relays import database_url
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def queue(sqs: Sqs | None) -> Queue:
    return new_queue()


@pytest.fixture
def link(transactional_db: None) -> Iterator[Proxy]:
    """The worker's way to its database."""
    facts = connection.settings_dict
    with Proxy(upstream=(str(facts["HOST"]), int(facts["PORT"]))) as proxy:
        yield proxy


def url_through(link: Proxy) -> str:
    place = f"@{connection.settings_dict['HOST']}:{connection.settings_dict['PORT']}/"
    return database_url().replace(place, f"@127.0.0.1:{link.port}/")


def send_broken(queue: Queue, name: str) -> None:
    """A message that only needs the database: it is kept as a case, then acknowledged."""
    queue.client.send_message(
        QueueUrl=queue.url,
        MessageBody=f"broken {name}",
        MessageGroupId=str(creator_id(name)),
        MessageDeduplicationId=name,
    )


def kept() -> list[str]:
    """The bodies of the cases, in order."""
    cases = Case.objects.filter(kind=CaseKind.UNREADABLE_MESSAGE).order_by("id")
    return [case.detail["body"] for case in cases]


@pytest.mark.parametrize("how", ["refuse", "black_hole"])
def test_worker_keeps_the_unreadable_and_rests_while_the_database_is_away(
    queue: Queue, link: Proxy, tmp_path: Path, how: str
) -> None:
    """F18, F22: the outage spends no receive; polling goes on by itself when it is over."""
    url = url_through(link)
    # A long poll that began before the outage could still bring the message in.
    ages = {"AGE_WORKER_HEARTBEAT": "1", "AGE_BACKOFF": "1,1,1", "SQS_WAIT_SECONDS": "0"}

    with worker(
        queue,
        tmp_path,
        app="config",
        concurrency=2,
        DATABASE_URL=url,
        DATABASE_DIRECT_URL=url,
        **ages,
    ) as running:
        send_broken(queue, "before")
        wait_for(lambda: kept() == ["broken before"], 40, "the first one kept as a case")
        beat = wait_for(lambda: Heartbeat.objects.filter(name="worker").first(), 10, "a beat")
        wait_for(lambda: later(beat), 10, "a later beat")

        getattr(link, how)()
        wait_for(lambda: "polling stops" in running.log(), 20, "the outage noticed")
        send_broken(queue, "during")
        wait_for(lambda: queue.waiting().visible == 1, 5, "the message waiting")
        still = queue.waiting()
        link.heal()
        wait_for(lambda: kept() == ["broken before", "broken during"], 30, "the second one kept")

    assert (still.visible, still.in_flight, still.dead) == (1, 0, 0)
    assert running.log().count("polling stops") == 1
    assert queue.waiting().dead == 0
    assert running.process.exit_code == 0


def later(beat: Heartbeat | None) -> bool:
    return beat is not None and Heartbeat.objects.get(name="worker").beat_at > beat.beat_at


def test_a_worker_started_without_its_database_receives_nothing(
    queue: Queue, link: Proxy, tmp_path: Path
) -> None:
    """F18: no receive is spent, and it begins by itself once the database is there."""
    url = url_through(link)
    link.refuse()
    send_broken(queue, "early")

    with worker(
        queue, tmp_path, app="config", concurrency=1, DATABASE_URL=url, DATABASE_DIRECT_URL=url
    ) as running:
        wait_for(lambda: "ready" in running.log(), 40, "the worker ready")
        waiting = queue.waiting()
        link.heal()
        wait_for(lambda: kept() == ["broken early"], 30, "the message kept")

    assert (waiting.visible, waiting.in_flight) == (1, 0)
