"""The journal of a month for the general ledger, and its trial balance.

Every posting of the month, in one total order, so that a second run makes the same bytes: nothing in it
is of the run itself. Debits equal credits, or there is no file (R34).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import BinaryIO, Final

from django.db import connection
from psycopg import ClientCursor

from settlements.exports.csv_file import Progress, unwatched

NOTHING: Final = Decimal("0.00")


class NotOver(Exception):
    """The month still goes on; its journal would be another one tomorrow."""


class NotBalanced(Exception):
    """Debits and credits of the month differ: there is no journal of it."""


@dataclass(frozen=True)
class Balance:
    """One account of the trial balance, in USD; a debit is positive in opening and closing."""

    account: str
    lane: str
    opening: Decimal
    debit: Decimal
    credit: Decimal

    @property
    def closing(self) -> Decimal:
        return self.opening + self.debit - self.credit


@dataclass(frozen=True)
class Journal:
    """A month's journal that is complete: its lines, both sums, its bytes' SHA-256, its balances."""

    month: date
    lines: int
    debit: Decimal
    credit: Decimal
    sha256: str
    balances: Sequence[Balance]


@dataclass(frozen=True)
class JournalLines:
    """The lines of one day's journal: how many, both sums in USD, and their bytes' SHA-256."""

    count: int
    debit: Decimal
    credit: Decimal
    sha256: str


def next_month(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def month_of(text: str) -> date:
    """The first day of a month such as 2026-10. Raises ValueError."""
    return date.fromisoformat(f"{text}-01")


def write_journal(
    *, month: date, today: date, to: BinaryIO, progress: Progress = unwatched
) -> Journal:
    """Write the postings of a month (its first day; business clock, UTC) as CSV; inside `snapshot`.

    `progress` is told of each posting, and `count_postings` says how many come. Raises NotOver before
    the month's end, NotBalanced, which leaves what was written worthless.
    """
    if today < next_month(month):
        raise NotOver(f"{month:%Y-%m} is not over before {next_month(month)}; today is {today}")
    balances = trial_balance(month=month)
    debit = sum((each.debit for each in balances), NOTHING)
    credit = sum((each.credit for each in balances), NOTHING)
    if debit != credit or sum((each.opening for each in balances), NOTHING) != 0:
        raise NotBalanced(f"{month:%Y-%m}: debits {debit}, credits {credit} USD")
    sha256 = hashlib.sha256()
    # The header is no posting.
    lines = -1
    for piece in _copied(_days(month)):
        lines += 1
        to.write(piece)
        sha256.update(piece)
        progress(min(lines, 1))
    return Journal(month, lines, debit, credit, sha256.hexdigest(), balances)


def count_postings(*, month: date) -> int:
    """How many postings the journal of this month has: its lines after the header."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, _days(month))
        return int(cursor.fetchone()[0])


def journal_of_day(*, day: date) -> JournalLines:
    """The lines of one UTC day, byte by byte those the journal of its month holds, with its header."""
    with connection.cursor() as cursor:
        cursor.execute(_LINES_OF_A_DAY, {"from": day, "to": day + timedelta(days=1)})
        return JournalLines(*cursor.fetchone())


def trial_balance(*, month: date) -> list[Balance]:
    """What each account held before the month, and what was debited and credited in it."""
    with connection.cursor() as cursor:
        cursor.execute(_BALANCES, _days(month))
        return [Balance(*row) for row in cursor.fetchall()]


def write_trial_balance(*, journal: Journal, to: BinaryIO) -> str:
    """Write the trial balance beside a journal, with a line of sums; returns its SHA-256."""
    rows = [
        (each.account, each.lane, each.opening, each.debit, each.credit, each.closing)
        for each in journal.balances
    ]
    sums = tuple(sum((row[place] for row in rows), NOTHING) for place in range(2, 6))
    text = "".join(
        ",".join(str(value) for value in row) + "\n"
        for row in (
            ("account", "lane", "opening USD", "debit USD", "credit USD", "closing USD"),
            *rows,
            ("sum", "", *sums),
        )
    )
    to.write(text.encode())
    return hashlib.sha256(text.encode()).hexdigest()


def _days(month: date) -> dict[str, date]:
    return {"from": month, "to": next_month(month)}


def _copied(span: Mapping[str, date]) -> Iterator[bytes]:
    """The CSV, a piece a line: the header, then the postings in their order."""
    connection.ensure_connection()
    lines = ClientCursor(connection.connection).mogrify(_LINES, span)
    query = f"COPY ({lines}) TO STDOUT (FORMAT csv, HEADER)"
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from copy


_FROM: Final = "%(from)s::date::timestamp AT TIME ZONE 'UTC'"
_TO: Final = "%(to)s::date::timestamp AT TIME ZONE 'UTC'"
# One posting an account and entry (a unique constraint), so this order is total.
_LINES: Final = f"""
    SELECT to_char(e.posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "day",
           e.id AS "entry", e.kind AS "kind", p.account AS "account", p.lane AS "lane",
           e.charge_id AS "charge",
           CASE WHEN p.amount > 0 THEN p.amount END AS "debit USD",
           CASE WHEN p.amount < 0 THEN -p.amount END AS "credit USD"
    FROM checkout_ledgerposting p JOIN checkout_ledgerentry e ON e.id = p.entry_id
    WHERE e.posted_at >= {_FROM} AND e.posted_at < {_TO}
    ORDER BY e.posted_at, e.id, p.account
"""  # noqa: S608  of the two constants above
# A page counts a day's lines while somebody waits, so the database writes and hashes them itself, as COPY
# would write them: an empty text is quoted, and so is a lane with a comma; the others are ours. A day is few of all
# entries: each is looked up, where a plan for both tables would read the whole books.
_LINES_OF_A_DAY: Final = f"""
    SELECT count(*), coalesce(sum(amount) FILTER (WHERE amount > 0), 0.00),
           coalesce(-sum(amount) FILTER (WHERE amount < 0), 0.00),
           encode(sha256(convert_to(
             E'day,entry,kind,account,lane,charge,debit USD,credit USD\\n'
             || coalesce(string_agg(line, '' ORDER BY posted_at, id, account), ''), 'UTF8')), 'hex')
    FROM (
      SELECT e.posted_at, e.id, p.account, p.amount,
             concat_ws(',', to_char(e.posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), e.id, e.kind, p.account,
               CASE WHEN p.lane = '' OR p.lane ~ E'[",\\r\\n]'
                    THEN '"' || replace(p.lane, '"', '""') || '"' ELSE p.lane END,
               coalesce(e.charge_id::text, ''), CASE WHEN p.amount > 0 THEN p.amount::text ELSE '' END,
               CASE WHEN p.amount < 0 THEN (-p.amount)::text ELSE '' END) || E'\\n' AS line
      FROM checkout_ledgerentry e CROSS JOIN LATERAL (
        SELECT account, lane, amount FROM checkout_ledgerposting WHERE entry_id = e.id OFFSET 0) p
      WHERE e.posted_at >= {_FROM} AND e.posted_at < {_TO}
    ) lines
"""  # noqa: S608  of the two constants above
_COUNT: Final = f"""
    SELECT count(*) FROM checkout_ledgerposting p JOIN checkout_ledgerentry e ON e.id = p.entry_id
    WHERE e.posted_at >= {_FROM} AND e.posted_at < {_TO}
"""  # noqa: S608  as above
_BALANCES: Final = f"""
    SELECT p.account, p.lane,
           coalesce(sum(p.amount) FILTER (WHERE e.posted_at < {_FROM}), 0.00),
           coalesce(sum(p.amount) FILTER (WHERE e.posted_at >= {_FROM} AND p.amount > 0), 0.00),
           coalesce(-sum(p.amount) FILTER (WHERE e.posted_at >= {_FROM} AND p.amount < 0), 0.00)
    FROM checkout_ledgerposting p JOIN checkout_ledgerentry e ON e.id = p.entry_id
    WHERE e.posted_at < {_TO}
    GROUP BY p.account, p.lane ORDER BY p.account, p.lane
"""  # noqa: S608  as above
