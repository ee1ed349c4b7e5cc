"""What the API takes and refuses before it touches the database (R2, R49, R50)."""

import json
import re
import string
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import exceptions, serializers

from checkout.commit import DatabaseAway
from checkout.http import Money, Problem, looks_like_card, problem_handler, validated
from checkout.http.bodies import parse_strictly
from checkout.http.fields import Instant, Text, Uuid, WholeNumber

VISA = "4242424242424242"


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as refused:
        parse_strictly(body)
    return refused.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {"b": 2}',
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "line\nbreak"}',
        b'{"a": 01}',
        b'{"a": .5}',
        b'{"a": "unterminated',
        b'{"a": "\\',
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    assert refusal(body).slug == "malformed-body"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"plan": "a", "plan": "b"}', "plan"),
        (b'{"a": {"b": 1, "b": 1}}', "b"),
        (b'{"a": NaN}', "a"),
        (b'{"a": [0, -Infinity]}', "a[1]"),
        (b'{"a": 1e400}', "a"),
        (b'{"a": 9223372036854775808}', "a"),
        (b'{"a": -9223372036854775808}', "a"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a"),
        (b'{"a": {"b": ["x", "\\u0000"]}}', "a.b[1]"),
        (b'{"a": "\\ud800"}', "a"),
        (b'{"a": {"\\u0000": 1}}', "a"),
        (b'{"token": "4242 4242 4242 4242"}', "token"),
        (b'{"a": {"4242424242424242": 1}}', "a"),
    ],
)
def test_what_json_leaves_open_is_refused_by_field(body: bytes, field: str) -> None:
    problem = refusal(body)

    assert problem.slug == "validation-failed"
    assert problem.errors[0][0] == field


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_the_body_is_an_object(body: bytes) -> None:
    assert refusal(body).slug == "validation-failed"


def test_twenty_levels_pass_and_one_more_is_refused() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert parse_strictly(nested(20))
    assert "20 levels" in refusal(nested(21)).detail
    assert "20 levels" in refusal(b'{"a":' + b"[" * 100_000).detail


def test_brackets_inside_a_string_are_no_levels() -> None:
    assert parse_strictly(b'{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[\\"{{{{{{{{{{{"}')


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ['\\"', '"', "\\", '"\\"', "[]", '{"'])
def test_no_body_takes_more_than_linear_time(piece: str) -> None:
    body = ('{"a": "' + piece * (250_000 // len(piece))).encode()

    assert refusal(body).slug in {"malformed-body", "validation-failed"}


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\u0dD8e+-.1tfnN ').map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read = parse_strictly(body)
    except Problem as problem:
        status = problem.response().status_code
    else:
        status = 200 if isinstance(read, dict) else 500

    assert status in {200, 400, 422}


def luhn_number(digits: str) -> str:
    """Append the digit that makes a card number of these."""
    for last in string.digits:
        total = 0
        for place, char in enumerate(reversed(digits + last)):
            value = int(char) * (2 if place % 2 else 1)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return digits + last
    raise AssertionError


@given(
    st.sampled_from(["4", "51", "55", "2221", "2720", "34", "37", "6011", "62", "35", "50"]),
    st.text(string.digits, min_size=15, max_size=15),
    st.integers(13, 19),
    st.sampled_from(["", " ", "-"]),
    st.sampled_from(["", "card ", "tok_", "№", "x: "]),
)
def test_any_card_number_is_seen(
    start: str, rest: str, length: int, between: str, before: str
) -> None:
    number = luhn_number((start + rest)[: length - 1])
    groups = [number[i : i + 4] for i in range(0, len(number), 4)]

    assert looks_like_card(before + between.join(groups))


def test_a_card_number_in_other_digits_is_seen() -> None:
    full_width = VISA.translate({ord(d): 0xFF10 + int(d) for d in string.digits})

    assert looks_like_card(full_width)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tok_approve_0001",
        "4242424242424241",
        "42424242",
        "4" * 20,
        "1732233600000",  # a time in milliseconds; no network begins with 1
        "11111111-4111-4111-8111-111111111111",
        "deadbeef4242424242424242cafe",
        "+77 27 123 45 67",
    ],
)
def test_other_numbers_are_no_cards(text: str) -> None:
    assert not looks_like_card(text)


@given(st.uuids())
def test_no_uuid_is_a_card(value: UUID) -> None:
    assert not looks_like_card(str(value))
    assert not looks_like_card(f"order {value}")


class Sample(serializers.Serializer[Any]):
    amount = Money()


@pytest.mark.parametrize("value", ["0.01", "1", "19.9", "19.99", "9999999999.99"])
def test_r2_an_amount_is_a_string(value: str) -> None:
    assert validated(Sample, {"amount": value})["amount"] == Decimal(value)
    assert re.fullmatch(r"[0-9]+\.[0-9]{2}", Sample({"amount": Decimal(value)}).data["amount"])


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.1, 0.1, True, None, [], {}, "", "0", "0.00", "-1", "-0", "+1", " 1.00 ", "1.00\n"),
        *("1e2", "1E2", "1_000.00", "1,000.00", "１２.00", "٣", "01.00", ".5", "1.", "19.999"),
        *("NaN", "Infinity", "sNaN", "1e1000000", "9" * 900, "10000000000.00", "0x10"),
    ],
)
def test_r2_anything_else_is_refused_naming_the_field(value: object) -> None:
    with pytest.raises(Problem) as refused:
        validated(Sample, {"amount": value})

    assert refused.value.slug == "validation-failed"
    assert [name for name, _ in refused.value.errors] == ["amount"]


class Everything(serializers.Serializer[Any]):
    text = Text(max_length=5, required=False)
    uuid = Uuid(required=False)
    number = WholeNumber(min_value=0, max_value=20, required=False)
    instant = Instant(required=False)


WRONG: dict[str, list[object]] = {
    "text": [
        *(1, 1.5, True, None, [], {}, "", " a", "a ", "123456"),
        *("a\nb", "a\x00b", "\x1b[0m", "a\u2028b"),
    ],
    "uuid": [
        *(1, True, None, "", "x", "a" * 32, "{" + "a" * 32 + "}"),
        "urn:uuid:11111111-4111-4111-8111-111111111111",
    ],
    "number": ["", "-1", "21", "1e1", "１２", " 5", "5.0", "9" * 400, 5, None],
    "instant": [
        *("", "abc", "2026-01-01", "2026-01-01T00:00:00", 5, None),
        *("9999-99-99T00:00:00Z", "2026-02-30T00:00:00Z", "２０２６-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"),
    ],
    "no_such_field": [1],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_field_takes_what_it_says_alone(field: str, value: object) -> None:
    with pytest.raises(Problem) as refused:
        validated(Everything, {field: value})

    assert [name for name, _ in refused.value.errors][:1] == [field]


def test_several_errors_are_told_at_once_and_not_without_end() -> None:
    wrong = {f"unknown_{i}": 1 for i in range(100)} | {"text": 1, "uuid": 1}

    with pytest.raises(Problem) as refused:
        validated(Everything, wrong)

    assert len(refused.value.errors) == 20
    assert {"text", "uuid"} <= {name for name, _ in refused.value.errors}


class View:
    allowed_methods = ("GET", "OPTIONS")


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (exceptions.NotAuthenticated(), 401, "unauthenticated"),
        (exceptions.AuthenticationFailed(), 401, "unauthenticated"),
        (exceptions.ParseError(), 400, "malformed-body"),
        (exceptions.NotFound(), 404, "not-found"),
        (Http404(), 404, "not-found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method-not-allowed"),
        (exceptions.NotAcceptable(), 406, "not-acceptable"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported-media-type"),
        (RequestDataTooBig(), 413, "body-too-large"),
        (SuspiciousOperation(), 400, "bad-request"),
        (exceptions.ValidationError({"a": ["b"]}), 422, "validation-failed"),
        (IntegrityError(), 409, "conflict"),
        (DataError(), 422, "validation-failed"),
        (OperationalError(), 503, "database-away"),
        (DatabaseAway(), 503, "database-away"),
    ],
)
def test_r50_every_refusal_is_a_problem(error: Exception, status: int, slug: str) -> None:
    response = problem_handler(error, {"view": View()})

    assert response is not None
    document = json.loads(response.content)
    assert (response.status_code, document["status"]) == (status, status)
    assert document["type"] == f"/problems/{slug}"
    assert response["Content-Type"] == "application/problem+json"
    assert {"title", "detail"} <= document.keys()


def test_a_defect_of_ours_is_no_refusal() -> None:
    assert problem_handler(ZeroDivisionError(), {"view": View()}) is None


def test_clients_come_back_spread_over_some_seconds() -> None:
    responses = [problem_handler(DatabaseAway(), {}) for _ in range(50)]

    delays = {int(r["Retry-After"]) for r in responses if r is not None}
    assert delays <= {2, 3, 4, 5}
    assert len(delays) > 1


def test_a_401_says_how_to_authenticate_and_a_405_what_is_allowed() -> None:
    unauthenticated = problem_handler(exceptions.NotAuthenticated(), {"view": View()})
    not_allowed = problem_handler(exceptions.MethodNotAllowed("PUT"), {"view": View()})

    assert unauthenticated is not None
    assert not_allowed is not None
    assert unauthenticated["WWW-Authenticate"].startswith("Bearer")
    assert not_allowed["Allow"] == "GET, OPTIONS"
