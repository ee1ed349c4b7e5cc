"""Who acts: clients, workers, relays, the timetable's jobs, persons, and chaos. Each is one function.

A function here is what a process of ours would run, with the product's own use cases inside; it may be
stopped at any of its points, crash there, or be left frozen while the clock goes on.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from checkout import billing, charging, relay, rescue, routing, subscriptions
from checkout.commit import DatabaseAway, committed
from checkout.messages import Answer, Outgoing
from checkout.models import (
    Charge,
    ChargeState,
    Creator,
    Door,
    Hold,
    HoldKind,
    HoldScope,
    Subscription,
    WebhookDelivery,
)
from checkout.outcomes import Fate
from processor.webhooks import HEADER, signature
from tests.simulation.queue import Message
from tests.simulation.world import CALM_TOKENS, ROUGH_TOKENS, SECRET, World

PLANS = ("monthly", "weekly")


class Actors:
    """The functions, over one world."""

    def __init__(self, world: World, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.world = world
        self.connect = connect
        self._tokens = 0
        self._keys = 0

    # --- Clients and persons ----------------------------------------------------------------------

    def new_token(self) -> str:
        rng, self._tokens = self.world.rng, self._tokens + 1
        names = CALM_TOKENS if self.world.plan.calm else ROUGH_TOKENS
        return f"tok_{rng.choice(names)}_{self._tokens}"

    def new_checkout(self) -> Callable[[], None]:
        """A client asks for a subscription; if it hears nothing it asks again with the same key."""
        world = self.world
        unanswered = sorted(world.asked - world.accepted)
        if unanswered and world.rng.random() < 0.5:
            return self._checkout_again(unanswered[0])
        self._keys += 1
        creator = world.rng.choice(self.creators())
        request = json.dumps([str(creator), world.rng.choice(PLANS), self.new_token()])
        return self._checkout(f"key-{self._keys} {request}")

    def _checkout_again(self, key: str) -> Callable[[], None]:
        return self._checkout(key)

    def _checkout(self, key: str) -> Callable[[], None]:
        creator, plan, token = json.loads(key.partition(" ")[2])
        world = self.world
        world.asked.add(key)

        def ask() -> None:
            now = world.clock.now()

            def once() -> None:
                if not self._first_with(key, now.real):
                    return
                subscriptions.start_checkout(
                    account_id=world.account_id,
                    creator_id=UUID(creator),
                    plan_code=plan,
                    token=token,
                    idempotency_key=key,
                    now=now,
                )

            committed(once, deadline=world.ages.request_deadline, clock=world.clock)
            world.hands.wait_here("client.unanswered")
            world.accepted.add(key)

        return ask

    def _first_with(self, key: str, now: datetime) -> bool:
        """The record of the API (checkout/http/once.py), in the transaction of the work."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO checkout_idempotencyrecord (account_id, key, request_sha256, body,"
                " created_at) VALUES (%s, %s, %s, '', %s) ON CONFLICT DO NOTHING",
                [self.world.account_id, key, hashlib.sha256(key.encode()).hexdigest(), now],
            )
            return bool(cursor.rowcount)

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
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: rescue.requeue(charge_id=charge_id, by="person", reason="asked", now=now)
        )

    def write_off(self, charge_id: UUID) -> None:
        now = self.world.clock.now()
        self.in_one_commit(
            lambda: rescue.write_off(charge_id=charge_id, by="person", reason="asked", now=now)
        )

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

    # --- Workers ----------------------------------------------------------------------------------

    def work_on(self, message: Message) -> Callable[[], str]:
        """What checkout/tasks.py and the worker around it do with one receive."""
        world = self.world

        def work() -> str:
            if world.happens(world.plan.away):
                world.fault("database away at a receive")
                return self._leave(message)
            try:
                fate = charging.attempt_charge(
                    receive=message.receive(),
                    clock=world.clock,
                    gateways=world.gateways,
                    ages=world.ages,
                )
            except DatabaseAway:
                return self._leave(message)
            if fate is Fate.LEAVE:
                return self._leave(message)
            return "acknowledged" if world.queue.delete(message) else "acknowledged too late"

        return work

    def _leave(self, message: Message) -> str:
        wait = self.world.ages.backoff_after(message.receives)
        self.world.queue.leave(message, seconds=wait)
        return "left"

    # --- Relays -----------------------------------------------------------------------------------

    def relay(self, door: Door, *, limit: int) -> Callable[[], str]:
        world = self.world

        def send(messages: Sequence[Outgoing]) -> list[Answer]:
            if door == Door.SQS:
                return world.queue.send(messages)
            if world.happens(world.plan.broker):
                world.fault("broker away")
                taken = world.rng.randrange(len(messages) + 1)
                return world.topic.send_until(messages, taken=taken)
            return world.topic.send(messages)

        def turn() -> str:
            batch = relay.relay_batch(
                door=door,
                send=send,
                now=world.clock.real_now(),
                lock_connection=self.connect(),
                limit=limit,
            )
            if batch.settled.parked:
                world.broken.append(f"{batch.settled.parked} messages were parked at {door}")
            return f"{batch.read} read, {batch.settled.marked} marked"

        return turn

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

    # --- Webhooks ----------------------------------------------------------------------------------

    def deliver(self, event: dict[str, Any]) -> Callable[[], None]:
        """What the API does with a webhook: verify, store, answer (R28)."""
        world = self.world

        def take() -> None:
            now = world.clock.real_now()
            body = json.dumps(event).encode()
            headers = {HEADER: signature(body, secret=SECRET, at=int(now.timestamp()))}
            hint = world.lane.parse_webhook(body, headers, now=now)
            facts = {
                "reference": hint.reference,
                "kind": hint.kind,
                "body": body.decode(),
                "received_at": now,
                "next_try_at": now,
            }
            self.in_one_commit(
                lambda: WebhookDelivery.objects.get_or_create(
                    processor="sandbox", event_id=hint.event_id, defaults=facts
                )
            )

        return take

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

        self.in_one_commit(update)

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


# Refusals that a person or client may meet, and that change nothing.
REFUSALS = (
    DatabaseAway,
    rescue.NotRequeueable,
    rescue.NotWritable,
    routing.UnknownHold,
    subscriptions.DeadInstrument,
    subscriptions.NotActive,
)
