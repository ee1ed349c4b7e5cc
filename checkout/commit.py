"""The one place that retries the database: a unit of work, whole, in its own transaction.

When a connection is lost after BEGIN nobody knows whether the commit took effect; Django even masks
a failed COMMIT as a failed connect (FAULTS F3). So every loss means "unknown", and the answer is
always the same: run the whole block again, from its reads on, with the same derived identifiers.
"""

import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import psycopg
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    OperationalError,
    connection,
    transaction,
)

from checkout.clock import Clock
from checkout.failpoints import failpoint
from checkout.link import patience

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The server works; it chose this transaction as the one to run again.
AGAIN_STATES: Final = frozenset({"40001", "40003", "40P01"})
LOST_STATES: Final = AGAIN_STATES | {
    *("57P01", "57P02", "57P03", "57P04", "57P05"),  # shutting down, crashed, starting, dropped
    "25006",  # read-only: after a failover this may still be the old primary
    "25P02",  # what a loss inside the block looks like to the next statement
    *("25P03", "25P04"),  # ended by the server: the transaction idled or took too long
    *("53100", "53200", "53300"),  # disk full, out of memory, too many connections
    "58030",  # the server's own disk fails
}
FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
# Of a unit's deadline, what one statement may take; the rest is for a connect and another try.
SHARE: Final = 0.5
# A try that waited in vain is not begun anew with less than this left; one that failed at once is.
LEAST_SECONDS: Final = 2.0


_INSERT_KEY: Final = """
    INSERT INTO checkout_unitkey (key, at) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING
"""


class DatabaseAway(Exception):
    """The database did not take the work before the deadline; whether it did is not known."""


def is_lost(error: BaseException) -> bool:
    """Whether this error means that the database is away or the transaction must run again.

    No SQLSTATE is a failed connect, a dropped connection or the end of our patience; class 08 is a
    protocol break, which is also how PgBouncer reports a failover. A broken rule (23xxx), bad data, a
    cancelled statement or a lock that was not granted in time is not a loss, and goes to the caller.
    """
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state:
        return state in LOST_STATES or state.startswith("08")
    if isinstance(error, OperationalError | InterfaceError):
        return True
    # libpq's own word about a dead socket, when it comes as a result; a plain DatabaseError without a
    # cause is Django's, and no loss.
    return type(error) is DatabaseError and isinstance(error.__cause__, psycopg.Error)


def is_away(error: BaseException) -> bool:
    """Whether the loss is the database's, not this transaction's alone."""
    return is_lost(error) and getattr(error.__cause__, "sqlstate", None) not in AGAIN_STATES


def committed(
    work: Callable[[], T],
    *,
    deadline: float,
    clock: Clock,
    statement: float | None = None,
    on_loss: Callable[[Error], None] | None = None,
    once: bool = False,
) -> T:
    """Run `work` in a transaction of its own until it commits, for at most `deadline` seconds.

    `work` may run several times, also after a commit whose acknowledgement was lost: it must read
    everything it decides by inside, and write only rows with derived identifiers; or it is called
    `once`, and a commit that took effect is known by its unit's key, however it was told. It never
    calls the network. A statement that takes more than `statement` seconds (half of the deadline) is given
    up as lost. `on_loss` is called before each wait, and may raise to end it.
    Raises DatabaseAway after the deadline; RuntimeError inside another transaction.
    """
    end, delay = clock.monotonic() + deadline, FIRST_DELAY
    unit = _Unit(work, clock, key=secrets.token_hex(16) if once else "")
    while True:
        begun = clock.monotonic()
        try:
            with patience(statement or deadline * SHARE or None):
                return unit.run()
        except Error as error:
            if not is_lost(error):
                raise
            # A dead connection is only noticed at its next use; the next try must not be that use.
            connection.close()
            if on_loss is not None:
                on_loss(error)
            needs = min(clock.monotonic() - begun, LEAST_SECONDS)
            if clock.monotonic() + delay + needs > end:
                raise DatabaseAway(f"no commit within {deadline:g} s") from error
        clock.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  spreads the retries, no secret
        delay = min(delay * 2, LONGEST_DELAY)


@dataclass
class _Unit(Generic[T]):
    """One unit of work, and whether a try of it may have committed."""

    work: Callable[[], T]
    clock: Clock
    key: str = ""
    is_unknown: bool = False
    done: T = field(init=False)

    def run(self) -> T:
        """One try. Raises link.Unreplicated for a commit that no standby has."""
        with transaction.atomic(durable=True):
            if self.is_unknown:
                confirm_replicated()
            if self._is_first():
                self.done = self.work()
            failpoint("commit.written")
            self.is_unknown = True
        return self.done

    def _is_first(self) -> bool:
        """False if a try before this one committed; one that may yet commit is waited for.

        The key names what this process is doing, no fact: a restored database must not know it.
        """
        if not self.key:
            return True
        with connection.cursor() as cursor:
            cursor.execute(_INSERT_KEY, [self.key, self.clock.real_now()])
            return bool(cursor.rowcount == 1)


def confirm_replicated() -> None:
    """Make this transaction's commit wait for the standby, and so for all that committed before it.

    A transaction that only reads waits for nothing: it would repeat an answer that a failover undoes.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'checkout', 'seen')")
