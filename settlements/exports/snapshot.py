"""One view of the database for a whole file: what its head counts is what its rows are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from psycopg import ClientCursor

from settlements.exports.export_list import Column, ExportList, Type, conditions

# What a spreadsheet takes for a formula, at the start of a cell or behind blanks (OWASP, CSV injection).
# The full-width forms are read as the plain ones by some.
FORMULA: Final = r"^(\s*[=+\-@\t\r\n＝＋－＠])"
APOSTROPHE: Final = r"""E'\'\\1'"""


@dataclass(frozen=True)
class Head:
    """What an export is of: its filter, when its rows were true (real clock), how many, and how much.

    `total` is USD; None where rows carry no money.
    """

    name: str
    filters: Mapping[str, str]
    as_of: datetime
    rows: int
    total: Decimal | None
    # What a page's own filter is in words, when it chose the rows.
    chosen_in_words: str = ""

    @property
    def filter_in_words(self) -> str:
        given = ", ".join(f"{name} {value}" for name, value in self.filters.items())
        return self.chosen_in_words or given or "everything"


@contextmanager
def snapshot() -> Iterator[None]:
    """A transaction that reads one state of the database and writes nothing.

    Not the one of checkout/page.py: a file takes as long as it takes, and is never made inside another
    transaction, whose rows it would show before they are committed.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Whatever a page may take at most is too short for a million rows.
        cursor.execute("SET LOCAL statement_timeout = 0")
        yield


def head_of(wanted: ExportList, given: Mapping[str, str]) -> Head:
    """Count and total of what is to be exported; inside `snapshot`.

    Raises export_list.FilterNotTaken, and django.db.DataError for a value of the wrong kind.
    """
    usd = f"coalesce({wanted.sum}, 0.00)" if wanted.sum else "NULL"
    rows = _from_where(wanted, given)
    query = f"SELECT now(), count(*), {usd} FROM {rows}"  # noqa: S608  of an ExportList, never of a person
    with connection.cursor() as cursor:
        cursor.execute(query, given)
        as_of, count, total = cursor.fetchone()
    return Head(wanted.name, dict(given), as_of, count, total, wanted.chosen_in_words)


def read_at() -> datetime:
    """When the snapshot's rows were true (real clock)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        at: datetime = cursor.fetchone()[0]
    return at


def ids_of(rows: QuerySet[Any]) -> str:
    """The SELECT of a query set's ids with its values written into it, for a list to be narrowed by."""
    return _written_out(rows.order_by().values("pk")) or "NULL"


def sum_of(rows: QuerySet[Any], each: Combinable) -> str:
    """The SELECT of what a query set's rows add up to, USD, with its values written into it."""
    amounts = _written_out(rows.order_by().annotate(totalled=each).values("totalled"))
    return f"SELECT sum(totalled) FROM ({amounts}) page" if amounts else "NULL"  # noqa: S608  its own


def _written_out(rows: QuerySet[Any]) -> str:
    """A query set's SELECT; empty where Django knows that there is no row.

    "Now" is the snapshot's own moment in it: head and rows are two statements and must not differ.
    """
    try:
        query, values = rows.query.sql_with_params()
    except EmptyResultSet:
        return ""
    connection.ensure_connection()
    query = query.replace("STATEMENT_TIMESTAMP()", "transaction_timestamp()")
    return ClientCursor(connection.connection).mogrify(query, values)


def rows_of(
    wanted: ExportList, given: Mapping[str, str], *, guarded: bool, decimal_comma: bool = False
) -> str:
    """The SELECT of the rows, in order, with its parameters written into it, for COPY to run.

    `guarded` puts an apostrophe before what a spreadsheet would take for a formula (R48).
    """
    columns = ", ".join(
        f'{_written(column, guarded=guarded, decimal_comma=decimal_comma)} AS "{column.name}"'
        for column in wanted.columns
    )
    rows = f"{_from_where(wanted, given)} ORDER BY {wanted.order}"
    connection.ensure_connection()
    query = f"SELECT {columns} FROM {rows}"  # noqa: S608  of an ExportList, never of a person
    return ClientCursor(connection.connection).mogrify(query, given)


def _from_where(wanted: ExportList, given: Mapping[str, str]) -> str:
    chosen = conditions(wanted, given)
    return f"{wanted.source} WHERE {' AND '.join(chosen)}" if chosen else wanted.source


def _written(column: Column, *, guarded: bool, decimal_comma: bool) -> str:
    match column.type:
        case Type.TIME:
            return f"to_char({column.sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
        case Type.USD if decimal_comma:
            return f"replace(({column.sql})::text, '.', ',')"
        case Type.TEXT if guarded:
            return f"regexp_replace(({column.sql})::text, '{FORMULA}', {APOSTROPHE})"
        case _:
            return column.sql
