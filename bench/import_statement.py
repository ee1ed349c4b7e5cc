"""Importing a statement (the product) against a bare COPY of the same rows, in the same run.

Each side runs in a process of its own, so that its peak memory is its own; they take turns, so that a busy
machine slows all, and the medians are compared. The bare COPY sends the rows as they came out of the
table, already rendered, into the same table: nothing is read, checked, added up or matched. Beside them,
for the CSV, the ORM: bulk_create in batches, and one row at a time, of fewer rows.

    python -m bench.import_statement        a PostgreSQL of its own, fsync on, a million lines
    DATABASE_URL=… python -m bench.import_statement     another one: an EMPTY database, which it fills
    BENCH_LINES=100000 BENCH_ROUNDS=1 BENCH_KINDS=camt python -m bench.import_statement

Ends with 0 when the product reaches what is wanted of it: the share of the bare COPY, and its memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.bill_due import database

LINES = int(os.environ.get("BENCH_LINES", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
# Rows of a side that is too slow for all of them; what is compared is rows a second.
FEWER = {"ORM, bulk_create": min(LINES, 50_000), "ORM, one by one": min(LINES, 1_000)}
WANTED = {"csv": 0.3, "camt": 0.1}
MOST_MB = 200.0


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m bench.import_statement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    with database() as address, tempfile.TemporaryDirectory(prefix="checkout-bench-") as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ENVIRONMENT": "test",
            "SECRET_KEY": "bench",
            "DATABASE_URL": address,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "PROCESSOR_URL": "http://127.0.0.1:1",
            "PROCESSOR_API_KEY": "none",
            "PROCESSOR_WEBHOOK_SECRET": "none",
            "STATEMENT_LARGEST_BYTES": str(4 << 30),
        }
        run("prepare", "", Path(folder), 0, 0, environment)
        return max(
            [
                measured(kind, Path(folder), environment)
                for kind in os.environ.get("BENCH_KINDS", "csv camt").split()
            ]
        )


def measured(kind: str, folder: Path, environment: dict[str, str]) -> int:
    """Every side in turns; prints the table and says whether the goals were met."""
    rates: dict[str, list[float]] = {}
    megabytes: dict[str, float] = {}
    for number in range(ROUNDS):
        for side in sides(kind):
            told = run(side, kind, folder, number, FEWER.get(side, LINES), environment)
            rates.setdefault(side, []).append(told["rows"] / told["seconds"])
            megabytes[side] = max(megabytes.get(side, 0.0), told["megabytes"])
    table = Table(title=f"{kind}: {LINES} lines, {ROUNDS} rounds in turns")
    for column in ("side", "rows/s, median", "from", "to", "peak MB"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, values in rates.items():
        figures = (statistics.median(values), min(values), max(values), megabytes[side])
        table.add_row(side, *(f"{value:.0f}" for value in figures))
    Console().print(table)
    ratio = statistics.median(rates["product"]) / statistics.median(rates["bare COPY"])
    print(
        f"import_statement {kind}: {ratio:.2f} of a bare COPY (wanted: at least {WANTED[kind]}),"
        f" peak {megabytes['product']:.0f} MB (wanted: under {MOST_MB:.0f})"
    )
    return 0 if ratio >= WANTED[kind] and megabytes["product"] < MOST_MB else 1


def sides(kind: str) -> Iterator[str]:
    yield from ("product", "bare COPY")
    if kind == "csv":
        yield from FEWER


def run(
    side: str, kind: str, folder: Path, number: int, lines: int, environment: dict[str, str]
) -> dict[str, float]:
    """One side in a process of its own; what it says of itself."""
    answer = subprocess.run(
        [sys.executable, "-m", "bench._import_sides", side, kind, folder, str(number), str(lines)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    told: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    sys.exit(main())
