"""Exact US dollars (R2 to R6, R8, R9), as properties and at the borders."""

import ast
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.money import (
    CENT,
    LARGEST,
    PATTERN,
    NotAnAmount,
    NotUsd,
    allocate,
    require_usd,
    rounded,
    usd,
)

ROOT = Path(__file__).parents[2]
AMOUNTS = st.decimals("0.01", "9999999999.99", places=2)
WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any)
# Where money is computed; money.py itself is the one place that may divide.
MONEY_MODULES = [
    path
    for app in ("checkout", "settlements", "processor")
    for path in (ROOT / app).rglob("*.py")
    if path.name != "money.py" and "migrations" not in path.parts
]

# --- Reading (R2, R3) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0.00"),
        ("0.01", "0.01"),
        ("19.9", "19.90"),
        ("19.99", "19.99"),
        ("9999999999.99", "9999999999.99"),
        ("10", "10.00"),
    ],
)
def test_an_amount_is_read_exactly(text: str, amount: str) -> None:
    """R2."""
    assert usd(text) == Decimal(amount)
    assert usd(text).as_tuple().exponent == -2


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "19.999",
        "0.001",
        "19.",
        ".99",
        "019.99",
        "00",
        "+19.99",
        "-19.99",
        "1e3",
        "1E3",
        "19,99",
        "1_000",
        " 19.99",
        "19.99 ",
        "19.99\n",
        "１９.９９",
        "١٩",
        "NaN",
        "Infinity",
        "null",
        "None",
        "0x10",
        "10000000000",
        "19.99USD",
        "$19.99",
        "--1",
        "1.1.1",
    ],
)
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    """R2: exponent, sign, padding, underscore, full-width digits; R3: more than two places."""
    with pytest.raises(NotAnAmount):
        usd(text)


@pytest.mark.parametrize("value", [19.99, 0.0, True, False, None, [], b"19.99"])
def test_what_is_not_exact_is_refused_by_its_type(value: object) -> None:
    """R1, R2: a float has lost its cents already, and null is no zero."""
    with pytest.raises(NotAnAmount):
        usd(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "10000000000", "19.999", "0.001"])
def test_a_decimal_out_of_range_or_too_fine_is_refused(value: str) -> None:
    """R3: refused, never rounded."""
    with pytest.raises(NotAnAmount):
        usd(Decimal(value))


@given(AMOUNTS)
def test_an_amount_survives_its_own_text(amount: Decimal) -> None:
    """R2: what we write, we read back the same."""
    assert re.fullmatch(PATTERN, str(amount), re.ASCII)
    assert usd(str(amount)) == amount


@given(st.text(max_size=16))
def test_any_text_is_an_amount_by_the_pattern_or_refused(text: str) -> None:
    """R2: nothing else is accepted, and nothing else is raised."""
    if re.fullmatch(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,2})?", text, re.ASCII):
        assert usd(text) == Decimal(text)
    else:
        with pytest.raises(NotAnAmount):
            usd(text)


# --- Rounding (R4) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "cents"),
    [
        ("0.005", "0.01"),
        ("0.0049999", "0.00"),
        ("2.675", "2.68"),
        ("1.005", "1.01"),
        ("-0.005", "-0.01"),
        ("0.015", "0.02"),
        ("0.025", "0.03"),
    ],
)
def test_half_a_cent_goes_up(exact: str, cents: str) -> None:
    """R4: not to even, as Python's own round() does."""
    assert rounded(Decimal(exact)) == Decimal(cents)


# --- Splitting (R5, R6) ----------------------------------------------------------------------------


def test_ten_dollars_in_three() -> None:
    """R5."""
    parts = allocate(total=Decimal("10.00"), weights=[1, 1, 1])

    assert parts == [Decimal("3.34"), Decimal("3.33"), Decimal("3.33")]


@given(AMOUNTS, WEIGHTS)
def test_parts_sum_to_the_total_and_lie_within_a_cent(total: Decimal, weights: list[int]) -> None:
    """R5, R6: for every amount from 0.01 to 9 999 999 999.99."""
    parts = allocate(total=total, weights=weights)

    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * whole - total * weight) < CENT * whole
        assert part == usd(part)
        assert part >= 0


@given(AMOUNTS, WEIGHTS)
def test_a_negative_total_splits_as_its_opposite(total: Decimal, weights: list[int]) -> None:
    """R5: a refund splits as the charge did."""
    opposite = [-part for part in allocate(total=total, weights=weights)]

    assert allocate(total=-total, weights=weights) == opposite


@given(AMOUNTS, st.integers(1, 60))
def test_equal_instalments_differ_by_a_cent_at_most(total: Decimal, count: int) -> None:
    """R6; the larger ones come first, ties by position."""
    parts = allocate(total=total, weights=[1] * count)

    assert sum(parts) == total
    assert max(parts) - min(parts) <= CENT
    assert parts == sorted(parts, reverse=True)


@given(AMOUNTS, st.lists(st.integers(1, 1000), min_size=2, max_size=10))
def test_a_heavier_weight_never_gets_less(total: Decimal, weights: list[int]) -> None:
    """R5."""
    parts = allocate(total=total, weights=weights)

    by_weight = sorted(zip(weights, parts, strict=True))
    assert all(low[1] <= high[1] for low, high in pairwise(by_weight) if low[0] < high[0])


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [-1, 2], [3, -3]])
def test_weights_that_split_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(NotAnAmount):
        allocate(total=Decimal("1.00"), weights=weights)


def test_the_largest_amount_splits() -> None:
    assert sum(allocate(total=LARGEST, weights=[1] * 7)) == LARGEST


# --- Currency and floats (R8, R9) --------------------------------------------------------------------


@pytest.mark.parametrize("currency", ["EUR", "usd", "", "USDT", "US$"])
def test_only_usd_is_accepted(currency: str) -> None:
    """R9."""
    with pytest.raises(NotUsd):
        require_usd(currency)


def test_usd_is_usd() -> None:
    """R9."""
    require_usd("USD")


def names_money(node: ast.AST) -> bool:
    money = ("amount", "price", "usd", "cents", "captured", "receivable", "balance")
    names = (n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node)
             if isinstance(n, ast.Name | ast.Attribute))  # fmt: skip
    return any(word in name.lower() for name in names for word in money)


@pytest.mark.parametrize("path", MONEY_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_money_is_neither_made_a_float_nor_divided_outside_money_py(path: Path) -> None:
    """R8."""
    tree = ast.parse(path.read_text("utf-8"))

    floats = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"float", "round"}
        and any(names_money(argument) for argument in node.args)
    ]
    divisions = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and (names_money(node.left) or names_money(node.right))
    ]
    assert (floats, divisions) == ([], [])
