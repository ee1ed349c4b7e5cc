"""After the storm: everybody works again, and time passes until nothing is left to be done (I6)."""

from typing import Final

from checkout.failpoints import Crash
from checkout.models import TERMINAL, Charge, Door, Instrument, PendingMessage
from tests.simulation import moments
from tests.simulation.deaths import RECEIVED
from tests.simulation.moments import Moments
from tests.simulation.queue import Message
from tests.simulation.schedule import Schedule

ROUNDS: Final = 400


class Restless(Exception):
    """The world did not come to rest after healing (I6)."""


class Healing:
    """One world's way to quiet, in the scheduler's own thread: nothing waits and nothing fails."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.actors = schedule.actors
        self._looked_again = not self.world.plan.last_defence
        self._wrote_off = False

    def run(self) -> None:
        """Raises Restless."""
        world = self.world
        for hold_id in self.actors.holds():
            self.actors.resume(hold_id)
        world.network.refuse(0)
        world.queue.go_away(0)
        world.topic.back_at = float("-inf")
        self._answer_clients()
        # A card that is pending for ever is asked for ever, once a day.
        stuck = Instrument.objects.filter(token__contains="stuck").values_list("token", flat=True)
        world.processor.instruct({"token": dict.fromkeys(stuck, "approve"), "outage": False})
        self.actors.bill()
        with world.deaths.at_work():
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        world = self.world
        for _ in range(ROUNDS):
            now = moments.ahead(world)
            self._all_there_is_to_do(now)
            if world.broken or not self._goes_on():
                return
        raise Restless(f"not at rest after {ROUNDS} rounds of healing: {self._why()}")

    def _answer_clients(self) -> None:
        """Nobody gives up: each key is asked with until it is answered (R49)."""
        for asked in self.world.clients.unanswered:
            self.world.clients.ask(asked)

    def _all_there_is_to_do(self, now: Moments) -> None:
        world = self.world
        if world.plan.deaths:
            self._drain()  # before the resolver has asked
        told, late = bool(world.announced), world.plan.last_defence and self._looked_again
        while world.announced:
            world.clients.announce(world.announced.pop())
        if told or late or now.is_due(now.attempt) or now.is_due(now.webhook):
            self.actors.resolve()
        if world.queue.dead:
            self._drain()
        if now.is_due(now.dunning) or now.reviews:
            self.actors.dunning()
        if now.is_silent:
            world.swept += self.actors.sweep()
        self._carry_messages()
        if world.queue.dead:
            self._drain()
            self._carry_messages()

    def _carry_messages(self) -> None:
        world = self.world
        for _ in range(ROUNDS):
            for door in Door:
                name = f"relay {door} 0"
                self.actors.relay(door, name=name, limit=1000, backlog=False)()
            heads = world.queue.heads()
            if not heads:
                return
            for head in heads:
                self._work_on(world.queue.receive(head))
        raise Restless(f"messages come without end at one moment: {self._why()}")

    def _work_on(self, message: Message) -> None:
        world = self.world
        try:
            world.deaths.strike(RECEIVED)
            result = self.actors.work_on(message)()
        except Crash as crash:
            world.queue.give_up(message)
            result = f"dies at {crash}"
        world.note(f"healing: {message.id} ({message.receives}) {result}")

    def _drain(self) -> None:
        """Until no drain dies any more: each finds what the one before has left."""
        self.world.queue.heads()
        while self.world.queue.dead:
            try:
                self.actors.drain()
                return
            except Crash as crash:
                self.world.note(f"healing: drain dies at {crash}")

    def _goes_on(self) -> bool:
        return self._to_next_moment() or self._last_look() or self._writes_off()

    def _writes_off(self) -> bool:
        """Once, when all is at rest, a person gives one charge up that only a person can bring on."""
        waiting = self.actors.exhausted() if self.world.plan.people else []
        if not waiting or self._wrote_off:
            return False
        self._wrote_off = True
        self.world.note("healing: a person writes the last charge off that waits")
        self.actors.write_off(waiting[-1])
        return True

    def _to_next_moment(self) -> bool:
        """Go forward to the next thing that happens by itself; False if nothing ever will."""
        seconds = moments.ahead(self.world).first
        if seconds is not None:
            self.schedule.advance(seconds)
        return seconds is not None

    def _last_look(self) -> bool:
        """The last requests arrive; what was believed not to be charged is asked about once more."""
        if not self.world.network.late and self._looked_again:
            return False
        self._looked_again = True
        self.schedule.advance(90_000)
        return True

    def _why(self) -> str:
        charges = Charge.objects.exclude(state__in=TERMINAL).order_by("created_at", "id")
        rows = PendingMessage.objects.select_related("message")
        return " ".join(
            [
                *(
                    f"{c.state}/{c.awaits}/{c.round}:{c.dispatch}/{c.next_round_at}"
                    for c in charges
                ),
                *(f"{row.message.type}@{row.available_at}" for row in rows),
                str(moments.ahead(self.world)),
            ]
        )
