"""Fakes at our own ports: a clock that is moved by hand, a processor with its own journal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from checkout.clock import Clock, Moment
from checkout.gateways import (
    Answer,
    Approved,
    ChargeRequest,
    Expired,
    InDoubt,
    NotFound,
    Outcome,
    Pending,
    WebhookHint,
)
from checkout.messages import Acknowledged, Outgoing, Refused
from checkout.relay import at_once

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class FakeClock(Clock):
    """A clock that stands still until a test moves it; sleeping moves it too."""

    hands: dict[str, timedelta] = field(
        default_factory=lambda: {"real": timedelta(), "business": timedelta()}
    )

    def real_now(self) -> datetime:
        return START + self.hands["real"]

    def business_offset(self) -> timedelta:
        return self.hands["business"]

    def monotonic(self) -> float:
        return self.hands["real"].total_seconds()

    def sleep(self, seconds: float) -> None:
        self.forward(seconds=seconds)

    def forward(self, *, seconds: float = 0, days: float = 0) -> Moment:
        """Real time passes, and business time with it."""
        self.hands["real"] += timedelta(seconds=seconds, days=days)
        return self.now()

    def move_business(self, *, days: float) -> Moment:
        """Move the business clock alone, as CLOCK_FILE does."""
        self.hands["business"] += timedelta(days=days)
        return self.now()


class ProcessorClock:
    """The processor's view of a clock; it thinks in no time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def real_now(self) -> datetime:
        return self._clock.real_now()

    def business_now(self) -> datetime:
        return self._clock.business_now()

    def sleep(self, seconds: float, /) -> None:
        pass


@dataclass
class FakeGateway:
    """A processor in memory: it answers what a test asked for and keeps its own journal.

    `answers` are used up one a send of a new reference; then it approves. A function in the list is
    called with the request, and may raise or do something in between. `journal` is the truth. While
    `away` is set, every send hears it and nothing is taken, and every query is in doubt.
    """

    processor: str = "sandbox"
    idempotent_for: timedelta = timedelta(hours=24)
    minimum_age: timedelta = timedelta(minutes=10)
    not_found_repeats: int = 3
    answers: list[Outcome | Callable[[ChargeRequest], Outcome]] = field(default_factory=list)
    journal: dict[UUID, Outcome] = field(default_factory=dict)
    sent: list[ChargeRequest] = field(default_factory=list)
    asked: list[UUID] = field(default_factory=list)
    expired: list[UUID] = field(default_factory=list)
    query_answers: list[Answer | Callable[[UUID], Answer]] = field(default_factory=list)
    away: Outcome | None = None

    def charge(self, request: ChargeRequest, *, deadline: float) -> Outcome:
        self.sent.append(request)
        if self.away is not None:
            return self.away
        known = self.journal.get(request.reference)
        if known is not None:
            return known
        answer = self.answers.pop(0) if self.answers else approve
        outcome = answer(request) if callable(answer) else answer
        self.remember(request.reference, outcome)
        return outcome

    def remember(self, reference: UUID, outcome: Outcome) -> None:
        """Write in the journal what the processor decided; doubts and what was not sent are not."""
        if isinstance(outcome, Approved | Pending) or type(outcome).__name__ == "Declined":
            self.journal[reference] = outcome

    def query(self, reference: UUID, *, deadline: float) -> Answer:
        self.asked.append(reference)
        if self.away is not None:
            return InDoubt("the processor is away", lane_failed=True)
        if self.query_answers:
            answer = self.query_answers.pop(0)
            return answer(reference) if callable(answer) else answer
        known = self.journal.get(reference)
        return NotFound() if known is None else known  # type: ignore[return-value]

    def expire(self, reference: UUID, *, deadline: float) -> Answer:
        self.expired.append(reference)
        known = self.journal.get(reference)
        if isinstance(known, Pending):
            del self.journal[reference]
            return Expired()
        return Expired() if known is None else known  # type: ignore[return-value]

    def parse_webhook(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime
    ) -> WebhookHint:
        raise NotImplementedError("webhooks are tested with the sandbox gateway")

    @property
    def captured(self) -> Decimal:
        """What was captured in all, in USD."""
        return sum(
            (o.amount for o in self.journal.values() if isinstance(o, Approved)), Decimal("0.00")
        )


def approve(request: ChargeRequest) -> Approved:
    """The whole amount, captured."""
    return Approved(request.amount, request.currency, f"ref-{request.reference}")


def charged_but_silent(gateway: FakeGateway, answer: Outcome) -> Callable[[ChargeRequest], Outcome]:
    """The processor captures and journals, and the caller only hears `answer` (F9)."""

    def act(request: ChargeRequest) -> Outcome:
        gateway.journal[request.reference] = approve(request)
        return answer

    return act


@dataclass
class FakeBroker:
    """A door's broker in memory. `refusals` holds, by event id, why a message is refused, while it is there.

    `log` is what it took, in order. `before` is called ahead of each batch and may do harm.
    """

    lingers: float = 0.0
    refusals: dict[UUID, Refused] = field(default_factory=dict)
    log: list[Outgoing] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    purged: int = 0
    before: Callable[[], object] = lambda: None

    def send(self, messages: Sequence[Outgoing]) -> list[Acknowledged | Refused]:
        self.before()
        self.batches.append(len(messages))
        return [self._take(message) for message in messages]

    def hand_over(self, messages: Sequence[Outgoing]) -> Callable[[], list[Acknowledged | Refused]]:
        return at_once(self.send)(messages)

    def _take(self, message: Outgoing) -> Acknowledged | Refused:
        if refusal := self.refusals.get(message.event_id):
            return Refused(message.id, refusal.reason, permanent=refusal.permanent)
        self.log.append(message)
        return Acknowledged(message.id, partition=0, offset=len(self.log) - 1)

    def purge(self) -> None:
        self.purged += 1

    def sequences(self, key: UUID) -> list[int | None]:
        """The sequence numbers of a creator's events, as they arrived."""
        return [message.event_seq for message in self.log if message.key == key]
