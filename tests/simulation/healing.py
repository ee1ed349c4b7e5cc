"""After the storm: everybody works again, and time passes until nothing is left to be done (I6)."""

from typing import Final
from uuid import UUID

from checkout.failpoints import Crash
from checkout.models import (
    TERMINAL,
    Attempt,
    Awaits,
    Charge,
    ChargeState,
    Door,
    Instrument,
    PendingMessage,
)
from tests.simulation import moments
from tests.simulation.deaths import RECEIVED
from tests.simulation.moments import Moments
from tests.simulation.oracle import charges
from tests.simulation.queue import Message
from tests.simulation.rules import broken_rules
from tests.simulation.schedule import Schedule

ROUNDS: Final = 400
# And as many more for each charge: those of a creator go one after the other, each in two rounds of three
# receives, and a round of healing is about one of them.
ROUNDS_A_CHARGE: Final = 8
# More is the same few charges, for ever.
SWEPT_MOST: Final = 100


class Restless(Exception):
    """The world did not come to rest after healing (I6)."""


class Healing:
    """One world's way to quiet, in the scheduler's own thread: nothing waits and nothing fails."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.world = schedule.world
        self.actors = schedule.actors
        self._looked_again = not self.world.plan.last_defence
        people, chaos = self.world.plan.people, self.world.plan.chaos
        # What a person decides when all is at rest, each once: few charges come so far in a storm.
        self._decisions = [
            *((self._brings_a_card, self._writes_off) if people else ()),
            *((self._cancels_what_is_rewritten,) if people and chaos else ()),
        ]
        self._rewrote = not chaos

    def run(self) -> None:
        """Raises Restless."""
        world = self.world
        for hold_id in self.actors.holds():
            self.actors.resume(hold_id)
        world.network.refuse(0)
        world.queue.go_away(0)
        world.topic.back_at = float("-inf")
        world.doubts.heal(self._meanwhile)
        self._answer_clients()
        # A card that is pending for ever is asked for ever, once a day.
        stuck = Instrument.objects.filter(token__contains="stuck").values_list("token", flat=True)
        world.processor.instruct({"token": dict.fromkeys(stuck, "approve"), "outage": False})
        self.actors.bill()
        with world.deaths.at_work():
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        world = self.world
        most = ROUNDS + ROUNDS_A_CHARGE * Charge.objects.count()
        for _ in range(most):
            now = moments.ahead(world)
            self._all_there_is_to_do(now)
            if world.broken or not self._goes_on():
                return
            if world.swept > SWEPT_MOST:
                raise Restless(f"not at rest, {world.swept} swept in vain: {self._why()}")
        raise Restless(f"not at rest after {most} rounds of healing: {self._why()}")

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
        return self._to_next_moment() or self._last_look() or self._decides() or self._rewrites()

    def _decides(self) -> bool:
        """Whether a person found something to decide; what they do may hide what was wrong."""
        while self._decisions and self._is_right_so_far():
            decide = self._decisions.pop(0)
            if decide():
                self.world.note(f"healing: a person {decide.__name__.strip('_')}")
                return True
        return False

    def _brings_a_card(self) -> bool:
        """To a creator of whom a charge waits for one: its next round opens, and is paid."""
        waiting = Charge.objects.filter(awaits=Awaits.INSTRUMENT).order_by("created_at", "id")
        charge = waiting.first()
        if charge is not None:
            self.actors.add_instrument(charge.creator_id, "tok_approve_at_last")
        return charge is not None

    def _writes_off(self) -> bool:
        """The last charge that waits for a person."""
        for charge_id in self.actors.exhausted()[-1:]:
            self.actors.write_off(charge_id)
            return True
        return False

    def _cancels_what_is_rewritten(self) -> bool:
        """A paid charge's row says it is owed, and its subscription is cancelled (R26, F27)."""
        paid = Charge.objects.filter(state=ChargeState.SUCCEEDED, subscription__state="active")
        charge = paid.order_by("created_at", "id").first()
        if charge is not None:
            self.world.fault("F27 a row is rewritten, and its subscription cancelled")
            self.actors.rewrite(charge.pk)
            self.actors.cancel(charge.subscription_id)
        return charge is not None

    def _meanwhile(self, attempt_id: UUID) -> None:
        """Somebody sleeps with this attempt's answer in hand; its message is received again."""
        charge_id = Attempt.objects.values_list("charge_id", flat=True).get(pk=attempt_id)
        for head in self.world.queue.heads():
            if head.body not in self.world.poison and head.receive().charge_id == charge_id:
                self._work_on(self.world.queue.receive(head))

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

    def _rewrites(self) -> bool:
        """Once, when all is at rest: a row of each kind is rewritten, for the sweep to find (F27).

        Little is asked of a charge that was rewritten, so what they did until now is judged first.
        """
        if self._rewrote:
            return False
        self._rewrote = True
        if not self._is_right_so_far():
            return False
        kinds = [("state", state) for state in sorted(TERMINAL)]
        for name, value in (*kinds, ("awaits", Awaits.PERSON), ("awaits", Awaits.INSTRUMENT)):
            for charge_id in self.actors.charges(**{name: value})[-1:]:
                self.world.fault("F27 a row is rewritten that was at rest")
                self.actors.rewrite(charge_id)
        return True

    def _is_right_so_far(self) -> bool:
        for look in (charges, broken_rules):
            self.world.broken += [f"{look.__name__}: {sentence}" for sentence in look(self.world)]
        return not self.world.broken

    def _why(self) -> str:
        resting = Charge.objects.exclude(state__in=TERMINAL).order_by("created_at", "id")
        rows = PendingMessage.objects.select_related("message")
        return " ".join(
            [
                *(
                    f"{c.state}/{c.awaits}/{c.round}:{c.dispatch}/{c.next_round_at}"
                    for c in resting
                ),
                *(f"{row.message.type}@{row.available_at}" for row in rows),
                str(moments.ahead(self.world)),
            ]
        )
