"""Billing set-based (the product) against one subscription at a time through the ORM, in the same run.

Both sides do the same work for the same number of subscriptions: lock the creator, compute the period
and the derived identifiers, write charge with its independently computed expected amount, ledger entry
with two postings, event with the creator's next sequence number, dispatch, and the next billing date.
They take turns, so that a busy machine slows both; the medians are compared.

    python -m bench.bill_due                a PostgreSQL of its own, fsync on
    DATABASE_URL=… python -m bench.bill_due another one: an EMPTY database, which it fills
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import django
from rich.console import Console
from rich.table import Table

from devstack.ports import free_port
from devstack.postgres import Postgres

SUBSCRIPTIONS = int(os.environ.get("BENCH_SUBSCRIPTIONS", "1000"))
ROUNDS = 3
WANTED = 30.0


@contextmanager
def database() -> Iterator[str]:
    """The address of an empty database."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="checkout-bench-") as folder:
        # PostgreSQL's own unprivileged user must pass through.
        Path(folder).chmod(0o711)
        server = Postgres(Path(folder) / "postgres", free_port(), password="bench")
        server.start()
        try:
            yield server.dsn()
        finally:
            server.kill()


def main() -> int:
    with database() as address:
        os.environ.update(
            {
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "ENVIRONMENT": "test",
                "SECRET_KEY": "bench",
                "DATABASE_URL": address,
                "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
                "PROCESSOR_URL": "http://127.0.0.1:1",
                "PROCESSOR_API_KEY": "none",
                "PROCESSOR_WEBHOOK_SECRET": "none",
            }
        )
        django.setup()
        # Its models need the settings, which need the address of the database above.
        from bench import _bill_due as sides

        sides.prepare(subscriptions=SUBSCRIPTIONS, groups=2 * ROUNDS)
        seconds: dict[str, list[float]] = {"set-based": [], "one at a time": []}
        for number in range(ROUNDS):
            sides.fall_due(group=2 * number)
            seconds["set-based"].append(timed(sides.bill_set_based))
            sides.fall_due(group=2 * number + 1)
            seconds["one at a time"].append(timed(sides.bill_one_by_one))
        faults = sides.differences(groups=2 * ROUNDS, subscriptions=SUBSCRIPTIONS)
    return report(seconds, faults)


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def report(seconds: dict[str, list[float]], faults: Sequence[str]) -> int:
    table = Table(title=f"billing {SUBSCRIPTIONS} subscriptions, {ROUNDS} rounds in turns")
    for column in ("side", "median s", "from", "to", "charges/s"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, took in seconds.items():
        median = statistics.median(took)
        row = (median, min(took), max(took), SUBSCRIPTIONS / median)
        table.add_row(side, *(f"{value:.2f}" for value in row[:3]), f"{row[3]:.0f}")
    ratio = statistics.median(seconds["one at a time"]) / statistics.median(seconds["set-based"])
    Console().print(table)
    for fault in faults:
        print(f"the two sides did not do the same work: {fault}")
    print(f"bill_due: {ratio:.0f} × the ORM loop (wanted: at least {WANTED:.0f})")
    return 0 if ratio >= WANTED and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
