"""What every page of the admin is: one snapshot, and it prints what it counted, of which, as of when.

A figure is exact or it says so: "more than 2,000" and "≈" never carry money. Times are UTC, with the
finance zone's beside them (setting FINANCE_ZONE).
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse

MONTHS_OFFERED: Final = 12
# Between two days in an address: 2026-01-31..2026-02-02.
TO: Final = ".."
# No list goes further back or ahead; a time zone's hours beside them are still a date.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2200, 1, 1)


@contextmanager
def snapshot() -> Iterator[None]:
    """One REPEATABLE READ, READ ONLY transaction, so that no two figures of a page disagree.

    Inside a transaction that is open already it is that one: its isolation cannot change any more.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def in_snapshot(view: Callable[[], HttpResponse]) -> HttpResponse:
    """Call the view and render its template in one snapshot: templates ask the database too."""
    with snapshot():
        response = view()
        if isinstance(response, SimpleTemplateResponse):
            response.render()
    return response


@dataclass(frozen=True)
class Printed:
    """The line below a page's title: how many of what, how much USD, which of them, as of when (UTC).

    `count` is None where a page counts nothing as a whole; `usd` is None where rows carry no money or
    where not all of them were counted; `usd_of` says what it adds up where that is not the plain column.
    `estimate` is how many there may be beyond what was counted; it never carries money.
    """

    at: datetime
    chosen: str = ""
    count: int | None = None
    is_more: bool = False
    estimate: int | None = None
    noun: str = ""
    usd: Decimal | None = None
    usd_of: str = ""

    @property
    def counted(self) -> str:
        """`more than 2,000 attempts, ≈ 5,300,000`; `1 charge`."""
        if self.count is None:
            return ""
        if not self.is_more:
            return f"{self.count:,} {self.noun}"
        guessed = "" if self.estimate is None else f", ≈ {self.estimate:,}"
        return f"more than {self.count:,} {self.noun}{guessed}"

    @property
    def usd_shown(self) -> str:
        return "" if self.usd is None else f"{self.usd:,.2f}"

    @property
    def as_of(self) -> str:
        return in_both_zones(self.at)


def in_both_zones(moment: datetime) -> str:
    """A time in UTC, and in the finance zone where that is another one."""
    utc = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    zone = ZoneInfo(settings.FINANCE_ZONE)
    there = moment.astimezone(zone)
    if there.utcoffset() == moment.utcoffset():
        return utc
    shown = f"{there:%H:%M}" if there.date() == moment.date() else f"{there:%Y-%m-%d %H:%M}"
    return f"{utc} ({shown} {settings.FINANCE_ZONE})"


def month_named(text: str) -> tuple[date, date] | None:
    """The first and the last day of a month written as 2026-01; None for anything else."""
    if not re.fullmatch(r"20[0-9]{2}-(0[1-9]|1[0-2])", text):
        return None
    year, month = int(text[:4]), int(text[5:])
    return date(year, month, 1), date(year, month, monthrange(year, month)[1])


# Parameters of a list's address that choose no rows.
PAGING: Final = frozenset({"p", "o", "all"})


def day_named(text: str) -> date | None:
    """The day that is written as 2026-01-31; None for anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None


def days_named(text: str) -> tuple[date, date] | None:
    """The first and the last of the days written as 2026-01-31..2026-02-02, or of the one; else None."""
    one, _, other = text.partition(TO)
    first, last = day_named(one), day_named(other or one)
    return (first, last) if first and last and FIRST_DAY <= first <= last <= LAST_DAY else None


def months_before(today: date) -> list[str]:
    """The names of the month of `today` and of those before it, newest first."""
    names, day = [], today
    for _ in range(MONTHS_OFFERED):
        names.append(f"{day:%Y-%m}")
        day = day.replace(day=1) - timedelta(days=1)
    return names
