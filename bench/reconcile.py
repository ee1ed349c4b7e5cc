"""Reconciliation (the product) of N captures and N statement lines against bare SQL, in the same run.

Each side runs in a process of its own, in turns, so that a busy machine slows all; medians are compared.
Memory is the largest of any process: the side's own, and the private memory of the PostgreSQL sessions.

- The comparison of captures with lines: a full pass of it, beside one SQL statement typed for the same
  question, beside pandas (if requirements/bench.txt is installed) and beside an ORM loop, which is
  measured on a sample and told for all by the rate.
- All seven: a full pass beside the same statements over everything at once, nothing recorded.
- An incremental pass after a hundredth of the captures changed, beside a full pass.
- Seconds from the commit of a cent until it stands as a discrepancy, by passes as often as the timetable's.

    python -m bench.reconcile                        a million, on a PostgreSQL of its own, fsync on
    python -m bench.reconcile --charges 100000 --json
"""

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.bill_due import database

FULL, BARE = "full pass, captures and lines", "bare SQL, captures and lines"
ALL, AT_ONCE = "full pass, all seven", "the same SQL at once, all seven"
INCREMENTAL = "incremental pass"
PANDAS, ORM = "pandas, captures and lines", "ORM loop, captures and lines"
MOST_RATIO: Final = 1.5
MOST_INCREMENTAL: Final = 1 / 20
MOST_MB: Final = 300.0
MOST_SECONDS: Final = 60.0
OURS: Final = (FULL, ALL, INCREMENTAL)
# What is planted while passes run, and which discrepancy is waited for.
PLANTS: Final = {
    "a capture": (
        "UPDATE checkout_attempt SET captured_amount = captured_amount + %s WHERE id = %s"
        " RETURNING charge_id",
        "captured",
    ),
    "a charge": (
        "UPDATE checkout_charge SET amount = amount + %s WHERE id ="
        " (SELECT charge_id FROM checkout_attempt WHERE id = %s) RETURNING id",
        "billing",
    ),
    "a statement line": (
        "UPDATE settlements_statementline l SET gross = gross + c.cent, net = net + c.cent"
        " FROM (SELECT %s::numeric AS cent, %s::uuid AS id) c"
        " WHERE l.key = c.id RETURNING (SELECT charge_id FROM checkout_attempt a WHERE a.id = c.id)",
        "statement",
    ),
}


@dataclass
class Side:
    """What was measured of one side; `peak` is the largest process, in MB."""

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0
    exact: bool = True
    wrong: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def main() -> int:
    arguments = read_arguments()
    with database() as address, Progress(console=Console(stderr=True)) as bars:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ENVIRONMENT": "test",
            "SECRET_KEY": "bench",
            "DATABASE_URL": address,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "PROCESSOR_URL": "http://127.0.0.1:1",
            "PROCESSOR_API_KEY": "none",
            "PROCESSOR_WEBHOOK_SECRET": "none",
        }
        loading = bars.add_task("Making charges", total=arguments.charges)
        for said in run("prepare", arguments.charges, arguments.months, environment):
            bars.update(loading, completed=said["done"])
        measured = measure(arguments, address, environment, bars)
        named = plant(arguments, address, environment, bars)
    return report(arguments, measured, named)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.reconcile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    most = int(os.environ.get("BENCH_CHARGES", "1000000"))
    parser.add_argument("--charges", type=int, default=most, help=f"{most:,} if not given")
    parser.add_argument("--months", type=int, choices=range(1, 7), default=5, help="of a creator")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "3")))
    parser.add_argument("--cents", type=int, default=3, help="planted while passes run")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser.parse_args()


def sides() -> list[str]:
    has_pandas = importlib.util.find_spec("pandas") is not None
    return [FULL, BARE, *([PANDAS] if has_pandas else []), ORM, ALL, AT_ONCE, INCREMENTAL]


def measure(
    arguments: argparse.Namespace, address: str, environment: dict[str, str], bars: Progress
) -> dict[str, Side]:
    """Every side in turns; the next round begins with the last."""
    measured = {side: Side() for side in sides()}
    task = bars.add_task("Measuring", total=arguments.rounds * len(measured))
    for number in range(arguments.rounds):
        for side in measured if number % 2 else reversed(list(measured)):
            bars.update(task, description=side)
            with sessions(address) as session:
                *_, told = run(side, arguments.charges, number, environment)
            into = measured[side]
            into.seconds.append(told["seconds"])
            into.rates.append(told["rows"] / told["seconds"])
            into.peak = max(into.peak, told["megabytes"], session.megabytes)
            into.exact = into.exact and told["exact"]
            into.wrong += told["wrong"]
            bars.advance(task)
    return measured


def plant(
    arguments: argparse.Namespace, address: str, environment: dict[str, str], bars: Progress
) -> list[tuple[str, float]]:
    """What was planted, and the seconds from its commit until it stood."""
    task = bars.add_task("Planting cents while passes run", total=arguments.cents)
    watching = subprocess.Popen(command("watch", arguments.charges, 0), env=environment)
    chance, named = random.Random(0), []
    try:
        with psycopg.connect(address, autocommit=True) as database:
            for number in range(arguments.cents):
                # At any moment between two passes.
                time.sleep(chance.uniform(0, 15))
                what = list(PLANTS)[number % len(PLANTS)]
                named.append((what, named_after(database, what, number)))
                bars.advance(task)
    finally:
        watching.kill()
        watching.wait()
    return named


def named_after(database: psycopg.Connection[Any], what: str, number: int) -> float:
    sql, kind = PLANTS[what]
    row = database.execute(
        "SELECT id FROM checkout_attempt WHERE creator_id NOT IN"
        " (SELECT creator_id FROM crowd_fault) ORDER BY id OFFSET %s LIMIT 1",
        [number],
    ).fetchone()
    with database.transaction():
        database.execute("SET LOCAL session_replication_role = replica")
        planted = database.execute(sql, ["-0.01", row and row[0]]).fetchone()
    begun = time.perf_counter()
    while time.perf_counter() - begun < 10 * MOST_SECONDS:
        stands = database.execute(
            "SELECT 1 FROM settlements_discrepancy WHERE kind = %s AND charge_id = %s"
            " AND cleared_at IS NULL AND abs(difference) = 0.01",
            [kind, planted and planted[0]],
        )
        if stands.fetchone():
            return time.perf_counter() - begun
        time.sleep(0.05)
    return float("inf")


@dataclass
class Sessions:
    """The largest private memory (MB) of a PostgreSQL session, 0 where there is no /proc."""

    megabytes: float = 0.0


@contextmanager
def sessions(address: str) -> Iterator[Sessions]:
    """Look at the sessions of the server, parallel workers too, ten times a second."""
    seen, ended = Sessions(), threading.Event()

    def look() -> None:
        with psycopg.connect(address, autocommit=True) as database:
            while not ended.wait(0.1):
                rows = database.execute(
                    "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                ).fetchall()
                seen.megabytes = max([seen.megabytes, *(private(pid) for (pid,) in rows)])

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        ended.set()
        looker.join()


def private(pid: int) -> float:
    """MB of a process that no other shares: shared buffers are not counted once a session."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(sizes[0]) / 1024 if sizes else 0.0


def command(side: str, charges: int, number: int) -> list[str]:
    return [sys.executable, "-m", "bench._reconcile_sides", side, str(charges), str(number)]


def run(
    side: str, charges: int, number: int, environment: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """One side in a process of its own; every line it tells."""
    with subprocess.Popen(
        command(side, charges, number), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{side}: it ended with {process.returncode}")


# --- The report ------------------------------------------------------------------------------------


def report(
    arguments: argparse.Namespace, measured: dict[str, Side], named: Sequence[tuple[str, float]]
) -> int:
    figures = {
        "full_to_bare": measured[FULL].median / measured[BARE].median,
        "all_to_at_once": measured[ALL].median / measured[AT_ONCE].median,
        "incremental_to_full": measured[INCREMENTAL].median / measured[ALL].median,
        "peak_mb": max(measured[side].peak for side in OURS),
        "named_after": max((seconds for _, seconds in named), default=0.0),
    }
    limits = {
        "full_to_bare": MOST_RATIO,
        "all_to_at_once": MOST_RATIO,
        "incremental_to_full": MOST_INCREMENTAL,
        "peak_mb": MOST_MB,
        "named_after": MOST_SECONDS,
    }
    exact = all(side.exact for side in measured.values())
    if arguments.json:
        told = {side: vars(values) for side, values in measured.items()}
        print(
            json.dumps(
                {
                    "charges": arguments.charges,
                    "months": arguments.months,
                    **figures,
                    "exact": exact,
                    "sides": told,
                }
            )
        )
    else:
        tell(arguments, measured, named, figures, limits)
    return 0 if exact and all(figures[name] <= most for name, most in limits.items()) else 1


def tell(
    arguments: argparse.Namespace,
    measured: Mapping[str, Side],
    named: Sequence[tuple[str, float]],
    figures: Mapping[str, float],
    limits: Mapping[str, float],
) -> None:
    table = Table(
        title=f"{arguments.charges:,} captures, {arguments.months} of a creator,"
        f" {arguments.rounds} rounds in turns"
    )
    for column in ("side", "median s", "from", "to", "rows/s", "peak MB", "found"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, values in measured.items():
        spread = (values.median, min(values.seconds), max(values.seconds))
        table.add_row(
            side,
            *(f"{value:.2f}" for value in spread),
            f"{statistics.median(values.rates):,.0f}",
            f"{values.peak:.0f}",
            "exact" if values.exact else "WRONG",
        )
    Console(width=110).print(table)
    for side, values in measured.items():
        for name in values.wrong:
            print(f"{side}: it found, or did not find, {name}")
    if PANDAS not in measured:
        print("pandas is not installed: pip install --require-hashes -r requirements/bench.txt")
    loop = arguments.charges / statistics.median(measured[ORM].rates)
    print(f"the ORM loop would take {loop:,.0f} s for all, told by its rate on a sample")
    print(
        "planted and named: "
        + ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in named)
    )
    for name, value in figures.items():
        print(f"reconcile {name}: {value:.3f} (wanted: at most {limits[name]:.3g})")


if __name__ == "__main__":
    sys.exit(main())
