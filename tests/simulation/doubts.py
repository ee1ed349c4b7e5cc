"""Faults that strike at the one moment at which an attempt's outcome hangs on them.

Chance alone seldom lets a request be lost, its worker die, and the next send be turned away. In a
schedule with `doubts` they do, by a stream of chance of their own, so that other schedules stay as they
are: a send is lost or late, a repeated key is turned away, a worker dies with the answer in its hand, and
questions about an attempt reach only a proxy, a refusal or silence for half an hour. In healing a worker
or the resolver also sleeps with an answer in its hand, while time passes and another worker goes on.
Every fault here is bounded, so that the world comes to rest.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from checkout.gateways import Answer, InDoubt, NotFound, NotSent, Outcome

if TYPE_CHECKING:
    from tests.simulation.world import World

STRIKES: Final = 12
# Longer than "not found" needs to be believed, had it been heard: R22's 690 s and its repeats.
ASTRAY: Final = timedelta(seconds=1800)
FIRST_SEND: Final = ("", "", "late", "late", "answer lost", "refused")
HOURS: Final = ("hours late",) * 3  # where a plan's last defence is to be met
SECOND_SEND: Final = ("", "refused", "429", "late", "answer lost")
QUESTION: Final = ("404", "refused", "answer lost")
# Beyond a message's visibility; and beyond the time at which a "not found" counts.
OF_A_WORKER: Final = 310.0
OF_THE_RESOLVER: Final = 700.0
HANDS: Final = frozenset({"charging.intent_committed", "charging.before_send", "charging.answered"})


class Doubts:
    """What strikes the attempts of one world; nothing, if its plan has no doubts."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = random.Random(f"doubts, at work: {world.plan.seed}")
        self._left = STRIKES if world.plan.doubts else 0
        self._sent: set[UUID] = set()
        self._astray: dict[UUID, tuple[str, datetime | None]] = {}
        self._slept: set[UUID] = set()
        self._answered: set[UUID] = set()
        self._asleep = False
        self._meanwhile: Callable[[UUID], None] | None = None

    def heal(self, meanwhile: Callable[[UUID], None]) -> None:
        """Healing begins; `meanwhile` lets the workers go on with the message of an attempt."""
        self._meanwhile = meanwhile
        self._left = STRIKES if self._world.plan.doubts else 0

    def before_charge(self, reference: UUID) -> str:
        """The fault that this send meets, or ""."""
        first = reference not in self._sent
        self._sent.add(reference)
        if self._asleep and reference in self._answered:
            return ""  # this worker hears the first answer, and writes it before the sleeper does
        if not first:
            return self._drawn(SECOND_SEND)
        return self._drawn(FIRST_SEND + HOURS * self._world.plan.last_defence)

    def after_charge(self, reference: UUID, outcome: Outcome) -> None:
        if isinstance(outcome, InDoubt) and self._strikes(0.4):
            self._astray[reference] = (self._rng.choice(QUESTION), None)
        if not isinstance(outcome, InDoubt | NotSent):
            self._answered.add(reference)
        self._sleep(reference, OF_A_WORKER, 0.6 if isinstance(outcome, NotSent) else 0.3)

    def before_query(self, reference: UUID) -> str:
        """The fault that this question meets, or ""; the first one begins the half hour."""
        if reference not in self._astray:
            return ""
        how, until = self._astray[reference]
        now = self._world.clock.real_now()
        until = until or now + ASTRAY
        self._astray[reference] = (how, until)
        return how if now < until else ""

    def after_query(self, reference: UUID, answer: Answer) -> None:
        if isinstance(answer, NotFound):
            self._sleep(reference, OF_THE_RESOLVER, 0.6)

    def kills(self, at: str) -> bool:
        """Whether a worker dies here, in the storm."""
        return at in HANDS and self._world.stormy and self._strikes(0.12)

    def _strikes(self, chance: float) -> bool:
        if self._left <= 0 or self._rng.random() >= chance:
            return False
        self._left -= 1
        return True

    def _drawn(self, faults: tuple[str, ...]) -> str:
        if self._left <= 0:
            return ""
        fault = self._rng.choice(faults)
        self._left -= bool(fault)
        return fault

    def _sleep(self, reference: UUID, seconds: float, chance: float) -> None:
        """The process that holds this answer is frozen; in the storm the scheduler sees to that."""
        if self._meanwhile is None or self._asleep or reference in self._slept:
            return
        if not self._strikes(chance):
            return
        self._slept.add(reference)
        self._world.fault(f"F12 an answer lies in hand for {seconds:g} s")
        self._world.forward(seconds)
        self._asleep = True  # who works meanwhile does not sleep as well
        self._meanwhile(reference)
        self._asleep = False
