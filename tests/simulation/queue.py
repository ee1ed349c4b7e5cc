"""SQS FIFO in memory: groups in order, visibility, three receives, dead letters, 5-minute deduplication."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from checkout.messages import (
    Acknowledged,
    Answer,
    DeadLetter,
    Outgoing,
    Receive,
    Refused,
    Unreadable,
    decode,
    read_receive,
    readable,
)
from checkout.queue import RECEIVES, entry
from tests.fakes import FakeClock

DEDUPLICATION = timedelta(minutes=5)
NAME = "simulated.fifo"


class QueueAway(Exception):
    """SQS does not answer."""


@dataclass
class Message:
    id: str
    group: str
    body: str
    visible_at: datetime
    receives: int = 0
    receipt: str = ""

    def receive(self) -> Receive:
        return read_receive(decode(self.body).kwargs, count=self.receives)


class FifoQueue:
    """One queue with its dead-letter queue. A receipt is worth something until its message is seen again."""

    def __init__(self, clock: FakeClock, *, visibility: float) -> None:
        self.clock = clock
        self.visibility = visibility
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        self.died: list[str] = []
        self.acknowledged: list[Message] = []
        self.has_lost = False
        # Until then nobody reaches it (F29).
        self.back_at = clock.real_now()
        self._sent: dict[str, datetime] = {}
        self._count = 0

    @property
    def is_away(self) -> bool:
        return self.clock.real_now() < self.back_at

    def go_away(self, seconds: float) -> None:
        self.back_at = self.clock.real_now() + timedelta(seconds=seconds)

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        if self.is_away:
            return [Refused(message.id, "SQS does not answer") for message in messages]
        return [self._take(message) for message in messages]

    def send_until(self, messages: Sequence[Outgoing], *, taken: int) -> list[Answer]:
        """SQS goes away: `taken` messages arrive, the last of them without an answer."""
        answers = self.send(messages[:taken])[:-1]
        silent = messages[len(answers) :]
        return answers + [Refused(message.id, "SQS does not answer") for message in silent]

    def _take(self, message: Outgoing) -> Answer:
        try:
            found = entry(message, queue=NAME)
        except Unreadable as fault:
            return Refused(message.id, str(fault), permanent=True)
        self._add(found["MessageGroupId"], found["MessageBody"], found["MessageDeduplicationId"])
        return Acknowledged(message.id)

    def _add(self, group: str, body: str, deduplication: str) -> None:
        now = self.clock.real_now()
        before = self._sent.get(deduplication)
        if before is not None and now - before < DEDUPLICATION:
            return
        self._sent[deduplication] = now
        self._put(group, body)

    def _put(self, group: str, body: str) -> None:
        self._count += 1
        self.messages.append(Message(f"m{self._count}", group, body, self.clock.real_now()))

    def heads(self) -> list[Message]:
        """The messages that may be received now: the first of each group that is not blocked.

        What was received three times and is visible again goes to the dead letters instead.
        """
        now, heads, blocked = self.clock.real_now(), [], set()
        if self.is_away:
            return []
        for message in list(self.messages):
            if message.group in blocked:
                continue
            if message.visible_at <= now and message.receives >= RECEIVES:
                self.messages.remove(message)
                self.dead.append(message)
                self.died.append(message.id)
                continue
            blocked.add(message.group)
            if message.visible_at <= now:
                heads.append(message)
        return heads

    def receive(self, message: Message) -> Message:
        """Hand over one of `heads` and return it as it was handed over."""
        message.receives += 1
        message.receipt = f"{message.id}:{message.receives}"
        message.visible_at = self.clock.real_now() + timedelta(seconds=self.visibility)
        return Message(**vars(message))

    def delete(self, received: Message) -> bool:
        """Acknowledge; False for a receipt that has run out."""
        held = self._held(received)
        if held is not None:
            self.messages.remove(held)
            self.acknowledged.append(held)
        return held is not None

    def leave(self, received: Message, *, seconds: float) -> bool:
        """Change the message's visibility, as the worker does when it leaves one."""
        held = self._held(received)
        if held is not None:
            held.visible_at = self.clock.real_now() + timedelta(seconds=seconds)
        return held is not None

    def _held(self, received: Message) -> Message | None:
        now = self.clock.real_now()
        if self.is_away:
            return None
        return next(
            (m for m in self.messages if m.receipt == received.receipt and m.visible_at > now), None
        )

    def dead_letters(self) -> Iterator[DeadLetter]:
        """As the product's adapter reads them: what cannot be read has no receive. Raises QueueAway."""
        if self.is_away:
            raise QueueAway
        self.heads()
        for message in list(self.dead):
            try:
                receive = message.receive()
            except Unreadable:
                receive = None
            yield DeadLetter(message.id, message.id, readable(message.body), receive)

    def delete_dead(self, letter: DeadLetter) -> None:
        if self.is_away:
            raise QueueAway
        self.dead = [message for message in self.dead if message.id != letter.receipt]

    def redrive(self) -> int:
        """Every dead letter into the queue again, as a new message (F25)."""
        letters, self.dead = self.dead, []
        for message in letters:
            self._put(message.group, message.body)
            self.died.remove(message.id)
        return len(letters)

    def repeat(self, message: Message) -> None:
        """A second delivery of the same text, out of order: beyond what FIFO promises (F23)."""
        self._put(message.group, message.body)

    def poison(self, group: str, body: str) -> None:
        """A message that nobody of ours sent (F22)."""
        self._put(group, body)

    def lose_everything(self) -> int:
        lost = len(self.messages)
        self.has_lost = True
        self.messages.clear()
        self._sent.clear()
        return lost

    def give_up(self, message: Message) -> None:
        """Whoever has it died, and so will two more: visible again, it is a dead letter."""
        for held in self.messages:
            if held.id == message.id:
                held.receives = RECEIVES

    def next_visible(self) -> datetime | None:
        """When the next one may be received; what stands behind another of its group waits for that."""
        first: dict[str, datetime] = {}
        for message in self.messages:
            first.setdefault(message.group, message.visible_at)
        soonest = min(first.values(), default=None)
        return soonest and max(soonest, self.back_at)
