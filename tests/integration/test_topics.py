"""The Kafka adapter against a real broker: the declared topic, CloudEvents, reading back, faults."""

import json
from collections.abc import Iterator
from io import StringIO
from itertools import count
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from django.core.management import CommandError, call_command

from checkout import outbox
from checkout.messages import Acknowledged, Outgoing, Refused
from checkout.models import Case, Door
from checkout.relay import KafkaSender, relay_batch
from checkout.topics import (
    LARGEST_MESSAGE,
    EventProducer,
    KafkaAway,
    Record,
    Topic,
    TopicMismatch,
    TopicReader,
    Topics,
    producer_config,
)
from devstack.kafka import Kafka
from devstack.ports import free_port
from tests import factories
from tests.fakes import FakeClock
from tests.relays import direct, outgoing, rows, tell, unpublished

NAMESPACE = UUID("00000000-0000-5000-8000-00000000cafe")
_numbers = count(1)


@pytest.fixture
def servers(kafka: Kafka | None, settings: Any) -> str:
    return str(settings.KAFKA_BOOTSTRAP_SERVERS)


@pytest.fixture
def topic(servers: str) -> Topic:
    """A topic of the test's own."""
    declared = Topic(partitions=3, replication=1, name=f"test-{next(_numbers)}.v1")
    Topics(servers).declare(declared)
    return declared


@pytest.fixture
def producer(servers: str, topic: Topic) -> EventProducer:
    return EventProducer(servers, topic.name, timeout=5)


def event(key: str, sequence: int, payload: str = "") -> Outgoing:
    return outgoing(uuid5(NAMESPACE, key), sequence, payload=payload)


def read(servers: str, topic: Topic, offsets: dict[int, int] | None = None) -> list[Record]:
    return list(TopicReader(servers, topic.name).read_back(offsets=offsets or {}))


# --- The declared topic ----------------------------------------------------------------------------


def test_declaring_twice_changes_nothing(servers: str, topic: Topic) -> None:
    assert Topics(servers).declare(topic) == []
    Topics(servers).verify(topic)


def test_an_unbounded_topic_is_refused_and_corrected(servers: str, topic: Topic) -> None:
    """An unbounded topic once filled a disk."""
    set_config(servers, topic, "retention.ms", "-1")

    with pytest.raises(TopicMismatch, match=r"retention\.ms is -1"):
        Topics(servers).verify(topic)
    assert Topics(servers).declare(topic) == [
        "corrected retention.ms is -1, declared 86400000",
    ]
    Topics(servers).verify(topic)


def set_config(servers: str, topic: Topic, name: str, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def test_other_partitions_are_refused_and_never_changed(servers: str, topic: Topic) -> None:
    """Adding partitions moves keys: it would break the order of every creator."""
    wanted = Topic(partitions=4, replication=1, name=topic.name)

    with pytest.raises(TopicMismatch, match="partitions is 3, declared 4"):
        Topics(servers).declare(wanted)
    Topics(servers).verify(topic)


def test_a_topic_nobody_declared_is_refused(servers: str) -> None:
    with pytest.raises(TopicMismatch, match="does not exist"):
        Topics(servers).verify(Topic(partitions=1, replication=1, name="imagined.v1"))


def test_a_broker_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkout.topics.declared.ADMIN_SECONDS", 1.0)

    with pytest.raises(KafkaAway, match="does not answer"):
        Topics(f"127.0.0.1:{free_port()}").verify(Topic(partitions=1, replication=1))


def test_kafka_topics_command_creates_then_verifies(servers: str) -> None:
    first, second = StringIO(), StringIO()

    call_command("kafka_topics", stdout=first)
    call_command("kafka_topics", "--check", "--json", stdout=second)

    assert json.loads(second.getvalue()) == {"topic": "checkout.events.v1", "changed": []}


def test_kafka_topics_command_refuses_a_mismatch(servers: str, settings: Any) -> None:
    call_command("kafka_topics", stdout=StringIO())
    settings.KAFKA_PARTITIONS = 7

    with pytest.raises(CommandError, match="declared 7"):
        call_command("kafka_topics", "--check")


# --- Producing and reading back ----------------------------------------------------------------------


def test_an_event_is_a_cloudevent_in_binary_mode(
    servers: str, topic: Topic, producer: EventProducer
) -> None:
    message = event("aigerim", 7)

    [answer] = producer.send([message])

    assert isinstance(answer, Acknowledged)
    assert answer.partition is not None
    record = raw(servers, topic, answer.partition)
    headers = {name: value.decode() for name, value in record.headers()}
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": str(message.event_id),
        "ce_source": "/checkout",
        "ce_type": "checkout.creator.created.v1",
        "ce_time": "2026-01-31T12:00:00+00:00",
        "ce_subject": str(message.subject),
        "ce_partitionkey": str(message.key),
        "ce_sequence": "7",
        "content-type": "application/json",
    }
    assert record.key().decode() == str(message.key)
    assert record.value().decode() == message.payload


def raw(servers: str, topic: Topic, partition: int) -> Any:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "raw"})
    consumer.assign([TopicPartition(topic.name, partition, 0)])
    try:
        return consumer.poll(10)
    finally:
        consumer.close()


def test_a_key_has_one_partition_and_keeps_its_order(
    servers: str, topic: Topic, producer: EventProducer
) -> None:
    messages = [event(f"c{number % 7}", number) for number in range(1, 101)]

    answers = producer.send(messages)

    assert [answer.id for answer in answers] == [message.id for message in messages]
    found = read(servers, topic)
    assert len(found) == 100
    for message in messages:
        mine = [record for record in found if record.key == str(message.key)]
        assert len({record.partition for record in mine}) == 1
        sequences = [record.sequence for record in sorted(mine, key=lambda r: r.offset)]
        assert sequences == sorted(sequences, key=lambda s: s or 0)
    hashes = {record.event_id: record.sha256 for record in found}
    assert all(hashes[m.event_id] == outbox.digest(m.payload) for m in messages)


def test_reading_back_goes_on_where_it_ended(
    servers: str, topic: Topic, producer: EventProducer
) -> None:
    """R45: reconciliation keeps the next offset of each partition."""
    producer.send([event(f"c{number}", 1) for number in range(10)])
    offsets = {record.partition: record.offset + 1 for record in read(servers, topic)}
    producer.send([event("new", 1)])

    later = read(servers, topic, offsets)

    assert [record.event_id for record in later] == [event("new", 1).event_id]


def test_an_offset_beyond_the_end_means_the_topic_was_made_again(
    servers: str, topic: Topic, producer: EventProducer
) -> None:
    producer.send([event("aigerim", 1)])

    assert len(read(servers, topic, dict.fromkeys(range(3), 1000))) == 1


def test_a_producer_agrees_with_java_clients_on_partitions() -> None:
    config = producer_config(servers="x", timeout=5)

    assert config["partitioner"] == "murmur2_random"
    assert config["enable.idempotence"] is True
    assert config["acks"] == "all"
    assert config["allow.auto.create.topics"] is False


def test_an_event_with_anything_else_in_it_never_leaves(
    servers: str, topic: Topic, producer: EventProducer
) -> None:
    """R46, at the door itself."""
    leaking = event("aigerim", 1, '{"creator_id":"x","country":"KZ"}')

    [answer, behind, beside] = producer.send([leaking, event("aigerim", 2), event("timur", 1)])

    assert isinstance(answer, Refused)
    assert answer.permanent
    assert isinstance(behind, Refused)
    assert not behind.permanent
    assert isinstance(beside, Acknowledged)
    assert len(read(servers, topic)) == 1


# --- With the outbox: faults ---------------------------------------------------------------------------


@pytest.fixture
def clock(transactional_db: None) -> FakeClock:
    return FakeClock()


@pytest.fixture
def lock_connection(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    with direct() as opened:
        yield opened


def relay(producer: EventProducer, clock: FakeClock, lock_connection: Any) -> outbox.Settled:
    return relay_batch(
        door=Door.KAFKA,
        send=KafkaSender(producer).send,
        now=clock.real_now(),
        lock_connection=lock_connection,
    ).settled


def test_an_oversize_row_is_parked_and_the_others_go_on(
    servers: str,
    topic: Topic,
    producer: EventProducer,
    clock: FakeClock,
    lock_connection: Any,
) -> None:
    fat, slim = (factories.creator(clock=clock) for _ in range(2))
    tell(fat, 1, clock=clock)
    tell(slim, 1, 2, clock=clock)
    # No valid event is so large; JSON's own white space makes it so, behind the guard of the row.
    row = rows(fat)[1]
    lock_connection.execute("SET session_replication_role = replica")
    lock_connection.execute(
        "UPDATE checkout_outboxmessage SET payload = replace(payload, ',', %s) WHERE id = %s",
        ["," + " " * LARGEST_MESSAGE, row.pk],
    )
    lock_connection.execute("SET session_replication_role = origin")

    settled = relay(producer, clock, lock_connection)

    assert settled == outbox.Settled(marked=4, again=0, parked=1)
    assert Case.objects.get().subject == str(row.event_id)
    assert len(read(servers, topic)) == 4


def test_a_fatal_producer_is_rebuilt_and_every_unmarked_row_arrives(
    kafka: Kafka | None,
    servers: str,
    topic: Topic,
    producer: EventProducer,
    clock: FakeClock,
    lock_connection: Any,
) -> None:
    """F16: the broker is killed with SIGKILL under the producer, several times."""
    if kafka is None:
        pytest.skip("the Kafka of this run is not ours to kill")
    who = [factories.creator(clock=clock) for _ in range(5)]
    for turn in range(3):
        for creator in who:
            tell(creator, turn * 2 + 1, turn * 2 + 2, clock=clock)
        relay(producer, clock, lock_connection)
        kafka.kill()
        kafka.start()
        Topics(servers).declare(topic)
        for creator in who:
            tell(creator, 100 + turn, clock=clock)
        while unpublished():
            relay(producer, clock, lock_connection)

    # What a killed broker forgot, republish sends again; what it has, is ours.
    recorded = {row.event_id for creator in who for row in rows(creator)}
    assert {record.event_id for record in read(servers, topic)} <= recorded
    assert all(row.published.kafka_offset is not None for creator in who for row in rows(creator))


def test_a_broker_that_is_down_marks_nothing_and_loses_nothing(
    servers: str, topic: Topic, clock: FakeClock, lock_connection: Any
) -> None:
    """F14"""
    creator = factories.creator(clock=clock)
    away = EventProducer(f"127.0.0.1:{free_port()}", topic.name, timeout=1)

    settled = relay(away, clock, lock_connection)

    assert settled == outbox.Settled(marked=0, again=1)
    [row] = rows(creator)
    assert row.acknowledged is None
    assert "TIMED_OUT" in row.pending.last_error
    away.servers, away.timeout = servers, 10
    away.purge()
    assert relay(away, clock, lock_connection).marked == 1
