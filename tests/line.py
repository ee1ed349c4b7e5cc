"""The relay and the queue in memory, with SQS FIFO's promises: order in a group, three receives, dead letters.

For tests that need many receives over hours of a FakeClock; the real ones are in tests/system.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from checkout import rescue
from checkout.charging import attempt_charge
from checkout.failpoints import Crash
from checkout.messages import DeadLetter, Receive
from checkout.models import Door, OutboxMessage
from checkout.outcomes import Fate
from tests.factories import World, publish


@dataclass
class Waiting:
    """A message on the queue; the group stays blocked while it is not visible."""

    id: str
    group: UUID
    body: dict[str, str | int]
    visible_at: datetime
    count: int = 0


@dataclass
class Line:
    """Carries every dispatch of a World from its outbox to a worker, as the clock goes on."""

    world: World
    messages: list[Waiting] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    receives: int = 0

    def relay(self) -> None:
        now = self.world.clock.real_now()
        rows = OutboxMessage.objects.filter(pending__door=Door.SQS, pending__available_at__lte=now)
        for row in rows.order_by("id"):
            body = json.loads(row.payload)
            self.messages.append(Waiting(f"m{row.pk}", row.key, body, visible_at=now))
            publish(row, at=now)

    def work(self) -> None:
        """Receive what is visible, one message a group."""
        now, blocked = self.world.clock.real_now(), set()
        for message in list(self.messages):
            if message.group in blocked:
                continue
            blocked.add(message.group)
            if message.visible_at <= now:
                self._receive(message, now)

    def _receive(self, message: Waiting, now: datetime) -> None:
        receive = Receive(
            charge_id=UUID(str(message.body["charge_id"])),
            round=int(message.body["round"]),
            dispatch=int(message.body["dispatch"]),
            count=message.count + 1,
        )
        if message.count == 3:
            self.messages.remove(message)
            self.dead.append(DeadLetter(message.id, message.id, "{}", receive))
            return
        message.count += 1
        self.receives += 1
        message.visible_at = now + self._wait(message.count)
        if self._attempt(receive) == Fate.ACKNOWLEDGE:
            self.messages.remove(message)

    def _attempt(self, receive: Receive) -> Fate:
        try:
            return attempt_charge(
                receive=receive,
                clock=self.world.clock,
                gateways=self.world.gateways,
                ages=self.world.ages,
            )
        except Crash:
            return Fate.LEAVE

    def _wait(self, count: int) -> timedelta:
        return timedelta(seconds=self.world.ages.backoff_after(count))

    def heal(self) -> None:
        """The timetable's turn."""
        world = self.world
        rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
        rescue.sweep(clock=world.clock, ages=world.ages)
        rescue.drain_dead_letters(
            letters=list(self.dead), delete=self.dead.remove, clock=world.clock, ages=world.ages
        )

    def run(self, *, seconds: float, step: float = 10) -> None:
        """Let this much time pass, everything having its turn each `step`."""
        for _ in range(int(seconds / step)):
            self.relay()
            self.work()
            self.heal()
            self.world.clock.forward(seconds=step)
