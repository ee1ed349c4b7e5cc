"""The relay to Kafka against producing the same messages without a database, in the same run.

Both sides send the same events, with the same keys and headers, through the same idempotent producer's
settings, with a callback for each message, and wait for all acknowledgements of 1000 before they send
more. The relay also reads them from PostgreSQL (fsync on), checks each against its closed schema, and
marks it; the raw side has them ready in memory. Five rounds, each on a new broker with a topic a side and
20 000 events a side (BENCH_MESSAGES); who begins changes from round to round; the medians are compared.

    python -m bench.relay       servers of its own; a broker takes at most 50 000 records
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

import django
from rich.console import Console
from rich.table import Table

from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.postgres import Postgres

# Both sides together stay below 50 000 records a broker, beyond which the embedded one is no measure.
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "20000"))
CREATORS = 500
ROUNDS = 5
WANTED = 0.5
RAW = "raw produce"
NAMESPACE = UUID("00000000-0000-5000-8000-0000000be7c4")


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    server = Postgres(folder / "postgres", free_port(), password="bench")
    try:
        server.start()
        yield server.dsn()
    finally:
        server.kill()


@contextmanager
def broker(folder: Path, port: int) -> Iterator[None]:
    """A broker without topics: a new one each round, for it grows slower as it fills."""
    server = Kafka(folder, port)
    try:
        server.start()
        yield
    finally:
        server.kill()


def main() -> int:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="checkout-bench-") as name:
        # PostgreSQL's own unprivileged user must pass through.
        folder = Path(name)
        folder.chmod(0o711)
        with database(folder) as dsn:
            os.environ.update(
                {
                    "DJANGO_SETTINGS_MODULE": "config.settings",
                    "ENVIRONMENT": "test",
                    "SECRET_KEY": "bench",
                    "DATABASE_URL": dsn,
                    "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
                    "PROCESSOR_URL": "http://127.0.0.1:1",
                    "PROCESSOR_API_KEY": "none",
                    "PROCESSOR_WEBHOOK_SECRET": "none",
                }
            )
            django.setup()
            seconds: dict[str, list[float]] = {"relay": [], RAW: []}
            faults: list[str] = []
            for number in range(ROUNDS):
                with broker(folder / f"kafka-{number}", port):
                    faults += play(number, seconds)
    return report(seconds, faults)


def play(number: int, seconds: dict[str, list[float]]) -> list[str]:
    """One round: each side once; the next round begins with the other. Returns what differs."""
    from bench import _relay_sides as sides

    sides.prepare(topics=["relay", "raw"])
    creators = [uuid5(NAMESPACE, f"{number}:{place}") for place in range(CREATORS)]
    messages = sides.commit(count=MESSAGES, creators=creators)
    gc.collect()
    sides.quiet_collector()  # as in Relay.run, for both sides
    turns: list[tuple[str, Callable[[], None]]] = [
        ("relay", sides.relay_all),
        (RAW, partial(sides.produce_in_batches, messages)),
    ]
    for side, work in turns if number % 2 else reversed(turns):
        seconds[side].append(timed(work))
    return sides.differences(expected=MESSAGES)


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def report(seconds: dict[str, list[float]], faults: Sequence[str]) -> int:
    table = Table(title=f"{MESSAGES} events of {CREATORS} creators, {ROUNDS} rounds in turns")
    for column in ("side", "median s", "from", "to", "events/s"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, took in seconds.items():
        median = statistics.median(took)
        row = (median, min(took), max(took))
        table.add_row(side, *(f"{value:.3f}" for value in row), f"{MESSAGES / median:.0f}")
    ratio = statistics.median(seconds[RAW]) / statistics.median(seconds["relay"])
    Console().print(table)
    for fault in faults:
        print(f"the two sides did not do the same work: {fault}")
    print(f"relay: {ratio:.2f} of raw produce in the same batches (wanted: at least {WANTED:.2f})")
    return 0 if ratio >= WANTED and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
