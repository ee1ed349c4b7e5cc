"""`python -m tests.simulation --seeds 200 --base 0`: run schedules on a PostgreSQL of our own."""

import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402

from tests.arguments import counted, positive, some  # noqa: E402
from tests.simulation import campaign  # noqa: E402
from tests.simulation.campaign import Campaign, Outcome, say  # noqa: E402
from tests.simulation.plan import FAULTS, Plan  # noqa: E402
from tests.simulation.run import STEPS, simulation  # noqa: E402
from tests.workers import cores  # noqa: E402


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        wants_one = arguments.plan or arguments.seed is not None
        return one(arguments) if wants_one else many(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=counted, default=200, help="how many schedules (200)")
    parser.add_argument("--base", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--alone", type=counted, default=0, help="and so many of each fault alone")
    parser.add_argument(
        "--faults", type=faults, default=[], help="schedules of these alone, such as F8,F12"
    )
    parser.add_argument("--seed", type=int, help="this one alone, with its steps")
    parser.add_argument("--plan", type=plan, help="this printed plan alone, with its steps")
    parser.add_argument(
        "--steps", type=counted, default=STEPS, help=f"steps of a schedule ({STEPS})"
    )
    parser.add_argument("--failures", type=some, default=5, help="stop after so many (5)")
    parser.add_argument(
        "--minutes", type=positive, default=math.inf, help="stop after so long (when all are run)"
    )
    parser.add_argument("--jobs", type=some, default=cores(), help="processes (one a core)")
    parser.add_argument(
        "--shrink", type=positive, default=60.0, help="seconds to make a failure shorter (60)"
    )
    parser.add_argument("--keep", action="store_true", help="add failures to the regressions")
    parser.add_argument("--json", default="", help="write what happened to this file")
    arguments = parser.parse_args()
    if not arguments.seeds + arguments.alone:
        parser.error("no schedule is left to run: give --seeds or --alone")
    return arguments


def faults(text: str) -> list[str]:
    """F-numbers of the simulation, from a list with commas."""
    chosen = text.split(",")
    if unknown := sorted(set(chosen) - set(FAULTS)):
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} is not simulated; these are: {', '.join(FAULTS)}"
        )
    return chosen


def plan(text: str) -> Plan:
    """A plan as a failure prints it."""
    try:
        return Plan.from_json(text)
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no plan as a failure prints it: {error}"
        ) from None


def many(arguments: argparse.Namespace) -> int:
    """A campaign of seeds in a row."""
    base, steps = arguments.base, arguments.steps

    def drawn(seed: int) -> Plan:
        if arguments.faults:
            return Plan.of(arguments.faults, seed=seed, steps=steps)
        return Plan.drawn(seed, steps=steps)

    plans = [
        *(drawn(seed) for seed in range(base, base + arguments.seeds)),
        *(Plan.of([f], seed=base + n, steps=steps) for n in range(arguments.alone) for f in FAULTS),
    ]
    outcome = campaign.run(
        Campaign(
            plans=plans,
            jobs=min(arguments.jobs, len(plans)),
            failures=arguments.failures,
            minutes=arguments.minutes,
            shrink_seconds=arguments.shrink,
        )
    )
    return ended(outcome, arguments)


def ended(outcome: Outcome, arguments: argparse.Namespace) -> int:
    say(f"\n{campaign.summary(outcome)}")
    if arguments.json:
        Path(arguments.json).write_text(outcome.as_json(), "utf-8")
    if outcome.failed and arguments.keep:
        say(f"{campaign.keep(outcome.failed)} added to {campaign.REGRESSIONS.name}")
    if outcome.interrupted:
        return 130
    if outcome.is_short:
        say("a process of the campaign ended before its schedules did")
    return 1 if outcome.failed or outcome.is_short else 0


def one(arguments: argparse.Namespace) -> int:
    """One schedule again, with its last steps."""
    plan = arguments.plan or Plan.drawn(arguments.seed, steps=arguments.steps)
    with simulation() as running:
        result = running.run(plan)
    if result.violations:
        campaign.tell(result)
        return 1
    say("\n".join([*result.lines, plan.as_json(), result.trace, "no violation"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
