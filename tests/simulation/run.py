"""Run schedules: clean tables, one world, the oracle; and find the shortest that still fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from django.apps import apps
from django.db import OperationalError, connection

from tests.simulation import oracle
from tests.simulation.schedule import Restless, Schedule
from tests.simulation.turns import Hands
from tests.simulation.world import Complaints, Plan, World

HANDS = 14
STEPS = 60


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


class Simulation:
    """Runs schedules one after the other on the database that Django is connected to."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.hands = Hands(HANDS, self._prepare)
        self._relays: psycopg.Connection[Any] | None = None
        self._complaints = Complaints()

    def run(self, plan: Plan) -> Result:
        clean_tables()
        world = self.world = World(plan, self.hands)
        self._complaints.world = world
        try:
            Schedule(world, self.relay_connection).run()
        except Restless as restless:
            world.broken.append(str(restless))
        except Exception as error:  # noqa: BLE001  a defect, found in healing
            world.broken.append(f"healing raised {error!r}")
        found = oracle.violations(world)
        return Result(plan, found, world.trace, world.faults, list(world.lines))

    def relay_connection(self) -> psycopg.Connection[Any]:
        """One is enough: a relay uses its connection between two points alone."""
        if self._relays is None or self._relays.closed:
            parameters = connection.settings_dict
            self._relays = psycopg.connect(
                host=parameters["HOST"],
                port=parameters["PORT"],
                user=parameters["USER"],
                password=parameters["PASSWORD"],
                dbname=parameters["NAME"],
                autocommit=True,
            )
        return self._relays

    def _prepare(self) -> None:
        """Let the commits of this thread's connection be lost, before or after they took effect (F3)."""
        django: Any = connection
        commit = django._commit

        def lossy() -> None:
            lost = self.world.commit_fault() if self.world else ""
            if lost == "before":
                raise OperationalError("simulated: the connection was lost before COMMIT")
            commit()
            if lost == "after":
                raise OperationalError("simulated: the connection was lost after COMMIT")

        django._commit = lossy

    def __enter__(self) -> "Simulation":
        self._logger = logging.getLogger("checkout")
        self._before = self._logger.propagate, self._logger.level
        self._logger.addHandler(self._complaints)
        self._logger.propagate = False
        self._logger.setLevel(logging.ERROR)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._complaints)
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)
        self.hands.close()
        if self._relays is not None:
            self._relays.close()


def clean_tables() -> None:
    """Empty every table of ours, past the triggers: quicker than TRUNCATE for a few rows."""
    tables = [
        model._meta.db_table
        for name in ("checkout", "settlements")
        for model in apps.get_app_config(name).get_models()
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "BEGIN; SET LOCAL session_replication_role = replica;"
            + "".join(f"DELETE FROM {table};" for table in tables)
            + "COMMIT;"
        )


def shortest(simulation: Simulation, plan: Plan) -> Result:
    """The same failure with fewer steps and fewer kinds of faults, as far as halving finds it."""
    best = simulation.run(plan)
    while best.violations:
        for smaller in _smaller(best.plan):
            result = simulation.run(smaller)
            if result.violations:
                best = result
                break
        else:
            return best
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    for steps in (plan.steps // 2, plan.steps - 8, plan.steps - 3, plan.steps - 1):
        if 0 < steps < plan.steps:
            yield replace(plan, steps=steps)
    off: dict[str, Any] = {
        "chaos": False, "shorts": False, "last_defence": False, "queue": False, "two_leaders": False, "people": False, "freeze": 0.0,
        "network": 0.0, "crash": 0.0, "commits": 0.0, "away": 0.0, "broker": 0.0,
    }  # fmt: skip
    for name, value in off.items():
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})
    if plan.creators > 1:
        yield replace(plan, creators=1)


@contextmanager
def simulation() -> Iterator[Simulation]:
    with Simulation() as running:
        yield running
