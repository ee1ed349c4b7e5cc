"""A connection to PostgreSQL that does not wait for ever, and notices a commit without a standby.

Socket options see a dead peer, not a silent one: a proxy or a pooler that acknowledges every packet
and passes none on defeats keepalives, `tcp_user_timeout` and the server's own time-outs (measured).
So each unit of work says how long one statement of it may take, and this side gives up then.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from django.db.utils import OperationalError
from psycopg.abc import PQGen
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus

RV = TypeVar("RV")

# The function of the server that says "canceling wait for synchronous replication"; the text itself is
# translated, the name is not.
_WAITED_IN: Final = "SyncRepWaitForLSN"
_COUNT: Final = """
    INSERT INTO checkout_unreplicatedcommits AS seen (id, count, last_at) VALUES (1, %s, now())
    ON CONFLICT (id) DO UPDATE SET count = seen.count + excluded.count, last_at = excluded.last_at
"""
_given = threading.local()
logger = logging.getLogger(__name__)


class Unreplicated(OperationalError):
    """The server says "committed", and that it stopped waiting for the standby (WARNING 01000)."""


@contextmanager
def patience(seconds: float | None) -> Iterator[None]:
    """Within the block no statement of this thread is waited for longer; nested, the shortest counts."""
    outer = given_patience()
    _given.seconds = _shortest(outer, seconds)
    try:
        yield
    finally:
        _given.seconds = outer


def given_patience() -> float | None:
    """Seconds a statement of this thread may take now; None is for ever."""
    seconds: float | None = getattr(_given, "seconds", None)
    return seconds


def _shortest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


class Link(psycopg.Connection[Any]):
    """A connection that is closed when a statement takes longer than this thread has patience.

    A commit is a statement too. `unreplicated` counts its commits that the server acknowledged without
    the standby it should have waited for.
    """

    unreplicated = 0
    # Seconds a statement of this connection may take, whatever its thread says; None is for ever.
    longest: float | None = None

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.add_notice_handler(self._notice)

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's; raises psycopg.OperationalError without a SQLSTATE when patience ends."""
        seconds = _shortest(given_patience(), self.longest, timeout)
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError:
            # Left in the middle of a statement: whatever comes next would be its answer.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise

    def require_replicated(self) -> None:
        """Count, after a commit, what of this connection's was not waited for. Raises Unreplicated."""
        count, self.unreplicated = self.unreplicated, 0
        if not count:
            return
        logger.error("commit not replicated", extra={"count": count})
        try:
            # This one commit must not wait for the standby either.
            self.execute("SET LOCAL synchronous_commit = local")
            self.execute(_COUNT, [count])
            self.commit()
        except psycopg.Error:
            logger.exception("commits without a standby not counted")
            self.close()
        raise Unreplicated("the commit was not waited for until a standby had it")

    def _notice(self, said: Diagnostic) -> None:
        if said.source_function == _WAITED_IN:
            self.unreplicated += 1
