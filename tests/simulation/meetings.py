"""What meets a charge whose attempt is open: chance alone seldom brings the two together.

A worker is at it, or died of it; now a person cancels, adds a card or pauses, hours pass, or the queue
forgets. Where the worker died or froze, the message then comes again: rows 3, 4 and 9 of docs/states.md.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from checkout.models import Attempt, AttemptOutcome, Charge, ChargeState, Door
from tests.simulation.queue import Message

if TYPE_CHECKING:
    from tests.simulation.actions import Actions

ACTS: Final = ("cancel", "new card", "pause")
HOWS: Final = (*ACTS, "hours", "nothing", "lost queue")


class Meetings:
    """A step of a storm, in plans that have `meetings`."""

    def __init__(self, actions: "Actions") -> None:
        self.actions = actions
        self.schedule = actions.schedule
        self.world = actions.world
        self.rng = actions.rng

    def act(self) -> bool:
        """Let something meet one of the charges under way; False if there is none."""
        charges = self._under_way()
        if not charges:
            return False
        left = [charge for charge in charges if self._is_left(charge)]
        charge = self.rng.choice(left if left and self.rng.random() < 0.7 else charges)
        how = self.rng.choice(HOWS if charge.state == ChargeState.ATTEMPTING else ACTS)
        self.world.note(f"meeting: {self.world.name(charge.pk)} and {how}")
        self._happen(how, charge)
        if charge in left:
            self._come_again(charge)
        return True

    def _under_way(self) -> list[Charge]:
        attempts = Attempt.objects.filter(outcome=AttemptOutcome.OPEN).select_related("charge")
        return [attempt.charge for attempt in attempts.order_by("started_at", "id")]

    def _is_left(self, charge: Charge) -> bool:
        """Nobody is at it who would go on: its worker is dead or frozen."""
        message = self._message(charge)
        if charge.state != ChargeState.ATTEMPTING or message is None:
            return False
        holders = [turn for turn in self.schedule.waiting if turn.about == message.id]
        return not any(map(self.schedule.is_awake, holders))

    def _message(self, charge: Charge) -> Message | None:
        """The one of its present dispatch, if the queue has it."""
        for message in self.world.queue.messages:
            if message.body not in self.world.poison:
                about = message.receive()
                if (about.charge_id, about.dispatch) == (charge.pk, charge.dispatch):
                    return message
        return None

    def _happen(self, how: str, charge: Charge) -> None:
        actors, begin = self.actions.actors, self.schedule.begin
        match how:
            case "cancel":
                self.world.fault("F33 a person's cancel meets an attempt under way")
                begin(how, lambda: actors.cancel(charge.subscription_id))
            case "new card":
                self.world.fault("F33 a person's instrument meets an attempt under way")
                self._report_stolen(charge)
                token = self.actions.new_token()
                begin(how, lambda: actors.add_instrument(charge.creator_id, token))
            case "pause":
                seconds = self.rng.choice([None, 2000])
                begin(how, lambda: actors.pause("creator", str(charge.creator_id), seconds))
            case "hours":
                self.schedule.advance(self.world.ages.idempotent_for)
            case "lost queue":
                self._another_comes(charge)

    def _report_stolen(self, charge: Charge) -> None:
        """The card of the attempt may be refused for good, if it was not charged yet."""
        attempt = charge.open_attempt()
        if attempt and self.rng.random() < 0.5:
            token = attempt.instrument.token
            self.world.processor.instruct({"token": {token: "decline_never"}})

    def _another_comes(self, charge: Charge) -> None:
        """The queue forgets the message, and another charge of the creator is received."""
        queue, clients = self.world.queue, self.world.clients
        self.world.fault(f"F30 the queue loses {queue.lose_everything()}")
        asked = self.actions.new_checkout(charge.creator_id)
        self._through(lambda: self.schedule.begin("one more client", lambda: clients.ask(asked)))
        self._through(lambda: self.actions.relay(Door.SQS))
        for message in queue.heads():
            if message.group == str(charge.creator_id):
                self._decide_on(message)
                return

    def _decide_on(self, message: Message) -> None:
        """A worker receives it and goes on over its first point, to where it has decided."""
        before = list(self.schedule.waiting)
        self.actions.receive(message)
        for turn in [turn for turn in self.schedule.waiting if turn not in before]:
            if self.schedule.is_awake(turn):
                self.schedule.go_on(turn)

    def _through(self, begin: Callable[[], None]) -> None:
        """Begin a turn and let it run to its end, unless it dies or freezes."""
        before = list(self.schedule.waiting)
        begin()
        for turn in [turn for turn in self.schedule.waiting if turn not in before]:
            while turn in self.schedule.waiting and self.schedule.is_awake(turn):
                self.schedule.go_on(turn)

    def _come_again(self, charge: Charge) -> None:
        """The message is seen again, and whoever is free receives it."""
        message = self._message(charge)
        if message is None:
            return
        wait = (message.visible_at - self.world.clock.real_now()).total_seconds()
        if wait > 0:
            self.schedule.advance(wait + 1)
        if message in self.world.queue.heads():
            self._decide_on(message)
