"""The one place that retries the database: a unit of work, whole, in its own transaction.

When a connection is lost after BEGIN nobody knows whether the commit took effect; Django even masks
a failed COMMIT as a failed connect (FAULTS F3). So every loss means "unknown", and the answer is
always the same: run the whole block again, from its reads on, with the same derived identifiers.
"""

import random
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction

from checkout.clock import Clock

T = TypeVar("T")

# Server ended, starting, out of connections, read-only, serialization failure, deadlock.
LOST_STATES: Final = frozenset(
    {"57P01", "57P02", "57P03", "57P05", "53300", "25006", "25P02", "40001", "40P01"}
)
FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0


class DatabaseAway(Exception):
    """The database did not take the work before the deadline; whether it did is not known."""


def is_lost(error: BaseException) -> bool:
    """Whether this error means that the database is away or the transaction must run again.

    No SQLSTATE is a failed connect or a dropped connection; class 08 is a protocol break, which is
    also how PgBouncer reports a failover. A broken rule (23xxx), bad data or a lock that was not
    granted in time is not a loss, and goes to the caller.
    """
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return not isinstance(error, InternalError)
    return state in LOST_STATES or state.startswith("08")


def committed(work: Callable[[], T], *, deadline: float, clock: Clock) -> T:
    """Run `work` in a transaction of its own until it commits, for at most `deadline` seconds.

    `work` may run several times, also after a commit whose acknowledgement was lost: it must read
    everything it decides by inside, and write only rows with derived identifiers. It never calls
    the network. Raises DatabaseAway after the deadline; RuntimeError inside another transaction.
    """
    end, delay = clock.monotonic() + deadline, FIRST_DELAY
    while True:
        try:
            with transaction.atomic(durable=True):
                return work()
        except (OperationalError, InterfaceError, InternalError) as error:
            if not is_lost(error):
                raise
            # A dead connection is only noticed at its next use; the next try must not be that use.
            connection.close()
            if clock.monotonic() + delay > end:
                raise DatabaseAway(f"no commit within {deadline:g} s") from error
        clock.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  spreads the retries, no secret
        delay = min(delay * 2, LONGEST_DELAY)
