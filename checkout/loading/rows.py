"""The rows of a file of creators, plans or routing rules, read into typed values.

Every fault is named by line and field, all of them together, and what to do about it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeVar
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from checkout.models import Interval
from checkout.money import CENT, NotAnAmount, usd

T = TypeVar("T")

CREATOR_COLUMNS: Final = ("external_id", "name", "email", "country", "time_zone")
# What the creator's checkout will ask for: checked here, used by whoever starts the checkout.
CHECKOUT_COLUMNS: Final = ("plan", "token")
PLAN_COLUMNS: Final = ("code", "name", "price", "interval", "interval_count")
RULE_COLUMNS: Final = (
    "country",
    "lane",
    "valid_from",
    "valid_to",
    "reason",
    "source",
    "source_date",
)

_CARD_NUMBER = re.compile(r"(?:[0-9][ -]?){12,19}", re.ASCII)
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,39})", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field of one line, and what to do about it."""

    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.text}"


class RowsRefused(Exception):
    """Some rows cannot be loaded, so none were."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))


@dataclass(frozen=True)
class CreatorRow:
    """One creator of the file; `plan` and `token` are empty where the file has no such column."""

    line: int
    external_id: str
    name: str
    email: str
    country: str
    time_zone: str
    plan: str = ""
    token: str = ""


@dataclass(frozen=True)
class PlanRow:
    line: int
    code: str
    name: str
    price: Decimal
    interval: str
    interval_count: int


@dataclass(frozen=True)
class RuleRow:
    line: int
    country: str
    lane: str
    valid_from: date
    valid_to: date | None
    reason: str
    source: str
    source_date: date


R = TypeVar("R", CreatorRow, PlanRow, RuleRow)


def read_all(
    *,
    rows: Iterable[tuple[int, Mapping[str, str]]],
    read: Callable[[int, Mapping[str, str]], R],
) -> list[R]:
    """Read every row with one of the three readers; raises RowsRefused with all faults of all rows."""
    good: list[R] = []
    faults: list[Fault] = []
    for line, values in rows:
        try:
            good.append(read(line, values))
        except RowsRefused as error:
            faults += error.faults
    refuse(faults)
    return good


def read_creator(line: int, values: Mapping[str, str]) -> CreatorRow:
    """Read one row; raises RowsRefused with each of its faults."""
    return _read(
        CreatorRow,
        line,
        values,
        {
            "external_id": _text(64),
            "name": _text(200),
            "email": _email,
            "country": _country,
            "time_zone": _time_zone,
            "plan": _code,
            "token": _token,
        },
    )


def read_plan(line: int, values: Mapping[str, str]) -> PlanRow:
    """Read one row; raises RowsRefused with each of its faults."""
    return _read(
        PlanRow,
        line,
        values,
        {
            "code": _code,
            "name": _text(100),
            "price": _price,
            "interval": _interval,
            "interval_count": _count,
        },
    )


def read_rule(line: int, values: Mapping[str, str], *, lanes: Iterable[str]) -> RuleRow:
    """Read one row; an empty lane refuses the country. Raises RowsRefused with each of its faults."""
    row = _read(
        RuleRow,
        line,
        values,
        {
            "country": _country,
            "lane": _one_of(["", *lanes]),
            "valid_from": _date,
            "valid_to": _date_or_none,
            "reason": _text(300),
            "source": _text(300),
            "source_date": _date,
        },
    )
    if row.valid_to and row.valid_to <= row.valid_from:
        raise RowsRefused([Fault(line, "valid_to", "must be after valid_from, or empty")])
    return row


def refuse(faults: Sequence[Fault]) -> None:
    """Raise RowsRefused if there is any."""
    if faults:
        raise RowsRefused(faults)


def _read(
    kind: Callable[..., T],
    line: int,
    values: Mapping[str, str],
    readers: Mapping[str, Callable[[str], Any]],
) -> T:
    read: dict[str, Any] = {}
    faults = []
    for field, value in values.items():
        try:
            read[field] = readers[field](_clean(value))
        except ValueError as error:
            faults.append(Fault(line, field, str(error)))
    refuse(faults)
    return kind(line=line, **read)


def _clean(value: str) -> str:
    if value != value.strip():
        raise ValueError("has spaces around it; remove them")
    if not value.isprintable():
        raise ValueError("holds a control character or a line break; remove it")
    return value


def _text(longest: int) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not value:
            raise ValueError("is empty")
        if len(value) > longest:
            raise ValueError(f"is longer than {longest} characters")
        return value

    return read


def _email(value: str) -> str:
    try:
        validate_email(_text(254)(value))
    except ValidationError:
        raise ValueError(f"{value!r} is not an e-mail address") from None
    return value


def _country(value: str) -> str:
    if not _COUNTRY.fullmatch(value):
        raise ValueError(f"{value!r} is not a country; write its two capital letters, such as KZ")
    return value


def _time_zone(value: str) -> str:
    if value not in _TIME_ZONES:
        raise ValueError(f"{value!r} is not a time zone; write it as Asia/Almaty, or UTC")
    return value


def _token(value: str) -> str:
    # Never repeat the value here: it may be a card number.
    if _CARD_NUMBER.fullmatch(value):
        raise ValueError("looks like a card number; only a processor's token may be stored")
    return _text(128)(value)


def _code(value: str) -> str:
    if not _CODE.fullmatch(value):
        raise ValueError(f"{value!r} is not a code: small letters, digits, - and _, at most 40")
    return value


def _price(value: str) -> Decimal:
    try:
        price = usd(value)
    except NotAnAmount as error:
        raise ValueError(str(error)) from None
    if price < CENT:
        raise ValueError("must be at least 0.01 USD")
    return price


def _interval(value: str) -> str:
    return _one_of(Interval.values)(value)


def _one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    words = list(allowed)

    def read(value: str) -> str:
        if value not in words:
            known = ", ".join(word or "(empty)" for word in words)
            raise ValueError(f"{value!r} is none of {known}")
        return value

    return read


def _count(value: str) -> int:
    if not _COUNT.fullmatch(value):
        raise ValueError(f"{value!r} is not a whole number from 1 to 999")
    return int(value)


def _date(value: str) -> date:
    if not _DATE.fullmatch(value):
        raise ValueError(f"{value!r} is not a date; write it as 2026-01-31")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a day of the calendar") from None


def _date_or_none(value: str) -> date | None:
    return _date(value) if value else None


_TIME_ZONES: Final = frozenset(available_timezones())
