"""What every format of a processor's statement becomes: lines, and what the file says as a whole.

No database. Whatever a file holds, it is read or refused: every row that cannot be read is named
with its place, and no amount is ever taken for 0.00 (R39).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from checkout.money import usd
from settlements.models import NOTHING, LineType

TYPES: Final = frozenset(LineType.values)
SHOWN: Final = 50
# A file of a million bad rows must not fill the memory with what is wrong with it.
KEPT: Final = 1000
LONGEST: Final = 128
LONGEST_TYPE: Final = 40
DAY: Final = timedelta(days=1)
# A year mistyped by hand or by a program would cover days that nobody can take back.
MOST_DAYS: Final = 400
MOST_AHEAD: Final = timedelta(days=31)
# The largest that a column of USD holds; what adds up to more is no statement of ours.
LARGEST_SUM: Final = Decimal("999999999999.99")
UTC_ZONE: Final = ZoneInfo("UTC")

_AMOUNT: Final = re.compile(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,2})?", re.ASCII)


@dataclass(frozen=True)
class Line:
    """One movement that could be read; amounts in USD."""

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
    """What cannot be read; `number` is its line in the file, from 1."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


@dataclass(frozen=True)
class Frame:
    """What a file says of itself: its days (both included), and its balances where it names them."""

    first_day: date
    last_day: date
    opening: Decimal | None
    closing: Decimal | None
    # In whose zone these days are; None where the file does not say, and the lane's terms do.
    zone: str | None = None
    # The balances do not stand in the file: somebody told them, and may tell them again.
    is_told: bool = False


Item: TypeAlias = Line | BadRow | Frame


@dataclass(frozen=True)
class Told:
    """What a person or a file's name says that the file itself does not."""

    first_day: date | None = None
    last_day: date | None = None
    opening: Decimal | None = None
    closing: Decimal | None = None
    file_name: str = ""
    # The lane's own, in which local times and days are read.
    zone: ZoneInfo = UTC_ZONE


class Refused(Exception):
    """The file cannot be read; nothing of it was stored. `count` may be more than `bad` holds."""

    def __init__(self, bad: Sequence[BadRow], *, count: int | None = None) -> None:
        self.bad = bad
        self.count = len(bad) if count is None else count
        more = [f"… and {self.count - SHOWN} more"] if self.count > SHOWN else []
        super().__init__("\n".join([*map(str, bad[:SHOWN]), *more]))


@dataclass(frozen=True)
class Sum:
    """The lines of one type: how many, and their USD."""

    count: int = 0
    gross: Decimal = NOTHING
    fee: Decimal = NOTHING
    net: Decimal = NOTHING


@dataclass(frozen=True)
class Summary:
    """What a readable file says of itself: days (both included), balances, movements in USD."""

    first_day: date
    last_day: date
    opening: Decimal | None
    closing: Decimal | None
    movement: Decimal
    line_count: int
    # (line number, type) of the first line whose type is not of the closed list.
    unknown: tuple[int, str] | None
    zone: str | None = None
    is_told: bool = False
    sums: Mapping[str, Sum] = field(default_factory=dict)


def summarise(items: Iterable[Item]) -> Summary:
    """Add a file up. Raises Refused with every row that cannot be read."""
    bad: list[BadRow] = []
    faults = 0
    frames: list[Frame] = []
    sums: dict[str, list[Decimal | int]] = {}
    unknown = None
    for item in items:
        if isinstance(item, Line):
            total = sums.setdefault(item.type, [0, NOTHING, NOTHING, NOTHING])
            total[0] += 1
            total[1] += item.gross
            total[2] += item.fee
            total[3] += item.net
            if unknown is None and item.type not in TYPES:
                unknown = (item.number, item.type)
        elif isinstance(item, Frame):
            frames.append(item)
        else:
            faults += 1
            if len(bad) < KEPT:
                bad.append(item)
    if bad:
        raise Refused(bad, count=faults)
    return _summary(frames, {name: _sum(total) for name, total in sums.items()}, unknown)


# Subscriptions have few prices: most amounts of a file have been read before.
@lru_cache(maxsize=4096)
def amount(text: str) -> Decimal | None:
    """An amount with at most two places, or None: `-19.99`, `19.9`, `19` (R2, R3)."""
    if not _AMOUNT.fullmatch(text):
        return None
    return -usd(text[1:]) if text.startswith("-") else usd(text)


def too_long(values: Iterable[str]) -> str:
    """Why texts may not be stored, or nothing."""
    for value in values:
        if len(value) > LONGEST:
            return f"a field is longer than {LONGEST} characters"
        if "\0" in value:
            return "it holds a NUL character"
    return ""


def is_thinkable(year: int) -> bool:
    """Whether a date of this year is one anywhere; year 1 and 9999 end in some zones before in others."""
    return 1970 <= year <= 2199


def why_not_these_days(first: date, last: date, *, today: date) -> str:
    """Why no file may cover these days, both included, or nothing."""
    if last > today + MOST_AHEAD:
        return f"it ends on {last}, which is more than {MOST_AHEAD.days} days from now ({today})"
    if last - first >= MOST_DAYS * DAY:
        return f"it covers {first} to {last}, more than {MOST_DAYS} days; ask for fewer in a file"
    return ""


def _sum(total: list[Decimal | int]) -> Sum:
    count, gross, fee, net = map(Decimal, total)
    if any(abs(each) > LARGEST_SUM for each in (gross, fee, net)):
        reason = f"its lines of one type come to more than {LARGEST_SUM} USD"
        raise Refused([BadRow(1, reason)])
    return Sum(int(count), gross, fee, net)


def _summary(
    frames: Sequence[Frame], sums: Mapping[str, Sum], unknown: tuple[int, str] | None
) -> Summary:
    if len(frames) != 1:
        reason = "it holds no statement" if not frames else f"it holds {len(frames)} statements"
        raise Refused([BadRow(1, f"{reason}; one is wanted")])
    frame, movement = frames[0], sum((each.net for each in sums.values()), NOTHING)
    if abs(movement) > LARGEST_SUM:
        raise Refused([BadRow(1, f"its lines come to more than {LARGEST_SUM} USD")])
    return Summary(
        first_day=frame.first_day,
        last_day=frame.last_day,
        opening=frame.opening,
        closing=frame.closing,
        movement=movement,
        line_count=sum(each.count for each in sums.values()),
        unknown=unknown,
        zone=frame.zone,
        is_told=frame.is_told,
        sums=sums,
    )
