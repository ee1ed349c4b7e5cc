"""What the topic holds, read back from given places to its present end."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from checkout.topics.declared import ADMIN_SECONDS, TOPIC, KafkaAway, text_of

READ_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Record:
    """What the topic holds at one place; None where a header is missing: then it is not ours."""

    partition: int
    offset: int
    key: str
    event_id: UUID | None
    sequence: int | None
    sha256: str
    timestamp_ms: int | None


@dataclass(frozen=True)
class TopicReader:
    """Reads the topic from given places to its present end, without a consumer group."""

    servers: str
    topic: str = TOPIC

    def read_back(self, *, offsets: Mapping[int, int]) -> Iterator[Record]:
        """Yield every record from `offsets` (partition → next offset, absent: the oldest) to the end.

        The end is the one at the start of the call. An offset the topic no longer or not yet has is
        taken as the oldest one: retention took it, or the topic was lost and made again. Raises
        KafkaAway when nothing arrives for ADMIN_SECONDS.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "checkout-read-back",  # required, never joined: partitions are assigned
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        try:
            ends = self._assign(consumer, offsets)
            waited = 0.0
            while ends:
                # It waits the whole time unless a thousand are there, so the time is short.
                messages = consumer.consume(1000, timeout=READ_SECONDS)
                waited = 0.0 if messages else waited + READ_SECONDS
                if waited > ADMIN_SECONDS:
                    raise KafkaAway(f"nothing from {self.topic} in {ADMIN_SECONDS:g} s")
                for message in messages:
                    yield from _until(message, ends)
        except KafkaException as error:
            raise KafkaAway(f"Kafka at {self.servers}: {text_of(error)}") from None
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, offsets: Mapping[int, int]) -> dict[int, int]:
        """Start at `offsets` and return partition → end, for those that hold something to read."""
        found = consumer.list_topics(self.topic, timeout=ADMIN_SECONDS).topics[self.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        starts, ends = [], {}
        for number in found.partitions:
            place = TopicPartition(self.topic, number)
            low, high = consumer.get_watermark_offsets(place, timeout=ADMIN_SECONDS)
            wanted = offsets.get(number, low)
            start = wanted if low <= wanted <= high else low
            if start < high:
                starts.append(TopicPartition(self.topic, number, start))
                ends[number] = high
        consumer.assign(starts)
        return ends


def _until(message: Message, ends: dict[int, int]) -> Iterator[Record]:
    """The record, if it lies before its partition's end; forget a partition that is done."""
    if (error := message.error()) is not None:
        raise KafkaException(error)
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None or partition not in ends:
        return
    if offset + 1 >= ends[partition]:
        del ends[partition]
    yield _record(message, partition, offset)


def _record(message: Message, partition: int, offset: int) -> Record:
    headers = dict(message.headers() or [])
    kind, timestamp = message.timestamp()
    return Record(
        partition=partition,
        offset=offset,
        key=(message.key() or b"").decode(errors="replace"),
        event_id=_uuid(headers.get("ce_id")),
        sequence=_int(headers.get("ce_sequence")),
        sha256=hashlib.sha256(message.value() or b"").hexdigest(),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
    )


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value.decode())
    except (AttributeError, ValueError):
        return None


def _int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
