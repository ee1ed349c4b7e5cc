"""Outbox against topic: same ids, same hashes, no gap, nothing that was never recorded (R44, R45)."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from django.db import connection

from checkout.models import Creator, Door, OutboxMessage
from settlements import reconciliation
from settlements.models import Discrepancy, Kind, TopicProgress, TopicRecord
from settlements.topic import read_topic
from tests.factories import World, publish
from tests.factories_settlements import edit
from tests.fakes import FakeClock

pytestmark = pytest.mark.django_db
BOTH = UUID("00000000-0000-5000-8000-00000000b07f")


@dataclass(frozen=True)
class Held:
    """One record as the reader of checkout.topics yields it."""

    partition: int
    offset: int
    key: str
    event_id: UUID | None
    sequence: int | None
    sha256: str


@dataclass
class FakeTopic:
    """A topic in memory, one partition a first letter of the key; it can lose and be tampered with."""

    partitions: dict[int, list[Held]] = field(default_factory=dict)
    asked: list[Mapping[int, int]] = field(default_factory=list)
    away: bool = False

    def read_back(self, *, offsets: Mapping[int, int]) -> Iterator[Held]:
        self.asked.append(dict(offsets))
        if self.away:
            raise ConnectionError("Kafka is away")
        for partition, held in self.partitions.items():
            start = offsets.get(partition, 0)
            if held and start > held[-1].offset + 1:
                start = 0
            yield from (record for record in held if record.offset >= start)

    def take(self, message: OutboxMessage, **changed: Any) -> Held:
        partition = int(message.key.hex[0], 16) % 2
        held = self.partitions.setdefault(partition, [])
        record = Held(
            partition=partition,
            offset=held[-1].offset + 1 if held else 0,
            key=str(message.key),
            event_id=message.event_id,
            sequence=message.event_seq,
            sha256=message.payload_sha256,
        )
        held.append(replace(record, **changed))
        return held[-1]


@dataclass
class Scene:
    """A world whose relay is `publish`."""

    world: World = field(default_factory=World)
    topic: FakeTopic = field(default_factory=FakeTopic)

    def publish(self, **changed: Any) -> list[OutboxMessage]:
        """Send and mark every message that waits, as the relay does."""
        waiting = OutboxMessage.objects.filter(pending__door=Door.KAFKA)
        sent = list(waiting.order_by("id"))
        for message in sent:
            record = self.topic.take(message, **changed)
            self.mark(message, record)
        return sent

    def mark(self, message: OutboxMessage, record: Held) -> None:
        publish(
            message,
            at=self.world.clock.real_now(),
            partition=record.partition,
            offset=record.offset,
        )

    def look_again(self) -> None:
        reconciliation.reconcile_incremental(
            clock=self.world.clock, ages=self.world.ages, topic=self.topic
        )

    def later(self) -> None:
        """Long enough for what was published to count as missing."""
        self.world.clock.forward(seconds=timedelta(minutes=3).total_seconds())

    def full(self) -> None:
        reconciliation.reconcile(clock=self.world.clock, ages=self.world.ages, topic=self.topic)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.world.receive(scene.world.due_charge())
    return scene


def named() -> list[str]:
    rows = Discrepancy.objects.filter(kind=Kind.EVENTS, cleared_at__isnull=True)
    return [row.code for row in rows.order_by("code", "id")]


def events() -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(door=Door.KAFKA).order_by("key", "event_seq"))


def test_published_events_are_verified_and_keep_when(scene):
    """R45: a verified row keeps `seen_at`; what is not published yet is no discrepancy."""
    scene.look_again()
    assert named() == []

    scene.publish()
    scene.look_again()
    scene.later()
    scene.look_again()

    assert named() == []
    assert all(message.published.seen_at for message in events())
    assert TopicRecord.objects.count() == len(events())


def test_each_pass_reads_only_what_is_new(scene):
    scene.publish()
    scene.look_again()
    scene.look_again()

    assert scene.topic.asked[0] == {}
    assert sum(scene.topic.asked[1].values()) == len(events())


def test_an_event_that_never_reached_the_topic_is_named(scene):
    """R45: it was marked as published, and the topic has been read since."""
    scene.publish()
    lost = scene.topic.partitions[min(scene.topic.partitions)].pop()
    scene.look_again()
    assert named() == []
    scene.later()
    scene.look_again()

    assert named() == ["missing"]
    found = Discrepancy.objects.get(kind=Kind.EVENTS)
    assert found.fingerprint == f"events:missing:{lost.event_id}"
    assert found.creator_id == UUID(lost.key)


def test_an_event_sent_again_is_found_and_clears_its_discrepancy(scene):
    """R45, R54: republish heals, and the evidence clears."""
    scene.publish()
    lost = scene.topic.partitions[min(scene.topic.partitions)].pop()
    scene.later()
    scene.look_again()
    message = OutboxMessage.objects.get(event_id=lost.event_id)

    scene.mark(message, scene.topic.take(message))
    scene.look_again()

    assert named() == []
    assert OutboxMessage.objects.get(pk=message.pk).published.seen_at is not None


def test_a_record_sent_twice_is_no_discrepancy(scene):
    """R44: a duplicate after a crash, with the same id and the same hash."""
    first, *_ = scene.publish()
    scene.topic.take(first)
    scene.later()
    scene.look_again()

    assert named() == []


def test_a_record_that_says_something_else_is_named(scene):
    """R45: the hashes differ."""
    scene.publish(sha256="0" * 64)
    scene.look_again()

    assert set(named()) == {"changed"}


@pytest.mark.parametrize("column", ["payload", "payload_sha256"])
def test_a_message_rewritten_behind_the_service_is_named(scene, column):
    """R45, R55: in the outbox, with triggers off, before or after it was verified."""
    scene.publish()
    scene.look_again()

    edit(
        f"UPDATE checkout_outboxmessage SET {column} = repeat('0', 64) WHERE id = %s",
        events()[0].pk,
    )
    scene.look_again()

    assert named() == ["changed"]


def test_a_relay_killed_between_send_and_mark_is_no_discrepancy(scene):
    """F15: the topic holds what the outbox does not call published yet; then it holds it twice."""
    for message in events():
        scene.topic.take(message)
    scene.look_again()
    scene.full()
    before = named()

    scene.publish()
    scene.look_again()
    scene.later()
    scene.full()

    assert (before, named()) == ([], [])


def test_a_record_that_was_never_in_the_outbox_is_named(scene):
    """R45: an extra, also one whose headers are not ours."""
    message, *_ = scene.publish()
    scene.topic.take(message, event_id=UUID(int=1), sequence=99)
    scene.topic.take(message, event_id=None, sequence=None, key="nobody")
    scene.look_again()

    assert named().count("extra") == 2


def test_a_message_deleted_before_it_was_sent_leaves_a_gap(scene):
    """R44, R45: the creator's own sequence shows it, also when it was the last one."""
    for message in (events()[-1], events()[1]):
        edit("DELETE FROM checkout_outboxmessage WHERE id = %s", message.pk)
        scene.look_again()

        assert named() == ["gap"]
    assert "the first that is missing is number 2" in Discrepancy.objects.get().explanation


def test_a_sequence_moved_by_hand_is_a_gap(scene):
    edit("UPDATE checkout_creator SET event_seq = event_seq + 1")
    scene.look_again()

    assert named() == ["gap"]
    assert Creator.objects.count() == 1


def test_events_out_of_order_in_the_topic_are_named(scene):
    """I5, R44: distinct events of a creator arrive in order."""
    waiting = list(OutboxMessage.objects.filter(door=Door.KAFKA).order_by("-id"))
    for message in waiting:
        scene.mark(message, scene.topic.take(message))
    scene.look_again()

    assert set(named()) == {"order"}


def test_a_topic_that_lost_its_last_records_is_read_anew(scene):
    """F14, R45: after a kill -9 the broker begins again below what was read."""
    scene.publish()
    scene.look_again()
    partition = min(scene.topic.partitions)
    held = scene.topic.partitions[partition]
    del held[1:]
    scene.later()
    scene.look_again()

    assert set(named()) == {"missing"}
    assert TopicProgress.objects.get(partition=partition).next_offset == 1
    assert TopicRecord.objects.filter(partition=partition).count() == 1


def test_a_full_pass_reads_the_topic_anew(scene):
    """What was lost in the middle shows only when everything is read again."""
    scene.publish()
    scene.look_again()
    scene.later()
    del scene.topic.partitions[min(scene.topic.partitions)][1]
    scene.look_again()
    assert named() == []

    scene.full()

    assert named() == ["missing"]


def test_what_retention_took_is_not_missing(scene):
    """R45: within the topic's retention."""
    scene.publish()
    scene.look_again()
    scene.later()
    del scene.topic.partitions[min(scene.topic.partitions)][0]

    scene.full()

    assert named() == []


def test_a_topic_that_is_away_keeps_no_cent_from_being_named(scene):
    """R37: the pass ran, and then it is said that Kafka was away."""
    edit("UPDATE checkout_charge SET amount = 19.96")
    scene.topic.away = True

    with pytest.raises(ConnectionError):
        scene.look_again()

    assert Discrepancy.objects.filter(kind=Kind.BILLING).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_readers_of_the_whole_topic_take_turns() -> None:
    """A person's full pass beside the night's: Kafka hands the partitions over in any order."""
    partitions = {
        partition: [
            Held(partition, offset, str(uuid5(BOTH, f"{offset}")), None, 1, "0" * 64)
            for offset in range(10)
        ]
        for partition in range(500)
    }
    barrier, failed = threading.Barrier(2), list[Exception]()

    def read(step: int) -> None:
        topic = FakeTopic(dict(sorted(partitions.items(), reverse=step < 0)))
        try:
            barrier.wait(10)
            read_topic(topic=topic, now=FakeClock().now(), anew=True)
        except Exception as error:  # noqa: BLE001  told to the main thread
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not failed
    assert TopicRecord.objects.count() == 5000


def assert_agree(scene: Scene) -> None:
    """R55: a full pass right after an incremental one opens nothing and clears nothing."""
    scene.look_again()
    standing = Discrepancy.objects.filter(cleared_at__isnull=True)
    incremental = set(standing.values_list("fingerprint", flat=True))
    scene.full()
    assert incremental == set(standing.values_list("fingerprint", flat=True))


def test_a_record_under_another_key_is_about_both(scene):
    scene.publish()
    scene.look_again()
    scene.later()
    scene.look_again()
    message = OutboxMessage.objects.filter(door=Door.KAFKA).earliest("id")

    scene.topic.take(message, key="00000000-0000-0000-0000-0000000000aa")

    assert_agree(scene)


def test_a_message_marked_by_a_clock_that_is_a_day_slow_is_missed(scene):
    scene.publish()
    scene.look_again()
    scene.later()
    scene.look_again()
    scene.world.due_charge()
    scene.look_again()
    message = OutboxMessage.objects.filter(pending__door=Door.KAFKA).latest("id")
    edit(
        "INSERT INTO checkout_publishedmessage (message_id, door, published_at)"
        " VALUES (%s, 'kafka', %s)",
        message.pk,
        scene.world.clock.real_now() - timedelta(days=1),
    )
    edit("DELETE FROM checkout_pendingmessage WHERE message_id = %s", message.pk)
    scene.later()

    assert_agree(scene)
