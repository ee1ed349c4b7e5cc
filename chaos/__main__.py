"""`make chaos`: faults under load on real processes, and the verdict over what they left."""

import argparse
import random
import sys

from chaos.run import Plan, play
from chaos.scenes import UnknownScenario, chosen, table
from devstack.postgres import NoBinaries
from devstack.state import AlreadyRunning
from devstack.supervisor import PortTaken

# From so many minutes on, what goes away stays away as long as the issue says.
LONG_RUN = 10
AWAY, AWAY_BRIEFLY = 60.0, 10.0
EXAMPLES = """examples:
  python -m chaos --minutes 10
  python -m chaos --minutes 3 --only failover "disk full" --seed 7
  python -m chaos --list

The exit code is 0 only if every invariant holds, no request finally failed, no acknowledged write was
lost, and every scenario did what it is there for.
"""


def main(arguments: list[str]) -> int:
    """Carry out the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        scenarios = chosen(names=options.only)
        if options.list:
            print(table(scenarios))
            return 0
        return play(
            Plan(
                scenarios=scenarios,
                minutes=options.minutes,
                seed=options.seed,
                rate=options.rate,
                away=options.away or (AWAY if options.minutes >= LONG_RUN else AWAY_BRIEFLY),
            )
        )
    except (AlreadyRunning, NoBinaries, PortTaken, UnknownScenario) as problem:
        print(f"error: {problem}", file=sys.stderr)
    return 2


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--minutes",
        type=positive,
        default=10.0,
        help="how long faults are put in (default 10); start, rest and verdict come on top",
    )
    made.add_argument("--rate", type=positive, default=2.0, help="visitors a second (default 2)")
    made.add_argument("--seed", type=int, default=random.randrange(1, 10**6), help="of the load")
    made.add_argument("--away", type=positive, help="seconds SQS is away (60; in a short run 10)")
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these scenarios alone")
    made.add_argument("--list", action="store_true", help="name the scenarios and play none")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
