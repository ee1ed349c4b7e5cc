"""Fields that take what they say, and nothing that looks like it."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from checkout.http.bodies import UUID_FORM
from checkout.money import PATTERN, NotAnAmount, usd

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Text(serializers.CharField):
    """A JSON string of one line, taken as it is: no number becomes one, no blank is trimmed away."""

    default_error_messages = {
        "spaces": "there are spaces around it; remove them",
        "control": "it holds a control character or a line break; remove it",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: object) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if data != data.strip():
            self.fail("spaces")
        if _CONTROL.search(data):
            self.fail("control")
        return str(super().to_internal_value(data))


class Uuid(serializers.UUIDField):
    """A UUID as text in its usual form; no integer, braces or URN."""

    def to_internal_value(self, data: object) -> UUID:
        if not isinstance(data, str) or not UUID_FORM.fullmatch(data):
            self.fail("invalid", value=data)
        return UUID(data)


class WholeNumber(serializers.IntegerField):
    """ASCII digits in a query string."""

    def to_internal_value(self, data: object) -> int:
        if not isinstance(data, str) or not re.fullmatch(r"[0-9]{1,9}", data, re.ASCII):
            self.fail("invalid")
        return int(data)


class Instant(serializers.DateTimeField):
    """An RFC 3339 date and time with its offset; no date alone, no local time."""

    FORM: Final = re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})",
        re.ASCII,
    )

    def to_internal_value(self, value: object) -> datetime:
        if not isinstance(value, str) or not self.FORM.fullmatch(value):
            self.fail("invalid", format="2026-11-23T00:00:00Z")
        return super().to_internal_value(value)


@extend_schema_field(
    {"type": "string", "pattern": PATTERN, "description": "US dollars", "example": "19.99"}
)
class Money(serializers.Field[Decimal, str, str, Any]):
    """US dollars as a JSON string by R2, greater than zero; a JSON number is refused."""

    default_error_messages = {
        "invalid": "write the amount as a string such as '19.99': digits, a point, two places"
    }

    def to_internal_value(self, data: object) -> Decimal:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            amount = usd(data)
        except NotAnAmount:
            self.fail("invalid")
        if amount <= 0:
            self.fail("invalid")
        return amount

    def to_representation(self, value: Decimal) -> str:
        return str(usd(value))
