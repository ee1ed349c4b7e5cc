"""The queues of bench/worker.py, its raw side, and real charges that are due."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.conf import settings
from django.core.management import call_command
from django.db import transaction

from checkout import subscriptions, wiring
from checkout.messages import Acknowledged, Outgoing
from checkout.models import Account, Charge, Door, Interval, Plan, RoutingRule
from checkout.queue import ATTRIBUTES, Queue
from checkout.relay import SqsSender, relay_batch

NAMESPACE: Final = UUID("00000000-0000-5000-8000-0000000be7c5")
VISIBILITY = 300.0


class NotSent(Exception):
    """SQS did not take every message."""


def new_queue(name: str) -> Queue:
    queue = Queue(wiring.queue().client, f"{name}.fifo", f"{name}-dlq.fifo")
    queue.create(visibility=VISIBILITY)
    return queue


def filled_queue(name: str, *, messages: int, creators: int) -> Queue:
    """A queue with dispatches as the relay sends them, of many creators in turns."""
    queue = new_queue(name)
    outgoing = [dispatch(place % creators, place // creators + 1) for place in range(messages)]
    if not all(isinstance(answer, Acknowledged) for answer in queue.send(outgoing)):
        raise NotSent(name)
    return queue


def dispatch(group: int, number: int) -> Outgoing:
    creator = uuid5(NAMESPACE, str(group))
    charge = uuid5(creator, str(number))
    body = {
        "charge_id": str(charge),
        "creator_id": str(creator),
        "round": 1,
        "dispatch": number,
        "group": group,
    }
    return Outgoing(
        id=group * 100_000 + number,
        event_id=uuid5(charge, "charge.due"),
        key=creator,
        event_seq=None,
        type="charge.due",
        subject=charge,
        payload=json.dumps(body),
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
    )


def take_all(queue: Queue, messages: int) -> None:
    """The peer: receive one, delete it, and so on."""
    taken = 0
    while taken < messages:
        answer = queue.client.receive_message(
            QueueUrl=queue.url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=list(ATTRIBUTES),
        )
        for message in answer.get("Messages", []):
            queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
            taken += 1


def due_charges(count: int) -> Queue:
    """A queue with the dispatches of so many first charges, each of its own creator."""
    call_command("migrate", verbosity=0)
    clock = wiring.clock()
    account = Account.objects.create(
        id=Account.derive_id(name="bench"), name="bench", created_at=clock.real_now()
    )
    Plan.objects.create(
        code="monthly",
        name="Monthly",
        price=Decimal("19.99"),
        interval=Interval.MONTH,
        interval_count=1,
    )
    RoutingRule.objects.create(
        country="KZ",
        lane=next(iter(settings.LANES)),
        valid_from=date(2020, 1, 1),
        reason="bench",
        source="bench",
        source_date=date(2026, 1, 1),
    )
    for number in range(count):
        with transaction.atomic():
            creator = subscriptions.register_creator(
                account_id=account.pk,
                external_id=str(number),
                name="Bench",
                email="bench@example.org",
                country="KZ",
                time_zone="Asia/Almaty",
                now=clock.now(),
            )
            subscriptions.start_checkout(
                account_id=account.pk,
                creator_id=creator.pk,
                plan_code="monthly",
                token=f"tok_approve_{number}",
                idempotency_key=str(number),
                now=clock.now(),
            )
    queue = new_queue("real")
    with wiring.direct_connection(name="bench") as lock_connection:
        batch = relay_batch(
            door=Door.SQS,
            send=SqsSender(queue).send,
            now=clock.real_now(),
            lock_connection=lock_connection,
        )
    if batch.settled.marked != count:
        raise NotSent(f"{batch.settled.marked} of {count} charges")
    return queue


def count_succeeded() -> int:
    return Charge.objects.filter(state="succeeded").count()
