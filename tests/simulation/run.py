"""Run schedules: clean tables, one world, the oracle; and find the shortest that still fails."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from checkout import wiring
from tests.simulation import oracle, proof
from tests.simulation.database import LockConnections, prepare
from tests.simulation.healing import Healing, Restless
from tests.simulation.plan import Plan
from tests.simulation.schedule import Schedule
from tests.simulation.turns import Hands
from tests.simulation.world import Complaints, World
from tests.tables import empty_tables

HANDS: Final = 24
STEPS: Final = 60


@dataclass(frozen=True)
class Result:
    """How one schedule went; `trace` is the hash of everything that happened, in order."""

    plan: Plan
    violations: list[str]
    trace: str
    faults: dict[str, int]
    lines: list[str]

    @property
    def seed(self) -> int:
        return self.plan.seed

    @property
    def numbers(self) -> set[str]:
        """The F-numbers that struck."""
        return {name.partition(" ")[0] for name in self.faults if name[0] == "F"}


class Simulation:
    """Runs schedules one after the other on the database that Django is connected to."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.hands = Hands(HANDS, lambda: prepare(lambda: self.world))
        self.connections = LockConnections()
        self._complaints = Complaints()
        # In the folder of this run's servers, which goes with them even if this process is killed.
        home = Path(settings.CLOCK_FILE).parent
        where = home if home.exists() else None
        self._folder = Path(tempfile.mkdtemp(prefix="statements-", dir=where))

    def run(self, plan: Plan) -> Result:
        empty_tables()
        self.connections.unlock()
        world = self.world = World(plan, self.hands, self._folder)
        self._complaints.world = world
        schedule = Schedule(world, self.connections)
        schedule.storm()
        found = world.broken or self._healed(schedule)
        return Result(plan, found, world.trace, world.faults, list(world.lines))

    def _healed(self, schedule: Schedule) -> list[str]:
        """Heal, and ask the oracle; what breaks on the way is a violation as well."""
        world = schedule.world
        try:
            Healing(schedule).run()
            return oracle.violations(world) or proof.violations(world, schedule.actors)
        except Restless as restless:
            return [*world.broken, str(restless)]
        except Exception as error:  # noqa: BLE001  a defect, found in healing
            return [*world.broken, f"healing raised {error!r}"]

    def broken_by(self, plan: Plan, error: Exception) -> Result:
        """How far a schedule came that ended by an exception of its scheduler."""
        how, world = [f"the schedule raised {error!r}"], self.world
        if world is None:
            return Result(plan, how, "", {}, [])
        return Result(plan, how, world.trace, world.faults, list(world.lines))

    def __enter__(self) -> "Simulation":
        self._loggers = {
            name: (logging.getLogger(name), logging.getLogger(name).propagate)
            for name in ("checkout", "settlements", "django.request")
        }
        for logger, _ in self._loggers.values():
            logger.propagate = False
        for name in ("checkout", "settlements"):
            logging.getLogger(name).addHandler(self._complaints)
        self._levels = {name: logging.getLogger(name).level for name in self._loggers}
        logging.getLogger("checkout").setLevel(logging.ERROR)
        logging.getLogger("settlements").setLevel(logging.ERROR)
        logging.getLogger("django.request").setLevel(logging.CRITICAL)
        self._built = wired(self._parts())
        return self

    def _parts(self) -> Mapping[str, Callable[[], Any]]:
        """What the edges are given instead of what the settings say."""

        def world() -> World:
            if self.world is None:
                raise RuntimeError("no schedule is running")
            return self.world

        return {
            "clock": lambda: world().clock,
            "ages": lambda: world().ages,
            "gateways": lambda: world().gateways,
            "topic_reader": lambda: world().topic,
        }

    def __exit__(self, *_: object) -> None:
        wired(self._built)
        for name, (logger, propagate) in self._loggers.items():
            logger.removeHandler(self._complaints)
            logger.propagate = propagate
            logger.setLevel(self._levels[name])
        self.world = None
        self.hands.close()
        self.connections.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def wired(parts: Mapping[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Let checkout/wiring.py build these parts; returns what it built before.

    It is the one place where a process gets its adapters, so that a view under the simulation is the
    same code as in production.
    """
    before = {name: getattr(wiring, name) for name in parts}
    for name, part in parts.items():
        setattr(wiring, name, part)
    return before


def shortest(simulation: Simulation, plan: Plan, *, seconds: float = 120.0) -> Result:
    """The same failure with fewer steps and fewer faults, as far as it is found in so many seconds."""
    best, end = simulation.run(plan), time.monotonic() + seconds
    while best.violations:
        for smaller in best.plan.smaller():
            if time.monotonic() > end:
                return best
            result = simulation.run(smaller)
            if result.violations:
                best = result
                break
        else:
            return best
    return best


@contextmanager
def simulation() -> Iterator[Simulation]:
    with Simulation() as running:
        yield running
