"""Names that move: every client looks its server's name up again at its next connect (F18).

The clients run in a mount namespace of their own, so that this machine's /etc/hosts stays as it is; the names
are looked up by the C library itself. Not shown here: what a name server or a node's cache keeps past a
name's life.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from checkout.topics import Topic, Topics
from devstack.kafka import Kafka
from devstack.proxy import Proxy
from devstack.sqs import Sqs
from tests.processor_process import ProcessorProcess
from tests.queues import dispatch, new_queue, worker
from tests.relays import database_url
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]

PROJECT = Path(__file__).parents[2]
NAMES = ("database", "queue", "processor", "broker")
NOBODY, ELSEWHERE, HERE = "127.0.0.9", "127.0.0.5", "127.0.0.1"
# Mounts a file of our own over /etc/hosts, for this process and those it starts.
OWN_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'
OWN_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
A_UNIT_OF_WORK = """
import django
django.setup()
from django.db import connection
from checkout.clock import Clock
from checkout.commit import DatabaseAway, committed
clock = Clock()
begun = clock.monotonic()
try:
    committed(connection.ensure_connection, deadline=5, clock=clock)
except DatabaseAway:
    print(clock.monotonic() - begun)
"""


def unshared() -> list[str]:
    """The command that gives a process its own mounts; an ordinary user needs a user namespace for it."""
    own = ["unshare", "--mount", "--propagation", "private"]
    return own if os.geteuid() == 0 else [*own, "--map-root-user"]


def is_possible(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    hosts = folder / "probe"
    hosts.touch()
    command = [*unshared(), "sh", "-c", OWN_HOSTS, str(hosts), "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def move(hosts: Path, address: str) -> None:
    """All names, in place: the file that is mounted is the file that is written."""
    hosts.write_text("".join(f"{address} {name}.moves.test\n" for name in NAMES))


class Clients:
    """The process of the four clients."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self) -> dict[str, bool]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        heard: dict[str, bool] = json.loads(self._process.stdout.readline())
        return heard


@contextmanager
def clients(folder: Path, hosts: Path, **addresses: str) -> Iterator[Clients]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(*unshared(), "sh", "-c", OWN_HOSTS, str(hosts)),
                *(sys.executable, "-m", "tests.system.names_script"),
            ],
            cwd=PROJECT,
            env={**os.environ, **addresses},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield Clients(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[ProcessorProcess]:
    processor = ProcessorProcess(tmp_path / "processor")
    processor.start()
    yield processor
    processor.kill()


def by_name(address: str, name: str) -> str:
    """The same address, by a name instead of a number."""
    return address.replace(HERE, f"{name}.moves.test")


def test_f18_every_client_finds_a_server_whose_name_moved(
    sqs: Sqs | None, kafka: Kafka | None, processor: ProcessorProcess, tmp_path: Path
) -> None:
    """Nobody listens at the first address; the same clients find the second by themselves."""
    if sqs is None or kafka is None or not is_possible(tmp_path):
        pytest.skip("a mount namespace, and servers of our own, are needed to move a name")
    Topics(kafka.address).declare(Topic(name="names", partitions=1, replication=1))
    port = connection.settings_dict["PORT"]
    database = database_url().replace(
        f"{connection.settings_dict['HOST']}:{port}", f"database.moves.test:{port}"
    )
    assert urlsplit(database).hostname == "database.moves.test"

    hosts = tmp_path / "hosts"
    move(hosts, NOBODY)
    with clients(
        tmp_path,
        hosts,
        DATABASE_URL=database,
        SQS_ENDPOINT_URL=by_name(sqs.address, "queue"),
        PROCESSOR_URL=by_name(processor.url, "processor"),
        KAFKA_BOOTSTRAP_SERVERS=by_name(kafka.address, "broker"),
    ) as four:
        before = four.ask()
        move(hosts, HERE)
        began = time.monotonic()
        wait_for(lambda: all(four.ask().values()), 30, "all four to be answered")
        took = time.monotonic() - began
        after = four.ask()

    assert before == dict.fromkeys(NAMES, False)
    assert after == dict.fromkeys(NAMES, True)
    assert took < 20


def test_f18_a_worker_that_polls_follows_its_queue_s_name(sqs: Sqs | None, tmp_path: Path) -> None:
    """libcurl, with which it polls, would keep the old address for a minute (60.8 s were measured)."""
    if sqs is None or not is_possible(tmp_path):
        pytest.skip("a mount namespace, and servers of our own, are needed to move a name")
    queue, hosts = new_queue(), tmp_path / "hosts"
    port = int(sqs.address.rpartition(":")[2])
    queue.send([dispatch("before", 1)])

    with Proxy(upstream=(HERE, port), port=port, host=ELSEWHERE) as elsewhere:
        move(hosts, ELSEWHERE)
        with worker(
            queue,
            tmp_path,
            concurrency=1,
            launcher=[*unshared(), "sh", "-c", OWN_HOSTS, str(hosts)],
            SQS_ENDPOINT_URL=by_name(sqs.address, "queue"),
        ) as polling:
            wait_for(lambda: len(polling.runs()) == 1, 40, "the first message")
            elsewhere.refuse()
            wait_for(lambda: "SQS does not answer" in polling.log(), 20, "the outage noticed")
            queue.send([dispatch("after", 1)])
            move(hosts, HERE)
            began = time.monotonic()
            wait_for(lambda: len(polling.runs()) >= 2, 90, "the second message")
            took = time.monotonic() - began

    assert took < 20


def test_f18_a_name_server_that_is_silent_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    """A look-up is bounded by no time-out of a connect; the C library's own would be 10 s."""
    if os.geteuid() != 0 or not is_possible(tmp_path):
        pytest.skip("needs port 53 and a mount namespace of its own")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(f"nameserver {NOBODY}\n")
    address = "postgresql://checkout:none@database.moves.test:5432/checkout"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NOBODY, 53))
        said = subprocess.run(
            [
                *(*unshared(), "sh", "-c", OWN_RESOLVER, str(resolver)),
                *(sys.executable, "-c", A_UNIT_OF_WORK),
            ],
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if name != "RES_OPTIONS"}
            | {"DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "config.settings"},
            capture_output=True,
            text=True,
            check=True,
        )

    assert 1 < float(said.stdout) < 5
