"""Kafka in memory: what was appended, in order, and an answer for each message."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.topics import InvalidEvent, validate_payload


@dataclass
class Topic:
    """One partition is enough: a creator's events are compared among themselves alone."""

    records: list[Outgoing] = field(default_factory=list)

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
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
        self.records.append(message)
        return Acknowledged(message.id, 0, len(self.records) - 1)
