"""Rows on their way into a table: rendered while their file is read, kept on disk, then sent by COPY.

So a file is read once, the transaction that stores it stays short, and memory does not grow with it.
"""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, TypeAlias

from django.db import connection

PIECE: Final = 1 << 16
PROGRESS_EVERY: Final = 1000

Progress: TypeAlias = Callable[[int], None]

# What COPY's text format gives a meaning to.
_SPECIAL: Final = re.compile(r"[\\\n\r]")
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class Spool:
    """A temporary file of rows; each belongs to an owner, whose id is known only when it is sent."""

    def __init__(self, progress: Progress = lambda _: None) -> None:
        # Closed, and gone, at the end of the `with` that a spool is made for.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._rows: list[str] = []
        self._progress = progress

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, owner: int, values: Sequence[object]) -> None:
        """Keep one row, in the order of the columns that `send` names."""
        texts = [value if type(value) is str else rendered(value) for value in values]
        row = "\t".join(texts)
        # Looked at once for all its fields; only a row that holds one of them is escaped field by field.
        if _SPECIAL.search(row) or row.count("\t") != len(texts) - 1:
            row = "\t".join(map(rendered, values))
        self._rows.append(f"{owner}\t{row}\n")
        if len(self._rows) == PROGRESS_EVERY:
            self._flush()

    def send(self, *, copy: str, ids: Mapping[int, int]) -> None:
        """Send every row by this COPY statement, whose first column is the owner's id."""
        self._flush()
        self._file.seek(0)
        prefixes = {f"{owner}".encode(): f"{id}\t".encode() for owner, id in ids.items()}
        with connection.cursor() as cursor, cursor.copy(copy) as into:
            while lines := self._file.readlines(PIECE):
                split = (line.split(b"\t", 1) for line in lines)
                into.write(b"".join([prefixes[owner] + rest for owner, rest in split]))

    def _flush(self) -> None:
        self._file.write("".join(self._rows).encode())
        self._progress(len(self._rows))
        self._rows.clear()


def rendered(value: object) -> str:
    """A value as COPY's text format writes it; numbers, dates and times as PostgreSQL reads them."""
    if isinstance(value, str):
        return value.translate(_ESCAPED)
    if value is None:
        return r"\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)
