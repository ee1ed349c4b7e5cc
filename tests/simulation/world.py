"""One simulated world: clock, queue, topic, processor and network, and the trace of what happened."""

import hashlib
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from checkout.clock import Ages
from checkout.commit import is_lost
from checkout.gateways import Gateway
from checkout.models import Attempt
from processor.journal import Journal, Line
from processor.sandbox import Sandbox, event_of
from tests.fakes import FakeClock, ProcessorClock
from tests.simulation.bank import Bank
from tests.simulation.clients import Clients
from tests.simulation.database import Away
from tests.simulation.deaths import Deaths
from tests.simulation.doubts import Doubts
from tests.simulation.network import LANE, Lane, Network
from tests.simulation.plan import Plan
from tests.simulation.queue import FifoQueue, QueueAway
from tests.simulation.topic import Topic
from tests.simulation.turns import Hands, Turn

NAMES = UUID("6f1c3a52-7d1f-5c58-9d6e-0d0d8a3a1f77")
LAST_STEPS = 60

CALM_TOKENS = (
    *("approve",) * 4,
    "soft_then_approve_1",
    "soft_then_approve_2",
    "technical_then_approve_1",
    "funds_then_approve",
    "decline_soft",
    "decline_funds",
    "decline_never",
    "decline_customer_action",
)
ROUGH_TOKENS = (
    *CALM_TOKENS,
    "timeout_after_charge",
    "500_after_charge",
    "garbled",
    "lost",
    "429_once",
    "pending_30s",
    "pending_900s",
    "pending_600s_decline",
    "pending_stuck",
)
# Cards that use up the attempts of a round.
SOFT_TOKENS = ("decline_soft", "soft_then_approve_2", "429_once")


@dataclass(frozen=True)
class SimulatedClock(FakeClock):
    """A sleep lets the others go on, as in the life of a process that waits."""

    hands_of: list[Hands] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.forward(seconds=seconds)
        for hands in self.hands_of:
            hands.wait_here("asleep")


class World:
    """Everything that is not the product, and the one source of chance."""

    def __init__(self, plan: Plan, hands: Hands, folder: Path) -> None:
        self.plan = plan
        self.rng = random.Random(f"schedule:{plan.seed}")
        random.seed(plan.seed)  # the spread of the waits of commit.py
        self.hands = hands
        self.clock = SimulatedClock(hands_of=[hands])
        # Shorter than production's, so that healing is soon over: one dunning date, and a card that
        # was tried too often rests for a day (R30).
        self.ages = Ages(
            idempotent_for=plan.idempotent_hours * 3600,
            attempts_per_instrument=plan.card_tries,
            attempts_window=86400,
            dunning_days=(3,),
        )
        self.account_id = uuid5(NAMES, str(plan.seed))
        self.away = Away(self)
        self.queue = FifoQueue(self.clock, visibility=self.ages.visibility)
        self.topic = Topic(self.clock, lambda: hands.wait_here("topic.read"))
        self.network = Network(self)
        self.deaths = Deaths(self)
        self.doubts = Doubts(self)
        self.announced: list[dict[str, Any]] = []
        self.processor = self._new_processor()
        self.lane = Lane(self)
        self.gateways: dict[str, Gateway] = {LANE: self.lane}
        self.clients = Clients(self)
        self.bank = Bank(self, folder)
        self.waiting: list[Turn] = []
        self.stormy = not plan.calm
        # What the processor answered us, of which attempt.
        self.heard: set[tuple[UUID, str]] = set()
        # What was done on purpose, for the oracle to expect.
        self.rewritten: dict[UUID, str] = {}  # charge → the state it had
        self.cancelled: dict[UUID, datetime] = {}  # subscription → when its cancel was answered
        self.requeued: set[UUID] = set()
        # Attempts of which a call was turned away before anything was sent, as the lane heard it.
        self.not_sent: set[UUID] = set()
        self.poison: dict[str, str] = {}  # body → the group it blocked
        self.broken: list[str] = []  # what broke on the way, before the oracle looks
        self.rescued: list[str] = []
        self.swept = 0  # charges that nothing but the sweep brought back, in healing
        self.faults: dict[str, int] = {}
        self.attempts: list[Attempt] | None = None  # as the oracle found them
        self.lines: deque[str] = deque(maxlen=LAST_STEPS)
        self._hash = hashlib.sha256()
        self._names: dict[object, str] = {}

    def _new_processor(self) -> Sandbox:
        processor = Sandbox(
            journal=Journal.in_memory(),
            clock=ProcessorClock(self.clock),
            announce=lambda line: self.announced.append(event_of(line)),
        )
        processor.instruct(
            {
                "webhooks": self.plan.webhooks,
                "idempotent_seconds": self.plan.idempotent_hours * 3600,
                "pending_expires_seconds": 2000,
            }
        )
        return processor

    # --- The trace ---------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        elapsed = self.clock.monotonic()
        line = f"{elapsed:>12.1f}  {text}"
        self._hash.update(line.encode() + b"\n")
        self.lines.append(line)

    @property
    def trace(self) -> str:
        return self._hash.hexdigest()

    def name(self, what: object, kind: str = "charge") -> str:
        """A short name for an identifier, the same in each run of a seed."""
        known = sum(1 for name in self._names.values() if name.startswith(kind))
        return self._names.setdefault(what, f"{kind}-{known + 1}")

    def fault(self, name: str) -> None:
        """A fault strikes; its name begins with its number in FAULTS, if it has one."""
        self.faults[name] = self.faults.get(name, 0) + 1
        self.note(f"   fault: {name}")

    def happens(self, chance: float) -> bool:
        """Whether a fault of this probability strikes now; never in a calm or healed world."""
        return self.stormy and chance > 0 and self.rng.random() < chance

    # --- Time ------------------------------------------------------------------------------------

    def forward(self, seconds: float) -> None:
        """Time passes; where there are doubts, what is late comes in its time, not after a leap of days.

        So does what would else come after its key is forgotten: no network keeps a request that long.
        """
        end = self.clock.real_now() + timedelta(seconds=seconds)
        while (at := self.network.next_late) and at < end and self._comes_in_time(at, end):
            before = max((at - self.clock.real_now()).total_seconds(), 0.0)
            self._pass(before)
            seconds -= before
        self._pass(max(seconds, 0.0))

    def _comes_in_time(self, at: datetime, end: datetime) -> bool:
        is_forgotten = end - at > timedelta(hours=self.plan.idempotent_hours)
        return self.plan.doubts or (is_forgotten and not self.plan.last_defence)

    def _pass(self, seconds: float) -> None:
        self.clock.forward(seconds=seconds)
        self.network.deliver_late()
        self.processor.resolve_due()


class Complaints(logging.Handler):
    """What the product logs as an error is a violation: nothing may hide behind `logger.exception`."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.world: World | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.world is None:
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and is_lost(error) and self.world.away.was_away:
            return
        if isinstance(error, QueueAway):
            return  # a dead letter stays where it is; the next drain finds its case (R33)
        self.world.broken.append(f"logged: {record.getMessage()}: {type(error).__name__}: {error}")


def captures(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.status == "approved"]
