"""Schedules against whatever was imported; its process ends with the answer.

Imported in a fresh process, after the mutant was hooked in and Django was set up: everything of the
service that is imported here carries the bug.
"""

import re
import signal
import time
from collections.abc import Sequence
from types import FrameType

from tests.mutants.finding import Finding
from tests.mutants.mutant import Mutant
from tests.simulation.plan import Plan
from tests.simulation.run import STEPS, Simulation

# Of CPU time: a schedule takes one or two; one that goes on for so long has lost its way.
SCHEDULE_SECONDS = 8.0
_IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


# These say that the mutant is no program, and nothing of the simulation.
_NO_BUG = re.compile(r"\b(NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b")


class NoBug(Exception):
    """The mutated source cannot run at all: whoever wrote the mutant was wrong."""


class NoEnd(Exception):
    """A schedule went on for too long."""


def try_out(mutant: Mutant, first: Sequence[int], seeds: Sequence[int]) -> Finding:
    """Run schedules until one complains: `first`, then those that have what the mutant needs."""
    begun, tried = time.monotonic(), 0
    running = Simulation()
    with_complaints = running.__enter__()  # never left: a bug may have left threads that never end
    for seed in in_order(mutant, first, seeds):
        tried += 1
        sentence = _complaint(with_complaints, seed)
        if _NO_BUG.search(sentence):
            raise NoBug(sentence)
        if sentence:
            return Finding(mutant.name, seed, tried, time.monotonic() - begun, sentence)
    return Finding(mutant.name, None, tried, time.monotonic() - begun)


def without(seeds: Sequence[int]) -> dict[int, str]:
    """The schedules that complain without any bug: what they find is worth nothing."""
    running = Simulation()
    running.__enter__()
    found = {seed: _complaint(running, seed) for seed in seeds}
    return {seed: sentence for seed, sentence in found.items() if sentence}


def in_order(mutant: Mutant, first: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """The seeds to try, each once; a schedule without a cancel will not find a bug of cancelling."""

    def lacks(seed: int) -> bool:
        plan = Plan.drawn(seed, steps=STEPS)
        return not all(_has(plan, need) for need in mutant.needs)

    return [*first, *sorted((seed for seed in seeds if seed not in first), key=lacks)]


def _has(plan: Plan, need: str) -> bool:
    """Whether a plan has `name` on, or `name=value` as its value or in its set."""
    name, _, wanted = need.partition("=")
    value = getattr(plan, name)
    if isinstance(value, frozenset):
        return wanted in value
    return str(value) == wanted if wanted else bool(value)


def _complaint(running: Simulation, seed: int) -> str:
    signal.signal(signal.SIGPROF, _no_end)
    signal.setitimer(signal.ITIMER_PROF, SCHEDULE_SECONDS)
    try:
        violations = running.run(Plan.drawn(seed, steps=STEPS)).violations
    except Exception as error:  # noqa: BLE001  the oracle itself met what cannot be
        violations = [f"the oracle raised {error!r}"]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return _IDENTIFIER.sub("…", violations[0])[:300] if violations else ""


def _no_end(number: int, frame: FrameType | None) -> None:
    raise NoEnd(f"no end after {SCHEDULE_SECONDS:g} s")
