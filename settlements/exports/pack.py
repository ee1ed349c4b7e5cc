"""A ZIP whose bytes are those of its members and nothing else: the same members, the same ZIP."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

# The oldest date a ZIP can hold: when a member was written says nothing of what is in it.
NO_DATE: Final = (1980, 1, 1, 0, 0, 0)
READABLE: Final = 0o100644 << 16
UNIX: Final = 3


@dataclass(frozen=True)
class Member:
    """One file of a pack."""

    name: str
    size: int
    sha256: str


class _Counted:
    """Passes bytes on and keeps their number and hash."""

    def __init__(self, to: Any) -> None:
        self._to = to
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        return int(self._to.write(data))


@dataclass
class Pack:
    """Members are written one after another, straight into the file; memory holds none of them."""

    to: BinaryIO
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._zip = ZipFile(self.to, "w", ZIP_DEFLATED)

    def __enter__(self) -> "Pack":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @contextmanager
    def member(self, name: str) -> Iterator[Any]:
        """A file to write bytes to."""
        entry = ZipInfo(name, NO_DATE)
        entry.compress_type, entry.external_attr = ZIP_DEFLATED, READABLE
        entry.create_system = UNIX
        with self._zip.open(entry, "w", force_zip64=True) as file:
            counted = _Counted(file)
            yield counted
        self.members.append(Member(name, counted.size, counted.sha256.hexdigest()))

    def text(self, name: str, text: str) -> None:
        """A whole member at once, in UTF-8."""
        with self.member(name) as file:
            file.write(text.encode())

    def finish(self, **said: Any) -> None:
        """Write the manifest, which names every other member with its hash."""
        members = [vars(each) for each in self.members]
        manifest = json.dumps({**said, "members": members}, indent=1, sort_keys=True)
        self.text("manifest.json", manifest + "\n")
