"""One world with its creators, and what the processes of the service do in it.

Every act here is what a process of ours would run, with the product's own use cases inside. A forked
child runs it over its pipe, the parent itself; so a child may die in any of them, and the parent carries on.
"""

import json
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, cast
from uuid import UUID

import psycopg
from django.db import connection

from checkout import billing, charging, relay, rescue, subscriptions
from checkout.clock import Ages, Clock
from checkout.commit import DatabaseAway, committed
from checkout.models import (
    TERMINAL,
    Account,
    ApiKey,
    Charge,
    ChargeState,
    Creator,
    Door,
    Instrument,
    Interval,
)
from checkout.outcomes import Fate
from settlements import reconciliation
from tests import factories
from tests.fakes import START, FakeClock
from tests.kills import checks
from tests.kills.healing import Restless, heal
from tests.kills.outside import LANE, Ask, Outside, Reader, gateway, queue
from tests.platforms import Platform, send_webhook
from tests.simulation.queue import Message
from tests.tables import empty_tables

CREATORS = 4
PRICE = Decimal("19.99")
KEY_IN_USE = b"idempotency-key-in-use"
# What an approved charge, a decline and a doubt leave behind are different things to heal.
TOKENS = (
    *("approve",) * 4,
    "soft_then_approve_1",
    "funds_then_approve",
    "decline_never",
    "timeout_after_charge",
    "500_after_charge",
    "garbled",
    "lost",
    "429_once",
    "pending_30s",
)


class Yard:
    """Clean tables, one world, some creators, and the acts of the service's processes.

    `loses_messages`: the queue does, so the sweep is needed. `is_short`: the processor takes three
    cents less now and then.
    """

    def __init__(
        self,
        *,
        seed: int,
        creators: int = CREATORS,
        loses_messages: bool = False,
        is_short: bool = False,
    ) -> None:
        empty_tables()
        self.seed = seed
        self.price = PRICE
        self.rng = random.Random(f"kills:{seed}")
        self.loses_messages, self.is_short = loses_messages, is_short
        self.clock = FakeClock()
        # One dunning date, then a person; and a card here pays for dozens of subscriptions.
        self.ages = Ages(dunning_days=(3,), attempts_per_instrument=500)
        self._ahead = 0.0
        self.clock.forward(seconds=(datetime.now(UTC) - START).total_seconds())
        self.outside = Outside(self.clock, ages=self.ages)
        self.ask: Ask = self.outside.answer
        self.gateways = {LANE: gateway(self._ask, ages=self.ages)}
        self.queue = queue(self._ask)
        self.reader = Reader(self._ask)
        self.swept = 0
        # One creator after the other: the newest card of a creator is the one that is charged.
        self._turns = count()
        self.billed_at: datetime | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self.platform = self._platform()
        self.account_id = self.platform.account.pk
        self.creators = [self._creator(number) for number in range(creators)]
        # What a first request loads is loaded before anybody is forked.
        self.platform.get("/v1/charges")

    def _ask(self, door: str, *question: Any) -> Any:
        return self.ask(door, *question)

    def _platform(self) -> Platform:
        now = self.clock.now()
        name = f"kills {self.seed}"
        account = Account.objects.create(
            id=Account.derive_id(name=name), name=name, created_at=now.real
        )
        factories.routing_rule("KZ", LANE)
        factories.plan("monthly", price=str(PRICE), interval=Interval.MONTH)
        return Platform(account, ApiKey.issue(account=account, label="kills", now=now.real))

    def _creator(self, number: int) -> Creator:
        return committed(
            lambda: subscriptions.register_creator(
                account_id=self.account_id,
                external_id=f"creator-{number}",
                name="Aigerim",
                email="aigerim@example.org",
                country="KZ",
                time_zone="Asia/Almaty" if number % 2 else "UTC",
                now=self.clock.now(),
            ),
            deadline=5,
            clock=self.clock,
        )

    # --- Time --------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """The API reads the machine's clock; ours is that one, and what was waited for on top."""
        real = (datetime.now(UTC) - START).total_seconds() + self._ahead
        left = real - self.clock.monotonic()
        if left > 0:
            self.clock.forward(seconds=left)
            self.outside.processor.resolve_due()

    def wait(self, seconds: float) -> None:
        """So much time passes, without anybody waiting for it."""
        self._ahead += seconds
        self.catch_up()

    def visibility_over(self) -> None:
        self.wait(self.ages.visibility + 1)

    # --- Clients -----------------------------------------------------------------------------------

    def new_order(self, *, token: str = "") -> str:
        """A checkout to ask for; its key, by which it is asked for again and again."""
        who = self.creators[next(self._turns) % len(self.creators)]
        name = token or self.rng.choice(TOKENS)
        own = f"tok_{name}_{self.rng.getrandbits(40):x}"
        order = {"creator_id": str(who.pk), "plan": "monthly", "token": own}
        key = str(self.ask("asked", order))
        self.outside.orders[key] = order
        return key

    def post(self, key: str) -> Any:
        """Ask over the API; the client notes what was accepted, and what should not be answered."""
        answer = self.platform.post("/v1/checkouts", json.dumps(self.outside.orders[key]), key=key)
        if answer.status_code == 201:
            self.ask("accepted", key)
        elif answer.status_code != 503 and KEY_IN_USE not in answer.content:
            self.ask("complaint", f"{key}: {answer.status_code} {answer.content[:200]!r}")
        return answer

    def tell(self, event: dict[str, Any]) -> int:
        """The processor's webhook, over the API; the status that it was answered."""
        status = int(send_webhook(self.platform, event).status_code)
        if status not in (200, 202, 503):
            self.ask("complaint", f"webhook {event['id']}: {status}")
        return status

    def checkout(self, *, token: str = "") -> Charge:
        """A subscription's first charge, due now, by the use case under the API."""
        key = self.new_order(token=token)
        order = self.outside.orders[key]
        charge = committed(
            lambda: subscriptions.start_checkout(
                account_id=self.account_id,
                creator_id=UUID(order["creator_id"]),
                plan_code=order["plan"],
                token=order["token"],
                idempotency_key=key,
                now=self.clock.now(),
            ),
            deadline=5,
            clock=self.clock,
        )
        self.outside.accepted.add(key)
        return charge

    def dispatched(self, *, token: str = "") -> UUID:
        """A charge whose dispatch is the next on the queue, and whose card may be tried.

        A new card opens the rounds of older charges too; one of them may come first and kill it.
        """
        while True:
            charge = self.checkout(token=token)
            self.relay(Door.SQS)
            while not self._is_next(charge):
                if not self.receive():
                    self.visibility_over()
            card = Instrument.newest_of(charge.creator_id)
            if card and not card.dead_at:
                return charge.pk
            self.receive()

    def _is_next(self, charge: Charge) -> bool:
        """Whether the next receive is this charge's; another's, or its creator's, may come first."""
        return [m.receive().charge_id for m in self.outside.queue.heads()[:1]] == [charge.pk]

    # --- The worker --------------------------------------------------------------------------------

    def receive(self, charge_id: UUID | None = None) -> bool:
        """Work on the next message as checkout/tasks.py does; False if there is none."""
        message = self.ask("receive", charge_id)
        if message is not None:
            self.work_on(message)
        return message is not None

    def work_on(self, message: Message) -> None:
        """Attempt the charge, then delete the message or leave it."""
        try:
            fate = charging.attempt_charge(
                receive=message.receive(),
                clock=self.clock,
                gateways=self.gateways,
                ages=self.ages,
            )
        except DatabaseAway:
            fate = Fate.LEAVE
        if fate is Fate.LEAVE:
            self.ask("leave", message, self.ages.backoff_after(message.receives))
        else:
            self.ask("delete", message)

    def work_off(self) -> None:
        """Send what waits, and work on everything that can be received now."""
        self.relay(Door.SQS)
        while self.receive():
            pass

    def redeliver(self) -> None:
        self.visibility_over()
        self.work_off()

    def empty_queue(self) -> None:
        """Work on until nothing is left there, so that the next death is about its own message."""
        self.work_off()
        while self.outside.queue.messages:
            self.redeliver()

    # --- Relays --------------------------------------------------------------------------------------

    def send(self, door: Door) -> Callable[..., Any]:
        return self.queue.send if door == Door.SQS else lambda all_: self.ask("produce", all_)

    def relay(self, door: Door, *, limit: int = 1000) -> int:
        """Lead for one batch: a dead leader's lock must be free."""
        with self.leading(door) as lock_connection:
            batch = relay.relay_batch(
                door=door,
                send=self.send(door),
                now=self.clock.real_now(),
                lock_connection=lock_connection,
                limit=limit,
            )
        if batch.settled.parked:
            self.ask("complaint", f"{batch.settled.parked} messages were parked at {door}")
        return batch.settled.marked

    @contextmanager
    def leading(self, door: Door) -> Iterator[psycopg.Connection[Any]]:
        """The connection that holds the door's lock; waits until a former leader's is gone."""
        lock_connection, key = self._relay_connection(), relay.lock_key(door)
        lock_connection.execute("SELECT pg_advisory_lock(%s)", [key])
        yield lock_connection
        lock_connection.execute("SELECT pg_advisory_unlock(%s)", [key])

    def _relay_connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            parameters = connection.get_connection_params()
            names = ("host", "port", "user", "password", "dbname")
            given = {name: parameters[name] for name in names}
            self._connection = psycopg.connect(**given, autocommit=True)
        return self._connection

    # --- The timetable -------------------------------------------------------------------------------

    def resolve(self) -> int:
        return rescue.resolve(clock=self.clock, gateways=self.gateways, ages=self.ages)

    def resolve_later(self) -> None:
        self.wait(1000)
        self.resolve()

    def apply_webhooks(self) -> int:
        return rescue.apply_webhooks(clock=self.clock, gateways=self.gateways, ages=self.ages)

    def sweep(self) -> int:
        return rescue.sweep(clock=self.clock, ages=self.ages)

    def drain(self) -> int:
        return rescue.drain_dead_letters(
            letters=self.queue.dead_letters(),
            delete=self.queue.delete,
            clock=self.clock,
            ages=self.ages,
        )

    def drain_later(self) -> None:
        self.visibility_over()
        self.drain()
        self.work_off()

    def bill(self, *, batch: int = 1) -> int:
        return billing.bill_due(clock=self.clock, ages=self.ages, batch=batch).charges

    def open_next_rounds(self) -> int:
        return rescue.open_next_rounds(clock=self.clock, ages=self.ages)

    def reconcile(self) -> object:
        return reconciliation.reconcile_incremental(clock=self.clock, ages=self.ages)

    # --- The end -----------------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """Everybody carries on until nothing is left to do; then what is wrong: I1 to I6, to the cent."""
        try:
            heal(self)
        except Restless as restless:
            self.outside.complaints.append(str(restless))
        found = checks.violations(self)
        self.close()
        return found

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def enter_child(self, ask: Ask) -> None:
        """From here on this is a forked process: what is outside is asked for, sessions are its own."""
        self.ask = ask
        self._kept, self._connection = self._connection, None
        # Chance may not repeat itself in each child, nor the waits of commit.py.
        random.seed()
        self.rng.seed()
        self._turns = count(self.rng.randrange(len(self.creators)))

    def run_clock(self) -> None:
        """In a child that lives long: time passes by itself, and who waits does wait."""
        self.clock = cast(Any, Clock())

    def at_rest(self, charge_id: UUID) -> bool:
        """Nothing of this charge waits for an answer, or for the worker that died."""
        state = Charge.objects.values_list("state", flat=True).get(pk=charge_id)
        if state == ChargeState.FAILED_THEN_RETRY:
            return True
        held = any(m.receive().charge_id == charge_id for m in self.outside.queue.messages)
        return state in {*TERMINAL, ChargeState.EXHAUSTED} and not held


@contextmanager
def complaints(
    yard: Yard, *, but: Callable[[BaseException | None], bool] = lambda _: False
) -> Iterator[None]:
    """What the product logs as an error is a violation: nothing may hide behind `logger.exception`.

    But for an error that is expected of what was done to the world.
    """
    handler = Complaints(yard, but)
    loggers = [logging.getLogger(name) for name in ("checkout", "settlements")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate, logger.level = propagate, level


class Complaints(logging.Handler):
    """Tells the parent, from whatever process."""

    def __init__(self, yard: Yard, but: Callable[[BaseException | None], bool]) -> None:
        super().__init__(logging.ERROR)
        self.yard, self.but = yard, but

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if self.but(error):
            return
        text = f"logged: {record.getMessage()}: {type(error).__name__}: {error}"
        self.yard.ask("complaint", text)
