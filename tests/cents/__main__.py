"""`python -m tests.cents --times 10000`: random cents on a PostgreSQL of our own; 0 only if all are named.

Each cent is moved by raw SQL somewhere among charges, attempts, terms, postings, statement lines and
files, payouts, settlements and the bank's entries; an incremental and a full pass must name exactly it.
"""

import argparse
import json
import os
import shutil
import statistics
import sys

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from bench._crowd import load  # noqa: E402
from checkout.clock import Ages, Clock  # noqa: E402
from tests.arguments import some  # noqa: E402
from tests.cents.campaign import Tally, plant  # noqa: E402


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        tally = run(arguments)
    except KeyboardInterrupt:
        sys.stdout.write("\ninterrupted: no verdict\n")
        return 130
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)
    sys.stdout.write(f"{json.dumps(vars(tally)) if arguments.json else told(tally)}\n")
    return 1 if tally.wrong or tally.found != tally.planted else 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=some, default=10_000, help="cents in all (10000)")
    parser.add_argument("--at-once", type=some, default=500, help="cents of a round (500)")
    parser.add_argument("--charges", type=some, default=5_000, help="in the database (5000)")
    parser.add_argument("--seed", type=int, default=0, help="which cents (0)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> Tally:
    clock = Clock()
    with Progress(console=Console(stderr=True), disable=arguments.json) as bars:
        loading = bars.add_task("Making charges", total=arguments.charges)
        load(
            charges=arguments.charges,
            today=clock.business_now().date(),
            progress=lambda done: bars.advance(loading, done),
        )
        planting = bars.add_task("Planting cents", total=arguments.times)
        return plant(
            times=arguments.times,
            at_once=arguments.at_once,
            seed=arguments.seed,
            clock=clock,
            ages=Ages(),
            progress=lambda done: bars.advance(planting, done),
        )


def told(tally: Tally) -> str:
    table = Table(title="Cents planted by raw SQL, and named", title_justify="left")
    for name in ("Place", "Planted", "Named"):
        table.add_column(name, justify="left" if name == "Place" else "right")
    for name, planted in sorted(tally.planted.items()):
        table.add_row(name, f"{planted:,}", f"{tally.found[name]:,}")
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    planted, found = tally.planted.total(), tally.found.total()
    return "\n".join(
        [
            capture.get().rstrip(),
            *tally.wrong,
            f"{found:,} of {planted:,} named by {tally.findings:,} discrepancies,"
            f" {tally.false_alarms:,} false alarms, {tally.left:,} left when put back;"
            f" a pass took {statistics.median(tally.seconds):.2f} s, at most {max(tally.seconds):.2f} s",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
