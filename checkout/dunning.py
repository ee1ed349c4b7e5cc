"""The retry plan: what follows a decline, by its class. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias, assert_never

from checkout.gateways import DeclineClass

ATTEMPTS_A_ROUND: Final = 3


@dataclass(frozen=True)
class RetryInRound:
    """The same round goes on after the backoff."""


@dataclass(frozen=True)
class NextRoundAt:
    """The round is exhausted; the next one opens at this business time."""

    at: datetime


@dataclass(frozen=True)
class AwaitInstrument:
    """The instrument is dead: only another one opens the next round (R29)."""


@dataclass(frozen=True)
class GiveUp:
    """The plan has no further step: a person decides."""


Plan: TypeAlias = RetryInRound | NextRoundAt | AwaitInstrument | GiveUp


def after_decline(
    *, decline_class: DeclineClass, counted: int, step: int, now: datetime, days: Sequence[float]
) -> Plan:
    """Decide what follows a decline.

    `counted` is the number of counted attempts of the round, this one included; `step` the dunning
    steps already taken; `now` the business time; `days` the days to wait before each step. Funds do
    not come back within minutes, so they are never retried in the same round (R29).
    """
    match decline_class:
        case DeclineClass.NEVER | DeclineClass.CUSTOMER_ACTION:
            return AwaitInstrument()
        case DeclineClass.FUNDS:
            return after_round(step=step, now=now, days=days)
        case DeclineClass.ISSUER_SOFT | DeclineClass.TECHNICAL:
            if counted < ATTEMPTS_A_ROUND:
                return RetryInRound()
            return after_round(step=step, now=now, days=days)
        case _:
            assert_never(decline_class)


def after_round(*, step: int, now: datetime, days: Sequence[float]) -> NextRoundAt | GiveUp:
    """Decide what follows a round that used up its attempts; arguments as in `after_decline`."""
    if step < len(days):
        return NextRoundAt(at=now + timedelta(days=days[step]))
    return GiveUp()
