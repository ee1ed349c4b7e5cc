"""The state folder of a stack: its lock, and the children that a killed supervisor may leave behind."""

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devstack.process import kill_remains, remains, wait_until_gone

ORPHAN_SECONDS = 3


class AlreadyRunning(Exception):
    """Another supervisor holds the lock of this state folder; the text names its pid."""


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of a state folder; the kernel frees it however this process ends."""
    with (home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise AlreadyRunning(
                f"the stack already runs as pid {holder}; `make down` ends it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def keep_previous_logs(home: Path) -> None:
    """Begin new logs; those of the run before keep the ending `.1`."""
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def empty(home: Path) -> None:
    """Remove everything from a state folder but its lock, its secrets and its ports."""
    for path in home.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in {"lock", "secrets.json", "ports.json"}:
            path.unlink()


@dataclass(frozen=True)
class Orphan:
    """A child as the state file remembers it; `started` tells it from a later process of the same pid."""

    name: str
    pid: int
    started: float
    stop_signal: signal.Signals


def write_children(path: Path, children: list[Orphan]) -> None:
    """Replace the state file in one move."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps([vars(child) for child in children]))
    unfinished.replace(path)


def read_children(path: Path) -> list[Orphan]:
    """Who ran when the state file was written; nobody when there is none or it is broken."""
    try:
        rows = json.loads(path.read_text())
        return [Orphan(**row | {"stop_signal": signal.Signals(row["stop_signal"])}) for row in rows]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def end_orphan(orphan: Orphan) -> bool:
    """End a child of a killed supervisor with all it started; False when nothing of it is left."""
    left = remains(pid=orphan.pid, since=orphan.started)
    if not left:
        return False
    if any(process.pid == orphan.pid for process in left):
        with suppress(ProcessLookupError):
            os.kill(orphan.pid, orphan.stop_signal)
        wait_until_gone(left, seconds=ORPHAN_SECONDS)
    kill_remains(pid=orphan.pid, since=orphan.started)
    return True
