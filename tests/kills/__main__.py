"""`python -m tests.kills --times 100 [--only name]`: kills on a PostgreSQL of our own."""

import argparse
import os
import shutil
import sys
import time

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from tests.kills.campaign import run_place, table  # noqa: E402
from tests.kills.forks import say  # noqa: E402
from tests.kills.places import places  # noqa: E402


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    setup_test_environment()  # the test client's host name is let in
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        return campaign(arguments)
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="kills at each failpoint")
    parser.add_argument("--only", default="", help="the failpoints whose name contains this")
    return parser.parse_args()


def campaign(arguments: argparse.Namespace) -> int:
    chosen, rows = places(only=arguments.only), []
    total, done, begun = arguments.times * len(chosen), 0, time.monotonic()

    def progress(steps: int) -> None:
        nonlocal done
        done += steps
        rate = done / (time.monotonic() - begun)
        if sys.stderr.isatty() or done % 100 == 0:
            sys.stderr.write(f"{done}/{total} kills, {rate:.1f} a second ")
            sys.stderr.write("\r" if sys.stderr.isatty() else "\n")

    for place in chosen:
        rows.append(run_place(place, times=arguments.times, progress=progress))
        for sentence in rows[-1].violations[:12]:
            say(f"  !! {place.name} of {place.what}: {sentence}")
    say(table(rows))
    return 1 if any(row.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
