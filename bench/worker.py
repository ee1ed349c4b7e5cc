"""The worker with an empty task, eight children, each creator in order, against a raw boto3 loop.

Both sides take the same messages from the same kind of queue on one server, one message a call, and
delete each. The raw loop does nothing else: no envelope, no child process, no order to keep beyond what
SQS keeps. They take turns; the medians are compared. A real receive, which charges a card through the
sandbox processor and books it, is measured beside them.

    python -m bench.worker      servers of its own
"""

import os
import statistics
import struct
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import django
from rich.console import Console
from rich.table import Table

from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.process import Process, python_environment
from devstack.sqs import Sqs

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "2000"))
CREATORS = 50
CHARGES = int(os.environ.get("BENCH_CHARGES", "300"))
ROUNDS = 3
WANTED = 0.9
RAW, EMPTY, REAL = "raw boto3 loop", "worker, empty task", "worker, real receive"
PATIENCE_SECONDS = 120
RUN_BYTES = 8


class TooSlow(Exception):
    """A side did not come to its end."""


@contextmanager
def servers() -> Iterator[Path]:
    """An empty database, SQS, and the sandbox processor; their addresses are in the environment."""
    with tempfile.TemporaryDirectory(prefix="checkout-bench-") as name:
        folder = Path(name)
        # PostgreSQL's own unprivileged user must pass through.
        folder.chmod(0o711)
        database = Postgres(folder / "postgres", free_port(), password="bench")
        sqs, port = Sqs(folder / "sqs", free_port()), free_port()
        os.environ.update(
            {
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "ENVIRONMENT": "test",
                "SECRET_KEY": "bench",
                "DATABASE_URL": database.dsn(),
                "SQS_ENDPOINT_URL": sqs.address,
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
                "PROCESSOR_URL": f"http://127.0.0.1:{port}",
                "PROCESSOR_API_KEY": "bench",
                "PROCESSOR_WEBHOOK_SECRET": "bench",
                "WEBHOOK_URL": "",
                "LOG_LEVEL": "WARNING",
            }
        )
        words = ["-m", "processor", "--port", str(port), "--data-dir", str(folder / "processor")]
        (folder / "processor").mkdir()
        processor = Process(
            [sys.executable, *words], env=python_environment(), log=folder / "processor.log"
        )
        try:
            database.start()
            sqs.start()
            processor.start()
            yield folder
        finally:
            processor.kill()
            sqs.kill()
            database.kill()


def main() -> int:
    with servers() as folder:
        django.setup()
        from bench import _worker_sides as sides

        rates: dict[str, list[float]] = defaultdict(list)
        faults: list[str] = []
        for number in range(ROUNDS):
            facts = {"messages": MESSAGES, "creators": CREATORS}
            raw = sides.filled_queue(f"raw-{number}", **facts)
            ours = sides.filled_queue(f"worker-{number}", **facts)
            rates[RAW].append(MESSAGES / timed(partial(sides.take_all, raw, MESSAGES)))
            runs = folder / f"runs-{number}"
            with worker(folder, ours.name, "bench._empty_worker", BENCH_RUNS=str(runs)):
                rates[EMPTY].append(rate(partial(runs_in, runs), MESSAGES))
            faults += disorder(runs)
        charges = sides.due_charges(CHARGES)
        with worker(folder, charges.name, "config"):
            rates[REAL].append(rate(sides.count_succeeded, CHARGES))
    return report(rates, faults)


@contextmanager
def worker(folder: Path, queue: str, app: str, **environment: str) -> Iterator[None]:
    """The worker process at concurrency 8, killed at the end: nothing is left for it to do."""
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--concurrency", "8")
    process = Process(
        [sys.executable, "-m", "celery", "-A", app, "worker", *options],
        env=python_environment() | {"SQS_QUEUE": queue} | environment,
        log=folder / "worker.log",
    )
    process.start()
    try:
        yield
    finally:
        process.kill()


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rate(count: Callable[[], int], total: int) -> float:
    """Per second, from the first look that finds some done to the one that finds all done."""
    done = reached(count, 1)
    begun = time.perf_counter()
    reached(count, total)
    return (total - done) / (time.perf_counter() - begun)


def reached(count: Callable[[], int], wanted: int) -> int:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while (done := count()) < wanted:
        if time.perf_counter() > deadline:
            raise TooSlow(f"{done} of {wanted} after {PATIENCE_SECONDS} s")
        time.sleep(0.01)
    return done


def runs_in(file: Path) -> int:
    return file.stat().st_size // RUN_BYTES if file.exists() else 0


def disorder(file: Path) -> list[str]:
    """What shows that a creator's messages ran out of order, or not each once."""
    seen: dict[int, list[int]] = defaultdict(list)
    for creator, number in struct.iter_unpack("<II", file.read_bytes()):
        seen[creator].append(number)
    wanted = list(range(1, MESSAGES // CREATORS + 1))
    return [
        f"creator {creator} ran {seen[creator]}"
        for creator in range(CREATORS)
        if seen[creator] != wanted
    ]


def report(rates: dict[str, list[float]], faults: Sequence[str]) -> int:
    table = Table(title=f"{MESSAGES} messages of {CREATORS} creators, {ROUNDS} rounds in turns")
    for column in ("side", "median/s", "from", "to"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, measured in rates.items():
        row = (statistics.median(measured), min(measured), max(measured))
        table.add_row(side, *(f"{value:.0f}" for value in row))
    ratio = statistics.median(rates[EMPTY]) / statistics.median(rates[RAW])
    Console().print(table)
    for fault in faults[:5]:
        print(f"out of order: {fault[:200]}")
    print(f"worker: {ratio:.2f} of the raw loop, in order (wanted: at least {WANTED:.2f})")
    return 0 if ratio >= WANTED and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
