"""CSV by COPY: the database writes the rows, this process passes them on and never holds them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from django.db import connection

from settlements.exports.export_list import ExportList
from settlements.exports.snapshot import Head, head_of, rows_of

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Progress = Callable[[int], object]


def unwatched(_: int) -> None:
    """The progress of what nobody watches."""


@dataclass(frozen=True)
class Dialect:
    """How the file is written. Excel of a country with decimal commas wants all three."""

    byte_order_mark: bool = False
    separator: str = ","
    decimal_comma: bool = False


PLAIN: Final = Dialect()
EXCEL: Final = Dialect(byte_order_mark=True, separator=";", decimal_comma=True)


class RowsDiffer(Exception):
    """The file holds another number of rows than its head says; it must not be used."""


@dataclass(frozen=True)
class Written:
    """A file that is complete: what it is of, and the SHA-256 of its bytes."""

    head: Head
    sha256: str


def write_csv(
    *,
    wanted: ExportList,
    given: Mapping[str, str],
    to: BinaryIO,
    dialect: Dialect = PLAIN,
    progress: Progress = unwatched,
) -> Written:
    """Write the list's rows as CSV (RFC 4180, UTF-8), guarded against formulas; inside `snapshot`.

    Memory does not grow with the rows. `progress` is told how many rows came since. Raises
    export_list.FilterNotTaken, RowsDiffer, and django.db.DataError for a filter's value of the wrong kind.
    """
    head = head_of(wanted, given)
    sha256, lines = hashlib.sha256(), 0
    if dialect.byte_order_mark:
        to.write(BYTE_ORDER_MARK)
        sha256.update(BYTE_ORDER_MARK)
    query = rows_of(wanted, given, guarded=True, decimal_comma=dialect.decimal_comma)
    options = f"FORMAT csv, HEADER, DELIMITER '{dialect.separator}', ENCODING 'UTF8'"
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY ({query}) TO STDOUT ({options})") as copy:
            for piece in copy:
                data = bytes(piece)
                to.write(data)
                sha256.update(data)
                progress(1)
                lines += 1
        rows = cursor.rowcount
    if rows != head.rows:
        raise RowsDiffer(f"{rows} rows were written, {head.rows} counted")
    return Written(head, sha256.hexdigest())
