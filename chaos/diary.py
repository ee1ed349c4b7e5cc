"""The client's own record of a run: what it asked for, and what was acknowledged, in one file.

It is the only witness of "an acknowledged write was lost", so it is written before a request leaves and
again right after its answer came. JSON lines, append-only, of this process alone: it has to survive the
service's crashes, not its own.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

CREATORS: Final = "/v1/creators"
CHECKOUTS: Final = "/v1/checkouts"


@dataclass(frozen=True)
class Asked:
    """A POST, as it is sent each time; `key` is its Idempotency-Key."""

    key: str
    path: str
    body: dict[str, str]


@dataclass(frozen=True)
class Acknowledged:
    """A 2xx to a POST. `answer` is its body, `at` the seconds since the load began."""

    asked: Asked
    status: int
    answer: str
    at: float

    @property
    def id(self) -> str:
        """Of the creator, or of the checkout, that was promised."""
        return str(json.loads(self.answer)["id"])

    @property
    def charge(self) -> dict[str, Any] | None:
        """The charge of a checkout as it was answered, its amount in USD; None for a creator."""
        charge: dict[str, Any] | None = json.loads(self.answer).get("charge")
        return charge


@dataclass(frozen=True)
class Diary:
    """Appends to its file; one thread writes."""

    path: Path

    def write(self, entry: Asked | Acknowledged) -> None:
        """Append one entry; it is in the file when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"entry": type(entry).__name__, **asdict(entry)}) + "\n")


@dataclass(frozen=True)
class Promises:
    """What a diary says, read back: by key, what was asked; in order, what was acknowledged."""

    asked: dict[str, Asked]
    acknowledged: tuple[Acknowledged, ...]

    @classmethod
    def read(cls, path: Path) -> "Promises":
        """Raises FileNotFoundError, and ValueError for a line that is none of ours."""
        return cls.of(_entries(path))

    @classmethod
    def of(cls, entries: Iterable[Asked | Acknowledged]) -> "Promises":
        asked: dict[str, Asked] = {}
        acknowledged: list[Acknowledged] = []
        for entry in entries:
            if isinstance(entry, Acknowledged):
                acknowledged.append(entry)
            else:
                asked[entry.key] = entry
        return cls(asked, tuple(acknowledged))

    def at(self, path: str) -> list[Acknowledged]:
        """What was acknowledged at one address."""
        return [entry for entry in self.acknowledged if entry.asked.path == path]


def _entries(path: Path) -> Iterator[Asked | Acknowledged]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            read = json.loads(line)
            if read.pop("entry") == "Asked":
                yield Asked(**read)
            else:
                yield Acknowledged(**read | {"asked": Asked(**read["asked"])})
