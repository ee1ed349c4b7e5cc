"""`python -m tests.simulation --seeds 200 --base 0`: run schedules on a PostgreSQL of our own."""

import argparse
import os
import shutil
import sys
from pathlib import Path

import tests.stack as stack  # sets the environment, so before Django  # isort: skip

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402

from tests.simulation import campaign  # noqa: E402
from tests.simulation.campaign import Campaign, Outcome, say  # noqa: E402
from tests.simulation.plan import FAULTS, Plan  # noqa: E402
from tests.simulation.run import STEPS, simulation  # noqa: E402


def main() -> int:
    arguments = read_arguments()
    stack.pytest_configure()
    stack.POSTGRES.start()
    try:
        connection.creation.create_test_db(verbosity=0)
        return one(arguments) if arguments.seed or arguments.plan else many(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        connection.close()
        stack.POSTGRES.kill()
        shutil.rmtree(stack.HOME, ignore_errors=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules")
    parser.add_argument("--base", type=int, default=0, help="the first seed")
    parser.add_argument("--alone", type=int, default=0, help="and so many of each fault alone")
    parser.add_argument("--faults", default="", help="schedules of these alone, such as F8,F12")
    parser.add_argument("--seed", default="", help="this one alone, with its steps")
    parser.add_argument("--plan", default="", help="this printed plan alone, with its steps")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a schedule")
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    parser.add_argument("--jobs", type=int, default=campaign.cores(), help="processes")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds for a shorter failure")
    parser.add_argument("--keep", action="store_true", help="add failures to the regressions")
    parser.add_argument("--json", default="", help="write what happened to this file")
    return parser.parse_args()


def many(arguments: argparse.Namespace) -> int:
    """A campaign of seeds in a row."""
    base, steps, faults = arguments.base, arguments.steps, arguments.faults

    def plan(seed: int) -> Plan:
        if faults:
            return Plan.of(faults.split(","), seed=seed, steps=steps)
        return Plan.drawn(seed, steps=steps)

    plans = [
        *(plan(seed) for seed in range(base, base + arguments.seeds)),
        *(Plan.of([f], seed=base + n, steps=steps) for n in range(arguments.alone) for f in FAULTS),
    ]
    outcome = campaign.run(
        Campaign(
            plans=plans,
            jobs=max(1, min(arguments.jobs, len(plans))),
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
    return 1 if outcome.failed else 0


def one(arguments: argparse.Namespace) -> int:
    """One schedule again, with its last steps."""
    if arguments.plan:
        plan = Plan.from_json(arguments.plan)
    else:
        plan = Plan.drawn(int(arguments.seed), steps=arguments.steps)
    with simulation() as running:
        result = running.run(plan)
    if result.violations:
        campaign.tell(result)
        return 1
    say("\n".join([*result.lines, plan.as_json(), result.trace, "no violation"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
