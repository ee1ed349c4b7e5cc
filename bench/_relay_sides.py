"""The two sides of bench/relay.py, and the committed events they start from."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid5

import psycopg
from confluent_kafka import KafkaError, Message, Producer
from django.conf import settings
from django.core.management import call_command

from checkout import outbox, wiring
from checkout.messages import Acknowledged, Outgoing
from checkout.models import Door
from checkout.relay import BATCH, KafkaSender, quiet_collector, relay_backlog
from checkout.topics import EventProducer, Topic, TopicReader, Topics, headers_of, producer_config

__all__ = [
    "commit",
    "differences",
    "prepare",
    "produce_in_batches",
    "quiet_collector",
    "relay_all",
]

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
TIMEOUT = 30.0
_INSERT = """
    COPY checkout_outboxmessage (event_id, door, key, event_seq, type, subject, payload,
      payload_sha256, created_at, available_at) FROM STDIN
"""


class NotDelivered(Exception):
    """The broker refused a message of the raw side."""


def prepare(*, topics: Sequence[str]) -> None:
    """Tables, topics, and both producers warm: the first message of each fetches metadata."""
    call_command("migrate", verbosity=0)
    producer.cache_clear()
    raw_producer.cache_clear()
    for name in topics:
        Topics(settings.KAFKA_BOOTSTRAP_SERVERS).declare(
            Topic(partitions=6, replication=1, name=name)
        )
    warm = outgoing(0, UUID(int=0), 0)
    [answer] = producer().send([warm])
    if not isinstance(answer, Acknowledged):
        raise NotDelivered(answer.reason)
    produce([warm], "raw")


@cache
def producer() -> EventProducer:
    return EventProducer(settings.KAFKA_BOOTSTRAP_SERVERS, "relay", timeout=TIMEOUT)


@cache
def raw_producer() -> Producer:
    return Producer(producer_config(servers=settings.KAFKA_BOOTSTRAP_SERVERS, timeout=TIMEOUT))


@cache
def lock_connection() -> psycopg.Connection[Any]:
    return wiring.direct_connection(name="bench")


def outgoing(number: int, creator: UUID, sequence: int) -> Outgoing:
    """An event of about the size of most: a billed charge."""
    charge = uuid5(creator, str(number))
    data = {
        "charge_id": str(charge),
        "creator_id": str(creator),
        "subscription_id": str(uuid5(creator, "subscription")),
        "plan": "monthly",
        "period_start": "2026-01-31",
        "period_end": "2026-02-28",
        "amount": "19.99",
        "currency": "USD",
        "state": "due",
        "round": 1,
        "number": None,
        "occurred_at": NOW.isoformat(),
    }
    return Outgoing(
        id=number,
        event_id=uuid5(charge, "charge.billed"),
        key=creator,
        event_seq=sequence,
        type="charge.billed",
        subject=charge,
        payload=outbox.encode(data),
        created_at=NOW,
    )


def commit(*, count: int, creators: Sequence[UUID]) -> list[Outgoing]:
    """Commit events to the outbox and return the same ones for the raw side."""
    messages = [
        outgoing(number, creators[number % len(creators)], number // len(creators) + 1)
        for number in range(count)
    ]
    with lock_connection().cursor() as cursor, cursor.copy(_INSERT) as copy:
        for each in messages:
            sha = outbox.digest(each.payload)
            what = (each.event_id, "kafka", each.key, each.event_seq, each.type, each.subject)
            copy.write_row((*what, each.payload, sha, NOW, NOW))
    lock_connection().execute("ANALYZE checkout_outboxmessage, checkout_pendingmessage")
    return messages


def relay_all() -> None:
    """The product: as Relay does it, until nothing is left."""
    hand_over = KafkaSender(producer()).hand_over
    while relay_backlog(
        door=Door.KAFKA, hand_over=hand_over, now=NOW, lock_connection=lock_connection()
    ).marked:
        pass


def produce_in_batches(messages: Sequence[Outgoing]) -> None:
    """The limit: no database, everything ready, the relay's batches."""
    for start in range(0, len(messages), BATCH):
        produce(messages[start : start + BATCH], "raw")


def produce(messages: Sequence[Outgoing], topic: str) -> None:
    """Send and wait once for every acknowledgement."""
    raw, delivered, failed = raw_producer(), [0], [0]

    def report(error: KafkaError | None, _: Message) -> None:
        (failed if error else delivered)[0] += 1

    for each in messages:
        raw.produce(
            topic,
            value=each.payload.encode(),
            key=str(each.key),
            headers=headers_of(each),
            on_delivery=report,
        )
    raw.flush(TIMEOUT)
    if failed[0] or delivered[0] != len(messages):
        raise NotDelivered(f"{delivered[0]} of {len(messages)} arrived")


def differences(*, expected: int) -> list[str]:
    """What the two topics do not have in common; nothing, if both sides did the same work."""
    held = {
        name: {(r.event_id, r.key, r.sequence, r.sha256) for r in read_all(name)}
        for name in ("relay", "raw")
    }
    faults = [
        f"{name} holds {len(found)} records, not {expected + 1}"
        for name, found in held.items()
        if len(found) != expected + 1  # one more warmed the producer
    ]
    if held["relay"] != held["raw"]:
        faults.append("the records differ")
    return faults


def read_all(name: str) -> list[Any]:
    return list(TopicReader(settings.KAFKA_BOOTSTRAP_SERVERS, name).read_back(offsets={}))
