"""What is under way, by the figures in PostgreSQL alone; knows no Django, so that any witness may ask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from checkout.clock import Moment

_UNREST: Final = """
SELECT
  (SELECT count(*) FROM checkout_subscription
    WHERE state IN ('active', 'past_due') AND next_billing_at <= %(business)s),
  (SELECT count(*) FROM checkout_charge WHERE state IN ('due', 'failed_then_retry')),
  (SELECT count(*) FROM checkout_charge WHERE state = 'attempting'),
  (SELECT count(*) FROM checkout_charge WHERE state IN ('in_doubt', 'pending')),
  (SELECT count(*) FROM checkout_charge
    WHERE awaits = 'date' AND next_round_at <= %(business)s),
  (SELECT count(*) FROM checkout_attempt WHERE outcome = 'open'),
  (SELECT count(*) FROM checkout_pendingmessage
    WHERE parked_at IS NULL AND available_at <= %(real)s)
"""


@dataclass(frozen=True)
class Unrest:
    """What is under way, from one snapshot: a fact and its message are committed together."""

    unbilled: int
    owed: int
    attempting: int
    in_doubt: int
    rounds_due: int
    open_attempts: int
    unsent: int

    def __str__(self) -> str:
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in named if n) or "all quiet"

    @property
    def total(self) -> int:
        return sum(getattr(self, one.name) for one in fields(self))


Ask = Callable[[str, Mapping[str, Any]], Sequence[Any]]


def unrest(ask: Ask, *, now: Moment) -> Unrest:
    """Count what is under way now; `ask` runs a query and returns its one row."""
    return Unrest(*ask(_UNREST, {"business": now.business, "real": now.real}))
