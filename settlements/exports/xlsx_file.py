"""XLSX for people: a head that says what it is of, numbers that can be summed, nothing that runs.

XlsxWriter: it writes row by row in constant memory, and writes text as text; it is kept well.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import xlsxwriter
from django.db import connection
from xlsxwriter.worksheet import Worksheet

from settlements.exports.csv_file import Progress, RowsDiffer, Written, unwatched, write_csv
from settlements.exports.export_list import Column, ExportList, Type
from settlements.exports.snapshot import Head, rows_of

MOST_ROWS: Final = 100_000
FETCHED_AT_ONCE: Final = 2_000
USD_FORMAT: Final = "#,##0.00"
# Excel cuts a cell here without a word, so we say it with one.
LONGEST_TEXT: Final = 32_767


class TooManyRows(Exception):
    """A spreadsheet of so many rows helps nobody; CSV takes any number."""


class _Discarded(BytesIO):
    """Takes bytes and keeps none."""

    def write(self, data: Any, /) -> int:
        return len(data)


def write_xlsx(
    *,
    wanted: ExportList,
    given: Mapping[str, str],
    to: Path,
    progress: Progress = unwatched,
) -> Written:
    """Write the list as a workbook of one sheet with a head; inside `snapshot`.

    The SHA-256 in its head is that of the plain CSV of the same rows, so that either file proves the
    other: a file cannot hold its own. Raises TooManyRows above MOST_ROWS, RowsDiffer, and as write_csv.
    """
    written = write_csv(wanted=wanted, given=given, to=_Discarded())
    if written.head.rows > MOST_ROWS:
        raise TooManyRows(
            f"{written.head.rows:,} rows; a workbook takes at most {MOST_ROWS:,}."
            " Narrow the filter, or export CSV."
        )
    with xlsxwriter.Workbook(
        str(to),
        {"constant_memory": True, "remove_timezone": True, "default_date_format": "yyyy-mm-dd"},
    ) as book:
        sheet = book.add_worksheet(wanted.name[:31])
        formats = {
            Type.USD: book.add_format({"num_format": USD_FORMAT}),
            Type.TIME: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            Type.DAY: book.add_format({"num_format": "yyyy-mm-dd"}),
        }
        bold = book.add_format({"bold": True})
        sheet.set_column(0, len(wanted.columns) - 1, 20)
        first = _write_head(sheet, written, wanted, bold, formats[Type.USD])
        rows = _write_rows(sheet, wanted, given, first, formats, progress)
        sheet.freeze_panes(first, 0)
        sheet.autofilter(first - 1, 0, first - 1 + max(rows, 1), len(wanted.columns) - 1)
    if rows != written.head.rows:
        raise RowsDiffer(f"{rows} rows were written, {written.head.rows} counted")
    return written


def _write_head(sheet: Worksheet, written: Written, wanted: ExportList, bold: Any, usd: Any) -> int:
    """The block above the table, and the headings; returns the first row of the table's body."""
    for row, (name, value) in enumerate(head_lines(written.head, wanted)):
        sheet.write_string(row, 0, name, bold)
        if isinstance(value, Decimal):
            sheet.write_number(row, 1, value, usd)
        elif isinstance(value, int):
            sheet.write_number(row, 1, value)
        else:
            sheet.write_string(row, 1, value)
    row += 1
    sheet.write_string(row, 0, "SHA-256 of the same rows as plain CSV", bold)
    sheet.write_string(row, 1, written.sha256)
    for place, column in enumerate(wanted.columns):
        sheet.write_string(row + 2, place, column.name, bold)
    return row + 3


def head_lines(head: Head, wanted: ExportList) -> list[tuple[str, str | int | Decimal]]:
    """What an export says of itself, line by line."""
    return [
        ("Export", wanted.what),
        ("Filter", head.filter_in_words),
        ("As of (UTC)", f"{head.as_of:%Y-%m-%d %H:%M:%S}"),
        ("Rows", head.rows),
        *([] if head.total is None else [("Total USD", head.total)]),
    ]


def _write_rows(
    sheet: Worksheet,
    wanted: ExportList,
    given: Mapping[str, str],
    first: int,
    formats: Mapping[Type, Any],
    progress: Progress,
) -> int:
    """The table's body; how many rows."""
    count = 0
    with connection.chunked_cursor() as cursor:
        cursor.execute(rows_of(wanted, given, guarded=False).replace("%", "%%"), [])
        while rows := cursor.fetchmany(FETCHED_AT_ONCE):
            for row in rows:
                for place, (column, value) in enumerate(zip(wanted.columns, row, strict=True)):
                    _write_cell(sheet, first + count, place, column, value, formats)
                count += 1
            progress(len(rows))
    return count


def _write_cell(
    sheet: Worksheet, row: int, place: int, column: Column, value: Any, formats: Mapping[Type, Any]
) -> None:
    """One cell by its column's type; never by what its text looks like (R48)."""
    if value is None:
        return
    match column.type:
        case Type.USD | Type.COUNT:
            sheet.write_number(row, place, value, formats.get(column.type))
        case Type.DAY:
            day: date = value
            sheet.write_datetime(row, place, day, formats[Type.DAY])
        case Type.TIME:
            sheet.write_datetime(row, place, datetime.fromisoformat(value), formats[Type.TIME])
        case Type.TEXT:
            sheet.write_string(row, place, str(value)[:LONGEST_TEXT])
