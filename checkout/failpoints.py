"""Named places where a test may kill the process or raise; nothing happens unless one is enabled.

`FAILPOINTS=name=kill,other=kill` enables them by environment (tests and chaos only); `enable` does in
the same process, with any action. Every name is registered here, so that a test can prove that each
one was reached (FAULTS, layer 3). A process that is killed by its environment says so first: who
counts deaths must not count those of another cause.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final

NAMES: Final = frozenset(
    {
        "api.before_commit",
        "api.after_commit",
        "charging.intent_committed",
        "charging.before_send",
        "charging.answered",
        "charging.outcome_committed",
        "relay.before_send",
        "relay.sent_unmarked",
        "relay.marked",
        "drain.case_committed",
        "resolve.answered",
        "sweep.dispatched",
        "bill.batch_committed",
        "commit.written",
        "dunning.round_opened",
        "queue.ten_sent",
        "reconcile.marks_consumed",
        "reconcile.slice_committed",
        "redrive.sent",
        "statement.copied",
        "topic.records_stored",
        "unreadable.case_committed",
        "webhook.outcome_committed",
        "webhook.stored",
    }
)


class Crash(BaseException):
    """A simulated death of the process; a BaseException, so that no `except Exception` hides it."""


_actions: dict[str, Callable[[], None]] = {}
# Taken by the thread that kills the process, never given back: a second one must not tell of the same death.
_dying: Final = Lock()
STDERR: Final = 2


class UnknownFailpoint(Exception):
    """The name is not in NAMES."""


def enable(name: str, action: Callable[[], None]) -> None:
    """Call `action` whenever the failpoint is reached, until `disable`."""
    if name not in NAMES:
        raise UnknownFailpoint(name)
    _actions[name] = action


def disable(name: str) -> None:
    _actions.pop(name, None)


def failpoint(name: str) -> None:
    """Do what a test enabled at this name; otherwise nothing."""
    if name not in NAMES:
        raise UnknownFailpoint(name)
    action = _actions.get(name)
    if action is not None:
        action()


def kill() -> None:
    """End this process as kill -9 does: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def last_words(name: str) -> bytes:
    """The line that a process writes before a failpoint of its environment kills it."""
    return f"failpoint {name}: killing this process\n".encode()


def tell_and_kill(name: str) -> None:
    """As `kill`, after one line to standard error: past every buffer and log handler, which die with us."""
    _dying.acquire()
    with suppress(OSError):  # nobody reads it any more: it dies all the same
        os.write(STDERR, last_words(name))
    kill()


def enable_from_environment(text: str) -> None:
    """Read `name=kill,other=kill`; called once at start, outside production."""
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        if action != "kill":
            raise UnknownFailpoint(f"{part!r}: write name=kill")
        enable(name, partial(tell_and_kill, name))
