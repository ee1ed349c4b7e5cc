"""One schedule: what happens in which order, drawn from the seed; then healing, and quiet."""

import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection

from checkout import failpoints, outbox, subscriptions
from checkout.commit import DatabaseAway, committed
from checkout.failpoints import Crash
from checkout.models import TERMINAL, Account, Charge, Door, Instrument, Interval, OutboxMessage
from tests import factories
from tests.simulation.actors import REFUSALS, Actors
from tests.simulation.turns import Turn, current
from tests.simulation.world import LANE, World

POINTS = (
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
)
# A worker that is not frozen is ended by its hard limit; a request is not longer under way than this.
PATIENCE = 100.0
FOR_EVER = 1e12
ADVANCES = (1, 5, 30, *(61,) * 5, 301, 301, 301, 700, 1300, 3700, 8000, 90_000)
MINUTES = (5, 30, 61, 61, 61, 61)
DAYS = (1, 3, 4, 7, 7, 31)
HEALING_ROUNDS = 400
JOBS = ("resolve", "sweep", "drain", "dunning", "bill")


_MOMENTS = """
    SELECT
      (SELECT min(available_at) FROM checkout_outboxmessage WHERE published_at IS NULL),
      (SELECT min(next_query_at) FROM checkout_attempt WHERE outcome = 'open'),
      (SELECT min(next_try_at) FROM checkout_webhookdelivery WHERE applied_at IS NULL),
      (SELECT min(next_round_at) FROM checkout_charge WHERE awaits = 'date'),
      (SELECT min(until) FROM checkout_hold WHERE lifted_at IS NULL AND until > %(now)s),
      (SELECT min(
         greatest(c.last_seen_at, (SELECT max(m.published_at) FROM checkout_outboxmessage m
                                   WHERE m.subject = c.id AND m.door = 'sqs'))
         + make_interval(secs => least(%(most)s, %(after)s * 2 ^ least(c.sweeps, 20))))
       FROM checkout_charge c WHERE c.state IN ('due', 'failed_then_retry'))
"""


class Restless(Exception):
    """The world did not come to rest after healing (I6)."""


class Schedule:
    """The scheduler: it alone draws from the world's chance, so that a seed is a history."""

    def __init__(self, world: World, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.world = world
        self.rng: random.Random = world.rng
        self.actors = Actors(world, connect)
        self.waiting: list[Turn] = []
        self.actions = self._actions()
        self._silence = (
            False  # something is owed, and nothing is under way that would bring it back
        )
        self._looked_again = not world.plan.last_defence

    # --- The storm ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Set up, go through the steps, heal; stops at the first thing that breaks."""
        for name in POINTS:
            failpoints.enable(name, lambda name=name: self._point(name))  # type: ignore[misc]
        try:
            self._set_up()
            for _ in range(self.world.plan.steps):
                self._step()
                if self.world.broken:
                    return
            self.heal()
        finally:
            for name in POINTS:
                failpoints.disable(name)
            self._end_all()

    def _set_up(self) -> None:
        world, clock = self.world, self.world.clock
        Account.objects.create(
            id=world.account_id, name=f"account {world.plan.seed}", created_at=clock.real_now()
        )
        factories.routing_rule("KZ", LANE)
        for code, interval in (("monthly", Interval.MONTH), ("weekly", Interval.WEEK)):
            factories.plan(code, price="19.99" if code == "monthly" else "5.01", interval=interval)
        for number in range(world.plan.creators):
            committed(
                lambda number=number: subscriptions.register_creator(  # type: ignore[misc]
                    account_id=world.account_id,
                    external_id=f"creator-{number}",
                    name="Aigerim",
                    email="aigerim@example.org",
                    country="KZ",
                    time_zone="Asia/Almaty" if number % 2 else "UTC",
                    now=clock.now(),
                ),
                deadline=5,
                clock=clock,
            )

    def _point(self, name: str) -> None:
        """A failpoint was reached: wait for the scheduler; the database may be away after it."""
        world, turn = self.world, current()
        if turn is None:
            return
        world.hands.wait_here(name)
        if turn.name.startswith("worker") and world.happens(world.plan.away):
            world.fault(f"database away at {name}")
            raise DatabaseAway("away")

    def _step(self) -> None:
        if self.world.plan.calm:
            self._calm_step()
            return
        ready = [turn for turn in self.waiting if turn.limit < FOR_EVER]
        if ready and self.rng.random() < 0.55:
            self._go_on(self.rng.choice(ready))
            return
        if self.waiting and self.rng.random() < 0.05:
            self._go_on(self.rng.choice(self.waiting))
            return
        weights = [weight for weight, _, _ in self.actions]
        _, name, act = self.rng.choices(self.actions, weights)[0]
        if not self.world.plan.only or name in self.world.plan.only:
            act()

    def _calm_step(self) -> None:
        """Nothing fails and nobody is slow: time passes only when nothing can be done."""
        if self.waiting:
            self._go_on(self.rng.choice(self.waiting))
            return
        if self._anything_to_send():
            self._relay(self.rng.choice(list(Door)))
            return
        if self.world.queue.heads():
            self._receive()
            return
        for job in JOBS:
            self._run(job, getattr(self.actors, job))
        if self.waiting or self._anything_to_send():
            return
        if self.rng.random() < 0.6:
            self.rng.choice([act for _, name, act in self.actions if name in CALM])()
        else:
            self._to_next_moment()

    def _actions(self) -> list[tuple[float, str, Callable[[], None]]]:
        plan, job = self.world.plan, self._job
        actions: list[tuple[float, str, Callable[[], None]]] = [
            (4, "checkout", self._checkout),
            (14, "receive", self._receive),
            (10, "relay sqs", lambda: self._relay(Door.SQS)),
            (6, "relay kafka", lambda: self._relay(Door.KAFKA)),
            (
                12,
                "time",
                lambda: self.advance(self.rng.choice(MINUTES if plan.minutes else ADVANCES)),
            ),
            (1, "days", self._days),
            *((3, name, job(name)) for name in JOBS if name not in plan.without),
        ]
        if plan.people:
            actions += [
                (3, "cancel", self._cancel),
                (3, "instrument", self._instrument),
                (3, "requeue", self._requeue),
                (1, "write off", self._write_off),
                (1, "change plan", self._change_plan),
                (1, "pause", self._pause),
                (1, "resume", self._resume),
            ]
        if plan.webhooks != "none":
            actions.append((4, "webhook", self._webhook))
        if plan.queue:
            actions += [
                (1, "lose the queue", self._lose_the_queue),
                (2, "repeat", self._repeat),
                (1, "republish", self._republish),
                (1, "redrive", lambda: self.world.note(f"redrive {self.world.queue.redrive()}")),
            ]
        if plan.shorts:
            actions.append((2, "short", self._short))
        if plan.chaos:
            actions.append((3, "rewrite", self._rewrite))
        return actions

    # --- Turns --------------------------------------------------------------------------------------

    def _run(self, name: str, work: Callable[[], object]) -> None:
        turn = Turn(name, work)
        self.world.note(f"{name} begins")
        self.world.hands.begin(turn)
        self._after(turn)

    def _go_on(self, turn: Turn) -> None:
        self.waiting.remove(turn)
        crash = self.world.happens(self.world.plan.crash)
        self.world.note(f"{turn.name} {'crashes' if crash else 'goes on'} at {turn.at}")
        if crash:
            self.world.faults["crash"] = self.world.faults.get("crash", 0) + 1
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
        elif turn.error is None:
            world.note(f"{turn.name} ends: {turn.result}")
        elif isinstance(turn.error, (Crash, *REFUSALS)):
            world.note(f"{turn.name} ends by {type(turn.error).__name__}")
        else:
            world.note(f"{turn.name} ends by {turn.error!r}")
            world.broken.append(f"{turn.name} raised {turn.error!r}")

    def _end_all(self) -> None:
        for turn in self.waiting:
            while not turn.done:
                self.world.hands.go_on(turn, raising=Crash("the end"))
        self.waiting.clear()

    def _is_running(self, name: str) -> bool:
        return any(turn.name == name for turn in self.waiting)

    def advance(self, seconds: float) -> None:
        """Time passes; who may not wait so long goes on first."""
        target = self.world.clock.monotonic() + seconds
        while late := [turn for turn in self.waiting if turn.limit <= target]:
            if self.world.broken:
                return
            self._go_on(late[0])
        self.world.note(f"time: {seconds:g} s")
        self.world.forward(seconds)

    def _days(self) -> None:
        """The business clock alone is moved, as CLOCK_FILE does."""
        days = self.rng.choice(DAYS)
        self.world.note(f"business time: {days} days")
        self.world.clock.move_business(days=days)

    # --- Actions ------------------------------------------------------------------------------------

    def _job(self, name: str) -> Callable[[], None]:
        """One of a kind at a time, by its lock; two where the lock was lost."""
        names = [name, f"{name} again"] if self.world.plan.two_leaders else [name]

        def act() -> None:
            for free in (each for each in names if not self._is_running(each)):
                self._run(free, getattr(self.actors, name))
                return

        return act

    def _checkout(self) -> None:
        if not self._is_running("client"):
            self._run("client", self.actors.new_checkout())

    def _receive(self) -> None:
        names = [f"worker {n}" for n in range(self.world.plan.workers)]
        free = [name for name in names if not self._is_running(name)]
        heads = self.world.queue.heads()
        if free and heads:
            message = self.world.queue.receive(self.rng.choice(heads))
            about = message.receive()
            self.world.note(
                f"{free[0]} receives {message.id} ({message.receives}): "
                f"{self.world.name(about.charge_id)} {about.round}:{about.dispatch}"
            )
            self._run(free[0], self.actors.work_on(message))

    def _relay(self, door: Door) -> None:
        leaders = 2 if self.world.plan.two_leaders else 1
        for name in [f"relay {door} {n}" for n in range(leaders)]:
            if not self._is_running(name):
                limit = self.rng.choice([1, 3, 1000])
                self._run(name, self.actors.relay(door, limit=limit))
                return

    def _pick(self, found: Iterable[Any], kind: str, act: Callable[[Any], None]) -> None:
        rows = list(found)
        if rows:
            row = self.rng.choice(rows)
            self.world.note(f"{kind}: row {rows.index(row)} of {len(rows)}")
            self._run(kind, lambda: act(row))

    def _cancel(self) -> None:
        self._pick(self.actors.subscriptions(), "cancel", self.actors.cancel)

    def _requeue(self) -> None:
        self._pick(self.actors.exhausted(), "requeue", self.actors.requeue)

    def _write_off(self) -> None:
        self._pick(self.actors.exhausted(), "write off", self.actors.write_off)

    def _rewrite(self) -> None:
        def act(charge_id: Any) -> None:
            self.world.rewritten.add(charge_id)
            self.actors.rewrite(charge_id)

        self.world.faults["rewrite"] = self.world.faults.get("rewrite", 0) + 1
        self._pick(self.actors.charges(), "rewrite", act)

    def _change_plan(self) -> None:
        plan = self.rng.choice(["monthly", "weekly"])
        self._pick(
            self.actors.subscriptions(), "change plan", lambda s: self.actors.change_plan(s, plan)
        )

    def _instrument(self) -> None:
        token = self.actors.new_token()
        self._pick(
            self.actors.creators(), "instrument", lambda c: self.actors.add_instrument(c, token)
        )

    def _pause(self) -> None:
        scope, subject = self.rng.choice(
            [("all", ""), ("lane", LANE), ("plan", "weekly"), ("creator", "?")]
        )
        subject = str(self.rng.choice(self.actors.creators())) if subject == "?" else subject
        seconds = self.rng.choice([None, 120, 2000])
        self._run("pause", lambda: self.actors.pause(scope, subject, seconds))

    def _resume(self) -> None:
        self._pick(self.actors.holds(), "resume", self.actors.resume)

    def _webhook(self) -> None:
        if self.world.announced:
            event = self.rng.choice(self.world.announced)
            if self.rng.random() < 0.7:
                self.world.announced.remove(event)
            self._run("webhook", self.actors.deliver(event))

    def _short(self) -> None:
        """The processor takes three cents less of somebody's next charge, and says so."""
        creator = str(self.rng.choice(self.actors.creators()))
        self.world.fault("a short capture")
        self.world.processor.instruct({"short": {"creator": creator, "by": "0.03"}})

    def _republish(self) -> None:
        """A person has everything sent again that was published of late."""
        now, door = self.world.clock.real_now(), self.rng.choice(list(Door))
        since = now - timedelta(hours=self.rng.choice([1, 48]))
        self._run("republish", lambda: sum(outbox.republish(door=door, since=since, until=now)))

    def _lose_the_queue(self) -> None:
        self.world.fault(f"the queue loses {self.world.queue.lose_everything()}")

    def _repeat(self) -> None:
        if self.world.queue.messages:
            self.world.queue.repeat(self.rng.choice(self.world.queue.messages))
            self.world.note("a message is delivered again")

    # --- Healing ------------------------------------------------------------------------------------

    def heal(self) -> None:
        """The faults end, everybody goes on, and time passes until nothing is left to be done."""
        world = self.world
        world.stormy = False
        world.note("healing")
        while self.waiting and not world.broken:
            self._go_on(self.waiting[0])
        for hold_id in self.actors.holds():
            self.actors.resume(hold_id)
        # A card that is pending for ever is asked for ever, once a day.
        stuck = Instrument.objects.filter(token__contains="stuck").values_list("token", flat=True)
        world.processor.instruct({"token": dict.fromkeys(stuck, "approve")})
        world.billed_at = world.clock.business_now()
        self.actors.bill()
        for _ in range(HEALING_ROUNDS):
            self._all_there_is_to_do()
            if world.broken or not (self._to_next_moment() or self._last_look()):
                return
        raise Restless(f"not at rest after {HEALING_ROUNDS} rounds of healing: {self._why()}")

    def _why(self) -> str:
        charges = Charge.objects.exclude(state__in=TERMINAL).order_by("created_at", "id")
        rows = OutboxMessage.objects.filter(published_at__isnull=True)
        return " ".join(
            [
                *(
                    f"{c.state}/{c.awaits}/{c.round}:{c.dispatch}/{c.next_round_at}"
                    for c in charges
                ),
                *(f"{row.type}@{row.available_at}" for row in rows),
                *(str(moment and moment.isoformat()) for moment in self._moments()),
            ]
        )

    def _all_there_is_to_do(self) -> None:
        world = self.world
        while world.announced:
            self.actors.deliver(world.announced.pop())()
        for job in ("resolve", "drain", "dunning"):
            getattr(self.actors, job)()
        if self._silence:
            world.swept += self.actors.sweep()
        while True:
            for door in Door:
                self.actors.relay(door, limit=1000)()
            heads = world.queue.heads()
            if not heads:
                return
            message = world.queue.receive(heads[0])
            result = self.actors.work_on(message)()
            world.note(f"healing: {message.id} ({message.receives}) {result}")

    def _to_next_moment(self) -> bool:
        """Go forward to the next thing that happens by itself; False if nothing ever will."""
        moments = [moment for moment in self._moments() if moment is not None]
        if not moments:
            return False
        left = (min(moments) - self.world.clock.real_now()).total_seconds()
        self.advance(max(left, 0) + 1)
        return True

    def _last_look(self) -> bool:
        """The last requests arrive; what was believed not to be charged is asked about once more."""
        if not self.world.network.late and self._looked_again:
            return False
        self._looked_again = True
        self.advance(90_000)
        return True

    def _moments(self) -> list[datetime | None]:
        world = self.world
        about: dict[str, Any] = {
            "now": world.clock.real_now(),
            "after": world.ages.sweep_after,
            "most": world.ages.sweep_most,
        }
        with connection.cursor() as cursor:
            cursor.execute(_MOMENTS, about)
            unsent, open_, webhook, dunning, hold, silent = cursor.fetchone()
        moments = [world.queue.next_visible(), unsent, open_]
        self._silence = bool(silent) and not any(moments)
        if self._silence:
            moments.append(silent)
        return [*moments, webhook, dunning and dunning - world.clock.business_offset(), hold]

    def _anything_to_send(self) -> bool:
        now = self.world.clock.real_now()
        return OutboxMessage.objects.filter(
            published_at__isnull=True, available_at__lte=now
        ).exists()


CALM = frozenset({"checkout", "cancel", "instrument", "requeue", "change plan", "days", "time"})
