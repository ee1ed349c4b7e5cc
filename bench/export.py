"""Exporting charges (the product) beside what others would write it with, the same rows in the same run.

The product's CSV and XLSX; a bare COPY of the same columns, which counts, guards and orders nothing; pandas
(read_sql, to_csv); a loop over the ORM with csv.writer; django-import-export. Each side runs in a process of
its own, so that its peak memory is its own; they take turns, so that a busy machine slows all, and the medians
are compared. Each file is read again: the same charges with the same amounts, or the bench fails.

    python -m bench.export                    a PostgreSQL of its own with 300 000 charges; 100 000 exported
    python -m bench.export --charges 20000 --rows 5000    a look, within a minute
    DATABASE_URL=… python -m bench.export --loaded    one that bench.admin_pages filled

The libraries are in requirements/bench.txt; `make bench` installs them.
"""

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from bench.admin_pages import database, set_up

CSV, XLSX, COPY = "product, CSV", "product, XLSX", "bare COPY"
SIDES = (CSV, COPY, XLSX, "pandas", "ORM and csv.writer", "django-import-export")
# The columns by which the files are compared.
COMPARED = ("charge", "amount USD", "captured USD")
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
# A workbook takes no more.
MOST_ROWS = 100_000
WANTED = 0.3
MOST_MB = 200.0


class Differs(Exception):
    """Two sides did not write the same."""


@dataclass
class Side:
    """Rows a second, round by round; the highest memory in MB."""

    rates: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def main() -> int:
    asked = arguments()
    with database() as address, tempfile.TemporaryDirectory(prefix="checkout-bench-") as folder:
        set_up(address)
        # Its models need the settings, which need the address of the database above.
        from bench import _admin_pages as pages

        if not asked.loaded:
            pages.prepare(charges=asked.charges)
        days = newest_days(pages.charges_by_day(), min(asked.rows, MOST_ROWS))
        found, total = measured(Path(folder), days, asked.rounds)
    return report(found, days, total, as_json=asked.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--charges", type=int, default=int(os.environ.get("BENCH_CHARGES", "300000"))
    )
    parser.add_argument("--rows", type=int, default=MOST_ROWS, help="at most so many exported")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are taken")
    parser.add_argument("--loaded", action="store_true", help="the database is filled already")
    parser.add_argument("--json", action="store_true", help="figures for a machine, on stdout")
    return parser.parse_args()


def newest_days(counts: dict[date, int], most: int) -> tuple[date, date]:
    """As many of the newest whole days as hold `most` charges; the second is not included."""
    last, first, rows = max(counts), max(counts), 0
    for day in sorted(counts, reverse=True)[1:]:
        rows += counts[day]
        if rows > most:
            break
        first = day
    return first, last


def measured(folder: Path, days: tuple[date, date], rounds: int) -> tuple[dict[str, Side], Decimal]:
    """Every side in turns; the figures of each, and the USD total of all."""
    found = {side: Side() for side in SIDES}
    digests: dict[str, str] = {}
    for number in range(rounds):
        for side in SIDES:
            file = folder / f"{SIDES.index(side)}-{number}"
            told = run(side, days, file)
            found[side].rates.append(told["rows"] / told["seconds"])
            found[side].megabytes = max(found[side].megabytes, told["megabytes"])
            rows = sorted(rows_of_workbook(file) if side == XLSX else rows_of_csv(file))
            digests[side] = hashlib.sha256(repr(rows).encode()).hexdigest()
            if len(rows) != told["rows"] or digests[side] != digests[CSV]:
                raise Differs(f"{side} wrote {len(rows)} rows that are not those of {CSV}")
            file.unlink()
    return found, sum((amount for _, amount, _ in rows), Decimal("0.00"))


def run(side: str, days: tuple[date, date], file: Path) -> dict[str, float]:
    """One side in a process of its own; what it says of itself."""
    command = [sys.executable, "-m", "bench._export_sides", side, *map(str, days), str(file)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return told


Row = tuple[str, Decimal, Decimal]


def rows_of_csv(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8", newline="") as text:
        lines = csv.reader(text)
        head = next(lines)
        places = [head.index(name) for name in COMPARED]
        for line in lines:
            yield row_of([line[place] for place in places])


def rows_of_workbook(file: Path) -> Iterator[Row]:
    """The rows below the headings; strings are in the cells themselves, in constant memory."""
    places: list[int] = []
    with zipfile.ZipFile(file) as book, book.open("xl/worksheets/sheet1.xml") as sheet:
        # Of a file that this bench wrote itself.
        for _, row in ElementTree.iterparse(sheet):  # noqa: S314
            if row.tag != f"{SHEET}row":
                continue
            cells = {letters(cell.get("r", "")): "".join(cell.itertext()) for cell in row}
            row.clear()
            values = [cells.get(column(place), "") for place in range(len(cells) + 4)]
            if places:
                yield row_of([values[place] for place in places])
            elif COMPARED[0] in values:
                places = [values.index(name) for name in COMPARED]


def column(place: int) -> str:
    return chr(ord("A") + place)


def letters(address: str) -> str:
    return address.rstrip("0123456789")


def row_of(values: list[str]) -> Row:
    """A charge, what was owed and what was captured, to the cent however a side spells it."""
    charge, owed, captured = values
    return charge, cents(owed), cents(captured)


def cents(text: str) -> Decimal:
    return Decimal(text or "0").quantize(Decimal("0.01"))


def report(
    found: dict[str, Side], days: tuple[date, date], total: Decimal, *, as_json: bool
) -> int:
    ratio = found[CSV].median / found[COPY].median
    figures = {
        side: {
            "rows_per_second": round(each.median),
            "of_ours": round(found[CSV].median / each.median, 2),
            "peak_mb": round(each.megabytes),
        }
        for side, each in found.items()
    }
    if as_json:
        told = {"first": str(days[0]), "before": str(days[1]), "total_usd": str(total)}
        print(json.dumps({**told, "sides": figures}))
    else:
        Console().print(
            table_of(found, f"charges owed from {days[0]} to {days[1]}, {total:,.2f} USD")
        )
        print(f"export: {ratio:.2f} of a bare COPY (wanted: at least {WANTED})")
        print(f"export: peak {found[CSV].megabytes:.0f} MB (wanted: under {MOST_MB:.0f})")
    return 0 if ratio >= WANTED and found[CSV].megabytes < MOST_MB else 1


def table_of(found: dict[str, Side], title: str) -> Table:
    table = Table(title=title)
    for name in ("side", "rows/s, median", "from", "to", "CSV is so many times as fast", "peak MB"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for side, each in found.items():
        rates = (each.median, min(each.rates), max(each.rates))
        ratio = found[CSV].median / each.median
        table.add_row(
            side, *(f"{rate:,.0f}" for rate in rates), f"{ratio:.1f}", f"{each.megabytes:.0f}"
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
