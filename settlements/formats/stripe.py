"""Stripe's itemized balance report: balance_change_from_activity.itemized.1 to .7, as CSV.

Columns and categories: docs.stripe.com/reports/report-types/balance and /reports/reporting-categories.
The report names neither its days nor a balance, and has no last row of its own: cut at a row's end it
looks whole. So the closing must be told, and the days where they do not stand in the file's name (R40);
the opening is the former closing unless it is told as well. A file's name may tell both balances:
`…_2026-01-05_to_2026-01-05_UTC_opening_100.00_closing_94.98.csv`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain
from typing import Final

from settlements.formats.lines import (
    LONGEST_TYPE,
    BadRow,
    Frame,
    Item,
    Line,
    Told,
    amount,
    is_thinkable,
    too_long,
)
from settlements.formats.table import rows, text_lines
from settlements.models import LineType

NAME: Final = "stripe-balance"
ID: Final = "balance_transaction_id"
NEEDED: Final = (ID, "currency", "gross", "fee", "net", "reporting_category")
# Where our own reference stands, whichever of these the report was run with.
REFERENCES: Final = tuple(
    f"payment_metadata[{key}]" for key in ("attempt_id", "merchant_reference", "reference")
)
# Stripe's object of a line, the most telling first.
SOURCES: Final = ("charge_id", "source_id", "payment_intent_id")
LINES: Final[Mapping[str, LineType]] = {
    "charge": LineType.CHARGE,
    "refund": LineType.REFUND,
    # The refund again, with the other sign: it came back, and is no dispute's reversal.
    "refund_failure": LineType.REFUND,
    "charge_failure": LineType.REVERSAL,
    "partial_capture_reversal": LineType.REVERSAL,
    "dispute": LineType.DISPUTE,
    "dispute_reversal": LineType.REVERSAL,
    "fee": LineType.FEE,
    "tax": LineType.FEE,
    "network_cost": LineType.FEE,
    "other_adjustment": LineType.ADJUSTMENT,
    "payout": LineType.PAYOUT,
    "payout_reversal": LineType.PAYOUT,
}
RESERVES: Final = frozenset({"risk_reserved_funds", "connect_reserved_funds"})

_DAYS: Final = re.compile(r"_([0-9]{4}-[0-9]{2}-[0-9]{2})_to_([0-9]{4}-[0-9]{2}-[0-9]{2})(?![0-9])")
_BALANCES: Final = re.compile(r"_(opening|closing)_(-?[0-9]+\.[0-9]{2})(?![0-9])")
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?", re.ASCII
)


def looks_like(head: bytes) -> bool:
    """Whether the first line names Stripe's own column of a balance transaction."""
    return ID.encode() in head.split(b"\n", 1)[0]


def read(chunks: Iterable[bytes], told: Told) -> Iterator[Item]:
    """The lines of the report, and its days and balances as they were told."""
    return parse(text_lines(chunks), told)


def parse(lines: Iterable[str], told: Told) -> Iterator[Item]:
    """Read the report row by row: columns in any order, others ignored.

    Each row is checked by itself: amounts (R2, R39), net = gross − fee, USD (R9), a time within the
    days, and our reference on a charge: without it none could ever be matched.
    """
    table = rows(_without_mark(lines))
    header = next(table, None)
    if header is None or isinstance(header, BadRow):
        yield header or BadRow(1, "it is empty")
        return
    if reason := _why_not(header[1]):
        yield BadRow(1, reason)
        return
    days = _days(told)
    if days is None:
        yield BadRow(1, _TELL_DAYS)
        return
    opening, closing = told_balances(told)
    if closing is None:
        yield BadRow(1, _TELL_CLOSING)
        return
    reading = _Reading(header[1], told, days)
    for row in table:
        yield row if isinstance(row, BadRow) else reading.line(*row)
    yield Frame(days[0], days[1], opening, closing, is_told=True)


class _Reading:
    """How this report's columns become lines; made once, asked for each row."""

    def __init__(self, columns: Sequence[str], told: Told, days: tuple[date, date]) -> None:
        self.columns, self.told = columns, told
        self.first, self.last = days
        self.place = {name: index for index, name in enumerate(columns)}
        self.is_utc = "created_utc" in self.place
        self.created = self.place["created_utc" if self.is_utc else "created"]
        self.reference = _first(self.place, REFERENCES)
        self.source = [self.place[name] for name in SOURCES if name in self.place]
        self.payout = self.place.get("automatic_payout_id")

    def line(self, number: int, fields: Sequence[str]) -> Line | BadRow:
        if len(fields) != len(self.columns):
            return BadRow(number, f"{len(fields)} fields instead of {len(self.columns)}")
        values = {name: fields[self.place[name]] for name in NEEDED}
        if values["currency"].upper() != "USD":
            return BadRow(number, f"currency {values['currency']!r} is not USD")
        amounts: list[Decimal] = []
        for column in ("gross", "fee", "net"):
            if (read := amount(values[column])) is None:
                return BadRow(
                    number, f"{column} {values[column]!r} is not an amount such as -19.99"
                )
            amounts.append(read)
        booked_at = self._instant(fields[self.created])
        if booked_at is None:
            shown = fields[self.created]
            return BadRow(number, f"created {shown!r} is not a time such as 2026-01-05 09:30:01")
        return self._checked(self._made(number, fields, values, amounts, booked_at))

    def _made(
        self,
        number: int,
        fields: Sequence[str],
        values: Mapping[str, str],
        amounts: Sequence[Decimal],
        booked_at: datetime,
    ) -> Line:
        gross, fee, net = amounts
        category = values["reporting_category"]
        source = next((fields[place] for place in self.source if fields[place]), "")
        payout = fields[self.payout] if self.payout is not None else ""
        kind = _type(category, is_kept=gross < 0)
        return Line(
            number=number,
            line_id=values[ID],
            type=kind,
            reference=fields[self.reference] if self.reference is not None else "",
            processor_reference=source,
            booked_at=booked_at,
            gross=gross,
            fee=fee,
            net=net,
            payout=source if kind == LineType.PAYOUT and source else payout,
        )

    def _checked(self, line: Line) -> Line | BadRow:
        day = line.booked_at.astimezone(self.told.zone).date()
        reason = ""
        if line.net != line.gross - line.fee:
            reason = f"net {line.net} is not gross {line.gross} less fee {line.fee}"
        elif not line.line_id or not line.type or len(line.type) > LONGEST_TYPE:
            reason = f"{ID} and reporting_category must not be empty nor longer than {LONGEST_TYPE}"
        elif not self.first <= day <= self.last:
            reason = f"created on {day}, but the report covers {self.first} to {self.last}"
        elif line.type == LineType.CHARGE and self.reference is None:
            reason = (
                "a charge, but the report has no column with our reference: run it again with"
                f" {REFERENCES[0]}"
            )
        else:
            reason = too_long((line.line_id, line.reference, line.processor_reference, line.payout))
        return BadRow(line.number, reason) if reason else line

    def _instant(self, text: str) -> datetime | None:
        if not _INSTANT.fullmatch(text):
            return None
        try:
            written = datetime.fromisoformat(text.removesuffix("Z"))
        except ValueError:
            return None
        if not is_thinkable(written.year):
            return None
        zone = UTC if self.is_utc or text.endswith("Z") else self.told.zone
        return written.replace(tzinfo=zone).astimezone(UTC)


def _type(category: str, *, is_kept: bool) -> str:
    """Our type of a reporting category; one nobody agreed on stays, and sets the file aside."""
    if category in RESERVES:
        return LineType.RESERVE_HOLD if is_kept else LineType.RESERVE_RELEASE
    return LINES.get(category, category)


def _why_not(columns: Sequence[str]) -> str:
    """Why these columns cannot be read, or nothing."""
    missing = [name for name in NEEDED if name not in columns]
    if "created" not in columns and "created_utc" not in columns:
        missing.append("created_utc")
    if missing:
        return f"columns are missing: {', '.join(missing)}; run the itemized report with them"
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    return f"columns stand twice: {', '.join(doubled)}" if doubled else ""


def _days(told: Told) -> tuple[date, date] | None:
    """The days as told, else as Stripe wrote them into the file's name."""
    if told.first_day and told.last_day:
        return told.first_day, told.last_day
    named = _DAYS.search(told.file_name)
    if named is None:
        return None
    try:
        first, last = date.fromisoformat(named[1]), date.fromisoformat(named[2])
    except ValueError:
        return None
    return (first, last) if first <= last else None


def told_balances(told: Told) -> tuple[Decimal | None, Decimal | None]:
    """Opening and closing as told, else as whoever fetched the report wrote them into its name."""
    if told.closing is not None:
        return told.opening, told.closing
    named = dict(_BALANCES.findall(told.file_name))
    opening, closing = (amount(named.get(each, "")) for each in ("opening", "closing"))
    return opening, closing


def _first(place: Mapping[str, int], names: Iterable[str]) -> int | None:
    return next((place[name] for name in names if name in place), None)


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the byte order mark that some of Stripe's downloads begin with."""
    each = iter(lines)
    first = next(each, None)
    return iter(()) if first is None else chain([first.removeprefix("\ufeff")], each)


_TELL_DAYS: Final = (
    "it does not say which days it covers; keep the name Stripe gave it"
    " (…_2026-01-05_to_2026-01-05_…), or tell the first and the last day"
)
_TELL_CLOSING: Final = (
    "it does not say its closing balance, and cut short it would look whole; tell it (--closing, or"
    " Closing in the upload form, or …_closing_94.98.csv in its name): the former closing and the net"
    " balance change from activity of Stripe's summary; of a first file the opening too (--opening)"
)
