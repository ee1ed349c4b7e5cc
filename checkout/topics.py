"""The Kafka adapter: the declared topic and its event types, producing, and reading back.

Nothing creates a topic but `declare`; everything that is sent is a CloudEvent in binary mode, keyed by
creator, whose data has passed the closed schema of its type in checkout/events/ (R46).
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from jsonschema import Draft202012Validator, FormatChecker

from checkout.messages import Acknowledged, Answer, Outgoing, Refused

logger = logging.getLogger(__name__)

TOPIC: Final = "checkout.events.v1"
SOURCE: Final = "/checkout"
SCHEMAS: Final = Path(__file__).parent / "events"
LARGEST_MESSAGE: Final = 1_048_576
# Headers and framing need a part of LARGEST_MESSAGE.
LARGEST_PAYLOAD: Final = LARGEST_MESSAGE - 4_096
# How long librdkafka tries to deliver one message (message.timeout.ms); a new leader waits this long.
MESSAGE_TIMEOUT_SECONDS: Final = 10.0
ADMIN_SECONDS: Final = 10.0
READ_SECONDS: Final = 0.1

EVENT_TYPES: Final = frozenset(
    {
        "creator.created",
        "subscription.started",
        "subscription.plan_changed",
        "subscription.cancelled",
        "subscription.past_due",
        "subscription.resumed",
        "subscription.ended",
        "instrument.added",
        "charge.billed",
        "charge.succeeded",
        "charge.declined",
        "charge.not_charged",
        "charge.exhausted",
        "charge.in_doubt",
        "charge.pending",
        "charge.round_opened",
        "charge.voided",
        "charge.written_off",
        "receipt.unapplied",
    }
)
# What no retry will change: the message itself is at fault.
PERMANENT: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
    }
)


# --- Event types and their schemas ---------------------------------------------------------------
class InvalidEvent(Exception):
    """The type is not declared, or its data breaks the closed schema (R46)."""


@cache
def schema(type: str) -> dict[str, Any]:
    """The JSON Schema of an event type's data; raises InvalidEvent for a type not in EVENT_TYPES."""
    if type not in EVENT_TYPES:
        raise InvalidEvent(f"there is no event type {type!r}")
    read: dict[str, Any] = json.loads((SCHEMAS / f"{type}.json").read_text("utf-8"))
    return read


@cache
def _validator(type: str) -> Draft202012Validator:
    return Draft202012Validator(schema(type), format_checker=FormatChecker())


def validate(type: str, data: Mapping[str, object]) -> None:
    """Raise InvalidEvent unless `data` is exactly what the schema of `type` allows (R46)."""
    for fault in _validator(type).iter_errors(data):
        place = "/".join(map(str, fault.path)) or "data"
        raise InvalidEvent(f"{type}: {place}: {fault.message}"[:300])


def validate_payload(type: str, payload: str) -> None:
    """As `validate`, for the characters that will be sent; raises InvalidEvent.

    A payload written by `outbox.encode` has one spelling, so the schema is one expression, some fifty
    times quicker than walking it; what that does not match is walked, to say what is wrong.
    """
    if _spelling(type).fullmatch(payload):
        return
    try:
        data = json.loads(payload)
    except ValueError as fault:
        raise InvalidEvent(f"{type}: not JSON: {fault}"[:300]) from None
    validate(type, data)


@cache
def _spelling(type: str) -> re.Pattern[str]:
    properties = schema(type)["properties"]
    pairs = (f'"{name}":{_value(properties[name])}' for name in sorted(properties))
    return re.compile(r"\{" + ",".join(pairs) + r"\}", re.ASCII)


def _value(declared: Mapping[str, Any]) -> str:
    """The JSON texts that a flat property allows."""
    if "const" in declared or "enum" in declared:
        allowed = declared.get("enum", [declared.get("const")])
        return "(?:" + "|".join(re.escape(json.dumps(value)) for value in allowed) + ")"
    text = "[1-9][0-9]*" if "integer" in declared["type"] else f'"{_pattern(declared)}"'
    return f"(?:{text}|null)" if "null" in declared["type"] else text


def _pattern(declared: Mapping[str, Any]) -> str:
    return "(?:" + str(declared["pattern"]).removeprefix("^").removesuffix("$") + ")"


# --- The declared topic --------------------------------------------------------------------------
@dataclass(frozen=True)
class Topic:
    """A topic as it must be. Adding partitions moves keys and breaks order: choose once.

    Bounded in time and in bytes (per partition), so that no topic can fill the disk.
    """

    partitions: int
    replication: int
    name: str = TOPIC
    retention_seconds: int = 86_400
    retention_bytes: int = 1_073_741_824
    largest_message: int = LARGEST_MESSAGE

    def config(self) -> dict[str, str]:
        """The topic's own configuration, as Kafka spells it."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_seconds * 1000),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.largest_message),
            "min.insync.replicas": str(min(2, self.replication)),
            "unclean.leader.election.enable": "false",
        }


class TopicMismatch(Exception):
    """The topic on the broker is not the declared one; the text lists each difference."""


class KafkaAway(Exception):
    """The broker did not answer in time."""


@dataclass(frozen=True)
class Topics:
    """Declares and verifies topics on the broker at `servers` (host:port, comma separated)."""

    servers: str

    def declare(self, topic: Topic) -> list[str]:
        """Create the topic, or correct what may be corrected; then verify. Safe to run twice.

        Returns what was changed. Raises TopicMismatch for what cannot be corrected (partitions,
        replication), KafkaAway when the broker does not answer.
        """
        admin, changed = self._admin(), []
        if topic.name not in self._metadata(admin):
            new = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                config=topic.config(),
            )
            self._wait(admin.create_topics([new], request_timeout=ADMIN_SECONDS))
            changed.append(f"created {topic.name}")
        differences = self._config_differences(admin, topic)
        if differences:
            self._set_config(admin, topic)
            changed += [f"corrected {difference}" for difference in differences]
        self.verify(topic)
        return changed

    def verify(self, topic: Topic) -> None:
        """Raise TopicMismatch unless the broker's topic is as declared, bounds included."""
        admin = self._admin()
        found = self._metadata(admin).get(topic.name)
        if found is None:
            raise TopicMismatch(f"{topic.name} does not exist; run `manage.py kafka_topics`")
        differences = self._config_differences(admin, topic)
        for name, declared, is_ in (
            ("partitions", topic.partitions, len(found)),
            ("replication", topic.replication, min(map(len, found.values()), default=0)),
        ):
            if declared != is_:
                differences.append(f"{name} is {is_}, declared {declared}")
        if differences:
            raise TopicMismatch(f"{topic.name}: {'; '.join(differences)}")

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def _metadata(self, admin: AdminClient) -> dict[str, dict[int, list[int]]]:
        """Topic → partition → replicas."""
        try:
            topics = admin.list_topics(timeout=ADMIN_SECONDS).topics
        except KafkaException as away:
            raise KafkaAway(f"Kafka at {self.servers} does not answer: {_text(away)}") from None
        return {
            name: {number: part.replicas for number, part in topic.partitions.items()}
            for name, topic in topics.items()
            if topic.error is None
        }

    def _config_differences(self, admin: AdminClient, topic: Topic) -> list[str]:
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        [answer] = admin.describe_configs([resource], request_timeout=ADMIN_SECONDS).values()
        found = {name: entry.value for name, entry in self._result(answer).items()}
        # Some brokers do not list every configuration; what they do not know they cannot break.
        return [
            f"{name} is {found[name]}, declared {declared}"
            for name, declared in topic.config().items()
            if found.get(name, declared) != declared
        ]

    def _set_config(self, admin: AdminClient, topic: Topic) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.config().items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
        self._wait(admin.incremental_alter_configs([resource], request_timeout=ADMIN_SECONDS))

    def _wait(self, futures: Mapping[Any, Any]) -> None:
        for future in futures.values():
            self._result(future)

    def _result(self, future: Any) -> Any:
        try:
            return future.result(timeout=ADMIN_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return None
            if error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT:
                raise KafkaAway(f"Kafka at {self.servers}: {_text(error)}") from None
            raise


# --- Producing -----------------------------------------------------------------------------------
def headers_of(message: Outgoing) -> list[tuple[str, str | bytes | None]]:
    """The CloudEvents 1.0 attributes in Kafka binary mode."""
    return [
        ("ce_specversion", "1.0"),
        ("ce_id", str(message.event_id)),
        ("ce_source", SOURCE),
        ("ce_type", f"checkout.{message.type}.v1"),
        ("ce_time", message.created_at.isoformat()),
        ("ce_subject", str(message.subject)),
        ("ce_partitionkey", str(message.key)),
        ("ce_sequence", str(message.event_seq)),
        ("content-type", "application/json"),
    ]


def producer_config(*, servers: str, timeout: float) -> dict[str, Any]:
    """An idempotent producer that agrees with Java clients on partitions; `timeout` in seconds."""
    return {
        "bootstrap.servers": servers,
        "client.id": "checkout-relay",
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
        "message.timeout.ms": int(timeout * 1000),
        "message.max.bytes": LARGEST_MESSAGE,
        "linger.ms": 5,
        "compression.type": "lz4",
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.propagation.max.ms": int(timeout * 500),
        # Each outage would write a line a second; the relay says it once.
        "log_level": 0,
    }


@dataclass
class EventProducer:
    """Sends batches to one topic and waits for each message's report.

    An idempotent producer can end in a fatal state (FAULTS F16): it is thrown away with all that was
    in its queue, and the next batch builds a new one. Not frozen: it holds that one resource.
    """

    servers: str
    topic: str = TOPIC
    timeout: float = MESSAGE_TIMEOUT_SECONDS
    _producer: Producer | None = field(default=None, init=False)
    _is_fatal: bool = field(default=False, init=False)

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Send in order and wait for the broker's acknowledgements, at most about `timeout` seconds.

        Answers one for each message, in order. A message too large is refused for good before it is
        sent, and the later ones of its key are then not sent at all.
        """
        return self.hand_over(messages)()

    def hand_over(self, messages: Sequence[Outgoing]) -> Callable[[], list[Answer]]:
        """As `send`, but wait for the broker only when the result is called."""
        producer = self._ready()
        reports: dict[int, Answer] = {}
        held: set[UUID] = set()
        for message in messages:
            if held and message.key in held:
                reports[message.id] = Refused(message.id, "an earlier message of its key failed")
            elif refusal := self._enqueue(producer, message, reports):
                reports[message.id] = refusal
                held.add(message.key)
        return partial(self._answers, producer, messages, reports)

    def _answers(
        self, producer: Producer, messages: Sequence[Outgoing], reports: Mapping[int, Answer]
    ) -> list[Answer]:
        self._flush(producer)
        return [reports.get(each.id) or Refused(each.id, "no delivery report") for each in messages]

    def purge(self) -> None:
        """Forget all that was not delivered: this process may not send any more."""
        if self._producer is not None:
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            self._producer = None

    def _ready(self) -> Producer:
        if self._producer is None:
            self._is_fatal = False
            config = producer_config(servers=self.servers, timeout=self.timeout)
            self._producer = Producer(config | {"error_cb": self._on_error})
        return self._producer

    def _on_error(self, error: KafkaError) -> None:
        self._is_fatal = self._is_fatal or error.fatal()

    def _enqueue(
        self, producer: Producer, message: Outgoing, reports: dict[int, Answer]
    ) -> Refused | None:
        try:
            validate_payload(message.type, message.payload)
        except InvalidEvent as fault:
            return Refused(message.id, str(fault), permanent=True)
        if (size := _size(message.payload)) > LARGEST_PAYLOAD:
            return Refused(message.id, f"{size} bytes are too large", permanent=True)
        while True:
            try:
                producer.produce(
                    self.topic,
                    value=message.payload,
                    key=str(message.key),
                    headers=headers_of(message),
                    on_delivery=partial(_note_report, reports, message.id),
                )
                return None
            except BufferError:  # the local queue is full: make room
                producer.poll(0.1)
            except KafkaException as error:
                return _refused(message.id, error.args[0])

    def _flush(self, producer: Producer) -> None:
        """Wait for every report; a producer that cannot give them, or is fatal, is thrown away."""
        try:
            left = producer.flush(self.timeout + 2)
        except (KafkaException, SystemError) as error:  # both come out of a fatal producer
            logger.warning("producer lost: %s", _text(error))
            left = 1
        if left or self._is_fatal:
            self.purge()


def _size(text: str) -> int:
    """Bytes as UTF-8; nearly every payload is ASCII, and need not be encoded to be measured."""
    return len(text) if text.isascii() else len(text.encode())


def _note_report(
    reports: dict[int, Answer], id: int, error: KafkaError | None, delivered: Message
) -> None:
    if error is None:
        reports[id] = Acknowledged(id, delivered.partition(), delivered.offset())
    else:
        reports[id] = _refused(id, error)


def _refused(id: int, error: KafkaError) -> Refused:
    reason = f"{error.name()}: {error.str()}"[:500]
    return Refused(id, reason, permanent=error.code() in PERMANENT)


def _text(error: BaseException) -> str:
    return str(error.args[0] if error.args else error)


# --- Reading back --------------------------------------------------------------------------------
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

    def read_back(
        self, *, offsets: Mapping[int, int], timeout: float = ADMIN_SECONDS
    ) -> Iterator[Record]:
        """Yield every record from `offsets` (partition → next offset, absent: the oldest) to the end.

        The end is the one at the start of the call. An offset the topic no longer or not yet has is
        taken as the oldest one: retention took it, or the topic was lost and made again. Raises
        KafkaAway when nothing arrives for `timeout` seconds.
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
            ends = self._assign(consumer, offsets, timeout)
            waited = 0.0
            while ends:
                # It waits the whole time unless a thousand are there, so the time is short.
                messages = consumer.consume(1000, timeout=READ_SECONDS)
                waited = 0.0 if messages else waited + READ_SECONDS
                if waited > timeout:
                    raise KafkaAway(f"nothing from {self.topic} in {timeout:g} s")
                for message in messages:
                    yield from _until(message, ends)
        except KafkaException as error:
            raise KafkaAway(f"Kafka at {self.servers}: {_text(error)}") from None
        finally:
            consumer.close()

    def _assign(
        self, consumer: Consumer, offsets: Mapping[int, int], timeout: float
    ) -> dict[int, int]:
        """Start at `offsets` and return partition → end, for those that hold something to read."""
        found = consumer.list_topics(self.topic, timeout=timeout).topics[self.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        starts, ends = [], {}
        for number in found.partitions:
            place = TopicPartition(self.topic, number)
            low, high = consumer.get_watermark_offsets(place, timeout=timeout)
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
