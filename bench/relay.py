"""The relay to Kafka against producing the same messages without a database, in the same run.

Both sides send the same events, with the same keys and headers, through the same idempotent producer's
settings, with a callback for each message, and wait for all acknowledgements of 1000 before they send
more. The relay also reads them from PostgreSQL (fsync on), checks each against its closed schema, and
marks it; the raw side has them ready in memory. They take turns on one broker, a topic each; the medians
are compared.

    python -m bench.relay       servers of its own; at most 50 000 records in all
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

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "8000"))
OTHER_BROKER = os.environ.get("BENCH_KAFKA", "")
CREATORS = 500
ROUNDS = 3
WANTED = 0.5
RAW = "raw produce"
NAMESPACE = UUID("00000000-0000-5000-8000-0000000be7c4")


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The addresses of an empty database and of a broker without topics."""
    with tempfile.TemporaryDirectory(prefix="checkout-bench-") as folder:
        # PostgreSQL's own unprivileged user must pass through.
        Path(folder).chmod(0o711)
        database = Postgres(Path(folder) / "postgres", free_port(), password="bench")
        broker = Kafka(Path(folder) / "kafka", free_port())
        try:
            database.start()
            if not OTHER_BROKER:
                broker.start()
            yield database.dsn(), OTHER_BROKER or broker.address
        finally:
            broker.kill()
            database.kill()


def main() -> int:
    with servers() as (database, broker):
        os.environ.update(
            {
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "ENVIRONMENT": "test",
                "SECRET_KEY": "bench",
                "DATABASE_URL": database,
                "KAFKA_BOOTSTRAP_SERVERS": broker,
                "PROCESSOR_URL": "http://127.0.0.1:1",
                "PROCESSOR_API_KEY": "none",
                "PROCESSOR_WEBHOOK_SECRET": "none",
            }
        )
        django.setup()
        from bench import _relay_sides as sides

        sides.prepare(topics=["relay", "raw"])
        seconds: dict[str, list[float]] = {"relay": [], RAW: []}
        for number in range(ROUNDS):
            creators = [uuid5(NAMESPACE, f"{number}:{place}") for place in range(CREATORS)]
            messages = sides.commit(count=MESSAGES, creators=creators)
            gc.collect()
            sides.quiet_collector()  # as in Relay.run, for both sides
            seconds["relay"].append(timed(sides.relay_all))
            seconds[RAW].append(timed(partial(sides.produce_in_batches, messages)))
        faults = sides.differences(expected=MESSAGES * ROUNDS)
    return report(seconds, faults)


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
