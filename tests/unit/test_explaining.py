"""What the arithmetic of a difference suggests, and the entry that would put it right."""

from decimal import Decimal
from typing import Any

import pytest

from checkout.models import LedgerAccount
from settlements.explaining import Clues, Cut, Opposite, explain
from settlements.models import Code, Kind


def clues(
    expected: str,
    actual: str,
    kind: Kind = Kind.STATEMENT,
    code: Code = Code.AMOUNT,
    **known: Any,
) -> Clues:
    return Clues(kind=kind, code=code, expected=Decimal(expected), actual=Decimal(actual), **known)


FEE = Decimal("0.88")
SHORT = (Kind.CAPTURED, Code.UNDER_CHARGE)
MORE = (Kind.CAPTURED, Code.SURPLUS)
MISSING = (Kind.STATEMENT, Code.MISSING)
PAYOUT = (Kind.PAYOUT, Code.AMOUNT)
BEFORE = Cut(2, is_before=True, day="2026-02-01", file="expected")
THEIRS = [Opposite(7, "statement", of_another_creator=True)]

# What is known; the cause, a part of what it says, and the entry.
CAUSES: list[tuple[Clues, str, str, str]] = [
    (
        clues("19.99", "19.96", *SHORT),
        "captured short",
        "0.03 less",
        "write_off 0.03, receivable -0.03",
    ),
    (
        clues("19.99", "20.02", *MORE),
        "captured too much",
        "0.03 more",
        "unapplied_receipts -0.03, receivable 0.03",
    ),
    (
        clues("19.99", "0.00", *MISSING, opposite=THEIRS),
        "another creator's",
        "discrepancy 7",
        "receivable 19.99, receivable -19.99",
    ),
    (
        clues("19.99", "19.96", *SHORT, opposite=THEIRS),
        "another creator's",
        "discrepancy 7",
        "receivable -0.03, receivable 0.03",
    ),
    (
        clues("19.99", "19.11", fee=FEE),
        "equals the fee",
        "fee of 0.88",
        "fees 0.88, clearing -0.88",
    ),
    (
        clues("19.11", "19.99", fee=FEE),
        "equals the fee",
        "fee of 0.88",
        "fees -0.88, clearing 0.88",
    ),
    (clues("19.99", "0.00", *MISSING, cut=BEFORE), "cut-off day", "2 min before the end", ""),
    (
        clues("40.00", "20.89", *PAYOUT, own_lines=["ln_1 of 19.11"]),
        "one line missing",
        "ln_1 of 19.11, which may be missing from",
        "",
    ),
    (
        clues("40.00", "59.11", *PAYOUT, own_lines=["ln_1 of 19.11"]),
        "one line missing",
        "twice in",
        "",
    ),
    (
        clues("40.00", "20.89", *PAYOUT, next_lines=["ln_2 of 19.11"]),
        "cut-off day",
        "a day beside",
        "",
    ),
    (
        clues("19.99", "39.98", code=Code.DUPLICATE, is_correctable=True),
        "twice",
        "exactly twice",
        "unapplied_receipts -19.99, clearing 19.99",
    ),
    (
        clues("19.99", "59.97", code=Code.DUPLICATE, is_correctable=True),
        "twice",
        "exactly 3 times",
        "unapplied_receipts -39.98, clearing 39.98",
    ),
    (clues("0.88", "1.76", code=Code.FEE), "twice", "exactly twice", ""),
    (
        clues("19.11", "38.22", Kind.PAYOUT, Code.DUPLICATE),
        "twice",
        "exactly twice",
        "",
    ),
    (
        clues("19.99", "0.00", *MISSING, is_correctable=True),
        "one line missing",
        "whole amount is missing",
        "write_off 19.99, clearing -19.99",
    ),
    (
        clues("19.99", "19.96", is_correctable=True),
        "the file says less",
        "0.03 less than was captured: so much too much",
        "write_off 0.03, clearing -0.03",
    ),
    (
        clues("19.99", "20.02", is_correctable=True),
        "the file says more",
        "0.03 more than was captured: so much too little",
        "unapplied_receipts -0.03, clearing 0.03",
    ),
    (
        clues("19.99", "20.02", code=Code.DUPLICATE, is_correctable=True),
        "the file says more",
        "0.03 more",
        "unapplied_receipts -0.03, clearing 0.03",
    ),
    (clues("19.99", "0.00", Kind.LEDGER, Code.MISSING), "one line missing", "one record", ""),
    (
        clues("0.00", "19.99", code=Code.UNMATCHED, is_correctable=True),
        "nothing asks for it",
        "whole amount is too much",
        "unapplied_receipts -19.99, clearing 19.99",
    ),
    (
        clues("0.00", "19.99", code=Code.NOT_CAPTURED, is_correctable=True),
        "nothing asks for it",
        "whole amount is too much",
        "unapplied_receipts -19.99, clearing 19.99",
    ),
    # A refund of nobody is in the books by its file already.
    (
        clues("0.00", "-5.00", code=Code.UNMATCHED),
        "nothing asks for it",
        "whole amount is too much",
        "",
    ),
    (clues("19.90", "19.99"), "two digits", "divides by 9", ""),
]


@pytest.mark.parametrize(("known", "why", "says", "entry"), CAUSES)
def test_an_amount_that_fits_a_cause_names_it_with_its_entry(
    known: Clues, why: str, says: str, entry: str
) -> None:
    (found,) = [each for each in explain(known) if each.why == why]

    assert says in found.says
    assert ", ".join(f"{move.account} {move.amount}" for move in found.entry) == entry
    assert sum(move.amount for move in found.entry) == 0
    assert {move.account for move in found.entry} <= set(LedgerAccount.values)
    assert found.then


def test_what_is_surest_comes_first() -> None:
    """A short capture that equals the fee and has its opposite elsewhere: three causes, in this order."""
    known = clues("19.99", "19.11", *SHORT, fee=FEE, opposite=THEIRS)

    assert [each.why for each in explain(known)] == [
        "captured short",
        "another creator's",
        "equals the fee",
    ]


def test_a_cut_whose_file_has_arrived_says_so() -> None:
    cut = Cut(2, is_before=False, day="2026-01-30", file="arrived")
    first, second = explain(clues("19.99", "0.00", *MISSING, cut=cut))

    assert "has arrived too and does not show it" in first.says
    assert (first.entry, second.why) == ((), "one line missing")


@pytest.mark.parametrize(("expected", "actual"), [("19.99", "19.96"), ("19.99", "19.99")])
def test_what_fits_nothing_suggests_nothing(expected: str, actual: str) -> None:
    assert explain(clues(expected, actual, fee=FEE)) == []
