"""Workers and drains that die while everybody else heals (F6, F7, F10, F11): where dead letters come from.

In a storm few messages are received three times in vain, for most charges are collected in healing.
In a plan with `deaths` some workers die there too, each with two others after it, so that the drain
meets charges in every state. Drawn apart, so that the storm of a seed is as it is without.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from checkout import failpoints
from checkout.failpoints import Crash

if TYPE_CHECKING:
    from tests.simulation.world import World

RECEIVED: Final = "worker.received"
# Here no transaction is open.
POINTS: Final = (
    "charging.intent_committed",
    "charging.answered",
    "charging.outcome_committed",
    "drain.case_committed",
)
MOST: Final = 8


class Deaths:
    """Who dies in the healing of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = random.Random(f"deaths in healing: {world.plan.seed}")
        self._left = MOST if world.plan.deaths else 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While they last, the failpoints of a worker and of the drain are places to die at."""
        for name in POINTS:
            failpoints.enable(name, self._at(name))
        try:
            yield
        finally:
            for name in POINTS:
                failpoints.disable(name)

    def _at(self, name: str) -> Callable[[], None]:
        return lambda: self.strike(name)

    def strike(self, name: str) -> None:
        """Raise Crash, or not."""
        if self._left and self._rng.random() < 0.3:
            self._left -= 1
            self._world.fault(f"crash at {name}, in healing")
            raise Crash(name)
