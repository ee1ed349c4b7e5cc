"""`python -m tests.simulation --seeds 200 --base 0 [--seed N]`: run schedules on a PostgreSQL of our own."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402

from tests.simulation.run import STEPS, Result, shortest, simulation  # noqa: E402
from tests.simulation.world import Plan  # noqa: E402


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        return campaign(arguments)
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules")
    parser.add_argument("--base", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, with its steps")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a schedule")
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    parser.add_argument("--shrink", action="store_true", help="look for a shorter failure")
    return parser.parse_args()


def campaign(arguments: argparse.Namespace) -> int:
    first, count = arguments.base, arguments.seeds
    if arguments.seed is not None:
        first, count = arguments.seed, 1
    failures, faults, begun = 0, Counter[str](), time.monotonic()
    with simulation() as running:
        for seed in range(first, first + count):
            plan = Plan.drawn(seed, steps=arguments.steps)
            result = running.run(plan)
            faults.update(result.faults)
            if result.violations:
                failures += 1
                tell(result)
                if arguments.shrink:
                    tell(shortest(running, plan))
            elif arguments.seed is not None:
                say("\n".join([*result.lines, result.trace]))
            done, seconds = seed - first + 1, time.monotonic() - begun
            progress(done, count, failures, seconds)
            if failures >= arguments.failures or seconds > arguments.minutes * 60:
                break
    struck = sum(faults.values())
    say(
        f"\n{done} schedules, {failures} failed, {struck} faults, {60 * done / seconds:.0f} a minute"
    )
    return 1 if failures else 0


def progress(done: int, count: int, failures: int, seconds: float) -> None:
    rate = 60 * done / max(seconds, 0.001)
    text = f"{done}/{count} schedules, {failures} failed, {rate:.0f} a minute"
    if sys.stderr.isatty() or done % 25 == 0:
        sys.stderr.write(text + ("\r" if sys.stderr.isatty() else "\n"))


def tell(result: Result) -> None:
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    say(f"\nFAILED: seed {result.seed} at {commit}: {result.plan}")
    say("\n".join(result.lines))
    say("\n".join(f"  !! {sentence}" for sentence in result.violations[:12]))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
