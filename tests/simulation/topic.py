"""Kafka in memory: what was appended, in order, and an answer for each message; and read back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from checkout.clock import Clock
from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.outbox import digest
from checkout.topics import InvalidEvent, Record, validate_payload

PARTITIONS = 2


class KafkaAway(Exception):
    """The topic cannot be read: no broker answers."""


@dataclass
class Topic:
    """A creator's events go to one partition, and are compared among themselves alone."""

    clock: Clock
    # A reader may die between two records (F17).
    pause: Callable[[], object] = lambda: None
    records: list[Outgoing] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    # Monotonic seconds until which no broker answers (F14).
    back_at: float = float("-inf")

    @property
    def is_away(self) -> bool:
        return self.clock.monotonic() < self.back_at

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        if self.is_away:
            return [Refused(message.id, "no broker answers") for message in messages]
        return [self._append(message) for message in messages]

    def send_until(self, messages: Sequence[Outgoing], *, taken: int) -> list[Answer]:
        """The broker goes away: `taken` messages arrive, the last of them without a report (F16)."""
        answers = self.send(messages[:taken])[:-1]
        silent = messages[len(answers) :]
        return answers + [Refused(message.id, "no delivery report") for message in silent]

    def _append(self, message: Outgoing) -> Answer:
        try:
            validate_payload(message.type, message.payload)
        except InvalidEvent as fault:
            return Refused(message.id, str(fault), permanent=True)
        partition = partition_of(message.key)
        offset = sum(1 for held, _ in self.places if held == partition)
        self.records.append(message)
        self.places.append((partition, offset))
        return Acknowledged(message.id, partition, offset)

    def read_back(self, *, offsets: Mapping[int, int]) -> Iterator[Record]:
        """Every record from these next offsets to the present end; raises KafkaAway."""
        if self.is_away:
            raise KafkaAway
        held = list(zip(self.places, self.records, strict=True))
        self.pause()
        for (partition, offset), message in held:
            if offset >= offsets.get(partition, 0):
                yield Record(
                    partition=partition,
                    offset=offset,
                    key=str(message.key),
                    event_id=message.event_id,
                    sequence=message.event_seq,
                    sha256=digest(message.payload),
                    timestamp_ms=None,
                )


def partition_of(key: UUID) -> int:
    return key.int % PARTITIONS
