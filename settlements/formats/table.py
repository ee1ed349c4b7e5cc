"""The rows of a CSV file that arrives in pieces of bytes, in bounded memory."""

import codecs
import csv
from collections.abc import Iterable, Iterator
from typing import Final

from settlements.formats.lines import BadRow

# No row of a statement is longer; without a bound, a file without line ends would fill the memory.
LONGEST_ROW: Final = 1 << 20


class NotText(Exception):
    """The file is not UTF-8 text; `number` is the line, from 1."""

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(reason)


def text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of UTF-8 text with their ends. Raises NotText."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    rest, number = "", 0
    for chunk in chunks:
        try:
            text = rest + decode(chunk)
        except UnicodeDecodeError as error:
            before = chunk[: error.start].count(b"\n")
            raise NotText(number + before + 1, f"it is not UTF-8: {error.reason}") from None
        lines = text.split("\n")
        rest = lines.pop()
        if len(rest) > LONGEST_ROW:
            raise NotText(number + len(lines) + 1, "it is longer than a million characters")
        number += len(lines)
        for line in lines:
            yield line + "\n"
    try:
        rest += decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotText(number + 1, f"it is not UTF-8: {error.reason}") from None
    if rest:
        yield rest


def rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]] | BadRow]:
    """The fields of each row with the line it ends on; at the first that is not CSV, why, and an end."""
    reader = csv.reader(lines, strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        yield BadRow(reader.line_num, f"it is not CSV: {error}")
    except NotText as error:
        yield BadRow(error.number, error.reason)
