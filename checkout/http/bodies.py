"""What is sent: JSON that says one thing only, and no card numbers, or a problem by field."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import IO, Any, Final

from django.core.exceptions import RequestDataTooBig
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from checkout.http.problems import MOST_ERRORS, Problem, field_errors

MOST_BYTES: Final = 256 * 1024
MOST_DEPTH: Final = 20
LARGEST_INTEGER: Final = 2**63
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
# A string without its end runs to the end of the text, so that scanning stays linear.
_TOKENS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
UUID_FORM: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# 13 to 19 digits, single spaces or dashes between, not part of a longer word or number.
_CARD: Final = re.compile(r"(?<![^\W_])(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ -]?\d)(?![^\W_])")
# Where card numbers begin: Visa, Mastercard (also 2221-2720), Amex, Diners, JCB, Maestro, UnionPay.
_CARD_PREFIX: Final = re.compile(r"[3456]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)")


def looks_like_card(text: str) -> bool:
    """Whether the text holds what passes for a card number: 13-19 digits, a network's, Luhn-valid.

    A UUID never counts, nor digits inside a word, so that keys and hexadecimal ids pass.
    """
    for found in _CARD.finditer(UUID_FORM.sub("", text)):
        digits = [unicodedata.decimal(c) for c in found.group() if c not in " -"]
        if _CARD_PREFIX.match("".join(map(str, digits))) and _luhn(digits):
            return True
    return False


def _luhn(digits: list[int]) -> bool:
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


class StrictJsonParser(BaseParser):
    """A JSON object, and nothing that JSON leaves open: each of these is refused, by field.

    Duplicate keys, more than 20 levels, NaN and infinities, integers from 2^63 on, NUL and lone
    surrogates, card numbers, and more than 256 kB.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002  DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        body = stream.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise RequestDataTooBig
        return parse_strictly(body)


def parse_strictly(body: bytes) -> dict[str, Any]:
    """Read a JSON object; raises Problem malformed-body (400) or validation-failed (422)."""
    try:
        text = body.decode("utf-8")
        _refuse_depth(text)
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_int=_bounded)
    except ValueError:
        raise Problem("malformed-body", "The body is not JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise Problem("validation-failed", "The body must be a JSON object.")
    errors = tuple(islice(_defects(value, ""), MOST_ERRORS))
    if errors:
        raise Problem("validation-failed", "See errors.", errors)
    return value


def _refuse_depth(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token.group(), 0)
        if depth > MOST_DEPTH:
            raise Problem("validation-failed", f"The body is more than {MOST_DEPTH} levels deep.")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            # The last one would win here and the first elsewhere: nobody knows what was meant.
            said = "this field stands here twice"
            raise Problem("validation-failed", "See errors.", ((_printable(name), said),))
        read[name] = value
    return read


def _bounded(digits: str) -> int:
    """Python refuses to read thousands of digits; any integer this long is refused anyway."""
    return int(digits) if len(digits) <= 20 else LARGEST_INTEGER


def _defects(value: object, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _text_defects(name, path)
                yield from _defects(inner, f"{path}.{_printable(name)}".strip("."))
        case list():
            for i, inner in enumerate(value):
                yield from _defects(inner, f"{path}[{i}]")
        case str():
            yield from _text_defects(value, path)
        case int() if abs(value) >= LARGEST_INTEGER:
            yield path, "the number is too large"
        case float() if value != value or abs(value) == float("inf"):
            yield path, "the number is not finite"


def _text_defects(text: str, path: str) -> Iterator[tuple[str, str]]:
    if _UNSTORABLE.search(text):
        yield path, "NUL and lone surrogates cannot be stored"
    elif looks_like_card(text):
        yield path, "this looks like a card number; send the processor's token, never the card"


def _printable(name: str) -> str:
    """A field's name as it may be repeated in an answer."""
    if looks_like_card(name) or _UNSTORABLE.search(name):
        return "(hidden)"
    return name if len(name) <= 64 else name[:61] + "..."


def sent_json(request: Request) -> object:
    """The body, parsed; Problem length-required for one in chunks, which WSGI reads as empty."""
    refuse_chunks(request)
    return request.data


def refuse_chunks(request: Request) -> None:
    """Raise Problem length-required (411) unless the length of the body was announced."""
    if request.META.get("HTTP_TRANSFER_ENCODING") and not request.META.get("CONTENT_LENGTH"):
        raise Problem("length-required", "Send the body whole, with its Content-Length.")


def validated(serializer: type[serializers.Serializer[Any]], given: object) -> dict[str, Any]:
    """The body's values by the serializer; Problem validation-failed also for unknown fields."""
    if not isinstance(given, dict):
        raise Problem("validation-failed", "The body must be a JSON object.")
    check = serializer(data=given)
    unknown = sorted(set(given) - set(check.fields))
    valid = check.is_valid()
    errors = [*field_errors(check.errors)]
    errors += [(_printable(name), "there is no such field") for name in unknown]
    if errors or not valid:
        raise Problem("validation-failed", "See errors.", tuple(errors[:MOST_ERRORS]))
    return dict(check.validated_data)


def validated_query(
    serializer: type[serializers.Serializer[Any]], request: Request
) -> dict[str, Any]:
    """The query string by the serializer; a parameter given twice is refused like a field."""
    query = request.query_params
    twice = tuple(
        (_printable(name), "this parameter stands here twice")
        for name in query
        if len(query.getlist(name)) > 1
    )
    if twice:
        raise Problem("validation-failed", "See errors.", twice[:MOST_ERRORS])
    return validated(serializer, query.dict())
