"""Plain functions that make rows by calling the real use cases, so that no test holds a state that
production cannot reach."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction

from checkout import subscriptions
from checkout.charging import attempt_charge
from checkout.clock import Ages
from checkout.messages import Receive
from checkout.models import (
    Account,
    Attempt,
    Charge,
    Creator,
    Door,
    Interval,
    OutboxMessage,
    PendingMessage,
    Plan,
    PublishedMessage,
    RoutingRule,
    Subscription,
)
from checkout.outcomes import Fate
from tests.fakes import FakeClock, FakeGateway

LANE = "cis"
ACCOUNT_ID = UUID("00000000-0000-5000-8000-000000000001")
_numbers = count(1)


def account(*, clock: FakeClock) -> Account:
    row, _ = Account.objects.get_or_create(
        id=ACCOUNT_ID, defaults={"name": "platform", "created_at": clock.real_now()}
    )
    return row


def plan(code: str = "monthly", price: str = "19.99", interval: str = "month") -> Plan:
    row, _ = Plan.objects.get_or_create(
        code=code,
        defaults={
            "name": code,
            "price": Decimal(price),
            "interval": Interval(interval),
            "interval_count": 1,
        },
    )
    return row


def routing_rule(country: str = "KZ", lane: str = LANE, **facts: Any) -> RoutingRule:
    row, _ = RoutingRule.objects.get_or_create(
        country=country,
        valid_from=facts.pop("valid_from", date(2020, 1, 1)),
        defaults={
            "lane": lane,
            "reason": "PayPal blocks transactions here",
            "source": "test",
            "source_date": date(2026, 1, 1),
            **facts,
        },
    )
    return row


def creator(*, clock: FakeClock, country: str = "KZ", time_zone: str = "UTC") -> Creator:
    routing_rule(country)
    with transaction.atomic():
        return subscriptions.register_creator(
            account_id=account(clock=clock).pk,
            external_id=f"creator-{next(_numbers)}",
            name="Aigerim",
            email="aigerim@example.org",
            country=country,
            time_zone=time_zone,
            now=clock.now(),
        )


@dataclass
class World:
    """A clock, a processor and the ages; with helpers that read like a test's sentences."""

    clock: FakeClock = field(default_factory=FakeClock)
    gateway: FakeGateway = field(default_factory=FakeGateway)
    ages: Ages = field(default_factory=Ages)

    @property
    def gateways(self) -> dict[str, FakeGateway]:
        return {LANE: self.gateway}

    def due_charge(
        self, *, of: Creator | None = None, price: str = "19.99", token: str = "tok_approve"
    ) -> Charge:
        """A first charge of a new subscription, due now."""
        who = of or creator(clock=self.clock)
        code = plan(code=f"monthly-{price.replace('.', '-')}", price=price).code
        with transaction.atomic():
            return subscriptions.start_checkout(
                account_id=who.account_id,
                creator_id=who.pk,
                plan_code=code,
                token=token,
                idempotency_key=f"key-{next(_numbers)}",
                now=self.clock.now(),
            )

    def receive(self, charge: Charge, *, count: int = 1, **other: int) -> Fate:
        """A worker receives the charge's present dispatch (or the round and dispatch given)."""
        present = Charge.objects.get(pk=charge.pk)
        return attempt_charge(
            receive=Receive(
                charge_id=charge.pk,
                round=other.get("round", present.round),
                dispatch=other.get("dispatch", present.dispatch),
                count=count,
            ),
            clock=self.clock,
            gateways=self.gateways,
            ages=self.ages,
        )


def fresh(charge: Charge) -> Charge:
    """The charge as the database has it now."""
    return Charge.objects.select_related("terms").get(pk=charge.pk)


def attempts(charge: Charge) -> list[Attempt]:
    return list(Attempt.objects.filter(charge=charge).order_by("round", "number"))


def dispatches(charge: Charge) -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(subject=charge.pk, door=Door.SQS).order_by("id"))


def publish(
    message: OutboxMessage, *, at: datetime, partition: int | None = None, offset: int | None = None
) -> None:
    """Mark a message as the relay does, without a broker; real time."""
    with transaction.atomic():
        PublishedMessage.objects.update_or_create(
            pk=message.pk,
            defaults={
                "door": message.door,
                "published_at": at,
                "kafka_partition": partition,
                "kafka_offset": offset,
            },
        )
        PendingMessage.objects.filter(pk=message.pk).delete()


def events(charge: Charge) -> list[str]:
    """Types of the events about this charge, in the order they were recorded."""
    rows = OutboxMessage.objects.filter(subject=charge.pk, door=Door.KAFKA).order_by("id")
    return list(rows.values_list("type", flat=True))


def subscription_of(charge: Charge) -> Subscription:
    return Subscription.objects.get(pk=charge.subscription_id)


def unknown_id(name: str) -> UUID:
    return uuid5(ACCOUNT_ID, name)
