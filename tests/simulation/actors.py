"""Who acts: workers, relays, the timetable's jobs, persons, and chaos. Each is one function.

A function here is what a process of ours would run, with the product's own use cases inside; it may be
stopped at any of its points, crash there, or be left frozen while the clock goes on.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import connection

from checkout import billing, charging, outbox, relay, rescue, routing, subscriptions
from checkout.commit import DatabaseAway, committed
from checkout.messages import Answer, Outgoing, Unreadable, readable
from checkout.models import (
    TERMINAL,
    Charge,
    ChargeState,
    Creator,
    Door,
    Hold,
    HoldKind,
    HoldScope,
    Subscription,
)
from checkout.moves import UnknownCharge
from checkout.outcomes import Fate
from checkout.queue import check
from settlements.expectations import mark_late_expectations
from settlements.management import jobs
from settlements.models import ReconciliationRun
from settlements.settling import store_default_schedules
from tests.simulation.database import LockConnections, looking_on
from tests.simulation.queue import Message, QueueAway
from tests.simulation.topic import KafkaAway
from tests.simulation.watch import Watched, closed_while_open, too_soon
from tests.simulation.world import World


class Actors:
    """The functions, over one world."""

    def __init__(self, world: World, connections: LockConnections) -> None:
        self.world = world
        self.connections = connections

    # --- Persons ----------------------------------------------------------------------------------

    def in_one_commit(self, work: Callable[[], object]) -> None:
        ages, clock = self.world.ages, self.world.clock
        committed(lambda: work() and None, deadline=ages.request_deadline, clock=clock)

    def cancel(self, subscription_id: UUID) -> None:
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: subscriptions.cancel(
                subscription_id=subscription_id, by="person", reason="asked", now=now
            )
        )
        self.world.cancelled.setdefault(subscription_id, self.world.clock.real_now())
        self.world.broken += closed_while_open()

    def change_plan(self, subscription_id: UUID, plan: str) -> None:
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: subscriptions.change_plan(
                subscription_id=subscription_id, plan_code=plan, now=now
            )
        )

    def add_instrument(self, creator_id: UUID, token: str) -> None:
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: subscriptions.add_instrument(creator_id=creator_id, token=token, now=now)
        )

    def requeue(self, charge_id: UUID) -> None:
        self.world.requeued.add(charge_id)
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: rescue.requeue(charge_id=charge_id, by="person", reason="asked", now=now)
        )

    def write_off(self, charge_id: UUID) -> None:
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: rescue.write_off(charge_id=charge_id, by="person", reason="asked", now=now)
        )
        self.world.broken += closed_while_open()

    def pause(self, scope: str, subject: str, seconds: float | None) -> None:
        now = self.world.clock.now()
        until = None if seconds is None else now.real + timedelta(seconds=seconds)
        routing.place_hold(
            kind=HoldKind.PAUSE,
            scope=HoldScope(scope),
            subject=subject,
            reason="a person's",
            by="person",
            until=until,
            now=now,
        )

    def resume(self, hold_id: int) -> None:
        routing.lift_hold(hold_id=hold_id, by="person", now=self.world.clock.now())

    def republish(self, door: Door, hours: float) -> int:
        """A person has everything sent again that was published of late."""
        now = self.world.clock.real_now()
        since = now - timedelta(hours=hours)
        return sum(outbox.republish(door=door, since=since, until=now))

    # --- Workers ----------------------------------------------------------------------------------

    def work_on(self, message: Message) -> Callable[[], str]:
        """What checkout/tasks.py and the worker around it do with one receive."""
        world = self.world

        def work() -> str:
            world.hands.wait_here("worker.received")
            if world.happens(world.plan.away):
                world.fault("F18 database away at a receive")
                world.away.was_away = True
                return self._leave(message)
            try:
                fate = self._attempt(message)
            except (DatabaseAway, UnknownCharge):
                return self._leave(message)
            if fate is Fate.LEAVE:
                return self._leave(message)
            return "acknowledged" if world.queue.delete(message) else "acknowledged too late"

        return work

    def _attempt(self, message: Message) -> Fate:
        """The task of a dispatch, or the one that keeps what nobody can read (F22)."""
        world = self.world
        try:
            check(message.body)
        except Unreadable as fault:
            reason, clock = str(fault), world.clock
            committed(
                lambda: rescue.keep_unreadable(
                    subject=message.id,
                    body=readable(message.body),
                    reason=reason,
                    now=clock.now(),
                ),
                deadline=world.ages.database_wait_before_call,
                clock=clock,
            )
            return Fate.ACKNOWLEDGE
        receive = message.receive()
        watched = Watched(world, receive)
        fate = charging.attempt_charge(
            receive=receive, clock=world.clock, gateways=world.gateways, ages=world.ages
        )
        world.broken += watched.complaints(fate)
        return fate

    def _leave(self, message: Message) -> str:
        wait = self.world.ages.backoff_after(message.receives)
        self.world.queue.leave(message, seconds=wait)
        return "left"

    # --- Relays -----------------------------------------------------------------------------------

    def relay(self, door: Door, *, name: str, limit: int, backlog: bool) -> Callable[[], str]:
        """A turn of one relay process: it leads if it has the door's lock, or if a lock was lost."""
        world = self.world
        send = self._to_queue if door == Door.SQS else self._to_topic

        def turn() -> str:
            lock = self.connections.of(name, world)
            held = lock.execute("SELECT pg_try_advisory_lock(%s)", [relay.lock_key(door)])
            if not (held.fetchone() or [False])[0] and not world.plan.two_leaders:
                return "stands by"
            now = world.clock.real_now()
            if backlog:
                settled = relay.relay_backlog(
                    door=door,
                    hand_over=relay.at_once(send),
                    now=now,
                    lock_connection=lock,
                    limit=limit,
                )
            else:
                settled = relay.relay_batch(
                    door=door, send=send, now=now, lock_connection=lock, limit=limit
                ).settled
            if settled.parked:
                world.broken.append(f"{settled.parked} messages were parked at {door}")
            return f"{settled.marked} marked, {settled.again} to be sent again"

        return turn

    def _to_queue(self, messages: Sequence[Outgoing]) -> list[Answer]:
        world = self.world
        world.broken += too_soon(world, messages)
        if world.queue.is_away and messages:
            world.fault("F29 nothing is sent to the queue")
        if world.plan.sqs_away and world.happens(0.2):
            world.fault("F29 the queue's answer is lost")
            taken = world.rng.randrange(len(messages) + 1)
            return world.queue.send_until(messages, taken=taken)
        return world.queue.send(messages)

    def _to_topic(self, messages: Sequence[Outgoing]) -> list[Answer]:
        world = self.world
        if world.topic.is_away and messages:
            world.fault("F14 no broker answers")
        if world.happens(world.plan.broker):
            world.fault("F16 a delivery report never comes")
            taken = world.rng.randrange(len(messages) + 1)
            return world.topic.send_until(messages, taken=taken)
        return world.topic.send(messages)

    # --- The timetable -----------------------------------------------------------------------------

    def resolve(self) -> int:
        world = self.world
        asked = rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
        applied = rescue.apply_webhooks(clock=world.clock, gateways=world.gateways, ages=world.ages)
        if asked:
            world.rescued.append(f"resolve asked about {asked}")
        return asked + applied

    def sweep(self) -> int:
        swept = rescue.sweep(clock=self.world.clock, ages=self.world.ages)
        if swept:
            self.world.rescued.append(f"sweep dispatched {swept}")
        return swept

    def drain(self) -> int:
        world = self.world
        drained = rescue.drain_dead_letters(
            letters=world.queue.dead_letters(),
            delete=world.queue.delete_dead,
            clock=world.clock,
            ages=world.ages,
        )
        if drained:
            world.rescued.append(f"{drained} dead letters")
        return drained

    def dunning(self) -> int:
        opened = rescue.open_next_rounds(clock=self.world.clock, ages=self.world.ages)
        return opened + subscriptions.review(clock=self.world.clock, ages=self.world.ages)

    def bill(self) -> int:
        billed = billing.bill_due(
            clock=self.world.clock, ages=self.world.ages, batch=self.world.rng.choice([1, 2, 1000])
        )
        return billed.charges

    def reconcile(self) -> str:
        """The timetable's own job, with what stands beside it there."""
        world = self.world
        store_default_schedules(now=world.clock.now())
        mark_late_expectations(now=world.clock.now())
        jobs.reconcile_incremental(clock=world.clock, ages=world.ages, gateways=world.gateways)
        run = ReconciliationRun.objects.latest("id")
        return f"{run.opened} opened, {run.cleared} cleared, {run.standing} stand"

    # --- Chaos -------------------------------------------------------------------------------------

    def rewrite(self, charge_id: UUID) -> None:
        """A row is set to `failed_then_retry` behind every trigger (F27)."""

        def update() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute(
                    "UPDATE checkout_charge SET state = 'failed_then_retry', awaits = '',"
                    " next_round_at = NULL WHERE id = %s",
                    [charge_id],
                )

        with looking_on():
            state = Charge.objects.values_list("state", flat=True).get(pk=charge_id)
            self.in_one_commit(update)
        if state in TERMINAL or charge_id not in self.world.rewritten:
            self.world.rewritten[charge_id] = state

    # --- What is there ------------------------------------------------------------------------------

    def creators(self) -> list[UUID]:
        found = Creator.objects.filter(account_id=self.world.account_id)
        return list(found.order_by("external_id").values_list("id", flat=True))

    def subscriptions(self) -> list[UUID]:
        return list(Subscription.objects.order_by("started_at", "id").values_list("id", flat=True))

    def charges(self, **where: object) -> list[UUID]:
        found = Charge.objects.filter(**where)
        return list(found.order_by("created_at", "id").values_list("id", flat=True))

    def exhausted(self) -> list[UUID]:
        return self.charges(state=ChargeState.EXHAUSTED)

    def holds(self) -> list[int]:
        in_force = Hold.objects.in_force(self.world.clock.real_now())
        return list(in_force.order_by("id").values_list("id", flat=True))


# What a person, a client or a process may meet, and that changes nothing.
REFUSALS: Final = (
    DatabaseAway,
    KafkaAway,
    QueueAway,
    relay.MarkFailed,
    rescue.NotRequeueable,
    rescue.NotWritable,
    routing.UnknownHold,
    subscriptions.DeadInstrument,
    subscriptions.NotActive,
)
