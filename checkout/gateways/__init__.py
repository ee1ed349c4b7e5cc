"""What a card processor is to this service: what is asked of it, and every way it can answer.

Outcomes are values, matched with `match` and `assert_never` (STYLE 12). "We do not know" is one of
them: `InDoubt` is never a decline (R20), and only `NotSent` says that no byte left this machine.
The reference of every call is the attempt's id: it is the idempotency key and the merchant
reference alike, so an answer that never came can still be asked for by our own name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol, TypeAlias, assert_never
from uuid import UUID


class DeclineClass(StrEnum):
    """Why the issuer said no, in the five kinds that dunning tells apart."""

    NEVER = "never"
    CUSTOMER_ACTION = "customer_action"
    FUNDS = "funds"
    ISSUER_SOFT = "issuer_soft"
    TECHNICAL = "technical"


@dataclass(frozen=True)
class Approved:
    """The money was captured: `amount` is what the processor says it took, which may be short."""

    amount: Decimal
    currency: str
    processor_reference: str


@dataclass(frozen=True)
class Declined:
    """A final no; `code` is the processor's own word for it."""

    decline_class: DeclineClass
    code: str
    processor_reference: str = ""


@dataclass(frozen=True)
class Pending:
    """Accepted, and decided later; `expires_at` is real UTC, None where the processor has no end."""

    expires_at: datetime | None


@dataclass(frozen=True)
class Redirect:
    """The creator has to visit `url` before `expires_at` (real UTC)."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class InDoubt:
    """The processor may or may not have captured; `reason` is for people and logs.

    `lane_failed` says that the lane itself answered with a 5xx: the breaker counts it.
    """

    reason: str
    lane_failed: bool = False


@dataclass(frozen=True)
class NotSent:
    """Nothing of this send was taken: refused before any byte, 429, or 401/403 (`lane_refused`).

    It is believed only if this was the attempt's single send (R20); a 401 or 403 pauses the lane.
    """

    reason: str
    lane_refused: bool = False


@dataclass(frozen=True)
class NotFound:
    """The processor knows nothing by this reference, yet: R22 says when that may be believed."""


@dataclass(frozen=True)
class Expired:
    """The processor confirmed that this reference will never be captured; no waiting is needed."""


Outcome: TypeAlias = Approved | Declined | Pending | Redirect | InDoubt | NotSent
Answer: TypeAlias = Approved | Declined | Pending | InDoubt | NotFound | Expired

# Keys and tokens of processors, and what may be a card number.
_SECRET: Final = re.compile(
    r"\b(?:bearer\s+|(?:sk|pk|rk|tok|key|whsec)_)[\w.~+/=-]+|\b\d{13,19}\b", re.IGNORECASE
)


def in_words(answer: Answer) -> str:
    """What a processor answered, for people, in its own words where it used any; never empty.

    What looks like a key, a token or a card number is left out of a processor's free text.
    """
    match answer:
        case Approved(amount, currency, reference):
            return f"captured {amount} {currency}, its reference {reference or 'none'}"
        case Declined(decline_class, code, reference):
            return f"declined, {decline_class}: {_clean(code)}, its reference {reference or 'none'}"
        case Pending(expires_at):
            until = f", until {expires_at:%Y-%m-%d %H:%M:%S} UTC" if expires_at else ""
            return f"pending{until}"
        case InDoubt(reason):
            return f"no answer to go by: {_clean(reason)}"
        case NotFound():
            return "not found"
        case Expired():
            return "expired: it will not be captured any more"
        case _:
            assert_never(answer)


def _clean(text: str) -> str:
    """One line without secrets."""
    return _SECRET.sub("…", " ".join(text.split()))


@dataclass(frozen=True)
class ChargeRequest:
    """One send of one attempt; `reference` is the attempt's id and the idempotency key (R23)."""

    reference: UUID
    amount: Decimal
    currency: str
    token: str
    creator: UUID
    subscription: UUID
    charge: UUID
    round: int
    number: int


@dataclass(frozen=True)
class WebhookHint:
    """Something happened to `reference`: a hint to ask for it, never the fact itself (R28)."""

    event_id: str
    reference: UUID | None
    kind: str


class BadSignature(Exception):
    """The webhook is not signed by the processor, or was signed too long ago."""


class Gateway(Protocol):
    """One processor account (a lane), seen through the calls the service makes.

    Attributes:
        processor: the lane's name.
        idempotent_for: how long a repeated key is answered with the first answer (R24).
        minimum_age: how long after a send "not found" still means nothing (R22).
        not_found_repeats: how many times "not found" must be heard before it is believed (R22).
    """

    @property
    def processor(self) -> str: ...

    @property
    def idempotent_for(self) -> timedelta: ...

    @property
    def minimum_age(self) -> timedelta: ...

    @property
    def not_found_repeats(self) -> int: ...

    def charge(self, request: ChargeRequest, *, deadline: float) -> Outcome:
        """Ask for the money once, without retries; it answers within `deadline` seconds."""
        ...

    def query(self, reference: UUID, *, deadline: float) -> Answer:
        """Ask what became of our `reference`, within `deadline` seconds."""
        ...

    def expire(self, reference: UUID, *, deadline: float) -> Answer:
        """End a pending charge; `Expired` confirms that it cannot be captured any more."""
        ...

    def parse_webhook(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime
    ) -> WebhookHint:
        """Read a webhook whose raw `body` is signed within 300 s of `now` (real UTC, R28).

        Raises BadSignature.
        """
        ...
