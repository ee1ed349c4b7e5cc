"""What may be sent to the sandbox's charge endpoint, read strictly."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from processor.control import IllFormed

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,2})?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{1,120}", re.ASCII)


@dataclass(frozen=True)
class Order:
    """A charge somebody asks for; `reference` is the idempotency key, `amount` USD above zero."""

    reference: str
    amount: Decimal
    currency: str
    token: str
    account: str
    creator: str
    subscription: str
    charge: str
    round: int
    number: int
    fingerprint: str


def read_order(body: bytes, *, key: str) -> Order:
    """The order in `body`, sent under the idempotency `key`; raises IllFormed naming the field."""
    fields = _object(body)
    metadata = fields.get("metadata")
    if not isinstance(metadata, dict):
        raise IllFormed("metadata: not an object")
    reference = read_reference(_text(fields, "reference"))
    if key != reference:
        raise IllFormed("Idempotency-Key: not the reference")
    return Order(
        reference=reference,
        amount=_amount(fields.get("amount")),
        currency=_currency(fields.get("currency")),
        token=_matching(_TOKEN, fields, "token"),
        account=_matching(_WORD, fields, "account"),
        creator=_text(metadata, "creator"),
        subscription=_text(metadata, "subscription"),
        charge=_text(metadata, "charge"),
        round=_whole(metadata, "round"),
        number=_whole(metadata, "number"),
        fingerprint=hashlib.sha256(_canonical(fields)).hexdigest(),
    )


def read_reference(text: str) -> str:
    """A reference as this processor takes it, a lower-case UUID; raises IllFormed."""
    try:
        canonical = str(UUID(text))
    except ValueError:
        canonical = ""
    if canonical != text:
        raise IllFormed("reference: not a UUID")
    return text


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise IllFormed("body: not JSON") from error
    if not isinstance(fields, dict):
        raise IllFormed("body: not an object")
    return fields


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value) or Decimal(value) == 0:
        raise IllFormed("amount: not a string of USD above zero with at most two places")
    return Decimal(value).quantize(Decimal("0.01"))


def _currency(value: Any) -> str:
    if value != "USD":
        raise IllFormed("currency: only USD")
    return "USD"


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 120:
        raise IllFormed(f"{name}: not a text")
    return value


def _matching(pattern: re.Pattern[str], fields: Mapping[str, Any], name: str) -> str:
    value = _text(fields, name)
    if not pattern.fullmatch(value):
        raise IllFormed(f"{name}: not well formed")
    return value


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise IllFormed(f"{name}: not a whole number")
    return value
