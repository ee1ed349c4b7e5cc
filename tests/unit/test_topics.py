"""The event types and their closed schemas."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from checkout.topics import (
    EVENT_TYPES,
    SCHEMAS,
    InvalidEvent,
    Topic,
    schema,
    schemas,
    validate,
    validate_payload,
)

FORBIDDEN = (
    *("country", "name", "email", "e_mail", "mail", "ip", "phone", "processor", "network", "lane"),
    *("address", "reason", "comment", "note", "text", "description", "token", "card", "external"),
)
CREATOR = "00000000-0000-5000-8000-000000000001"
BILLED: dict[str, Any] = {
    "charge_id": "00000000-0000-5000-8000-000000000002",
    "creator_id": CREATOR,
    "subscription_id": "00000000-0000-5000-8000-000000000003",
    "plan": "monthly",
    "period_start": "2026-01-31",
    "period_end": "2026-02-28",
    "amount": "19.99",
    "currency": "USD",
    "state": "due",
    "round": 1,
    "number": None,
    "occurred_at": "2026-01-31T12:00:00+00:00",
}


def written(data: object) -> str:
    """As outbox.encode spells it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def test_each_event_type_has_a_schema_and_each_schema_a_type() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == EVENT_TYPES


@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
def test_schemas_are_closed_and_say_nothing_of_the_person(type: str) -> None:
    """R46: no country, name, e-mail, IP, phone, processor, network or free text."""
    declared = schema(type)

    Draft202012Validator.check_schema(declared)
    assert declared["additionalProperties"] is False
    assert declared["required"] == list(declared["properties"])
    words = {word for name in declared["properties"] for word in name.split("_")}
    assert not words & set(FORBIDDEN)
    for name, allowed in declared["properties"].items():
        is_free = "string" in str(allowed.get("type")) and "pattern" not in allowed
        assert not is_free, f"{name} is free text"
        assert allowed.get("type") not in ("object", "array"), f"{name} is not flat"


def test_a_valid_event_passes() -> None:
    validate("charge.billed", BILLED)
    validate_payload("charge.billed", written(BILLED))


@pytest.mark.parametrize(
    "change",
    [
        {"country": "KZ"},
        {"amount": 19.99},
        {"amount": "19.999"},
        {"amount": "-1.00"},
        {"currency": "KZT"},
        {"state": "unknown"},
        {"round": 0},
        {"number": "1"},
        {"creator_id": "Aigerim"},
        {"plan": "monthly, Almaty"},
        {"occurred_at": "yesterday"},
        {"period_end": None},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    """R46"""
    with pytest.raises(InvalidEvent):
        validate("charge.billed", BILLED | change)
    with pytest.raises(InvalidEvent):
        validate_payload("charge.billed", written(BILLED | change))


@pytest.mark.parametrize("missing", sorted(BILLED))
def test_a_missing_property_is_refused(missing: str) -> None:
    partial = {name: value for name, value in BILLED.items() if name != missing}

    with pytest.raises(InvalidEvent):
        validate_payload("charge.billed", written(partial))


def test_an_undeclared_type_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="no event type"):
        validate("charge.imagined", {})


@given(
    st.sampled_from(sorted(EVENT_TYPES)),
    st.dictionaries(
        st.sampled_from([*BILLED, "country", "captured_amount", "awaits"]),
        st.one_of(st.text(max_size=40), st.none(), st.integers(), st.sampled_from([*BILLED])),
    ),
)
def test_what_the_quick_expression_takes_the_schema_takes(type: str, data: dict[str, Any]) -> None:
    """The expression is compiled from the schema: it may be stricter, never laxer."""
    payload = written(BILLED | data)

    if schemas._spelling(type).fullmatch(payload):
        validator = Draft202012Validator(schema(type))
        assert validator.is_valid(json.loads(payload))


@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
def test_the_quick_expression_takes_what_is_valid(type: str) -> None:
    values = BILLED | {
        "captured_amount": "19.96",
        "decline_class": "funds",
        "awaits": "date",
        "next_round_at": "2026-02-03T12:00:00+00:00",
        "instrument_id": CREATOR,
        "price": "19.99",
        "starts_on": "2026-02-28",
        "settlement_id": CREATOR,
        "lands_on": "2026-03-03",
        "lines": 2,
        **dict.fromkeys(("charged", "unapplied", "refunded", "disputed", "fees"), "-0.88"),
        **dict.fromkeys(("adjusted", "net"), "0.03"),
    }
    wanted = schema(type)["properties"]
    data = {name: values[name] for name in wanted}
    if type.startswith("subscription."):
        data["state"] = "active"

    validate(type, data)
    assert schemas._spelling(type).fullmatch(written(data))


def test_topic_is_bounded_in_time_and_bytes() -> None:
    config = Topic(partitions=6, replication=1).config()

    assert 0 < int(config["retention.ms"]) <= 86_400_000
    assert 0 < int(config["retention.bytes"]) <= 2**30
    assert 0 < int(config["max.message.bytes"]) <= 2**20
    assert config["cleanup.policy"] == "delete"


def test_patterns_are_anchored() -> None:
    """JSON Schema searches: an unanchored pattern would let free text around it through."""
    for type_ in EVENT_TYPES:
        for allowed in schema(type_)["properties"].values():
            pattern = allowed.get("pattern")
            assert pattern is None or re.match(r"^\^.*\$$", pattern)
