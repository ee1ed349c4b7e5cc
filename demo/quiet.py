"""Waiting until nothing is under way any more, by the figures in PostgreSQL and never by the clock."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

from django.db import connection

from checkout.clock import Clock, Moment

LOOK_SECONDS: Final = 0.2

_UNREST = """
SELECT
  (SELECT count(*) FROM checkout_subscription
    WHERE state IN ('active', 'past_due') AND next_billing_at <= %(business)s),
  (SELECT count(*) FROM checkout_charge WHERE state IN ('due', 'failed_then_retry')),
  (SELECT count(*) FROM checkout_charge WHERE state = 'attempting'),
  (SELECT count(*) FROM checkout_charge WHERE state IN ('in_doubt', 'pending')),
  (SELECT count(*) FROM checkout_charge
    WHERE awaits = 'date' AND next_round_at <= %(business)s),
  (SELECT count(*) FROM checkout_outboxmessage
    WHERE published_at IS NULL AND parked_at IS NULL AND available_at <= %(real)s)
"""


class NeverQuiet(Exception):
    """Something was still under way at the deadline; the text says what."""


@dataclass(frozen=True)
class Unrest:
    """What is under way, from one snapshot: a fact and its message are committed together."""

    unbilled: int
    owed: int
    attempting: int
    in_doubt: int
    rounds_due: int
    unsent: int

    def __str__(self) -> str:
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in named if n) or "all quiet"

    @property
    def total(self) -> int:
        return sum(getattr(self, one.name) for one in fields(self))


def unrest(*, now: Moment) -> Unrest:
    """Count what is under way now."""
    with connection.cursor() as cursor:
        cursor.execute(_UNREST, {"business": now.business, "real": now.real})
        row = cursor.fetchone()
    assert row is not None  # noqa: S101  a SELECT without FROM has one row
    return Unrest(*row)


def wait_until_quiet(*, clock: Clock, seconds: float, tell: Callable[[str], None]) -> None:
    """Return when nothing is under way; raises NeverQuiet after `seconds`."""
    end = clock.monotonic() + seconds
    while (under_way := unrest(now=clock.now())).total:
        tell(str(under_way))
        if clock.monotonic() > end:
            raise NeverQuiet(f"after {seconds:g} s still under way: {under_way}")
        clock.sleep(LOOK_SECONDS)
