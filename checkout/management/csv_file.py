"""Reading a CSV file that people edit: every fault is found, named with its line, and told together."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 200 * 1024 * 1024
SHOWN_FAULTS: Final = 50
OTHER_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
OTHER_ENCODINGS: Final = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "an Excel workbook",
}


class UnreadableFile(Exception):
    """The file as a whole cannot be read; the text says what to do about it."""


@dataclass(frozen=True)
class Row:
    """One line of the file; `line` counts from 1, as an editor does."""

    line: int
    values: Mapping[str, str]


def read_rows(*, path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """All rows of a comma separated UTF-8 file whose first line names its columns, in any order.

    A byte order mark at the start is allowed, blank lines are skipped. Raises UnreadableFile for
    another encoding or delimiter, a missing, unknown or doubled column, and a row with too few or
    too many fields.
    """
    text = _text(path)
    lines = _lines(text)
    header = next(lines, None)
    if header is None:
        raise UnreadableFile(f"{path} is empty; its first line must be: {','.join(required)}")
    columns = header[1]
    _check_columns(path=path, columns=columns, required=required, optional=optional)
    rows, ragged = [], []
    for line, fields in lines:
        if len(fields) == len(columns):
            rows.append(Row(line, dict(zip(columns, fields, strict=True))))
        else:
            ragged.append(f"line {line} has {len(fields)} fields instead of {len(columns)}")
    if ragged:
        raise UnreadableFile(
            _listed(ragged) + "\nPut a field that contains a comma into double quotes."
        )
    return rows


def explained(faults: Iterable[object]) -> str:
    """The faults, one a line, and what it means for the rest of the file."""
    return _listed([str(fault) for fault in faults]) + (
        "\nNothing was loaded. Correct these lines and load the file again."
    )


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > LARGEST_BYTES:
        raise UnreadableFile(f"{path} is larger than {LARGEST_BYTES >> 20} MiB; split it")
    for mark, name in OTHER_ENCODINGS.items():
        if raw.startswith(mark):
            raise UnreadableFile(f"{path} is {name}; save it as CSV in UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}; "
            "save it as CSV in UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UnreadableFile(f"{path} holds a NUL character in line {line}; it is not a text file")
    return text


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank with the line it begins on; a quoted field may span several."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UnreadableFile(
                f"line {begins} is not CSV: {error}; close its double quotes"
            ) from error
        if any(field.strip() for field in fields):
            yield begins, fields
        begins = reader.line_num + 1


def _check_columns(
    *, path: Path, columns: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    for delimiter, name in OTHER_DELIMITERS.items():
        if len(columns) == 1 and delimiter in columns[0]:
            raise UnreadableFile(f"{path} is separated by {name}; save it with commas")
    missing = [column for column in required if column not in columns]
    unknown = [column for column in columns if column not in {*required, *optional}]
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    faults = [
        f"{what}: {', '.join(repr(name) for name in names)}"
        for what, names in (
            ("missing columns", missing),
            ("unknown columns", unknown),
            ("columns that stand twice", doubled),
        )
        if names
    ]
    if faults:
        raise UnreadableFile(
            f"line 1 of {path} must name the columns {', '.join([*required, *optional])}; "
            + "; ".join(faults)
        )


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN_FAULTS
    rest = [f"… and {more} more"] if more > 0 else []
    return "\n".join([*texts[:SHOWN_FAULTS], *rest])
