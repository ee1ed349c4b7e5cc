"""Forking children that are warm, serving what they ask, and ending them with -9."""

import gc
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from django.db import connection

from checkout import failpoints

STUCK_SECONDS = 60.0
READY, ASK, FAILED = "ready", "ask", "failed"
# What the parent had open is the parent's: kept, so that nothing closes it for both.
_inherited: list[Any] = []


class NotKilled(Exception):
    """A child ended, failed or hung instead of being killed where it was to be."""


@dataclass
class Child:
    """A forked process at the other end of a pipe."""

    pid: int
    pipe: Connection
    # Real monotonic seconds at which it is to be killed; none for one that kills itself.
    dies_after: float | None = None
    dies_at: float | None = None
    said: list[str] = field(default_factory=list)
    signal: int = 0


def fork(work: Callable[[Callable[..., Any]], object], *, dies_after: float | None = None) -> Child:
    """Run `work(ask)` in a forked process of its own database connection.

    With `dies_after` it is killed so many seconds after it is ready.
    """
    here, there = Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        there.close()
        return Child(pid, here, dies_after)
    try:
        here.close()
        _run(work, there)
    finally:
        os._exit(1)


def _run(work: Callable[[Callable[..., Any]], object], pipe: Connection) -> None:
    def ask(door: str, *question: Any) -> Any:
        pipe.send((ASK, (door, *question)))
        return pipe.recv()

    try:
        # A collection would touch, and so copy, all that the parent has; it does not live that long.
        gc.disable()
        # Two processes must not share one session.
        _inherited.append(connection.connection)
        connection.connection = None
        connection.ensure_connection()
        pipe.send((READY, ()))
        done = work(ask)
        pipe.send((FAILED, f"it came to its end: {done}"))
    except BaseException:  # noqa: BLE001  whatever it was, the parent wants to read it
        pipe.send((FAILED, traceback.format_exc()))


def serve(children: Iterable[Child], answer: Callable[..., Any]) -> None:
    """Answer the children's questions, and kill each at its time, until all of them are dead.

    What a child had sent before its death is still answered: a request that left is under way.
    Raises NotKilled for one that did not die by SIGKILL.
    """
    living = list(children)
    last = time.monotonic()
    while living:
        heard = wait([child.pipe for child in living], timeout=_until_next(living))
        now = time.monotonic()
        last = now if heard else last
        for child in [child for child in living if child.pipe in heard]:
            if not _heard(child, answer):
                living.remove(child)
                _bury(child)
        for child in living:
            late = child.dies_at is not None and now >= child.dies_at
            if late or now - last > STUCK_SECONDS:
                child.said += [] if late else [f"nothing heard for {STUCK_SECONDS:g} s"]
                os.kill(child.pid, signal.SIGKILL)
                child.dies_at = None


def _until_next(living: list[Child]) -> float:
    times = [child.dies_at for child in living if child.dies_at is not None]
    return max(0.0, min(times) - time.monotonic()) if times else STUCK_SECONDS


def _heard(child: Child, answer: Callable[..., Any]) -> bool:
    """Answer one question; False once nobody is at the other end any more."""
    try:
        kind, said = child.pipe.recv()
    except (EOFError, OSError):
        return False
    if kind == READY and child.dies_after is not None:
        child.dies_at = time.monotonic() + child.dies_after
    elif kind == FAILED:
        child.said.append(said)
    elif kind == ASK:
        done = answer(*said)
        with suppress(OSError):  # dead by now: it did ask, and never hears
            child.pipe.send(done)
    return True


def _bury(child: Child) -> None:
    child.pipe.close()
    _, status = os.waitpid(child.pid, 0)
    child.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if child.signal != signal.SIGKILL or child.said:
        raise NotKilled("\n".join(child.said) or f"it ended with {status}")


def killed_at(
    name: str,
    work: Callable[[Callable[..., Any]], object],
    *,
    answer: Callable[..., Any],
    nth: int = 1,
) -> None:
    """Run `work` in a child that kills itself the `nth` time it comes to the failpoint.

    Raises NotKilled, with the child's own words, if it never came there.
    """
    left = iter(range(nth - 1))

    def die() -> None:
        if next(left, None) is None:
            failpoints.kill()

    def armed(ask: Callable[..., Any]) -> object:
        failpoints.enable(name, die)
        return work(ask)

    try:
        serve([fork(armed)], answer)
    except NotKilled as ended:
        raise NotKilled(f"{name} was not reached: {ended}") from None


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
