"""What the arithmetic of a difference says, in sentences; pure, and never more than a hint."""

from collections.abc import Iterator
from decimal import Decimal

from checkout.money import CENT

_NINE_CENTS = 9 * CENT


def hints(*, expected: Decimal, actual: Decimal, fee: Decimal | None) -> list[str]:
    """What the amounts (USD) suggest, the surest first; empty where they suggest nothing.

    `fee` is what was agreed that the processor keeps of the capture, if that is known.
    """
    return list(_hints(expected, actual, fee))


def _hints(expected: Decimal, actual: Decimal, fee: Decimal | None) -> Iterator[str]:
    difference = actual - expected
    if difference == 0:
        return
    if actual == 0:
        yield "The whole amount is missing: one record is not there."
    elif expected == 0:
        yield "The whole amount is too much: nothing of ours asks for it."
    elif actual == 2 * expected:
        yield "It is exactly twice the amount: the same thing may be recorded twice."
    if fee and abs(difference) == fee:
        yield f"It equals the agreed fee of {fee:,.2f}: one side may be net, the other gross."
    if expected and actual and abs(difference) % _NINE_CENTS == 0:
        yield "It divides by 9: two digits may have changed places."
