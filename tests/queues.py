"""Queues of a test's own, dispatches to put into them, and a worker process that takes them out."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from checkout.messages import Outgoing
from checkout.queue import Queue, client
from devstack.process import Process, python_environment

NAMESPACE = UUID("00000000-0000-5000-8000-00000000beef")
CELERY_OPTIONS = ("--without-gossip", "--without-mingle", "--without-heartbeat")
_numbers = count(1)


def new_queue(*, visibility: float = 5, name: str = "") -> Queue:
    """A queue with its dead-letter queue, created on the SQS of this test run."""
    name = name or f"test-{os.getpid()}-{next(_numbers)}"
    queue = Queue(
        client=client(
            endpoint_url=os.environ["SQS_ENDPOINT_URL"],
            region="us-east-1",
            access_key="test",
            secret="test",
        ),
        name=f"{name}.fifo",
        dead_letter_name=f"{name}-dlq.fifo",
    )
    queue.create(visibility=visibility)
    return queue


def creator_id(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


def dispatch(creator: str, number: int, **more: Any) -> Outgoing:
    """A dispatch of a charge of its own; `more` is what the stub worker is told to do with it."""
    key, charge = creator_id(creator), uuid5(NAMESPACE, f"{creator}:{number}")
    body = {"charge_id": str(charge), "creator_id": str(key), "round": 1, "dispatch": number}
    return Outgoing(
        id=next(_numbers),
        event_id=uuid5(charge, f"{number}:{sorted(more.items())}"),
        key=key,
        event_seq=None,
        type="charge.due",
        subject=charge,
        payload=json.dumps(body | more),
        created_at=datetime.now(UTC),
    )


@dataclass(frozen=True)
class Run:
    """One run of a stub task, as its child wrote it down."""

    creator: str
    dispatch: int
    receive: int
    begun: float
    ended: float
    pid: int


@dataclass(frozen=True)
class Worker:
    """A real worker process: Celery's parent with its prefork children."""

    process: Process
    runs_file: Path

    def runs(self) -> list[Run]:
        """What its stub tasks did so far, in the order in which they ended."""
        if not self.runs_file.exists():
            return []
        return [Run(**json.loads(line)) for line in self.runs_file.read_text().splitlines()]

    def log(self) -> str:
        assert self.process.log is not None
        return self.process.log.read_text(errors="replace") if self.process.log.exists() else ""


@contextmanager
def worker(
    queue: Queue,
    folder: Path,
    *,
    app: str = "tests.system.stub_worker",
    concurrency: int = 8,
    launcher: Sequence[str] = (),
    **environment: str,
) -> Iterator[Worker]:
    """A worker on this queue until the block ends; `environment` overrides this run's settings.

    `launcher` is a command that ends in running the one behind it in its own place.
    """
    runs = folder / "runs.jsonl"
    command = [*launcher, sys.executable, "-m", "celery", "-A", app, "worker"]
    process = Process(
        [*command, "--concurrency", str(concurrency), *CELERY_OPTIONS],
        env=python_environment()
        | {
            "SQS_QUEUE": queue.name,
            "SQS_DEAD_LETTER_QUEUE": queue.dead_letter_name,
            "SQS_WAIT_SECONDS": "2",
            "STUB_RUNS": str(runs),
        }
        | environment,
        log=folder / "worker.log",
    )
    process.start()
    try:
        yield Worker(process, runs)
    finally:
        process.stop()
