"""What may happen between a turn and PostgreSQL: a lost commit, a lost connection, slowness.

The database is real. What is simulated is the way to it: a statement or a commit whose connection
breaks, before or after the server took it, and a while in which nobody can reach it (F3, F18, F20).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import OperationalError, connection

from tests.simulation.turns import current

if TYPE_CHECKING:
    from tests.simulation.world import World

SLOW_SECONDS = 0.5


class Away:
    """Whether the database can be reached, by the simulated clock; and what its way does."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.back_at = float("-inf")
        self.was_away = False

    @property
    def now(self) -> bool:
        return self.world.stormy and self.world.clock.monotonic() < self.back_at

    def begin(self, seconds: float) -> None:
        """Nobody reaches the database for so long; 0 breaks one connection alone."""
        self.was_away = True
        self.back_at = self.world.clock.monotonic() + seconds

    def breaks(self) -> bool:
        """Whether the statement that is to be sent now is lost with its connection."""
        world, turn = self.world, current()
        if turn is None or turn.looks_on:
            return False
        if world.plan.slow and world.stormy:
            world.faults["F20 slow statement"] = world.faults.get("F20 slow statement", 0) + 1
            world.clock.forward(seconds=SLOW_SECONDS)
        if self.now:
            return True
        if not world.happens(world.plan.outage):
            return False
        self.begin(world.rng.choice([0, 0, 3, 20, 70]))
        world.fault("F18 the connection breaks at a statement")
        return True

    def commit_fault(self) -> str:
        """ "before", "after" or "": how the commit of the turn that runs is lost (F3)."""
        turn = current()
        if turn is None or turn.looks_on:
            return ""
        if self.now:
            return "before"
        if not self.world.happens(self.world.plan.commits):
            return ""
        lost = str(self.world.rng.choice(["before", "after"]))
        self.was_away = True
        self.world.fault(f"F3 commit lost {lost}")
        return lost


@contextmanager
def looking_on() -> Iterator[None]:
    """What the simulation reads for itself inside a turn; no fault strikes there."""
    turn = current()
    if turn is None or turn.looks_on:
        yield
        return
    turn.looks_on = True
    try:
        yield
    finally:
        turn.looks_on = False


def prepare(world: Callable[[], "World | None"]) -> None:
    """Put the faults between this thread's Django connection and the server."""
    django: Any = connection
    commit = django._commit

    def lossy() -> None:
        present = world()
        lost = present.away.commit_fault() if present else ""
        if lost == "before":
            raise OperationalError("simulated: the connection was lost before COMMIT")
        commit()
        if lost == "after":
            raise OperationalError("simulated: the connection was lost after COMMIT")

    def breakable(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        present = world()
        if present is not None and present.away.breaks():
            raise OperationalError("simulated: the connection was lost")
        return execute(sql, params, many, context)

    django._commit = lossy
    django.execute_wrappers.append(breakable)


class LockConnection(psycopg.Connection[Any]):
    """A relay's direct connection, which may break as any other."""

    world: "World | None" = None

    def execute(self, *args: Any, **named: Any) -> Any:
        if self.world is not None and self.world.away.breaks():
            raise psycopg.OperationalError("simulated: the connection was lost")
        return super().execute(*args, **named)


class LockConnections:
    """One direct connection a relay process, kept while that process lives, as its lock is."""

    def __init__(self) -> None:
        self._open: dict[str, LockConnection] = {}

    def of(self, name: str, world: "World") -> LockConnection:
        found = self._open.get(name)
        if found is None or found.closed:
            parameters = connection.settings_dict
            found = self._open[name] = LockConnection.connect(
                host=parameters["HOST"],
                port=parameters["PORT"],
                user=parameters["USER"],
                password=parameters["PASSWORD"],
                dbname=parameters["NAME"],
                autocommit=True,
            )
        found.world = world
        return found

    def drop(self, name: str) -> None:
        """The process died, and with it its lock."""
        found = self._open.pop(name, None)
        if found is not None:
            found.close()

    def unlock(self) -> None:
        """Another schedule begins: nobody leads."""
        for found in self._open.values():
            found.world = None
            found.execute("SELECT pg_advisory_unlock_all()")

    def close(self) -> None:
        for name in list(self._open):
            self.drop(name)
