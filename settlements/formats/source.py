"""A file on its way in: its bytes piece by piece, unpacked, never more than what is allowed.

A .gz, or a .zip with one file in it, is read as it is unpacked; both how much comes out and how many
times more than went in is bounded, so that a bomb ends after some megabytes.
"""

import gzip
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Final, Protocol

from settlements.formats.lines import BadRow, Refused

PIECE: Final = 1 << 16
# A small file of equal lines is packed very small; a ratio says something only beyond this.
RATIO_FROM: Final = 16 << 20
GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"
# Bytes of an archive's list of files: one file takes some hundred.
LONGEST_LIST: Final = 1 << 16
_END_AND_COMMENT: Final = 22 + (1 << 16)


@dataclass(frozen=True)
class Bounds:
    """What is believed of a stranger's file.

    How much is read: bytes, packed and unpacked, and how many times more. Which accounts at banks are
    ours; None takes every account for ours.
    """

    largest_bytes: int = 1 << 30
    largest_ratio: int = 200
    accounts: frozenset[str] | None = None


class Torn(Exception):
    """The file changed while it was read."""


@dataclass(frozen=True)
class Source:
    """An open file; it may be read from its start as often as wanted."""

    path: Path
    file: BufferedIOBase
    size: int
    modified: int
    sha256: str
    bounds: Bounds

    @property
    def name(self) -> str:
        """The file's name as text that can be stored: bytes of it that are no UTF-8 as escapes."""
        return storable(self.path.name)

    def chunks(self) -> Iterator[bytes]:
        """The content from its start, unpacked. Raises Refused beyond the bounds, or when it breaks off."""
        self.file.seek(0)
        read = 0
        try:
            with _unpacked(self.file) as content:
                while piece := content.read(PIECE):
                    read += len(piece)
                    self._check(read)
                    yield piece
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
            raise _refused(f"it is packed, and breaks off or is damaged: {error}") from None
        except (NotImplementedError, RuntimeError) as error:
            raise _refused(f"it is packed in a way that is not read: {error}") from None

    def head(self) -> bytes:
        """The first piece of the content, to recognise it by."""
        return next(self.chunks(), b"")

    def must_be_unchanged(self) -> None:
        """Raises Torn when the file is no longer what its hash was taken of."""
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified):
            raise Torn(f"{self.path.name} changed while it was read; import it again")

    def _check(self, read: int) -> None:
        if read > self.bounds.largest_bytes:
            raise _refused(
                f"it is larger than {self.bounds.largest_bytes} bytes (STATEMENT_LARGEST_BYTES);"
                " ask for a file of fewer days"
            )
        if read > RATIO_FROM and read > self.size * self.bounds.largest_ratio:
            raise _refused(
                f"it unpacks to more than {self.bounds.largest_ratio} times its size; send it unpacked"
            )


@contextmanager
def opened(path: Path, bounds: Bounds) -> Iterator[Source]:
    """Open a file to be imported. Raises Refused when it is too large, or no file, and OSError.

    Its size is asked before a byte is read.
    """
    before = path.stat()
    if not stat.S_ISREG(before.st_mode):
        raise _refused("it is not a file")
    if before.st_size > bounds.largest_bytes:
        raise _refused(
            f"it has {before.st_size} bytes, more than {bounds.largest_bytes}"
            " (STATEMENT_LARGEST_BYTES); ask for a file of fewer days"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield Source(path, file, before.st_size, before.st_mtime_ns, digest, bounds)


class Content(Protocol):
    """A plain, a gzipped or a zipped file, as far as it is read here."""

    def read(self, size: int, /) -> bytes: ...


@contextmanager
def _unpacked(file: BufferedIOBase) -> Iterator[Content]:
    start = file.read(4)
    file.seek(0)
    if start.startswith(GZIP):
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked
    elif start == ZIP:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive, archive.open(_only(archive)) as content:
            yield content
    else:
        yield file


def _check_directory(file: BufferedIOBase) -> None:
    """Refuse an archive whose list of files alone would fill the memory; it is read whole by zipfile."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_AND_COMMENT))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("its list of files is missing")
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if listed > LONGEST_LIST or tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        raise _refused("the archive lists too many files; send one file in it, or unpacked")


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file in an archive; whatever its name says of places, it is only read."""
    if "[Content_Types].xml" in archive.namelist():
        raise _refused(
            "it is an Excel workbook or another office document; save it as CSV in UTF-8"
        )
    files = [each for each in archive.infolist() if not each.is_dir()]
    if len(files) != 1:
        raise _refused(f"the archive holds {len(files)} files; send one file in it, or unpacked")
    # Of the others zipfile unpacks a piece whole, however much comes out of it.
    if files[0].compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise NotImplementedError("neither stored nor deflated")
    return files[0]


def storable(name: str) -> str:
    """A name or path of the file system, which may be any bytes, as UTF-8 text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _refused(reason: str) -> Refused:
    return Refused([BadRow(1, reason)])
