"""Reading a processor's statement file, row by row; no database.

processor/statement.py defines the columns. Whatever a file holds, it is read or refused: every row
that cannot be read is named with its line, and no amount is ever taken for 0.00 (R39).
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from checkout.money import CURRENCY, usd
from settlements.models import NOTHING, LineType

COLUMNS: Final = (
    "line_id",
    "type",
    "reference",
    "processor_reference",
    "booked_at",
    "gross",
    "fee",
    "net",
    "currency",
    "payout",
)
OPENING: Final = "opening"
CLOSING: Final = "closing"
TYPES: Final = frozenset(LineType.values)
SHOWN: Final = 50
LONGEST: Final = 128
LONGEST_TYPE: Final = 40

_AMOUNT: Final = re.compile(r"-?(0|[1-9][0-9]{0,9})\.[0-9]{2}", re.ASCII)
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Line:
    """One row that could be read; on opening and closing rows `net` is the balance, USD."""

    number: int
    line_id: str
    type: str
    reference: str
    processor_reference: str
    booked_at: datetime
    gross: Decimal
    fee: Decimal
    net: Decimal
    payout: str


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read; `number` is its line in the file, from 1."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


class Refused(Exception):
    """The file cannot be read; nothing of it was stored."""

    def __init__(self, bad: Sequence[BadRow]) -> None:
        self.bad = bad
        more = [f"… and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        super().__init__("\n".join([*map(str, bad[:SHOWN]), *more]))


@dataclass(frozen=True)
class Summary:
    """What a readable file says of itself: days (UTC, both included), balances, movements in USD."""

    first_day: date
    last_day: date
    opening: Decimal
    closing: Decimal
    movement: Decimal
    line_count: int
    # (line number, type) of the first line whose type is not of the closed list.
    unknown: tuple[int, str] | None


def parse(rows: Iterable[str]) -> Iterator[Line | BadRow]:
    """Read the lines of a statement file (processor/statement.py defines it), one by one.

    Every row is checked by itself: columns, amounts with two places (R2, R39), UTC times, USD (R9),
    net = gross − fee. What concerns the whole file is `summarise`'s.
    """
    reader = csv.reader(rows, strict=True)
    try:
        header = next(reader, None)
        if header != list(COLUMNS):
            yield BadRow(1, f"the first line must be {','.join(COLUMNS)}")
            return
        for fields in reader:
            yield _line(reader.line_num, fields)
    except csv.Error as error:
        yield BadRow(reader.line_num, f"it is not CSV: {error}")
    except UnicodeDecodeError as error:
        yield BadRow(reader.line_num + 1, f"it is not UTF-8: {error.reason}")


def summarise(parsed: Iterable[Line | BadRow]) -> Summary:
    """Check the file as a whole and add it up. Raises Refused with every row that cannot be read."""
    bad: list[BadRow] = []
    first: Line | None = None
    last: Line | None = None
    movement, count, unknown = NOTHING, 0, None
    for row in parsed:
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        first = first or row
        if reason := _misplaced(row, last=last):
            bad.append(BadRow(row.number, reason))
        if row.type not in {OPENING, CLOSING}:
            movement, count = movement + row.net, count + 1
            unknown = unknown or _unknown(row)
        last = row
    if bad:
        raise Refused(bad)
    opening, closing = _ends(first, last)
    return Summary(
        first_day=opening.booked_at.date(),
        last_day=(closing.booked_at - _DAY).date(),
        opening=opening.net,
        closing=closing.net,
        movement=movement,
        line_count=count,
        unknown=unknown,
    )


def _misplaced(row: Line, *, last: Line | None) -> str:
    """Why a row may not stand where it stands, or nothing."""
    if last is None:
        return "" if row.type == OPENING else "the first row must be of the type opening"
    if last.type == CLOSING:
        return "it stands after the closing row"
    if row.type == OPENING:
        return "a second opening row"
    if row.booked_at < last.booked_at:
        return "it is booked before the row above it"
    if row.type == CLOSING and row.booked_at == last.booked_at:
        return "the closing is not after the row above it"
    return ""


def _unknown(row: Line) -> tuple[int, str] | None:
    return None if row.type in TYPES else (row.number, row.type)


def _ends(first: Line | None, last: Line | None) -> tuple[Line, Line]:
    if first is None or last is None:
        raise Refused([BadRow(2, "there is no opening row")])
    if last.type != CLOSING:
        raise Refused([BadRow(last.number, "the last row must be of the type closing")])
    if any(end.booked_at.time() != time() for end in (first, last)):
        raise Refused([BadRow(last.number, "opening and closing must be at 00:00:00Z")])
    return first, last


def _line(number: int, fields: Sequence[str]) -> Line | BadRow:
    if len(fields) != len(COLUMNS):
        return BadRow(number, f"{len(fields)} fields instead of {len(COLUMNS)}")
    values = dict(zip(COLUMNS, fields, strict=True))
    reason = _unreadable(values)
    if reason:
        return BadRow(number, reason)
    line = Line(
        number=number,
        line_id=values["line_id"],
        type=values["type"],
        reference=values["reference"],
        processor_reference=values["processor_reference"],
        booked_at=datetime.fromisoformat(values["booked_at"]),
        gross=_amount(values["gross"]),
        fee=_amount(values["fee"]),
        net=_amount(values["net"]),
        payout=values["payout"],
    )
    if line.type not in {OPENING, CLOSING} and line.net != line.gross - line.fee:
        return BadRow(number, f"net {line.net} is not gross {line.gross} less fee {line.fee}")
    return line


def _unreadable(values: dict[str, str]) -> str:
    """Why the row cannot be read, or nothing."""
    for column in ("gross", "fee", "net"):
        if not _AMOUNT.fullmatch(values[column]):
            return f"{column} {values[column]!r} is not an amount such as -19.99"
    if values["currency"] != CURRENCY:
        return f"currency {values['currency']!r} is not {CURRENCY}"
    if not _is_instant(values["booked_at"]):
        return f"booked_at {values['booked_at']!r} is not a time such as 2026-01-05T09:30:01Z"
    if not values["line_id"] or not values["type"]:
        return "line_id and type must not be empty"
    if len(values["type"]) > LONGEST_TYPE or max(map(len, values.values())) > LONGEST:
        return f"a field is longer than {LONGEST} characters (type: {LONGEST_TYPE})"
    if any("\0" in value for value in values.values()):
        return "it holds a NUL character"
    return ""


def _is_instant(text: str) -> bool:
    if not _INSTANT.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _amount(text: str) -> Decimal:
    return -usd(text[1:]) if text.startswith("-") else usd(text)
