"""What the arithmetic of a difference suggests."""

from decimal import Decimal

import pytest

from settlements.explaining import hints


@pytest.mark.parametrize(
    ("expected", "actual", "fee", "says"),
    [
        ("19.99", "0.00", None, "whole amount is missing"),
        ("0.00", "19.99", None, "whole amount is too much"),
        ("19.99", "39.98", None, "exactly twice"),
        ("19.99", "19.11", "0.88", "agreed fee of 0.88"),
        ("19.90", "19.99", None, "divides by 9"),
    ],
)
def test_an_amount_that_fits_a_cause_names_it(
    expected: str, actual: str, fee: str | None, says: str
) -> None:
    found = hints(
        expected=Decimal(expected), actual=Decimal(actual), fee=Decimal(fee) if fee else None
    )

    assert says in found[0]


@pytest.mark.parametrize(("expected", "actual"), [("19.99", "19.96"), ("19.99", "19.99")])
def test_what_fits_nothing_suggests_nothing(expected: str, actual: str) -> None:
    assert hints(expected=Decimal(expected), actual=Decimal(actual), fee=Decimal("0.88")) == []
