"""Events on their way to the topic: CloudEvents in binary mode, keyed by creator, each acknowledged."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.topics.declared import LARGEST_MESSAGE, TOPIC, text_of
from checkout.topics.schemas import InvalidEvent, validate_payload

logger = logging.getLogger(__name__)

SOURCE: Final = "/checkout"
# Headers and framing need a part of LARGEST_MESSAGE.
LARGEST_PAYLOAD: Final = LARGEST_MESSAGE - 4_096
# How long librdkafka tries to deliver one message (message.timeout.ms); a new leader waits this long.
MESSAGE_TIMEOUT_SECONDS: Final = 10.0
# What no retry will change: the message itself is at fault.
PERMANENT: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
    }
)


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
            logger.warning("producer lost: %s", text_of(error))
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
