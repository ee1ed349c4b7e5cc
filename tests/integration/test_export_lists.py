"""Each list that can be exported: its file holds what its page shows, safe to open, in one order."""

import csv
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import IntegrityError
from django.test import Client
from django.urls import reverse

from settlements.admin.export_pages import LISTED
from settlements.exports.csv_file import write_csv
from settlements.exports.export_list import ExportList, Type
from settlements.exports.lists import LISTS, named
from settlements.exports.snapshot import snapshot
from settlements.exports.xlsx_file import write_xlsx
from settlements.models import ExportRun, Payout, Settlement
from settlements.roles import ANALYST, APPROVER
from tests.factories import LANE, World
from tests.factories_pages import a_row_for_every_page
from tests.factories_roles import member, pages_at, user_of
from tests.factories_settlements import edit
from tests.integration.test_export_pages import SHOWN, ask, made, rows, worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.EXPORTS_FOLDER = str(tmp_path / "exports")
    return tmp_path / "exports"


@pytest.fixture
def world(tmp_path: Path, folder: Path) -> World:
    """Rows of every list, a payout that left two days ago, and no export that waits."""
    world = World()
    a_row_for_every_page(world, tmp_path / "in")
    edit("UPDATE settlements_payout SET value_on = '2026-01-31', paid = 19.00")
    while worker(world, folder).turn():
        pass
    return world


# What each list shows under some filter, and the column that its page adds up; none without money.
SHOWN_ALSO = [
    ("captures", "settlements_capture", "", "captured USD"),
    ("captures", "settlements_capture", "proof=discrepant&days=2026-01-31", "captured USD"),
    ("captures", "settlements_capture", "lane=cis&file=no", "captured USD"),
    ("ledger-entries", "checkout_ledgerentry", "", "debits USD"),
    ("ledger-entries", "checkout_ledgerentry", "posted=2026-01", "debits USD"),
    ("statements", "settlements_statementimport", "", "movement USD"),
    ("payouts", "settlements_payout", "", "net USD"),
    ("payouts", "settlements_payout", "lane=cis&q=po_cis_20260131", "net USD"),
    ("payouts", "settlements_payout", "standing=left", "left USD"),
    ("payouts", "settlements_payout", "on_the_way=2026-02-01", "left USD"),
    ("bank-statements", "settlements_bankstatement", "", "movement USD"),
    ("bank-entries", "settlements_bankentry", "", "net USD"),
    ("bank-entries", "settlements_bankentry", "q=po_cis_20260103", "net USD"),
    ("settlements", "settlements_settlement", "", "net USD"),
    ("settlements", "settlements_settlement", "lands=2026-02-02", "net USD"),
    ("proposals", "settlements_proposal", "", "net USD"),
    ("proposals", "settlements_proposal", "decision=open&waiting=me", "net USD"),
    ("desk-actions", "settlements_deskaction", "", ""),
    ("desk-actions", "settlements_deskaction", "kind__exact=approved", ""),
    ("holds", "checkout_hold", "", ""),
    ("holds", "checkout_hold", "scope__exact=lane&kind__exact=pause", ""),
    ("bulk-requeues", "checkout_bulkrequeue", "", "amount USD"),
    ("bulk-requeues", "checkout_bulkrequeue", "state=waits", "amount USD"),
    ("closes", "settlements_booksclose", "", ""),
    ("closes", "settlements_booksclose", "decision=approved&span=month", ""),
    ("audit-trail", "admin_logentry", "about=checkout.charge&who=ann", ""),
]


def test_every_list_of_the_pages_is_tried() -> None:
    tried = {what for what, *_ in (*SHOWN, *SHOWN_ALSO)}

    assert tried == set(LISTED)
    # The lines of a settlement stand on its page and have no list of their own.
    assert set(LISTS) == tried | {"settlement-lines"}


def test_r48_the_file_holds_what_the_page_shows(world: World, folder: Path) -> None:
    """The page prints count, USD, filter and "as of"; the export and the file say the same.

    All in one world, which takes seconds to make.
    """
    client = member(ANALYST, name="anna")
    for what, table, query, column in SHOWN_ALSO:
        with pages_at(world.clock):
            page = client.get(f"{reverse(f'admin:{table}_changelist')}?{query}")
            printed, text = page.context["printed"], page.content.decode()
            run = made(ask(client, what, query), world, folder)

        found = rows((folder / run.file).read_bytes())
        assert f"/ask/{what}/" in text, (what, query)
        assert f"filter: {printed.chosen}" in text, (what, query)
        assert printed.as_of in text, (what, query)
        assert run.rows == len(found) == printed.count > 0, (what, query)
        total = sum((Decimal(row[column] or 0) for row in found), Decimal()) if column else None
        assert run.total == total == printed.usd, (what, query)
        shown = client.get(reverse("admin:settlements_exportrun_change", args=[run.pk]))
        assert ("<dt>Total</dt>" in shown.content.decode()) == (total is not None), what


def test_r48_a_file_adds_up_what_its_processor_held(world: World, folder: Path) -> None:
    """Of a part that only the page can tell: for each file another amount."""
    with pages_at(world.clock):
        client = member(ANALYST, name="anna")
        listed = reverse("admin:settlements_statementimport_changelist")
        printed = client.get(f"{listed}?held=2026-01-31").context["printed"]
        run = made(ask(client, "statements", "held=2026-01-31"), world, folder)

    (row,) = rows((folder / run.file).read_bytes())
    assert run.total == printed.usd == Decimal(row["closing USD"])


def test_a_list_that_nobody_is_in_has_no_rows_and_a_total_of_nothing(
    world: World, folder: Path
) -> None:
    run = made(
        ask(member(ANALYST, name="anna"), "payouts", "standing=left&q=nothing"), world, folder
    )

    assert (run.rows, run.total) == (0, Decimal("0.00"))


def test_captures_are_as_far_proved_as_the_page_says(world: World, folder: Path) -> None:
    """By the days of a lane's own zone; one is proved, one awaits the next file, the others are discrepant."""
    late = "2026-01-31 20:00+00"
    edit("UPDATE settlements_statementterms SET lane = %s, time_zone = 'Asia/Almaty'", LANE)
    edit("UPDATE checkout_attempt SET booked_at = %s WHERE captured_amount = 20.00", late)
    edit("""
        UPDATE settlements_discrepancy SET cleared_at = opened_at, cleared_because = 'evidence'
        WHERE charge_id IN (SELECT charge_id FROM checkout_attempt
          WHERE captured_amount = 20.00 OR booked_at < '2026-02-01')
    """)
    with pages_at(world.clock):
        client = member(ANALYST, name="anna")
        page = client.get(reverse("admin:settlements_capture_changelist"))
        run = made(ask(client, "captures"), world, folder)

    shown = {
        (str(row.pk), row.day.isoformat(), str(row.proof)) for row in page.context["cl"].result_list
    }
    found = rows((folder / run.file).read_bytes())
    assert {
        (row["merchant reference"], row["day of its lane"], row["proof"]) for row in found
    } == shown
    assert {proof for *_, proof in shown} == {"proved", "awaiting", "discrepant"}


def test_ledger_entries_say_their_postings_as_the_page_does(world: World, folder: Path) -> None:
    edit("UPDATE checkout_ledgerposting SET amount = amount * 100000")
    with pages_at(world.clock):
        client = member(ANALYST, name="anna")
        page = client.get(reverse("admin:checkout_ledgerentry_changelist"))
        run = made(ask(client, "ledger-entries"), world, folder)

    desk = page.context["cl"].model_admin
    shown = {str(row.pk): desk.postings_in_words(row) for row in page.context["cl"].result_list}
    found = rows((folder / run.file).read_bytes())
    assert {row["entry"]: row["postings (debit +, credit -)"] for row in found} == shown
    assert any("+1,999,000.00" in words for words in shown.values())


# --- What a spreadsheet makes of it ------------------------------------------------------------------

EVIL = '=HYPERLINK("x")'
NOBODY = "00000000-0000-5000-8000-000000000001"


# Where people and other systems write: list, table, its column, and the column of the file.
WRITTEN = [
    ("captures", "checkout_creator", "external_id", "external id"),
    ("ledger-entries", "checkout_ledgerposting", "lane", "lane"),
    ("statements", "settlements_statementimport", "file_name", "file"),
    ("payouts", "settlements_payout", "reference", "payout"),
    ("bank-statements", "settlements_bankstatement", "statement_id", "statement"),
    ("bank-entries", "settlements_bankentry", "counterparty", "counterparty"),
    ("bank-entries", "settlements_bankentry", "remittance", "remittance"),
    ("settlements", "checkout_creator", "external_id", "external id"),
    ("settlement-lines", "settlements_settlementline", "lane", "lane"),
    ("proposals", "settlements_proposal", "reason", "proposed because"),
    ("desk-actions", "settlements_deskaction", "reason", "reason"),
    ("holds", "checkout_hold", "reason", "reason"),
    ("bulk-requeues", "checkout_bulkrequeue", "reason", "proposed because"),
    ("closes", "settlements_booksclose", "decided_because", "decided because"),
    ("audit-trail", "django_admin_log", "change_message", "what, and why"),
]


def test_r48_no_cell_is_a_formula(world: World, tmp_path: Path) -> None:
    """Guarded in CSV; text in a workbook, as it was written."""
    for what, table, written, column in WRITTEN:
        row = f"(SELECT max(id::text) FROM {table} WHERE {written} <> '')"
        edit(f"UPDATE {table} SET {written} = %s WHERE id::text = {row}", EVIL)
        if table == "checkout_creator":
            edit("UPDATE checkout_creator SET external_id = %s || id", EVIL)

        text, book = rows(as_csv(named(what))), tmp_path / f"{what}-{column}.xlsx"
        with snapshot():
            write_xlsx(wanted=named(what), given={}, to=book)

        cells = [row[column] for row in text if "HYPERLINK" in row[column]]
        assert cells, what
        assert all(cell.startswith(f"'{EVIL}") for cell in cells), what
        sheet = ZipFile(book).read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in sheet, what
        assert "=HYPERLINK" in sheet, what


def as_csv(wanted: ExportList, given: Mapping[str, str] = {}) -> bytes:
    to = BytesIO()
    with snapshot():
        write_csv(wanted=wanted, given=given, to=to)
    return to.getvalue()


READS: Mapping[Type, Callable[[str], object]] = {
    Type.USD: Decimal,
    Type.COUNT: int,
    Type.DAY: date.fromisoformat,
    Type.TIME: datetime.fromisoformat,
}


def test_a_column_that_is_not_guarded_holds_no_text(world: World) -> None:
    """Amounts, counts and times are written as they are, so they must be what they are called."""
    for wanted in LISTS.values():
        found = rows(as_csv(wanted))
        assert found, wanted.name
        for column in wanted.columns:
            if column.type != Type.TEXT:
                for cell in {row[column.name] for row in found} - {""}:
                    READS[column.type](cell)


def test_the_same_rows_make_the_same_bytes(world: World) -> None:
    """An order ends with a key: the row's own, or its number within the file that it is of."""
    for wanted in LISTS.values():
        assert as_csv(wanted) == as_csv(wanted), wanted.name
        last = wanted.order.rpartition(" ")[2]
        assert last == wanted.key or "s.id, " in wanted.order, wanted.name


def test_each_list_takes_each_of_its_filters(world: World) -> None:
    """Each alone is a condition that the database understands; together with nobody they choose nothing."""
    values = {"from": "2026-01-01", "to": "2026-03-01", "standing": "no"}
    for wanted in LISTS.values():
        given = {option: values.get(option, NOBODY) for option in wanted.filters}

        for option, value in given.items():
            as_csv(wanted, {option: value})
        assert rows(as_csv(wanted, given)) == [], wanted.name


# --- By command --------------------------------------------------------------------------------------


def exported(*arguments: str, out: Path) -> Any:
    told = StringIO()
    call_command("export", *arguments, "--out", str(out), "--json", stdout=told)
    return json.loads(told.getvalue())


def test_the_lines_of_a_settlement_come_to_its_net(world: World, tmp_path: Path) -> None:
    settlement, out = Settlement.objects.get(), tmp_path / "lines.csv"

    told = exported("settlement-lines", "--settlement", str(settlement.pk), out=out)
    nothing = exported("settlement-lines", "--settlement", NOBODY, out=tmp_path / "none.csv")

    found = rows(out.read_bytes())
    assert told["rows"] == len(found) == settlement.line_count
    assert told["total_usd"] == str(settlement.net)
    assert sum(Decimal(row["amount USD"]) for row in found) == settlement.net
    assert (nothing["rows"], nothing["total_usd"]) == (0, "0.00")


def test_payouts_that_did_not_land_are_told_with_their_net(world: World, tmp_path: Path) -> None:
    net = Payout.objects.get().net

    told = exported("payouts", "--standing", "yes", "--lane", "cis", out=tmp_path / "open.csv")
    landed = exported("payouts", "--standing", "no", out=tmp_path / "landed.csv")

    assert (told["rows"], told["total_usd"]) == (1, str(net))
    assert landed["rows"] == 0


def test_a_list_without_money_has_no_total(world: World, tmp_path: Path) -> None:
    told, book = StringIO(), tmp_path / "trail.xlsx"
    call_command("export", "audit-trail", "--by", "ann", "--out", str(tmp_path / "t"), stdout=told)

    as_json = exported("audit-trail", "--by", "ann", "--format", "xlsx", out=book)

    assert "total" not in told.getvalue()
    assert as_json["total_usd"] is None
    assert "Total USD" not in ZipFile(book).read("xl/worksheets/sheet1.xml").decode()
    (row,) = csv.DictReader((tmp_path / "t").read_text().splitlines())
    assert (row["by"], row["about what"]) == ("ann", "checkout.charge")
    assert row["what, and why"] == "Opened another round: the card was topped up"


def test_the_command_takes_what_was_accepted_alone(world: World, tmp_path: Path) -> None:
    edit(
        "UPDATE settlements_bankstatement SET state = 'quarantined', accepted_at = NULL, reason = 'x'"
    )

    assert exported("bank-entries", out=tmp_path / "entries.csv")["rows"] == 0
    assert exported("bank-statements", out=tmp_path / "files.csv")["rows"] == 1


# --- Who ---------------------------------------------------------------------------------------------


def without_trail() -> Client:
    """Somebody who exports and reads charges, and does not see the log of decisions."""
    user = user_of(name="carl")
    rights = ["add_exportrun", "view_exportrun", "download_exportrun", "view_charge"]
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(user)
    return client


def test_the_trail_is_taken_away_by_who_sees_it_alone(world: World, folder: Path) -> None:
    """Neither asked for, nor downloaded when another asked for it."""
    run = made(ask(member(APPROVER, name="boss"), "audit-trail"), world, folder)
    charges = made(ask(member(APPROVER, name="boss2"), "charges"), world, folder)
    carl = without_trail()

    asked = carl.get(reverse("admin:settlements_exportrun_ask", args=["audit-trail"]), follow=True)
    page = carl.get(reverse("admin:settlements_exportrun_change", args=[run.pk]))
    taken = carl.post(reverse("admin:settlements_exportrun_download", args=[run.pk]))
    other = carl.post(reverse("admin:settlements_exportrun_download", args=[charges.pk]))
    b"".join(other.streaming_content)  # type: ignore[attr-defined]

    assert "You may not see log entries" in asked.content.decode()
    assert "/download/" not in page.content.decode()
    assert taken.status_code == 403
    assert other.status_code == 200


def test_the_database_wants_a_total_of_whatever_has_money(world: World, folder: Path) -> None:
    run = made(ask(member(ANALYST, name="anna"), "holds"), world, folder)
    assert ExportRun.objects.get(pk=run.pk).total is None

    with pytest.raises(IntegrityError, match="export_made"):
        edit("UPDATE settlements_exportrun SET what = 'payouts' WHERE id = %s", run.pk)
