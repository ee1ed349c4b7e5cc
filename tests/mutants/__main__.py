"""`python -m tests.mutants [NAME …]`: put bugs into the service, one at a time, and find each.

Without more: every mutant against the schedules 0 to 299 of the simulation (or against the test that is
named for it). `--known` tries the seed that is known to find it first; `--renew` does so too, and writes
what it found to tests/mutants/seeds.json and docs/mutants.md. Exit code 0 only if every mutant is found.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tests.stack as stack  # sets the environment, so before anything reads it
from tests.arguments import some
from tests.mutants import table
from tests.mutants.finding import Finding
from tests.mutants.mutant import Mutant
from tests.mutants.registry import MUTANTS, UnknownMutant, named
from tests.mutants.runner import Runner, runner, tested

SCHEDULES = 300
LIMIT_SECONDS = 900.0


def main() -> int:
    arguments = read_arguments()
    if arguments.table:
        table.write()
        return 0
    chosen, known = arguments.chosen, table.read_seeds()
    stack.pytest_configure()
    begun = time.monotonic()
    try:
        with runner(Path(tempfile.mkdtemp(dir=stack.HOME)), stack.POSTGRES) as running:
            findings = []
            for finding in tried(running, chosen, known, arguments):
                findings.append(finding)
                tell(finding, drifted=finding.seed != known.get(finding.mutant))
                progress(len(findings), len(chosen), time.monotonic() - begun)
                if arguments.renew:
                    table.remember(finding)
            if not arguments.known:
                findings = sound(running, findings)
    except KeyboardInterrupt:
        sys.stdout.write("\ninterrupted: no verdict\n")
        return 130
    finally:
        stack.pytest_unconfigure()
    if arguments.renew:
        for finding in findings:
            table.remember(finding)
        table.write()
    return summary(findings, time.monotonic() - begun)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone")
    parser.add_argument(
        "--seeds",
        type=some,
        default=SCHEDULES,
        help=f"how many schedules at most ({SCHEDULES})",
    )
    parser.add_argument("--hands", type=some, default=2, help="mutants at a time (2)")
    parser.add_argument(
        "--known", action="store_true", help="those with a known seed, by that first"
    )
    parser.add_argument("--renew", action="store_true", help="write seeds and table anew")
    parser.add_argument("--table", action="store_true", help="write the table, try nothing")
    arguments = parser.parse_args()
    try:
        arguments.chosen = [named(name) for name in arguments.names] or list(MUTANTS)
    except UnknownMutant as unknown:
        parser.error(f"there is no mutant {unknown}; docs/mutants.md names them all")
    if arguments.known:
        known = table.read_seeds()
        arguments.chosen = [mutant for mutant in arguments.chosen if mutant.name in known]
        if not arguments.chosen:
            parser.error("no seed is known for any of these: leave --known out")
    return arguments


def tried(
    running: Runner, chosen: list[Mutant], known: dict[str, int], arguments: argparse.Namespace
) -> Iterator[Finding]:
    """A finding for each, by the simulation or by the test that is named for it."""
    yield from running.try_all(
        [mutant for mutant in chosen if not mutant.killed_by],
        first=known if arguments.known or arguments.renew else {},
        seeds=range(arguments.seeds),
        hands=arguments.hands,
        limit=LIMIT_SECONDS,
    )
    if not arguments.known:
        yield from (tested(mutant, root=running.root) for mutant in chosen if mutant.killed_by)


def sound(running: Runner, findings: list[Finding]) -> list[Finding]:
    """The findings without those of a schedule that complains about the service as it is."""
    seeds = sorted({finding.seed for finding in findings if finding.seed is not None})
    unsound = running.unsound(seeds)
    for seed, sentence in unsound.items():
        sys.stdout.write(f"UNSOUND   seed {seed} complains without any bug: {sentence}\n")
    return [
        Finding(finding.mutant, None, finding.schedules) if finding.seed in unsound else finding
        for finding in findings
    ]


def tell(finding: Finding, *, drifted: bool) -> None:
    """One line for one mutant."""
    if finding.sentence and finding.seed is None:
        text = f"found     {finding.mutant:28} {finding.sentence}"
    elif finding.sentence:
        again = " (not the known seed)" if drifted else ""
        text = f"found     {finding.mutant:28} seed {finding.seed}{again}: {finding.sentence[:100]}"
    else:
        text = f"SURVIVES  {finding.mutant:28} {finding.trouble or finding.schedules}"
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def progress(done: int, of: int, seconds: float) -> None:
    bar = "#" * (30 * done // of)
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"[{bar:30}] {done}/{of} mutants, {seconds:.0f} s{end}")


def summary(findings: list[Finding], seconds: float) -> int:
    """The last words; exit code 1 if a mutant lives."""
    alive = sorted(finding.mutant for finding in findings if not finding.sentence)
    by_simulation = sum(finding.seed is not None for finding in findings)
    by_tests = len(findings) - by_simulation - len(alive)
    sys.stdout.write(
        f"\n{len(findings)} mutants: {by_simulation} found by the simulation, {by_tests} by a test of"
        f" their own, {len(alive)} survive, {seconds:.0f} s\n"
    )
    for name in alive:
        sys.stdout.write(f"  survives: {name}: {named(name).what}\n")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
