"""Many schedules: in several processes, each on a database of its own, with progress and a rate.

A seed's schedule knows nothing of the process or the schedule before it, so who runs it does not
matter. What fails is made shorter, printed, and kept in `regressions.jsonl`, which the tests run.
"""

import gc
import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import psutil
from django.db import connection

from tests.simulation.plan import FAULTS, Plan
from tests.simulation.run import Result, Simulation, shortest

REGRESSIONS: Final = Path(__file__).with_name("regressions.jsonl")
PROGRESS_SECONDS: Final = 5.0
SHOWN_VIOLATIONS: Final = 12


@dataclass(frozen=True)
class Campaign:
    """Which schedules, by how many processes, and when to stop."""

    plans: Sequence[Plan]
    jobs: int = 1
    failures: int = 5
    minutes: float = 60.0
    shrink_seconds: float = 60.0


@dataclass
class Outcome:
    """What became of a campaign; `cpu` is that of its processes and of PostgreSQL."""

    asked: int
    done: int = 0
    failed: list[Result] = field(default_factory=list)
    # What failed by its plan, until it was made shorter: a campaign may end before that.
    longer: dict[Plan, Result] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)
    traces: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cpu: float = 0.0
    interrupted: bool = False
    out_of_time: bool = False

    @property
    def is_short(self) -> bool:
        """Schedules were not run, and nobody ended the campaign: a process of it is gone."""
        return self.done < self.asked and not (self.failed or self.out_of_time or self.interrupted)

    @property
    def rate(self) -> float:
        """Schedules a minute."""
        return 60 * self.done / max(self.seconds, 0.001)

    def take(self, result: Result) -> None:
        self.done += 1
        self.faults.update(result.faults)
        self.numbers.update(result.numbers)
        self.traces[result.plan.as_json()] = result.trace
        if result.violations:
            self.longer[result.plan] = result

    def fail(self, plan: Plan, short: Result) -> None:
        """What failed there, as short as it was found, is told once."""
        self.longer.pop(plan, None)
        self.failed.append(short)
        tell(short)

    def as_json(self) -> str:
        return json.dumps(
            {
                "asked": self.asked,
                "done": self.done,
                "failed": [
                    {"plan": r.plan.as_json(), "violations": r.violations, "lines": r.lines}
                    for r in self.failed
                ],
                "numbers": self.numbers,
                "traces": self.traces,
                "rate": round(self.rate, 1),
                "cpu_seconds_a_schedule": round(self.cpu / max(self.done, 1), 3),
            }
        )


def run(campaign: Campaign) -> Outcome:
    """Run it and say on the way how far it is; stops early after `failures` or `minutes`."""
    outcome, before = Outcome(asked=len(campaign.plans)), _servers_cpu()
    workers = _start(campaign)
    try:
        follow(campaign, outcome, _said(workers))
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        for process, _ in workers:
            process.terminate()
            process.join()
        outcome.cpu += _servers_cpu() - before
    tell_the_rest(outcome)
    return outcome


def follow(campaign: Campaign, outcome: Outcome, said: Iterable[tuple[str, Any]]) -> None:
    """Count what the processes say until all of them have ended, or the campaign's bounds are met."""
    begun, told = time.monotonic(), 0.0
    for kind, value in said:
        outcome.seconds = time.monotonic() - begun
        if kind == "cpu":
            outcome.cpu += value
        elif kind == "result":
            outcome.take(value)
        else:
            outcome.fail(*value)
        if outcome.seconds - told > PROGRESS_SECONDS or outcome.done == outcome.asked:
            told = outcome.seconds
            progress(outcome)
        outcome.out_of_time = outcome.seconds > campaign.minutes * 60
        if outcome.out_of_time or len(outcome.failed) >= campaign.failures:
            return


def tell_the_rest(outcome: Outcome) -> None:
    """What failed and was not made shorter in time is a failure all the same."""
    for plan, result in list(outcome.longer.items()):
        outcome.fail(plan, result)


def _start(campaign: Campaign) -> list[tuple[Any, Connection]]:
    """Fork the processes; each gets a copy of the empty database, and every n-th plan."""
    databases = _databases(campaign.jobs)
    connection.close()
    fork, workers = multiprocessing.get_context("fork"), []
    for number, database in enumerate(databases):
        here, there = fork.Pipe(duplex=False)
        plans = campaign.plans[number :: campaign.jobs]
        process = fork.Process(target=_work, args=(database, plans, there, campaign.shrink_seconds))
        process.start()
        there.close()
        workers.append((process, here))
    return workers


def _databases(count: int) -> list[str]:
    """The test database, and copies of it."""
    first = connection.settings_dict["NAME"]
    names = [first, *(f"{first}_{number}" for number in range(1, count))]
    connection.close()
    with connection._nodb_cursor() as cursor:
        for name in names[1:]:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{first}"')
    return names


def _work(database: str, plans: Sequence[Plan], said: Connection, shrink_seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    connection.settings_dict["NAME"] = database
    # What was loaded lives as long as the process; walking it again and again costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000)
    with Simulation() as simulation:
        for plan in plans:
            before = _cpu()
            try:
                result = simulation.run(plan)
            except Exception as error:  # noqa: BLE001  a turn that is stuck keeps its locks: nothing can follow
                said.send(("failed", (plan, simulation.broken_by(plan, error))))
                break
            said.send(("cpu", _cpu() - before))
            said.send(("result", result))
            if result.violations:
                short = shortest(simulation, plan, seconds=shrink_seconds)
                said.send(("failed", (plan, short if short.violations else result)))
    said.close()


def _cpu() -> float:
    """Seconds of CPU this process has used, PostgreSQL's not counted."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _servers_cpu() -> float:
    """Seconds of CPU of the PostgreSQL that this process started, with what its ended backends used."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith("postgres"):
                total += sum(process.cpu_times()[:4])
    return total


def _said(workers: Sequence[tuple[Any, Connection]]) -> Iterator[tuple[str, Any]]:
    """What the processes say, as it comes, until each has ended."""
    open_ = [pipe for _, pipe in workers]
    while open_:
        ready: list[Any] = wait(open_)
        for pipe in ready:
            try:
                yield pipe.recv()
            except EOFError:
                open_.remove(pipe)


# --- Saying it -------------------------------------------------------------------------------------


def progress(outcome: Outcome) -> None:
    text = (
        f"{outcome.done}/{outcome.asked} schedules, {len(outcome.failed)} failed,"
        f" {outcome.rate:.0f} a minute"
    )
    sys.stderr.write(text + ("\r" if sys.stderr.isatty() else "\n"))
    sys.stderr.flush()


def tell(result: Result) -> None:
    """Seed, commit, the last steps, what is wrong, and how to see it again."""
    say(f"\nFAILED: seed {result.seed} at {commit()}, shortest found: {result.plan.steps} steps")
    say("\n".join(result.lines))
    say("\n".join(f"  !! {sentence}" for sentence in result.violations[:SHOWN_VIOLATIONS]))
    say(f"again: .venv/bin/python -m tests.simulation --plan '{result.plan.as_json()}'")


def summary(outcome: Outcome) -> str:
    struck = sum(outcome.faults.values())
    never = [number for number in FAULTS if number not in outcome.numbers]
    lines = [
        f"{outcome.done} schedules at {commit()}, {len(outcome.failed)} failed, {struck} faults",
        f"{outcome.rate:.0f} a minute, {outcome.cpu / max(outcome.done, 1):.2f} s of CPU a schedule",
        "schedules in which each fault struck: "
        + ", ".join(f"{n} {outcome.numbers[n]}" for n in FAULTS if outcome.numbers[n]),
    ]
    left = outcome.asked - outcome.done
    if left:
        lines.append(f"not run: {left} of {outcome.asked}{', out of time' * outcome.out_of_time}")
    return "\n".join([*lines, *([f"never struck: {', '.join(never)}"] if never else [])])


def commit() -> str:
    git = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "no commit"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- Kept for ever ---------------------------------------------------------------------------------


def regressions() -> list[Plan]:
    """The schedules that failed once, shortest form found."""
    if not REGRESSIONS.exists():
        return []
    return [Plan.from_json(line) for line in REGRESSIONS.read_text("utf-8").splitlines() if line]


def keep(failed: Sequence[Result]) -> int:
    """Add these to the list, once each; how many were new."""
    known = {plan.as_json() for plan in regressions()}
    new = dict.fromkeys(line for line in (r.plan.as_json() for r in failed) if line not in known)
    if new:
        with REGRESSIONS.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in new))
    return len(new)
