"""`python -m tests.kills --times 100 --random 600 --crashes 24`: kills on a PostgreSQL of our own.

Exit code 0 only if each process died where it was to, and nothing was lost, doubled or left undone.
"""

import argparse
import math
import os
import shutil
import sys
import time
from collections import Counter

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from checkout.failpoints import NAMES  # noqa: E402
from tests.arguments import counted  # noqa: E402
from tests.kills.campaign import HEAD, Row, line, run_place, total  # noqa: E402
from tests.kills.crashes import run_crashes  # noqa: E402
from tests.kills.forks import say  # noqa: E402
from tests.kills.places import places  # noqa: E402
from tests.kills.storms import run_storm  # noqa: E402

SHOWN_VIOLATIONS = 12


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    setup_test_environment()  # the test client's host name is let in
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        return campaign(arguments)
    except KeyboardInterrupt:
        say("\ninterrupted: no verdict")
        return 130
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument(
        "--times", type=counted, default=100, help="kills at each failpoint, at least (100)"
    )
    parser.add_argument(
        "--only", default="", help="failpoints whose names contain one of these, such as api,relay"
    )
    parser.add_argument("--random", type=counted, default=0, help="kills at random moments (0)")
    parser.add_argument(
        "--crashes", type=counted, default=0, help="ends of PostgreSQL under load (0)"
    )
    arguments = parser.parse_args()
    if not places(only=arguments.only):
        names = ", ".join(sorted(NAMES))
        parser.error(f"--only {arguments.only!r} is in the name of no failpoint; there are {names}")
    if not arguments.times + arguments.random + arguments.crashes:
        parser.error("nothing is to be killed: give --times, --random or --crashes")
    return arguments


def campaign(arguments: argparse.Namespace) -> int:
    wrong: list[str] = []
    if arguments.times:
        rows = kills_at_failpoints(times=arguments.times, only=arguments.only)
        wrong += [said for row in rows for said in row.violations]
    if arguments.random:
        storm = run_storm(times=arguments.random, progress=Bar(arguments.random))
        wrong += storm.violations
        say(storm.told())
        tell(storm.violations)
    if arguments.crashes:
        crashes = run_crashes(
            times=arguments.crashes, home=stack.HOME, progress=Bar(arguments.crashes)
        )
        wrong += [*crashes.lost, *crashes.violations]
        say(crashes.told())
        tell([*crashes.lost, *crashes.violations])
    return 1 if wrong else 0


def tell(violations: list[str]) -> None:
    """At once, and not at the end: a campaign may be interrupted."""
    for sentence in violations[:SHOWN_VIOLATIONS]:
        say(f"  !! {sentence}")


def kills_at_failpoints(*, times: int, only: str) -> list[Row]:
    """Each failpoint so often, shared among the places that have it."""
    chosen = places(only=only)
    shares = Counter(place.name for place in chosen)
    each = [(place, math.ceil(times / shares[place.name])) for place in chosen]
    bar, rows = Bar(sum(share for _, share in each)), []
    say(HEAD)
    for place, share in each:
        rows.append(run_place(place, times=share, progress=bar))
        say(line(rows[-1]))
        tell(rows[-1].violations)
    say(total(rows))
    return rows


class Bar:
    """How far it is and how fast, on stderr."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.begun = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __call__(self, steps: int) -> None:
        before, self.done = self.done, self.done + steps
        if not self.terminal and before // 100 == self.done // 100:
            return
        rate = self.done / (time.monotonic() - self.begun)
        sys.stderr.write(f"{self.done}/{self.total} kills, {rate:.1f} a second ")
        sys.stderr.write("\r" if self.terminal else "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
