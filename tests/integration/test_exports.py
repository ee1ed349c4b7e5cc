"""Files for finance: what they hold is what the screen says, and nothing in them runs."""

import csv
import hashlib
import json
import threading
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DataError, connection
from django.db.models import Sum

from checkout.models import Charge, LedgerPosting
from settlements.exports.csv_file import EXCEL, PLAIN, Dialect, write_csv
from settlements.exports.export_list import FilterNotTaken, conditions
from settlements.exports.journal import NotBalanced, NotOver, journal_of_day, write_journal
from settlements.exports.lists import LISTS, named
from settlements.exports.snapshot import snapshot
from settlements.exports.xlsx_file import TooManyRows, write_xlsx
from tests.factories import World
from tests.factories_settlements import edit


@pytest.fixture
def world(transactional_db: None) -> World:
    """Three charges paid, one owed; committed, for a snapshot is a transaction of its own."""
    world = World()
    for price in ("19.99", "5.01", "0.03"):
        world.receive(world.due_charge(price=price))
    world.due_charge(price="100.00")
    return world


def written(name: str, given: Mapping[str, str], dialect: Dialect = PLAIN) -> tuple[bytes, Any]:
    """The bytes of an export, and what it says of itself."""
    to = BytesIO()
    with snapshot():
        said = write_csv(wanted=named(name), given=given, to=to, dialect=dialect)
    return to.getvalue(), said


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text.decode("utf-8"), newline="")))


def test_an_export_holds_what_the_books_of_the_screen_say(world: World) -> None:
    """R48: count and total are those of the rows, and of the database."""
    text, said = written("charges", {})

    found = rows(text)
    assert said.head.rows == len(found) == Charge.objects.count() == 4
    assert said.head.total == sum(Decimal(row["amount USD"]) for row in found)
    assert said.head.total == Charge.objects.aggregate(Sum("amount"))["amount__sum"]
    assert said.sha256 == hashlib.sha256(text).hexdigest()


def test_each_list_takes_each_of_its_filters(world: World) -> None:
    values = {"from": "2026-01-01", "to": "2026-02-01", "standing": "yes"}
    nobody = "00000000-0000-5000-8000-000000000001"
    for name, each in LISTS.items():
        given = {option: values.get(option, nobody) for option in each.filters}

        text, said = written(name, given)

        assert said.head.rows == 0
        assert text.decode().strip().count("\n") == 0
        assert all(
            f"{option} {value}" in said.head.filter_in_words for option, value in given.items()
        )


def test_a_filter_chooses(world: World) -> None:
    _, paid = written("charges", {"state": "succeeded"})
    _, owed = written("charges", {"state": "due"})

    assert (paid.head.rows, paid.head.total) == (3, Decimal("25.03"))
    assert (owed.head.rows, owed.head.total) == (1, Decimal("100.00"))


def test_days_are_half_open(world: World) -> None:
    day = world.clock.now().business.date()
    after = date.fromordinal(day.toordinal() + 1)

    assert written("charges", {"from": str(day), "to": str(after)})[1].head.rows == 4
    assert written("charges", {"from": str(after)})[1].head.rows == 0
    assert written("charges", {"to": str(day)})[1].head.rows == 0


def test_a_filter_that_a_list_does_not_take_is_named() -> None:
    with pytest.raises(FilterNotTaken, match="attempts takes no --state; it takes from, to"):
        conditions(named("attempts"), {"state": "due"})


def test_a_value_of_the_wrong_kind_is_refused(world: World) -> None:
    with pytest.raises(DataError):
        written("charges", {"creator": "Aigerim"})


EVIL = (
    *("=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1+1", "＝1+1"),
    *('=HYPERLINK("x")', "=1;2", "=1,2", "-"),
)


@pytest.mark.parametrize("dialect", [PLAIN, EXCEL])
def test_no_cell_is_a_formula(world: World, dialect: Dialect) -> None:
    """R48: what a creator's platform sends as an external id reaches finance's spreadsheet."""
    for evil in EVIL:
        name_creator(world.due_charge().creator_id, evil)

    text, _ = written("charges", {"state": "due"}, dialect)

    read = csv.DictReader(
        StringIO(text.decode("utf-8-sig"), newline=""), delimiter=dialect.separator
    )
    cells = {row["external id"] for row in read}
    assert cells >= {f"'{evil}" for evil in EVIL}
    assert not cells & set(EVIL)


def name_creator(creator: UUID, external_id: str) -> None:
    edit("UPDATE checkout_creator SET external_id = %s WHERE id = %s", external_id, creator)


def test_a_word_with_a_sign_within_stays_as_it_is(world: World) -> None:
    edit("UPDATE checkout_creator SET external_id = 'a=b-c@d ' || id")

    assert all(row["external id"].startswith("a=b-c@d ") for row in rows(written("charges", {})[0]))


def test_excel_of_a_country_with_decimal_commas(world: World) -> None:
    text, said = written("charges", {"state": "succeeded"}, EXCEL)

    lines = text.decode("utf-8").splitlines()
    assert text.startswith(b"\xef\xbb\xbf")
    assert lines[0].removeprefix("\ufeff").startswith("charge;creator;external id")
    assert sorted(line.split(";")[7] for line in lines[1:]) == ["0,03", "19,99", "5,01"]
    assert said.head.total == Decimal("25.03")


def test_a_file_is_one_state_of_the_database(world: World) -> None:
    """What commits between the count and the rows is in neither."""
    begun, done = threading.Event(), threading.Event()

    def meanwhile() -> None:
        begun.wait(10)
        try:
            world.due_charge(price="7.00")
        finally:
            connection.close()
            done.set()

    other = threading.Thread(target=meanwhile)
    other.start()
    to = BytesIO()
    with snapshot():
        connection.cursor().execute("SELECT 1 FROM checkout_charge LIMIT 1")
        begun.set()
        assert done.wait(10)
        said = write_csv(wanted=named("charges"), given={}, to=to)
    other.join()

    assert said.head.rows == len(rows(to.getvalue())) == 4
    assert Charge.objects.count() == 5


def test_a_snapshot_writes_nothing(world: World) -> None:
    with pytest.raises(Exception, match="read-only transaction"), snapshot():
        Charge.objects.update(step=1)


# --- Workbooks ---------------------------------------------------------------------------------------


def sheet(path: Path) -> str:
    return ZipFile(path).read("xl/worksheets/sheet1.xml").decode()


def test_a_workbook_has_numbers_and_a_head(world: World, tmp_path: Path) -> None:
    """R48: amounts can be summed; the head says of what, as of when, how much, and the CSV's hash."""
    edit("UPDATE checkout_creator SET external_id = '=1+' || id")
    text, plain = written("charges", {})

    with snapshot():
        said = write_xlsx(wanted=named("charges"), given={}, to=tmp_path / "charges.xlsx")

    body = sheet(tmp_path / "charges.xlsx")
    assert said.sha256 == plain.sha256 == hashlib.sha256(text).hexdigest()
    assert "<v>19.99</v>" in body
    assert "<v>125.03</v>" in body  # the total, in the head
    assert "<f>" not in body
    assert "everything" in body
    assert said.sha256 in body


def test_a_workbook_of_too_many_rows_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settlements.exports.xlsx_file.MOST_ROWS", 3)

    with pytest.raises(TooManyRows, match="4 rows; a workbook takes at most 3"), snapshot():
        write_xlsx(wanted=named("charges"), given={}, to=tmp_path / "charges.xlsx")

    assert not list(tmp_path.iterdir())


# --- The journal -------------------------------------------------------------------------------------


def journal(month: date, *, today: date = date(2027, 1, 1)) -> tuple[bytes, Any]:
    to = BytesIO()
    with snapshot():
        said = write_journal(month=month, today=today, to=to)
    return to.getvalue(), said


def this_month(world: World) -> date:
    return world.clock.now().business.date().replace(day=1)


def test_a_journal_balances_and_comes_out_the_same(world: World) -> None:
    """R34: debits = credits; a second run makes the same bytes."""
    first, said = journal(this_month(world))
    world.clock.forward(seconds=3600)
    second, _ = journal(this_month(world))

    lines = rows(first)
    debit = sum(Decimal(line["debit USD"] or 0) for line in lines)
    credit = sum(Decimal(line["credit USD"] or 0) for line in lines)
    assert first == second
    assert debit == credit == said.debit == said.credit == Decimal("150.06")
    assert len(lines) == said.lines == LedgerPosting.objects.count()


@pytest.mark.parametrize("lane", ["cis", "a,b", 'a"b', "a\nb", " a "])
def test_a_day_s_hash_is_that_of_its_lines_in_the_journal_of_the_month(
    world: World, lane: str
) -> None:
    """The database writes a day's lines for a close, COPY a month's: the same bytes, by two hands."""
    world.clock.forward(days=1)
    world.receive(world.due_charge())
    edit("UPDATE checkout_ledgerposting SET lane = %s WHERE lane <> ''", lane)
    head, *lines = csv_records(journal(this_month(world), today=date(2026, 3, 1))[0])
    days = {line[:10] for line in lines}

    for day in days | {b"2026-01-02"}:
        text = head + b"".join(line for line in lines if line.startswith(day))
        said = journal_of_day(day=date.fromisoformat(day.decode()))
        assert said.sha256 == hashlib.sha256(text).hexdigest()
    assert days


def csv_records(text: bytes) -> list[bytes]:
    """A file's records with their ends; a new line within quotes ends none."""
    records, record = [], b""
    for line in text.splitlines(keepends=True):
        record += line
        if record.count(b'"') % 2 == 0:
            records.append(record)
            record = b""
    return records


def test_a_trial_balance_carries_over(world: World) -> None:
    """What a month closes with, the next one opens with."""
    month = this_month(world)
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)

    closing = {(b.account, b.lane): b.closing for b in journal(month)[1].balances}
    opening = {(b.account, b.lane): b.opening for b in journal(following)[1].balances}

    assert closing == opening
    assert closing[("receivable", "")] == Decimal("100.00")
    assert sum(closing.values()) == 0


def test_a_month_that_goes_on_has_no_journal(world: World) -> None:
    month = this_month(world)

    with pytest.raises(NotOver, match=f"{month:%Y-%m} is not over before"):
        journal(month, today=month)


def test_books_that_do_not_balance_have_no_journal(world: World) -> None:
    edit("UPDATE checkout_ledgerposting SET amount = 19.98 WHERE amount = 19.99")

    with pytest.raises(NotBalanced, match="USD"):
        journal(this_month(world))


# --- The command -------------------------------------------------------------------------------------


def export(*arguments: str) -> str:
    out = StringIO()
    call_command("export", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_it_wrote(world: World, tmp_path: Path) -> None:
    out = tmp_path / "charges.csv"

    told = json.loads(export("charges", "--state", "succeeded", "--out", str(out), "--json"))

    assert told["rows"] == 3
    assert told["total_usd"] == "25.03"
    assert told["filter"] == "state succeeded"
    assert told["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["charges.csv"]


def test_the_command_replaces_no_file(world: World, tmp_path: Path) -> None:
    out = tmp_path / "charges.csv"
    out.write_text("mine")

    with pytest.raises(CommandError, match="is there already") as refusal:
        export("charges", "--out", str(out))

    assert refusal.value.returncode == 2
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("attempts", "--state", "due"), "takes no --state"),
        (("charges", "--month", "2026-01"), "takes --from and --to"),
        (("journal",), "say of which month"),
        (("journal", "--month", "2026-01", "--format", "xlsx"), "CSV alone"),
        (("journal", "--month", "2026-01", "--lane", "sandbox"), "takes no --lane"),
        (("charges", "--from", "yesterday"), "'yesterday' is not a day"),
        (("journal", "--month", "January"), "'January' is not a month"),
        (("charges", "--creator", "Aigerim"), "is not an id such as"),
        (("imagined",), "invalid choice"),
    ],
)
def test_what_cannot_be_meant_is_explained(
    arguments: tuple[str, ...], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CommandError, match=answer):
        export(*arguments)

    assert not list(tmp_path.iterdir())


def test_the_journal_lies_beside_its_trial_balance(world: World, tmp_path: Path) -> None:
    told = json.loads(
        export("journal", "--month", "2025-12", "--out", str(tmp_path / "j.csv"), "--json")
    )

    assert told["debit_usd"] == told["credit_usd"]
    assert (
        (tmp_path / "trial-balance-2025-12.csv").read_text().endswith("sum,,0.00,0.00,0.00,0.00\n")
    )
