"""Reading a statement file: every bad row is named, and a good one is read to the cent."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.statement import Capture, render
from settlements.formats.lines import BadRow, Frame, Line, Refused, summarise
from settlements.formats.processor_csv import parse

REFERENCE = "6f1c0000-0000-5000-8000-000000000001"
HEADER = "line_id,type,reference,processor_reference,booked_at,gross,fee,net,currency,payout"
OPENING = "o,opening,,,2026-01-05T00:00:00Z,0.00,0.00,38.22,USD,"
CHARGE = f"l1,charge,{REFERENCE},sbx_1,2026-01-05T09:30:01Z,19.99,0.88,19.11,USD,po_1"
CLOSING = "c,closing,,,2026-01-06T00:00:00Z,0.00,0.00,57.33,USD,"


def file(*rows: str) -> list[str]:
    return [f"{row}\n" for row in rows]


def reasons(*rows: str) -> list[str]:
    with pytest.raises(Refused) as refused:
        summarise(parse(file(*rows)))
    return [str(bad) for bad in refused.value.bad]


def test_a_line_is_read_as_it_is_written():
    rows = list(parse(file(HEADER, OPENING, CHARGE, CLOSING)))

    assert rows[0] == Line(
        number=3,
        line_id="l1",
        type="charge",
        reference=REFERENCE,
        processor_reference="sbx_1",
        booked_at=datetime(2026, 1, 5, 9, 30, 1, tzinfo=UTC),
        gross=Decimal("19.99"),
        fee=Decimal("0.88"),
        net=Decimal("19.11"),
        payout="po_1",
    )


def test_a_file_is_added_up():
    summary = summarise(parse(file(HEADER, OPENING, CHARGE, CHARGE, CLOSING)))

    assert (summary.first_day, summary.last_day) == (date(2026, 1, 5), date(2026, 1, 5))
    assert (summary.opening, summary.movement, summary.closing) == (
        Decimal("38.22"),
        Decimal("38.22"),
        Decimal("57.33"),
    )
    assert summary.line_count == 2
    assert summary.unknown is None


def test_all_bad_rows_are_named_together_with_their_lines():
    """R39: one unreadable amount refuses the file; the others are not left for the next try."""
    found = reasons(
        HEADER,
        OPENING,
        CHARGE.replace("19.99", "19.9x"),
        CHARGE,
        CHARGE.replace("0.88", ""),
        CLOSING,
    )

    assert [text.split(":")[0] for text in found] == ["line 3", "line 5"]
    assert "is not an amount" in found[0]


@pytest.mark.parametrize(
    "amount",
    [
        "",
        " 19.99",
        "19.9",
        "19.999",
        "1e3",
        "NaN",
        "+19.99",
        "019.99",
        "19.99 ",
        "1_9.99",
        "１９.９９",
    ],
)
def test_what_is_not_an_amount_is_refused_never_read_as_zero(amount):
    """R2, R3, R39."""
    assert reasons(HEADER, OPENING, CHARGE.replace("19.99", amount), CLOSING)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (CHARGE.replace("USD", "EUR"), "is not USD"),
        (CHARGE.replace("19.11", "19.12"), "is not gross"),
        (CHARGE.replace("2026-01-05T", "2026-13-05T"), "is not a time"),
        (CHARGE.replace("01Z", "01+02:00"), "is not a time"),
        (CHARGE.replace("l1,", ","), "must not be empty"),
        (CHARGE.replace("sbx_1", "x" * 129), "longer than"),
        (CHARGE.replace("sbx_1", "x\0"), "NUL"),
        (CHARGE + ",more", "11 fields"),
        ("", "0 fields"),
        (CHARGE.replace("2026-01-05T", "2026-01-04T"), "before the row above"),
        (CHARGE.replace("2026-01-05T", "2026-01-06T"), "before the row above"),
        (OPENING, "second opening"),
        ('l1,"charge', "is not CSV"),
    ],
)
def test_a_bad_row_says_what_is_wrong_with_it(row, says):
    assert any(says in text for text in reasons(HEADER, OPENING, row, CLOSING))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "the first line must be"),
        (["﻿" + HEADER, OPENING, CLOSING], "the first line must be"),
        ([HEADER], "no opening row"),
        ([HEADER, CHARGE, CLOSING], "must be of the type opening"),
        ([HEADER, OPENING, CHARGE], "must be of the type closing"),
        ([HEADER, OPENING, CLOSING, CHARGE], "after the closing row"),
        ([HEADER, OPENING.replace("T00:", "T01:"), CLOSING], "must be at 00:00:00Z"),
        ([HEADER, OPENING, CLOSING.replace("06T", "05T")], "not after the row above"),
    ],
)
def test_a_file_without_its_frame_is_refused(rows, says):
    assert any(says in text for text in reasons(*rows))


def test_an_unknown_type_is_readable_and_named():
    """DESIGN section 5: another type sets the file aside, so people must be able to read it."""
    summary = summarise(parse(file(HEADER, OPENING, CHARGE.replace("charge", "cashback"), CLOSING)))

    assert summary.unknown == (3, "cashback")


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail(text):
    """Whatever a file holds, it is read or refused."""
    for row in parse([f"{HEADER}\n", *text.splitlines(keepends=True)]):
        assert isinstance(row, Line | BadRow | Frame)


@given(
    st.lists(
        st.tuples(
            st.integers(min_value=1, max_value=999_999), st.integers(min_value=0, max_value=86_399)
        ),
        max_size=20,
    )
)
def test_what_the_sandbox_writes_is_read_to_the_cent(captures):
    """The two apps share no code: the processor's writer against this reader."""
    taken = [
        Capture(
            reference=f"6f1c0000-0000-5000-8000-{number:012d}",
            processor_reference=f"sbx_{number}",
            booked_at=datetime.fromtimestamp(1_767_571_200 + second, UTC),
            amount=Decimal(cents) / 100,
        )
        for number, (cents, second) in enumerate(captures)
    ]
    day = date(2026, 1, 5)

    text = render(account="cis", captures=taken, first=day, last=date(2026, 1, 8))
    summary = summarise(parse(text.splitlines(keepends=True)))

    gross = sum(
        row.gross
        for row in parse(text.splitlines(keepends=True))
        if isinstance(row, Line) and row.type == "charge"
    )
    assert gross == sum(capture.amount for capture in taken)
    assert summary.opening is not None
    assert summary.opening + summary.movement == summary.closing
    assert summary.last_day == date(2026, 1, 8)
