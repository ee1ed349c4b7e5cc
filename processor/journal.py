"""The sandbox's journal: one line for everything it ever decided, and what follows from the lines.

The file is append-only JSON lines, each fsynced before anything it says is answered, so it is the
truth that tests compare the service with: a kill -9 loses nothing that was answered. A last line
torn by a crash was never answered, and is cut off at the next start. `Books` is the fold over the
lines; it holds nothing that a replay of the file would not bring back.

Kinds of line: `decision` (approved, declined or pending), `resolution` (of a pending one: approved
or declined), `expiry` (expired), `dropped` and `refused` (requests that were never looked at:
counted for their token, unknown to a query), `control` (an instruction; not shown over HTTP).
A capture is a line whose status is `approved`, of whatever kind.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from processor.behaviour import History
from processor.clock import Clock
from processor.control import Control, changed

logger = logging.getLogger(__name__)

LOCK_WAIT_SECONDS = 3.0
_LOCK_PAUSE = 0.1


class JournalTaken(Exception):
    """Another process holds the journal."""


class JournalUnreadable(Exception):
    """A line before the last one is not a journal line: nothing may be built on this file."""


class JournalBroken(Exception):
    """An append failed; what the file holds is not known, so nothing more is decided until a restart."""


class Kind(StrEnum):
    """What a line records."""

    DECISION = "decision"
    RESOLUTION = "resolution"
    EXPIRY = "expiry"
    DROPPED = "dropped"
    REFUSED = "refused"
    CONTROL = "control"


@dataclass(frozen=True)
class Line:
    """One line; `at` is real, `business_at` business time (ISO 8601 UTC), amounts are strings, USD.

    `captured_amount` is "0.00" unless the status is approved; `short_by` is what control took off.
    """

    seq: int
    at: str
    business_at: str
    kind: Kind
    status: str = ""
    reference: str = ""
    account: str = ""
    amount: str = "0.00"
    captured_amount: str = "0.00"
    currency: str = "USD"
    token: str = ""
    creator: str = ""
    subscription: str = ""
    charge: str = ""
    round: int = 0
    number: int = 0
    processor_reference: str = ""
    decline_class: str = ""
    decline_code: str = ""
    fingerprint: str = ""
    short_by: str = ""
    expires_at: str = ""
    resolves_at: str = ""
    resolves_to: str = ""
    instruction: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The line as it stands in the file, without its end."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Line":
        """Raises ValueError, KeyError or TypeError where `text` is no line."""
        record = json.loads(text)
        return cls(**{**record, "kind": Kind(record["kind"])})


class Journal:
    """The lines in order, appended through `write`, which returns once they are durable."""

    def __init__(self, lines: list[Line], write: Callable[[bytes], None]) -> None:
        self._lines = lines
        self._write = write
        self._broken = False

    @classmethod
    def in_memory(cls) -> "Journal":
        """One that forgets with the process, for simulations."""
        return cls([], lambda _line: None)

    @classmethod
    def open(cls, path: Path, *, clock: Clock) -> "Journal":
        """The journal in `path`, made if missing, held alone until the process ends.

        Waits LOCK_WAIT_SECONDS for a former process to be gone; raises JournalTaken after that,
        and JournalUnreadable where an answered line cannot be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _lock(fd, path, clock)
        lines = _read(fd, path)
        _sync_folder(path.parent)

        def write(line: bytes) -> None:
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes written")
            os.fsync(fd)

        return cls(lines, write)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: Line) -> None:
        """Make `line` durable. Raises JournalBroken, for good, once a write has failed."""
        if self._broken:
            raise JournalBroken("an earlier write failed; restart the processor")
        try:
            self._write(line.as_json().encode() + b"\n")
        except OSError as error:
            # After a failed fsync the page may be gone and a second try would lie: stop here.
            self._broken = True
            raise JournalBroken(str(error)) from error
        self._lines.append(line)


class Books:
    """What the journal's lines amount to: the present answer for each reference, and histories."""

    def __init__(self) -> None:
        self.control = Control()
        self.answers: dict[str, Line] = {}
        self.keys: dict[str, Line] = {}
        self.pending: dict[str, Line] = {}
        self.decisions: dict[str, int] = {}
        self._requests: dict[str, int] = {}

    def history(self, token: str) -> History:
        """What happened to `token` so far (since control last changed its behaviour)."""
        return History(requests=self._requests.get(token, 0))

    def apply(self, line: Line) -> None:
        """Take one line in; the only way anything here changes."""
        match line.kind:
            case Kind.CONTROL:
                self._instruct(line)
            case Kind.DROPPED | Kind.REFUSED:
                self._count(line)
            case Kind.DECISION:
                self._count(line)
                self._decide(line)
            case Kind.RESOLUTION | Kind.EXPIRY:
                self.pending.pop(line.processor_reference, None)
                self._answer(line)

    def _instruct(self, line: Line) -> None:
        at = datetime.fromisoformat(line.at)
        self.control = changed(self.control, line.instruction, at=at)
        for token in line.instruction.get("token", {}):
            self._requests.pop(token, None)

    def _count(self, line: Line) -> None:
        self._requests[line.token] = self._requests.get(line.token, 0) + 1

    def _decide(self, line: Line) -> None:
        self.keys[line.reference] = line
        self.decisions[line.reference] = self.decisions.get(line.reference, 0) + 1
        if line.status == "pending":
            self.pending[line.processor_reference] = line
        self._answer(line)

    def _answer(self, line: Line) -> None:
        """A capture is never answered away by what came later under the same reference."""
        if line.short_by:
            self.control = self.control.without_short(line.creator)
        present = self.answers.get(line.reference)
        if present is None or present.status != "approved":
            self.answers[line.reference] = line


def _lock(fd: int, path: Path, clock: Clock) -> None:
    for _ in range(int(LOCK_WAIT_SECONDS / _LOCK_PAUSE)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            clock.sleep(_LOCK_PAUSE)
        else:
            return
    raise JournalTaken(f"{path} is held by another processor")


def _read(fd: int, path: Path) -> list[Line]:
    """Every line, after cutting off a last one that a crash left torn."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        raw = file.read().splitlines(keepends=True)
    lines: list[Line] = []
    good = 0
    for index, text in enumerate(raw):
        try:
            if not text.endswith(b"\n"):
                raise ValueError("no end of line")
            line = Line.from_json(text)
        except (ValueError, KeyError, TypeError) as error:
            if index != len(raw) - 1:
                raise JournalUnreadable(f"{path} line {index + 1}: {error}") from error
            logger.warning("torn last line cut off: %s line %d", path, index + 1)
            os.ftruncate(fd, good)
            os.fsync(fd)
        else:
            lines.append(line)
            good += len(text)
    return lines


def _sync_folder(folder: Path) -> None:
    """The new file's name must survive too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
