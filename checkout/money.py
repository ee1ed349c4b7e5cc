"""Exact US dollars: the only place that rounds (R1-R9)."""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

CENT: Final = Decimal("0.01")
LARGEST: Final = Decimal("9999999999.99")
CURRENCY: Final = "USD"
PATTERN: Final = r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,2})?$"

_PATTERN = re.compile(PATTERN, re.ASCII)


class NotAnAmount(Exception):
    """The value is not an amount of US dollars by R2 and R3."""


class NotUsd(Exception):
    """An amount in another currency met one in US dollars (R9)."""


def usd(value: str | int | Decimal) -> Decimal:
    """Read an amount of US dollars with two places, exactly.

    A string must match R2's pattern; more than two places is refused, never rounded (R3). A float
    has already lost its exactness and is refused by type.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise NotAnAmount(f"{value!r} is not an amount; write it as a string such as '19.99'")
    if isinstance(value, str) and not _PATTERN.fullmatch(value):
        raise NotAnAmount(f"{value!r} is not an amount; write it as '19.99', digits and a point")
    amount = Decimal(value)
    if not amount.is_finite() or abs(amount) > LARGEST:
        raise NotAnAmount(f"{value!r} is outside -{LARGEST} to {LARGEST} USD")
    exact = amount.quantize(CENT, rounding=ROUND_HALF_UP)
    if exact != amount:
        raise NotAnAmount(f"{value!r} has more than two places; it is refused, never rounded")
    return exact


def rounded(value: Decimal) -> Decimal:
    """Round to the cent, half up (R4). Call it once, at the end of a computation."""
    return value.quantize(CENT, rounding=ROUND_HALF_UP)


def require_usd(currency: str) -> None:
    """Raise NotUsd unless the currency is USD; called wherever an amount from outside is used."""
    if currency != CURRENCY:
        raise NotUsd(f"the currency is {currency!r}; this service takes {CURRENCY} alone")


def allocate(*, total: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """Split a total so that the parts sum to it exactly (R5).

    Each part is within one cent of exact; the largest remainders get the leftover cents, ties by
    position. `weights` are whole numbers, at least one of them positive, none negative.
    """
    if not weights or min(weights) < 0 or sum(weights) == 0:
        raise NotAnAmount("weights must be whole numbers, none negative, at least one positive")
    cents, whole = int(usd(abs(total)) / CENT), sum(weights)
    parts = [cents * weight // whole for weight in weights]
    remainders = [cents * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: cents - sum(parts)]:
        parts[i] += 1
    return [part * CENT if total >= 0 else -part * CENT for part in parts]
