"""Every page of the admin at many charges, beside the same lists in Django's default admin, in the same run.

Loads charges with all that follows from them (bench/_admin_rows.py), then opens each page as an approver
through the whole stack: address, session, rights, snapshot, queries, template. Ours and the default list
take turns, so that a busy machine slows both; the medians are compared. R47: each page under a second.

    python -m bench.admin_pages                       5 000 000 charges, a PostgreSQL of its own; about 30 GB
    python -m bench.admin_pages --charges 50000       a look, within a minute
    DATABASE_URL=… python -m bench.admin_pages        another database: an EMPTY one, which it fills
    DATABASE_URL=… python -m bench.admin_pages --loaded    one that was filled so before
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from devstack.ports import free_port
from devstack.postgres import Postgres

if TYPE_CHECKING:
    from bench._admin_pages import Opened

MOST_MS = 1000.0
# How many times as long the default list takes, where there are so many charges.
WANTED, WANTED_AT = 15.0, 5_000_000
# A server as one sets up for such a database; nothing is written while pages are measured.
SERVER = {"shared_buffers": "512MB", "max_wal_size": "8GB", "effective_cache_size": "4GB"}


@contextmanager
def database() -> Iterator[str]:
    """The address of a database: the one that DATABASE_URL names, else an empty one of our own."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="checkout-bench-") as folder:
        # PostgreSQL's own unprivileged user must pass through.
        Path(folder).chmod(0o711)
        place = Path(folder) / "postgres"
        server = Postgres(place, free_port(), password="bench", fsync=False, parameters=SERVER)
        server.start()
        try:
            yield server.dsn()
        finally:
            server.kill()


def main() -> int:
    asked = arguments()
    with database() as address:
        set_up(address)
        # Its models need the settings, which need the address of the database above.
        from bench import _admin_pages as pages

        if not asked.loaded:
            pages.prepare(charges=asked.charges)
        facts = pages.facts()
        with waiting() as note:
            found = pages.measure(rounds=asked.rounds, note=note)
        ratios = pages.ratios(found, statistics.median)
    return report(found, ratios, facts, as_json=asked.json)


def set_up(address: str) -> None:
    """Django, with the product's settings and this database."""
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
            "LOG_LEVEL": "ERROR",
        }
    )
    django.setup()
    logging.disable(logging.WARNING)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.admin_pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--charges", type=int, default=int(os.environ.get("BENCH_CHARGES", "5000000"))
    )
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are taken")
    parser.add_argument("--loaded", action="store_true", help="the database is filled already")
    parser.add_argument("--json", action="store_true", help="figures for a machine, on stdout")
    return parser.parse_args()


@contextmanager
def waiting() -> Iterator[Any]:
    """Which page is being opened."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pages")
        yield lambda name: bar.update(task, description=f"opening {name}")


def report(
    found: "list[Opened]", ratios: dict[str, float], facts: dict[str, int], *, as_json: bool
) -> int:
    slow = [page.name for page in found if statistics.median(page.took) >= MOST_MS]
    middle = statistics.median(ratios.values())
    if as_json:
        rows = [row_of(page, ratios) for page in found]
        print(json.dumps({**facts, "median_ratio": round(middle, 1), "slow": slow, "pages": rows}))
    else:
        title = f"{facts['charges']:,} charges, {facts['database_mb']:,} MB"
        Console().print(table_of(found, ratios, title))
        print(
            f"admin_pages: {len(found)} pages, {len(slow)} of a second or more: {', '.join(slow) or '-'}"
        )
        print(
            f"admin_pages: the default list takes {middle:.0f} × as long"
            f" (wanted at {WANTED_AT:,} charges: at least {WANTED:.0f})"
        )
    is_enough = middle >= WANTED or facts["charges"] < WANTED_AT
    return 0 if not slow and is_enough else 1


def row_of(page: "Opened", ratios: dict[str, float]) -> dict[str, Any]:
    """A page's figures: medians in ms."""
    return {
        "page": page.name,
        "ms": round(statistics.median(page.took), 1),
        "default_ms": round(statistics.median(page.plain_took), 1) if page.plain_took else None,
        "ratio": round(ratios[page.name], 1) if page.name in ratios else None,
        "queries": page.queries[0],
    }


def table_of(found: "list[Opened]", ratios: dict[str, float], title: str) -> Table:
    table = Table(title=title)
    for column in ("page", "median ms", "default admin, ms", "ratio", "queries"):
        table.add_column(column, justify="left" if column == "page" else "right")
    for page in found:
        row = row_of(page, ratios)
        figures = (row["ms"], row["default_ms"], row["ratio"], row["queries"])
        table.add_row(page.name, *("—" if each is None else f"{each:,}" for each in figures))
    return table


if __name__ == "__main__":
    sys.exit(main())
