"""Exports from the pages: what the list shows is what the file holds, made once, downloaded by who may."""

import csv
import hashlib
import json
import threading
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test import Client
from django.urls import reverse

from checkout import rescue
from checkout.gateways import DeclineClass, Declined
from checkout.models import CaseKind
from checkout.moves import open_case
from settlements import books, reconciliation
from settlements.admin.export_pages import writer_of
from settlements.exports import runs
from settlements.exports.runs import LEASE, MOST_TRIES, ClaimLost, Made
from settlements.management.exporting import ExportWorker
from settlements.models import BooksClose, ExportForm, ExportRun, ExportState, ExportWhat
from settlements.roles import ANALYST, APPROVER, OPERATOR, VIEWER
from tests.factories import World
from tests.factories_roles import member, pages_at, user_of
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db(transaction=True)

WHY = "for the auditors"
DAY = date(2026, 1, 31)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A charge captured short, one exhausted, one owed; a file accepted and one set aside; cases."""
    world, inbox = World(), tmp_path / "in"
    inbox.mkdir()
    paid = world.due_charge(price="19.99")
    world.receive(paid)
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    world.receive(world.due_charge(price="5.01"))
    world.due_charge(price="100.00")
    text = statement_text(DAY)
    take_in(text, world=world, folder=inbox)
    take_in(text.replace(",charge,", ",imagined,"), world=world, folder=inbox, name="other.csv")
    edit("UPDATE checkout_attempt SET captured_amount = 19.96 WHERE outcome = 'captured'")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    open_case(
        CaseKind.UNAPPLIED_RECEIPT,
        paid,
        subject="a second capture",
        amount=Decimal("19.99"),
        reason="captured twice",
        proposal="refund 19.99 USD",
        now=world.clock.now(),
    )
    rescue.keep_unreadable(subject="m-1", body="{", reason="no JSON", now=world.clock.now())
    return world


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.EXPORTS_FOLDER = str(tmp_path / "exports")
    return tmp_path / "exports"


def worker(world: World, folder: Path, **facts: Any) -> ExportWorker:
    return ExportWorker(
        folder=folder,
        kept=timedelta(days=30),
        clock=world.clock,
        beats=False,
        **{"writer_of": writer_of, **facts},
    )


def ask(client: Client, what: str, query: str = "", *, form: str = "csv") -> ExportRun:
    address = reverse("admin:settlements_exportrun_ask", args=[what])
    answer = client.post(f"{address}?{query}", {"form": form, "reason": WHY})
    assert answer.status_code == 302, answer.content.decode()
    return ExportRun.objects.latest("id")


def made(run: ExportRun, world: World, folder: Path) -> ExportRun:
    done = worker(world, folder).turn()
    assert done is not None
    assert done.pk == run.pk
    assert done.state == ExportState.MADE, done.failed_because
    return done


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(content.decode("utf-8"), newline="")))


# What each list shows under some filter, and the column that its page adds up.
SHOWN = [
    ("charges", "checkout_charge", "", "amount USD"),
    ("charges", "checkout_charge", "state__exact=due", "amount USD"),
    ("charges", "checkout_charge", "lane=cis&state__exact=succeeded", "amount USD"),
    ("charges", "checkout_charge", "awaits=date", "amount USD"),
    ("charges", "checkout_charge", "month=2026-01&q=nobody", "amount USD"),
    ("attempts", "checkout_attempt", "", "amount USD"),
    ("attempts", "checkout_attempt", "decline=funds", "amount USD"),
    ("discrepancies", "settlements_discrepancy", "standing=yes", "difference USD"),
    ("discrepancies", "settlements_discrepancy", "age=month&whose=nobody", "difference USD"),
    ("statement-lines", "settlements_statementline", "", "net USD"),
    ("statement-lines", "settlements_statementline", "what=charges&booked=2026-01", "gross USD"),
    ("cases", "checkout_case", "open=yes", "amount USD"),
]


@pytest.mark.parametrize(("what", "table", "query", "column"), SHOWN)
def test_r48_the_file_holds_what_the_page_shows(
    world: World, folder: Path, what: str, table: str, query: str, column: str
) -> None:
    """Count and USD total of the page, of the row of the export, and of the file are one."""
    with pages_at(world.clock):
        client = member(ANALYST, name="ann")
        page = client.get(f"{reverse(f'admin:{table}_changelist')}?{query}")
        printed = page.context["printed"]
        run = made(ask(client, what, query), world, folder)

    found = rows((folder / run.file).read_bytes())
    assert f"/ask/{what}/" in page.content.decode()
    assert run.rows == len(found) == printed.count
    assert run.total == sum((Decimal(row[column] or 0) for row in found), Decimal()) == printed.usd
    assert run.words == ("everything" if printed.chosen == "none" else printed.chosen)
    assert run.sha256 == hashlib.sha256((folder / run.file).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("what", "table", "query", "usd"),
    [
        ("statement-lines", "settlements_statementline", "what=fees&booked=2026-01", "-0.88"),
        ("attempts", "checkout_attempt", "first=yes&decline=funds", "5.01"),
        ("attempts", "checkout_attempt", "first=collected", "0.00"),
    ],
)
def test_r48_the_file_adds_up_the_part_that_the_page_does(
    world: World, folder: Path, what: str, table: str, query: str, usd: str
) -> None:
    """Of a line its fee, of a first decline what was collected later: a part, or another row's."""
    with pages_at(world.clock):
        client = member(ANALYST, name="ann")
        printed = client.get(f"{reverse(f'admin:{table}_changelist')}?{query}").context["printed"]
        run = made(ask(client, what, query), world, folder)

    assert (run.rows, run.total) == (printed.count, printed.usd)
    assert printed.usd == Decimal(usd)


def test_the_lists_are_not_empty_in_these_tests(world: World, folder: Path) -> None:
    client = member(ANALYST, name="ann")
    lists = {what for what, *_ in SHOWN}
    counts = {what: made(ask(client, what), world, folder).rows for what in lists}
    found = counts.pop("discrepancies")

    assert counts == {"charges": 3, "attempts": 2, "statement-lines": 2, "cases": 2}
    assert found
    lines = ExportRun.objects.get(what=ExportWhat.STATEMENT_LINES)
    states = {row["file state"] for row in rows((folder / lines.file).read_bytes())}
    assert states == {"accepted", "quarantined"}


def test_a_list_page_offers_the_export_to_who_may_ask(world: World) -> None:
    for role, offered in ((ANALYST, True), (APPROVER, True), (VIEWER, False), (OPERATOR, False)):
        page = member(role, name=role).get("/admin/checkout/charge/?state__exact=due")
        link = "/admin/settlements/exportrun/ask/charges/?state__exact=due"
        assert (link in page.content.decode()) == offered, role


def test_the_page_before_shows_what_the_list_shows(world: World, folder: Path) -> None:
    address = reverse("admin:settlements_exportrun_ask", args=["charges"])
    page = member(ANALYST, name="ann").get(f"{address}?state__exact=due&p=1&o=2").content.decode()

    assert "<strong>1 charge</strong>" in page
    assert "100.00 USD" in page
    assert "/admin/checkout/charge/?state__exact=due" in page


def test_it_is_downloaded_with_a_name_and_everything_is_written_down(
    world: World, folder: Path
) -> None:
    run = made(ask(member(ANALYST, name="ann"), "charges", "state__exact=due"), world, folder)
    address = reverse("admin:settlements_exportrun_download", args=[run.pk])
    bob = member(APPROVER, name="bob")
    assert (
        run.download_name
        in bob.get(reverse("admin:settlements_exportrun_change", args=[run.pk])).content.decode()
    )

    assert bob.get(address).status_code == 405
    answer = bob.post(address)

    content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    assert hashlib.sha256(content).hexdigest() == run.sha256
    assert answer["Content-Disposition"] == f'attachment; filename="{run.download_name}"'
    assert run.download_name.startswith(f"charges-{run.as_of:%Y-%m-%dT%H%M}")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == str(run.size)
    trail = [
        (row.user.get_username(), row.get_change_message())
        for row in LogEntry.objects.filter(object_id=str(run.pk)).order_by("id")
    ]
    assert [who for who, _ in trail] == ["ann", "bob"]
    assert WHY in trail[0][1]
    assert run.sha256 in trail[1][1]


def test_who_reads_the_list_finds_no_button_and_gets_no_file(world: World, folder: Path) -> None:
    run = made(ask(member(ANALYST, name="ann"), "charges"), world, folder)
    address = reverse("admin:settlements_exportrun_download", args=[run.pk])
    for role in (VIEWER, OPERATOR):
        client = member(role, name=role)
        listed = client.get(reverse("admin:settlements_exportrun_changelist")).content.decode()
        assert "everything" in listed
        assert address not in listed
        assert client.post(address).status_code == 403
    page = member(ANALYST, name="ann").get(reverse("admin:settlements_exportrun_changelist"))
    assert address in page.content.decode()
    assert not LogEntry.objects.filter(change_message__contains="Downloaded").exists()


def test_a_file_that_was_touched_or_lost_is_not_handed_out(world: World, folder: Path) -> None:
    client = member(ANALYST, name="ann")
    run = made(ask(client, "charges"), world, folder)
    address = reverse("admin:settlements_exportrun_download", args=[run.pk])

    (folder / run.file).write_bytes(b"charge,amount USD\n")
    assert "no longer the one" in client.post(address, follow=True).content.decode()
    (folder / run.file).unlink()
    assert "cannot be read here" in client.post(address, follow=True).content.decode()


# --- The forms -----------------------------------------------------------------------------------------


def test_excel_gets_its_marks_and_a_workbook_its_head(world: World, folder: Path) -> None:
    client = member(ANALYST, name="ann")
    excel = made(ask(client, "charges", "state__exact=due", form="csv-excel"), world, folder)
    book = made(ask(client, "charges", "state__exact=due", form="xlsx"), world, folder)

    text = (folder / excel.file).read_bytes()
    assert text.startswith(b"\xef\xbb\xbf")
    assert ";100,00;" in text.decode()
    assert excel.download_name.endswith(".csv")
    sheet = ZipFile(folder / book.file).read("xl/worksheets/sheet1.xml").decode()
    assert "state: due" in sheet.lower()
    assert "<v>100.00</v>" in sheet
    assert book.total == Decimal("100.00")


def test_a_workbook_of_too_many_rows_is_refused_before_and_while_it_is_made(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = member(ANALYST, name="ann")
    ask(client, "charges", form="xlsx")
    monkeypatch.setattr("settlements.exports.xlsx_file.MOST_ROWS", 2)
    monkeypatch.setattr("settlements.admin.exports.MOST_ROWS", 2)

    address = reverse("admin:settlements_exportrun_ask", args=["charges"])
    refused = client.post(address, {"form": "xlsx", "reason": WHY})
    failed = worker(world, folder).turn()

    assert "Take CSV" in refused.content.decode()
    assert ExportRun.objects.count() == 1
    assert failed is not None
    assert failed.state == ExportState.FAILED
    assert "3 rows; a workbook takes at most 2. Narrow the filter, or export CSV." in (
        failed.failed_because
    )
    shown = client.get(reverse("admin:settlements_exportrun_change", args=[failed.pk]))
    assert "or export CSV" in shown.content.decode()
    assert list(folder.iterdir()) == []


def test_without_a_folder_nothing_is_asked_for(world: World) -> None:
    address = reverse("admin:settlements_exportrun_ask", args=["charges"])
    page = member(ANALYST, name="ann").post(address, {"form": "csv", "reason": WHY})

    assert "EXPORTS_FOLDER is not set" in page.content.decode()
    assert not ExportRun.objects.exists()
    with pytest.raises(CommandError, match="EXPORTS_FOLDER is not set"):
        call_command("export_worker", "--once")


@pytest.mark.parametrize("query", ["imagined=1", "state__exact=due&creator__account__name=x"])
def test_a_filter_that_the_list_does_not_have_is_refused(
    world: World, folder: Path, query: str
) -> None:
    """The address chooses rows, so it must not choose by what the page would not."""
    address = reverse("admin:settlements_exportrun_ask", args=["charges"])
    page = member(ANALYST, name="ann").get(f"{address}?{query}", follow=True).content.decode()

    assert "knows no such filter" in page


# --- The journal of a closed month ---------------------------------------------------------------------


def close(world: World, *, day: date) -> BooksClose:
    """January, whose only day with postings is its last, closed by two people."""

    def approved(proposed: BooksClose) -> BooksClose:
        return books.approve_close(
            close_id=proposed.pk, seen=proposed.sha256, by="bob", reason=WHY, now=now
        )

    now = world.clock.forward(days=1, seconds=3 * 3600)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    reasons = dict.fromkeys(books.KINDS, "looked at")
    with transaction.atomic():
        approved(books.propose_close(day=day, reasons=reasons, by="ann", now=now))
    with transaction.atomic():
        month = books.propose_month(month=day.replace(day=1), by="ann", now=now)
        return approved(month)


def test_the_journal_of_a_closed_month_is_what_the_close_keeps(world: World, folder: Path) -> None:
    kept = close(world, day=DAY)
    client = member(ANALYST, name="ann")
    listed = client.get(reverse("admin:settlements_exportrun_changelist")).content.decode()
    assert "ask/journal/?month=2026-01" in listed
    with pages_at(world.clock):
        run = made(ask(client, "journal", "month=2026-01", form="zip"), world, folder)
        again = made(ask(client, "journal", "month=2026-01", form="zip"), world, folder)

    pack = ZipFile(folder / run.file)
    assert pack.namelist() == [
        "journal-2026-01.csv",
        "trial-balance-2026-01.csv",
        "manifest.json",
    ]
    journal = pack.read("journal-2026-01.csv")
    assert hashlib.sha256(journal).hexdigest() == kept.journal_sha256
    balance = hashlib.sha256(pack.read("trial-balance-2026-01.csv")).hexdigest()
    assert balance == kept.figures["trial_balance_sha256"]
    assert (run.rows, run.total) == (kept.line_count, kept.debit)
    # A second run, byte for byte.
    assert (folder / again.file).read_bytes() == (folder / run.file).read_bytes()


def test_a_month_that_is_not_closed_has_no_journal_here(world: World, folder: Path) -> None:
    address = reverse("admin:settlements_exportrun_ask", args=["journal"])
    client = member(ANALYST, name="ann")

    for query, said in (("month=2026-01", "2026-01 is not closed"), ("", "Say of which month")):
        assert said in client.get(f"{address}?{query}", follow=True).content.decode()


def test_a_closed_journal_that_was_changed_behind_the_service_is_not_made(
    world: World, folder: Path
) -> None:
    close(world, day=DAY)
    run = ask(member(ANALYST, name="ann"), "journal", "month=2026-01", form="zip")
    edit("UPDATE checkout_ledgerentry SET kind = 'voided' WHERE kind = 'billed'")

    with pages_at(world.clock):
        failed = worker(world, folder).turn()

    assert failed is not None
    assert failed.pk == run.pk
    assert "not the one that was closed" in failed.failed_because
    assert list(folder.iterdir()) == []


# --- The worker ----------------------------------------------------------------------------------------


def wish(world: World, by: str = "ann", query: str = "") -> ExportRun:
    user_of(ANALYST, name=by)
    with transaction.atomic():
        return runs.ask(
            what=ExportWhat.CHARGES,
            form=ExportForm.CSV,
            query=query,
            words="everything",
            by=by,
            reason=WHY,
            now=world.clock.now(),
        )


def claimed(world: World) -> ExportRun | None:
    with transaction.atomic():
        return runs.claim(now=world.clock.now())


def a_file(world: World) -> Made:
    return Made("1-1.csv", 7, "0" * 64, world.clock.real_now(), 1, Decimal("19.99"))


def test_asked_twice_before_it_is_made_it_is_one(world: World, folder: Path) -> None:
    first, again, other = wish(world), wish(world), wish(world, by="bob")
    assert first.pk == again.pk != other.pk

    worker(world, folder).turn()

    assert wish(world).pk not in {first.pk, other.pk}


def test_a_second_run_changes_nothing(world: World, folder: Path) -> None:
    run = made(wish(world), world, folder)
    before = (folder / run.file).stat()

    assert worker(world, folder).turn() is None

    assert (folder / run.file).stat() == before
    assert [path.name for path in folder.iterdir()] == [run.file]


def test_two_workers_never_take_one(world: World) -> None:
    """While one holds the row in its transaction the other takes the next, without waiting."""
    first, second = wish(world), wish(world, by="bob")
    taken: list[int] = []

    def other() -> None:
        try:
            run = claimed(world)
            taken.append(run.pk if run else 0)
        finally:
            connection.close()

    with transaction.atomic():
        mine = runs.claim(now=world.clock.now())
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)

    assert mine is not None
    assert (mine.pk, taken) == (first.pk, [second.pk])
    assert claimed(world) is None


def test_what_a_killed_worker_began_is_taken_again_and_the_late_one_changes_nothing(
    world: World,
) -> None:
    wish(world)
    killed = claimed(world)
    assert killed is not None
    assert claimed(world) is None
    world.clock.forward(seconds=LEASE.total_seconds() - 1)
    runs.renew(run=killed, now=world.clock.now())
    world.clock.forward(seconds=2)
    assert claimed(world) is None

    world.clock.forward(seconds=LEASE.total_seconds())
    heir = claimed(world)

    assert heir is not None
    assert (heir.pk, heir.tries) == (killed.pk, 2)
    for late in (
        lambda: runs.renew(run=killed, now=world.clock.now()),
        lambda: runs.give_back(run=killed),
        lambda: runs.finish(run=killed, made=a_file(world), now=world.clock.now()),
        lambda: runs.fail(run=killed, because="late", now=world.clock.now()),
    ):
        with pytest.raises(ClaimLost):
            late()
    runs.finish(run=heir, made=a_file(world), now=world.clock.now())
    assert ExportRun.objects.get().state == ExportState.MADE


def test_one_that_no_worker_survives_fails_with_words(world: World) -> None:
    wish(world)
    for _ in range(MOST_TRIES):
        assert claimed(world) is not None
        world.clock.forward(seconds=LEASE.total_seconds() + 1)

    assert claimed(world) is None

    run = ExportRun.objects.get()
    assert run.state == ExportState.FAILED
    assert "no worker came to its end. Narrow the filter" in run.failed_because


def test_what_was_asked_and_made_never_changes(world: World, folder: Path) -> None:
    run = made(wish(world), world, folder)

    for columns in ({"query": "state=due"}, {"total": 0}, {"state": "asked"}, {"asked_by": "eve"}):
        with pytest.raises(IntegrityError, match="never changes"):
            ExportRun.objects.filter(pk=run.pk).update(**columns)
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        run.delete()
    waiting = wish(world)
    with pytest.raises(IntegrityError, match="never changes"):
        ExportRun.objects.filter(pk=waiting.pk).update(reason="another")


def test_a_worker_that_is_told_to_end_gives_the_export_back(world: World, folder: Path) -> None:
    wish(world)
    ending = worker(world, folder)
    ending.stop.set()

    left = ending.turn()

    assert left is not None
    assert (left.state, left.claimed_until) == (ExportState.ASKED, None)
    assert list(folder.iterdir()) == []
    assert made(left, world, folder).tries == 2


def test_what_a_killed_worker_left_in_the_folder_is_removed(world: World, folder: Path) -> None:
    run = wish(world)
    folder.mkdir()
    for name in (f".{run.pk}-1.csv.part", f"{run.pk}-1.csv", f"{run.pk}0-1.csv"):
        (folder / name).write_text("begun")
    world.clock.forward(seconds=1)

    done = made(run, world, folder)

    assert {path.name for path in folder.iterdir()} == {done.file, f"{run.pk}0-1.csv"}
    assert (folder / done.file).stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_told_to_people(world: World, folder: Path) -> None:
    wish(world)
    folder.write_text("a file where the folder should be")

    failed = worker(world, folder).turn()

    assert failed is not None
    assert failed.state == ExportState.FAILED
    assert "An operator looks at EXPORTS_FOLDER; then ask again." in failed.failed_because


def test_an_unexpected_fault_says_no_more_than_its_name(world: World, folder: Path) -> None:
    def broken(run: ExportRun, progress: Any) -> Any:
        raise ValueError("tok_canary")

    wish(world)
    failed = worker(world, folder, writer_of=broken).turn()

    assert failed is not None
    assert "An unexpected fault (ValueError)" in failed.failed_because
    assert "canary" not in failed.failed_because


def test_while_the_database_is_away_nothing_fails(world: World, folder: Path) -> None:
    def away(run: ExportRun, progress: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    run = wish(world)
    with pytest.raises(OperationalError):
        worker(world, folder, writer_of=away).turn()
    assert ExportRun.objects.get().state == ExportState.ASKED

    world.clock.forward(seconds=LEASE.total_seconds() + 1)
    assert made(run, world, folder).tries == 2


def test_nobody_gets_a_file_for_an_account_that_is_closed(world: World, folder: Path) -> None:
    wish(world)
    User.objects.filter(username="ann").update(is_active=False)

    failed = worker(world, folder).turn()

    assert failed is not None
    assert "ann has no active account any more" in failed.failed_because


def test_an_old_file_is_removed_and_the_row_says_so(world: World, folder: Path) -> None:
    run = made(wish(world), world, folder)
    world.clock.forward(days=29)
    assert worker(world, folder).remove_old() == 0

    world.clock.forward(days=2)
    worker(world, folder).turn()

    run.refresh_from_db()
    assert run.removed_at == world.clock.real_now()
    assert (run.rows, list(folder.iterdir())) == (3, [])
    page = member(ANALYST, name="ann").post(
        reverse("admin:settlements_exportrun_download", args=[run.pk]), follow=True
    )
    assert "The file was removed" in page.content.decode()


def test_the_command_makes_what_waits_and_tells_it(world: World, folder: Path) -> None:
    run, out = wish(world), StringIO()

    call_command("export_worker", "--once", "--json", stdout=out)
    (told,) = json.loads(out.getvalue())
    call_command("export_worker", "--once", stdout=(nothing := StringIO()))

    assert (told["export"], told["state"], told["rows"]) == (run.pk, "made", 3)
    assert told["total_usd"] == "125.00"
    assert nothing.getvalue() == "nothing waits\n"


def test_the_command_ends_with_1_when_one_failed(world: World, folder: Path) -> None:
    wish(world)
    User.objects.filter(username="ann").update(is_active=False)

    with pytest.raises(CommandError) as failed:
        call_command("export_worker", "--once", stdout=StringIO())

    assert failed.value.returncode == 1
