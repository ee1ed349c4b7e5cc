"""Reading the files people edit: every fault is named with its line, nothing is guessed."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout import loading
from checkout.management.csv_file import UnreadableFile, read_rows

COLUMNS = ("code", "name")
GOOD_CREATOR = {
    "external_id": "creator-1",
    "name": "Aigerim Bekova",
    "email": "aigerim@example.com",
    "country": "KZ",
    "time_zone": "Asia/Almaty",
}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    return path


def test_rows_carry_the_line_an_editor_shows(tmp_path):
    path = written(tmp_path, b'code,name\na,Anna\n\n"b","two\nlines"\nc,Carl\n')

    rows = read_rows(path=path, required=COLUMNS)

    assert [(row.line, row.values["code"]) for row in rows] == [(2, "a"), (4, "b"), (6, "c")]


def test_a_byte_order_mark_and_another_order_of_columns_are_read(tmp_path):
    path = written(tmp_path, "\ufeffname,code\r\nÇelik,a\r\n".encode())

    (row,) = read_rows(path=path, required=COLUMNS)

    assert row.values == {"code": "a", "name": "Çelik"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; its first line must be: code,name"),
        (b"\n\n", "is empty"),
        ("code,name\na,Ã".encode("latin-1"), "not UTF-8: byte 0xc3 in line 2"),
        ("code,name".encode("utf-16"), "UTF-16; save it as CSV in UTF-8"),
        (b"PK\x03\x04rest of a workbook", "Excel workbook"),
        (b"code;name\na;b\n", "separated by semicolons; save it with commas"),
        (b"code\tname\n", "separated by tabs"),
        (b"code\na\n", "missing columns: 'name'"),
        (b"code,name,surname\n", "unknown columns: 'surname'"),
        (b"code,name,name\n", "columns that stand twice: 'name'"),
        (b"code,name\na,b\nc\nd,e,f\n", "line 3 has 1 fields instead of 2\nline 4 has 3"),
        (b'code,name\na,"b\n', "line 2 is not CSV"),
        (b"code,name\na,b\x00\n", "NUL character in line 2"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, content, told):
    with pytest.raises(UnreadableFile) as refused:
        read_rows(path=written(tmp_path, content), required=COLUMNS)

    assert told in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableFile, match=r"absent\.csv cannot be read: No such file"):
        read_rows(path=tmp_path / "absent.csv", required=COLUMNS)


@given(
    values=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["C"]), min_size=1)] * 2).filter(
            lambda pair: "".join(pair).strip()
        )
    )
)
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path_factory, values):
    out = io.StringIO(newline="")
    csv.writer(out).writerows([COLUMNS, *values])
    path = written(tmp_path_factory.mktemp("csv"), out.getvalue().encode())

    rows = read_rows(path=path, required=COLUMNS)

    assert [tuple(row.values.values()) for row in rows] == values


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("external_id", "", "is empty"),
        ("external_id", "x" * 65, "longer than 64"),
        ("name", " Aigerim", "spaces around it"),
        ("name", "two\nlines", "line break"),
        ("name", "\u202eevil", "control character"),
        ("email", "nobody", "not an e-mail address"),
        ("country", "kz", "two capital letters"),
        ("country", "KAZ", "two capital letters"),
        ("time_zone", "Almaty", "not a time zone"),
        ("plan", "Monthly", "not a code"),
        ("token", "", "is empty"),
    ],
)
def test_a_bad_field_of_a_creator_is_named(field, value, told):
    with pytest.raises(loading.RowsRefused) as refused:
        loading.read_creator(7, GOOD_CREATOR | {field: value})

    (fault,) = refused.value.faults
    assert (fault.line, fault.field) == (7, field)
    assert told in fault.text


def test_a_card_number_is_refused_and_never_repeated():
    number = "4242 4242 4242 4242"

    with pytest.raises(loading.RowsRefused, match="looks like a card number") as refused:
        loading.read_creator(2, GOOD_CREATOR | {"token": number})

    assert "4242" not in str(refused.value)


@pytest.mark.parametrize(
    "price", ["19,99", "19.999", "1e3", "-1.00", "+1.00", "1_000", "１９.99", "", "0.00", "NaN"]
)
def test_a_price_follows_the_rule_of_amounts(price):
    """R2, R3."""
    row = {"code": "p", "name": "P", "price": price, "interval": "month", "interval_count": "1"}

    with pytest.raises(loading.RowsRefused) as refused:
        loading.read_plan(2, row)

    assert [fault.field for fault in refused.value.faults] == ["price"]


def test_all_faults_of_all_rows_are_told_together():
    rows = [(2, GOOD_CREATOR), (3, GOOD_CREATOR | {"country": "?", "email": "?"})]
    rows += [(4, GOOD_CREATOR | {"time_zone": "?"})]

    with pytest.raises(loading.RowsRefused) as refused:
        loading.read_all(rows=rows, read=loading.read_creator)

    assert sorted((fault.line, fault.field) for fault in refused.value.faults) == [
        (3, "country"),
        (3, "email"),
        (4, "time_zone"),
    ]


def test_a_rule_that_ends_before_it_begins_is_refused():
    rule = {
        "country": "KZ",
        "lane": "cis",
        "valid_from": "2026-02-01",
        "valid_to": "2026-02-01",
        "reason": "r",
        "source": "s",
        "source_date": "2026-02-30",
    }

    with pytest.raises(loading.RowsRefused, match="not a day of the calendar"):
        loading.read_rule(2, rule, lanes=["cis"])
    with pytest.raises(loading.RowsRefused, match="after valid_from"):
        loading.read_rule(2, rule | {"source_date": "2026-01-01"}, lanes=["cis"])
    with pytest.raises(loading.RowsRefused, match="none of"):
        loading.read_rule(2, rule | {"source_date": "2026-01-01", "lane": "mars"}, lanes=["cis"])


def test_an_interval_is_one_that_plans_know():
    row = {"code": "p", "name": "P", "price": "1.00", "interval": "day", "interval_count": "0"}

    with pytest.raises(loading.RowsRefused) as refused:
        loading.read_plan(2, row)

    assert [fault.field for fault in refused.value.faults] == ["interval", "interval_count"]
