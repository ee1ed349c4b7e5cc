"""The event types and the closed JSON Schemas of their data (R46)."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker

SCHEMAS: Final = Path(__file__).parent.parent / "events"
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
        "settlement.closed",
        "settlement.proved",
    }
)


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
