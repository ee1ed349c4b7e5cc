"""One schedule: what happens in which order, drawn from the seed; then healing, and quiet."""

import random
from collections.abc import Callable
from typing import Final

import psycopg

from checkout import failpoints
from checkout.commit import DatabaseAway, is_lost
from checkout.failpoints import Crash
from checkout.models import Door, Interval, PendingMessage
from tests import factories
from tests.simulation import moments
from tests.simulation.actions import CALM, PRICES, Actions
from tests.simulation.actors import REFUSALS, Actors
from tests.simulation.database import LockConnections
from tests.simulation.network import LANE
from tests.simulation.turns import Turn, current
from tests.simulation.watch import PATIENCE
from tests.simulation.world import World

# Here no transaction is open, so a turn may wait for the others.
POINTS: Final = failpoints.NAMES & {
    "api.after_commit",
    "charging.intent_committed",
    "charging.before_send",
    "charging.answered",
    "charging.outcome_committed",
    "relay.before_send",
    "relay.sent_unmarked",
    "relay.marked",
    "drain.case_committed",
    "resolve.answered",
    "sweep.dispatched",
    "bill.batch_committed",
    "dunning.round_opened",
    "reconcile.slice_committed",
    "unreadable.case_committed",
    "webhook.outcome_committed",
    "webhook.stored",
}
# Here one is: a turn may only die.
INSIDE: Final = failpoints.NAMES & {
    "api.before_commit",
    "commit.written",
    "reconcile.marks_consumed",
    "statement.copied",
    "topic.records_stored",
}
# A crash there, by number of FAULTS; at a relay's points by its door.
CRASHES: Final = {
    "api.before_commit": "F1",
    "api.after_commit": "F2",
    "client.unanswered": "F2",
    "relay.before_send": "F4",
    "worker.received": "F6",
    "charging.intent_committed": "F7",
    "charging.before_send": "F7",
    "charging.answered": "F10",
    "charging.outcome_committed": "F11",
    "topic.read": "F17",
    "topic.records_stored": "F17",
}
SENT: Final = {"relay sqs": "F5", "relay kafka": "F15"}
FOR_EVER: Final = 1e12


class Schedule:
    """The scheduler: it alone draws from the world's chance, so that a seed is a history."""

    def __init__(self, world: World, connections: LockConnections) -> None:
        self.world = world
        self.rng: random.Random = world.rng
        self.connections = connections
        self.actors = Actors(world, connections)
        self.actions = Actions(self)
        self.choices = self.actions.all()
        self.waiting = world.waiting

    def storm(self) -> None:
        """Set up, and go through the steps; stops at the first thing that breaks."""
        for name in POINTS | INSIDE:
            failpoints.enable(name, self._at(name))
        try:
            self._set_up()
            for _ in range(self.world.plan.steps):
                self._step()
                if self.world.broken:
                    return
            self.world.stormy = False
            self.world.note("healing")
            while self.waiting and not self.world.broken:
                self.go_on(self.waiting[0])
        finally:
            for name in POINTS | INSIDE:
                failpoints.disable(name)
            self._end_all()

    def _set_up(self) -> None:
        world = self.world
        world.clients.open_account()
        factories.routing_rule("KZ", LANE)
        for code, interval in (("monthly", Interval.MONTH), ("weekly", Interval.WEEK)):
            factories.plan(code, price=PRICES[code], interval=interval)
        for _ in range(world.plan.creators):
            world.clients.ask(self.actions.new_creator())
        for creator in self.actors.creators():
            world.clients.ask(self.actions.new_checkout(creator))

    # --- Points ------------------------------------------------------------------------------------

    def _at(self, name: str) -> Callable[[], None]:
        return lambda: self._inside(name) if name in INSIDE else self._point(name)

    def _point(self, name: str) -> None:
        """A failpoint was reached: wait for the scheduler; the database may be away after it."""
        world, turn = self.world, current()
        if turn is None:
            return
        if turn.runs_through:
            self._inside(name)
            return
        world.hands.wait_here(name)
        if turn.name.startswith("worker") and world.happens(world.plan.away):
            world.fault(f"F18 database away at {name}")
            world.away.was_away = True
            raise DatabaseAway("away")

    def _inside(self, name: str) -> None:
        """Die here, or not; others must not run meanwhile, for this turn holds locks."""
        turn = current()
        if turn is not None and not turn.looks_on and self._crashes(turn, name):
            raise Crash(name)

    def _crashes(self, turn: Turn, at: str) -> bool:
        world = self.world
        struck = world.plan.allows(at) and world.happens(world.plan.crash)
        if not struck and not world.doubts.kills(at):
            return False
        number = CRASHES.get(at)
        if at in ("relay.sent_unmarked", "relay.marked"):
            number = SENT[turn.name[:-2]]
        world.fault(f"{number} crash at {at}" if number else f"crash at {at}")
        return True

    # --- Steps -------------------------------------------------------------------------------------

    def _step(self) -> None:
        if self.world.plan.calm:
            self._calm_step()
            return
        ready = [turn for turn in self.waiting if self.is_awake(turn)]
        if ready and self.rng.random() < 0.55:
            self.go_on(self.rng.choice(ready))
            return
        if self.waiting and self.rng.random() < 0.05:
            self.go_on(self.rng.choice(self.waiting))
            return
        if self.world.plan.meetings and self.rng.random() < 0.3 and self.actions.meetings.act():
            return
        weights = [weight for weight, _, _ in self.choices]
        _, name, act = self.rng.choices(self.choices, weights)[0]
        if not self.world.plan.only or name in self.world.plan.only:
            act()

    def _calm_step(self) -> None:
        """Nothing fails and nobody is slow: time passes only when nothing can be done."""
        if self.waiting:
            self.go_on(self.rng.choice(self.waiting))
            return
        if self._anything_to_send():
            self.actions.relay(self.rng.choice(list(Door)))
            return
        if self.world.queue.heads():
            self._do("receive")
            return
        for job in ("resolve", "sweep", "drain", "dunning", "bill", "reconcile"):
            self._do(job)
        if self.waiting or self._anything_to_send():
            return
        if self.rng.random() < 0.6:
            self.rng.choice([act for _, name, act in self.choices if name in CALM])()
        elif moment := moments.ahead(self.world).first:
            self.advance(moment)

    def _do(self, action: str) -> None:
        for _, name, act in self.choices:
            if name == action:
                act()

    def _anything_to_send(self) -> bool:
        now = self.world.clock.real_now()
        return PendingMessage.objects.filter(available_at__lte=now).exists()

    # --- Turns -------------------------------------------------------------------------------------

    def begin(self, name: str, work: Callable[[], object]) -> None:
        self.run(Turn(name, work))

    def run(self, turn: Turn) -> None:
        """Let a new turn run to its first point, or to its end."""
        self.world.note(f"{turn.name} begins")
        self.world.hands.begin(turn)
        self._after(turn)

    def go_on(self, turn: Turn) -> None:
        """Let a waiting turn run to its next point, or die where it waits."""
        self.waiting.remove(turn)
        crash = self._crashes(turn, turn.at)
        if not crash:
            self.world.note(f"{turn.name} goes on at {turn.at}")
        self.world.hands.go_on(turn, raising=Crash(turn.at) if crash else None)
        self._after(turn)

    def _after(self, turn: Turn) -> None:
        world = self.world
        if not turn.done:
            may_freeze = turn.at != "charging.before_send" or world.plan.last_defence
            frozen = may_freeze and world.happens(world.plan.freeze)
            turn.limit = FOR_EVER if frozen else world.clock.monotonic() + PATIENCE
            world.note(f"{turn.name} waits at {turn.at}{' frozen' if frozen else ''}")
            self.waiting.append(turn)
            return
        if turn.error is not None and turn.name.startswith("relay"):
            self.connections.drop(turn.name)
        if turn.error is None:
            world.note(f"{turn.name} ends: {turn.result}")
        elif isinstance(turn.error, (Crash, *REFUSALS)) or self._is_outage(turn):
            world.note(f"{turn.name} ends by {type(turn.error).__name__}")
        else:
            world.note(f"{turn.name} ends by {turn.error!r}")
            world.broken.append(f"{turn.name} raised {turn.error!r}")

    def _is_outage(self, turn: Turn) -> bool:
        """Only the API and a worker must wait for their database; a job has its next turn."""
        if not self.world.away.was_away or turn.name.startswith(("client", "worker", "webhook")):
            return False
        return isinstance(turn.error, psycopg.OperationalError) or (
            turn.error is not None and is_lost(turn.error)
        )

    def _end_all(self) -> None:
        for turn in self.waiting:
            while not turn.done:
                self.world.hands.go_on(turn, raising=Crash("the end"))
        self.waiting.clear()

    def is_awake(self, turn: Turn) -> bool:
        """Whether it will go on by itself before long; a frozen one may not."""
        return turn.limit < FOR_EVER

    def is_running(self, name: str) -> bool:
        return any(turn.name == name for turn in self.waiting)

    def advance(self, seconds: float) -> None:
        """Time passes; who may not wait so long goes on first."""
        target = self.world.clock.monotonic() + seconds
        while late := [turn for turn in self.waiting if turn.limit <= target]:
            if self.world.broken:
                return
            self.go_on(late[0])
        self.world.note(f"time: {seconds:g} s")
        self.world.forward(seconds)
