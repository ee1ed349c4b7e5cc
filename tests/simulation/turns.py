"""Threads of which one runs at a time: each goes on only when it is told to, and waits at named points.

A turn waits at failpoints and around calls of the processor, where no transaction is open. So no
waiting turn holds a lock, and the scheduler's choice alone decides what happens in which order.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from django.db import connection

STUCK_SECONDS = 60

_local = threading.local()


class Stuck(Exception):
    """A turn did not come to its next point: it waits for a lock that another one holds."""


class Turn:
    """One run of `work` in a thread of its own."""

    def __init__(self, name: str, work: Callable[[], object], *, about: str = "") -> None:
        self.name = name
        self.work = work
        self.about = about  # the message it works on
        self.at = ""
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        self.limit: float = 0.0
        self.raising: BaseException | None = None
        # Waits nowhere: a helper thread of its own works beside it.
        self.runs_through = False
        # What it reads now is the simulation's own question; no fault may strike.
        self.looks_on = False
        # The attempt it has sent, for others to meet.
        self.attempt: object = None
        self.go = threading.Semaphore(0)


class Hands:
    """The threads, each with its own database connection, kept from schedule to schedule."""

    def __init__(self, count: int, prepare: Callable[[], None] = lambda: None) -> None:
        self._prepare = prepare
        self._back = threading.Semaphore(0)
        self._free: list[SimpleQueue[Turn | None]] = []
        self._threads = []
        for number in range(count):
            inbox: SimpleQueue[Turn | None] = SimpleQueue()
            thread = threading.Thread(
                target=self._serve, args=(inbox,), name=f"hand-{number}", daemon=True
            )
            thread.start()
            self._threads.append((thread, inbox))
            self._free.append(inbox)

    def begin(self, turn: Turn) -> None:
        """Run `turn` until it waits or is over."""
        self._free.pop().put(turn)
        self._wait(turn)

    def go_on(self, turn: Turn, *, raising: BaseException | None = None) -> None:
        """Let a waiting turn run to its next point, or raise there."""
        turn.raising = raising
        turn.go.release()
        self._wait(turn)

    def _wait(self, turn: Turn) -> None:
        if not self._back.acquire(timeout=STUCK_SECONDS):
            raise Stuck(f"{turn.name} after {turn.at or 'its start'}")

    def wait_here(self, point: str) -> None:
        """Called by product code in a turn: hand back to the scheduler until it says go on."""
        turn = current()
        if turn is None or turn.runs_through:
            return
        turn.at = point
        self._back.release()
        turn.go.acquire()
        if turn.raising is not None:
            error, turn.raising = turn.raising, None
            raise error

    def close(self) -> None:
        for _, inbox in self._threads:
            inbox.put(None)
        for thread, _ in self._threads:
            thread.join(STUCK_SECONDS)

    def _serve(self, inbox: "SimpleQueue[Turn | None]") -> None:
        self._prepare()
        while (turn := inbox.get()) is not None:
            _local.turn = turn
            try:
                turn.result = turn.work()
            except BaseException as error:  # noqa: BLE001  a crash is one; the scheduler looks at it
                turn.error = error
            _local.turn = None
            turn.done, turn.at, turn.attempt = True, "", None
            self._free.append(inbox)
            self._back.release()
        connection.close()


def current() -> Turn | None:
    """The turn that runs in this thread."""
    turn: Turn | None = getattr(_local, "turn", None)
    return turn
