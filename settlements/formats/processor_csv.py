"""The processor's own CSV: one file of a lane's days, framed by an opening and a closing row.

processor/statement.py defines the columns and what stands in them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Final

from checkout.money import CURRENCY, usd
from settlements.formats.lines import (
    DAY,
    LONGEST,
    LONGEST_TYPE,
    BadRow,
    Frame,
    Item,
    Line,
    Told,
)
from settlements.formats.table import rows, text_lines

NAME: Final = "processor-csv"
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
HEADER: Final = ",".join(COLUMNS)
OPENING: Final = "opening"
CLOSING: Final = "closing"
_ENDS: Final = frozenset({OPENING, CLOSING})

_AMOUNT: Final = re.compile(r"-?(0|[1-9][0-9]{0,9})\.[0-9]{2}", re.ASCII)
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


def looks_like(head: bytes) -> bool:
    """Whether a file begins as this format does."""
    return head.startswith(HEADER.encode())


def read(chunks: Iterable[bytes], told: Told) -> Iterator[Item]:  # noqa: ARG001
    """The lines of a file of bytes, and what frames them; what was told is not needed."""
    return parse(text_lines(chunks))


def parse(lines: Iterable[str]) -> Iterator[Item]:
    """Read the rows of a statement file one by one, and at its end what frames them.

    Every row is checked by itself: columns, amounts with two places (R2, R39), UTC times, USD (R9),
    net = gross − fee; and where it stands: between opening and closing, in order of time.
    """
    table = rows(lines)
    header = next(table, None)
    if isinstance(header, BadRow):
        yield header
        return
    if header is None or header[1] != list(COLUMNS):
        yield BadRow(1, f"the first line must be {HEADER}")
        return
    first: Line | None = None
    last: Line | None = None
    whole = True
    for row in table:
        line = row if isinstance(row, BadRow) else _line(*row)
        # Where the rows above are bad, nobody can say what stands where it may not.
        if whole:
            line = _placed(line, last=last)
        if isinstance(line, BadRow):
            whole = False
            yield line
            continue
        if line.type not in _ENDS:
            yield line
        first, last = first or line, line
    frame = _frame(first, last)
    # A bad row may be the very end that is missing: it has been named already.
    if whole or isinstance(frame, Frame):
        yield frame


def _placed(line: Line | BadRow, *, last: Line | None) -> Line | BadRow:
    """The line, unless it stands where it may not."""
    if isinstance(line, BadRow):
        return line
    reason = _misplaced(line, last=last)
    return BadRow(line.number, reason) if reason else line


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


def _frame(first: Line | None, last: Line | None) -> Frame | BadRow:
    if first is None or last is None:
        return BadRow(2, "there is no opening row")
    if last.type != CLOSING:
        return BadRow(last.number, "the last row must be of the type closing")
    if any(end.booked_at.time() != time() for end in (first, last)):
        return BadRow(last.number, "opening and closing must be at 00:00:00Z")
    if last.booked_at <= first.booked_at:
        return BadRow(last.number, "the closing is not after the opening")
    return Frame(
        first_day=first.booked_at.date(),
        last_day=(last.booked_at - DAY).date(),
        opening=first.net,
        closing=last.net,
        zone="UTC",
    )


def _line(number: int, fields: Sequence[str]) -> Line | BadRow:
    if len(fields) != len(COLUMNS):
        return BadRow(number, f"{len(fields)} fields instead of {len(COLUMNS)}")
    line_id, kind, reference, theirs, booked, *amounts, currency, payout = fields
    gross, fee, net = map(_amount, amounts)
    booked_at = _instant(booked)
    odd = (
        currency != CURRENCY
        or not line_id
        or not kind
        or len(kind) > LONGEST_TYPE
        or max(map(len, fields)) > LONGEST
        or "\0" in "".join(fields)
    )
    if odd or gross is None or fee is None or net is None or booked_at is None:
        return BadRow(number, _why_odd(fields))
    if net != gross - fee and kind not in _ENDS:
        return BadRow(number, f"net {net} is not gross {gross} less fee {fee}")
    return Line(number, line_id, kind, reference, theirs, booked_at, gross, fee, net, payout)


def _why_odd(fields: Sequence[str]) -> str:
    """Why the row cannot be read."""
    values = dict(zip(COLUMNS, fields, strict=True))
    for column in ("gross", "fee", "net"):
        if _amount(values[column]) is None:
            return f"{column} {values[column]!r} is not an amount such as -19.99"
    if values["currency"] != CURRENCY:
        return f"currency {values['currency']!r} is not {CURRENCY}"
    if _instant(values["booked_at"]) is None:
        return f"booked_at {values['booked_at']!r} is not a time such as 2026-01-05T09:30:01Z"
    if not values["line_id"] or not values["type"]:
        return "line_id and type must not be empty"
    if len(values["type"]) > LONGEST_TYPE or max(map(len, fields)) > LONGEST:
        return f"a field is longer than {LONGEST} characters (type: {LONGEST_TYPE})"
    return "it holds a NUL character"


def _instant(text: str) -> datetime | None:
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


# Subscriptions have few prices: most amounts of a file have been read before.
@lru_cache(maxsize=4096)
def _amount(text: str) -> Decimal | None:
    if not _AMOUNT.fullmatch(text):
        return None
    return -usd(text[1:]) if text.startswith("-") else usd(text)
