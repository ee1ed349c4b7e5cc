"""What nobody may slip into a closed day, and who may not lock one: by page, command line or raw SQL."""

import getpass
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import Error, connection, transaction

from checkout.clock import Moment
from checkout.models import Attempt, EntryKind, LedgerEntry
from settlements import books, reconciliation
from settlements.banking import import_bank_statement
from settlements.models import STANDING, BooksClose, Decision, Discrepancy
from settlements.roles import APPROVER, VIEWER
from tests.factories import World
from tests.factories_bank import Credit, bank_text
from tests.factories_roles import pages_at, user_of
from tests.factories_settlements import edit, statement_text, take_in
from tests.integration.test_books import (
    approved,
    closed,
    correct,
    doubtful,
    over,
    paid,
    proposed,
    today,
)
from tests.together import together

pytestmark = pytest.mark.django_db
ME = getpass.getuser()
TYPED = f"command line: {ME}"


@pytest.fixture
def world() -> World:
    return World()


def sql(statement: str, *values: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute(statement, values)


# --- One person has one name -----------------------------------------------------------------------


@pytest.mark.parametrize(("proposer", "other"), [(ME, TYPED), (TYPED, ME)])
def test_r43_a_name_at_the_command_line_is_the_same_persons(
    world: World, tmp_path: Path, proposer: str, other: str
) -> None:
    """Proposed on a page and locked by command, or the reverse: still one person, for raw SQL too."""
    paid(world)
    close = proposed(world, over(world, folder=tmp_path), by=proposer)

    with pytest.raises(books.NotDecidable, match="does not approve"):
        approved(world, close, by=other)
    with pytest.raises(Error, match="does not approve"):
        sql(
            "UPDATE settlements_booksclose SET decision = 'approved', decided_by = %s,"
            " decided_at = now(), decided_because = 'because' WHERE id = %s",
            other,
            close.pk,
        )
    sent_back = books.send_back(
        close_id=close.pk, by=other, reason="another one", now=world.clock.now()
    )
    assert sent_back.decision == Decision.WITHDRAWN


@pytest.mark.django_db(transaction=True)
def test_r43_the_command_locks_only_for_who_may_lock_in_the_admin(
    world: World, tmp_path: Path
) -> None:
    """Whoever has a shell is nobody's second pair of eyes: in a container all have one name."""
    paid(world)
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)
    lock = ("close_day", f"{day}", "--approve", close.sha256, "--reason", "compared")

    with pages_at(world.clock):
        with pytest.raises(CommandError, match=f"{ME} may not lock"):
            call_command(*lock)
        user_of(VIEWER, name=ME)
        with pytest.raises(CommandError, match=f"{ME} may not lock"):
            call_command(*lock)
        user_of(APPROVER, name=ME)
        call_command(*lock, stdout=StringIO())

    assert BooksClose.objects.get().decided_by == TYPED


# --- Nothing changes in a closed day -----------------------------------------------------------------


def test_no_posting_joins_an_entry_of_a_closed_day(world: World, tmp_path: Path) -> None:
    """Two that sum to zero, added to an old entry, would change the day's journal."""
    charge = paid(world)
    day = over(world, folder=tmp_path)
    before = closed(world, day)
    entry = LedgerEntry.objects.filter(charge=charge).order_by("posted_at", "kind").first()
    assert entry is not None

    with pytest.raises(Error, match=f"closed through {day}"):
        sql(
            "INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id, amount)"
            " SELECT %s, a.name, '', %s, %s, a.usd"
            " FROM (VALUES ('cash', -0.01), ('write_off', 0.01)) AS a (name, usd)",
            entry.pk,
            charge.creator_id,
            charge.pk,
        )

    assert books.what_changed(close=before, now=world.clock.now()) == ""


@pytest.mark.django_db(transaction=True)
def test_an_older_snapshot_dates_nothing_into_a_day_closed_meanwhile(
    world: World, tmp_path: Path
) -> None:
    """A transaction that began before the close, and does not see it, posts after it."""
    charge = paid(world)
    then = world.clock.now()
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)

    def lock() -> None:
        with transaction.atomic():
            approved(world, close)

    def post_late() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM settlements_booksclose")
            assert together(lock) == [None]
            correct(charge, then)

    with pytest.raises(Error, match="READ COMMITTED"):
        post_late()

    assert not LedgerEntry.objects.filter(kind=EntryKind.CORRECTED).exists()


@pytest.mark.django_db(transaction=True)
def test_the_first_close_waits_for_what_is_posted_before_its_day(
    world: World, tmp_path: Path
) -> None:
    """It locks all that lies before, so an entry that is not committed yet must not slip under it."""
    charge = paid(world)
    now = world.clock.now()
    earlier = Moment(real=now.real, business=now.business - timedelta(days=3))
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)

    def lock() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '500ms'")
            approved(world, close)

    with transaction.atomic():
        correct(charge, earlier)
        (outcome,) = together(lock)
        assert isinstance(outcome, Error), "the day was closed over an entry that was being posted"

    assert together(lock) == [None]


def test_an_entry_moved_to_another_day_behind_the_service_is_named(
    world: World, tmp_path: Path
) -> None:
    """With triggers off: the closed day's journal is not what its certificate says."""
    charge = paid(world)
    closed(world, over(world, folder=tmp_path))

    edit(
        "UPDATE checkout_ledgerentry SET posted_at = posted_at + interval '1 day'"
        " WHERE charge_id = %s AND kind = 'captured'",
        charge.pk,
    )
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    found = Discrepancy.objects.get(STANDING, code="rewritten")
    assert "posted_at" in found.explanation


# --- What must have been looked at -------------------------------------------------------------------


def test_a_day_that_no_comparison_has_looked_at_is_not_closed(world: World, tmp_path: Path) -> None:
    """Nothing discrepant may mean that nobody compared: the timetable was down since noon."""
    paid(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    day: date = world.clock.business_now().date()
    world.clock.forward(days=1, seconds=3 * 3600)

    with pytest.raises(books.NotClosable, match="nothing was compared since"):
        proposed(world, day, file="late again")

    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert proposed(world, day, file="late again").carried_count == 1


def test_a_file_that_no_comparison_has_read_closes_no_day(world: World, tmp_path: Path) -> None:
    """Accepted a moment ago: its missing lines would stand as proved on the certificate."""
    charge = paid(world)
    day = over(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    world.clock.forward(seconds=60)
    head, *_, closing = statement_text(day).splitlines()
    opening = statement_text(day).splitlines()[1]
    empty = "\n".join([head, opening, closing.replace("19.11", "0.00"), ""])
    take_in(empty, world=world, folder=tmp_path)

    with pytest.raises(books.NotClosable, match="nothing was compared since"):
        proposed(world, day)

    world.clock.forward(seconds=15)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with pytest.raises(books.StillOpen, match="discrepancy"):
        proposed(world, day)
    assert Attempt.objects.filter(charge=charge).count() == 1


def test_an_attempt_that_was_sent_again_the_day_after_is_still_carried_over(world: World) -> None:
    """In doubt since the day that is closed; a later send does not make it a matter of that day."""
    attempt = doubtful(world)
    day = over(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    Attempt.objects.filter(pk=attempt.pk).update(sends=2, last_sent_at=world.clock.real_now())

    with pytest.raises(books.StillOpen) as refusal:
        proposed(world, day)

    assert {item.name: item.usd for item in refusal.value.items} == {
        f"attempt:{attempt.pk}": Decimal("199.00")
    }


def test_a_line_of_the_day_that_fits_nothing_is_carried_over(world: World, tmp_path: Path) -> None:
    """Its file comes the morning after, so it is always found after the day; it is of the day."""
    paid(world)
    day = over(world)
    text = statement_text(day)
    row = next(line for line in text.splitlines() if ",charge," in line)
    stranger = row.replace(row.split(",")[2], "order 17").replace("ln_", "ln_x")
    closing = text.splitlines()[-1]
    text = text.replace(row, f"{row}\n{stranger}").replace(
        closing, closing.replace("19.11", "38.22")
    )
    take_in(text, world=world, folder=tmp_path)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    found = Discrepancy.objects.get(STANDING, code="unmatched")

    with pytest.raises(books.StillOpen) as refusal:
        proposed(world, day)

    assert {item.name: item.usd for item in refusal.value.items} == {
        f"discrepancy:{found.pk}": Decimal("19.99")
    }


def test_a_bank_s_statement_that_is_set_aside_is_carried_over(world: World, tmp_path: Path) -> None:
    paid(world)
    day = today(world)
    text = bank_text([Credit("5.00", day)], first=day, last=day).replace(
        '<Amt Ccy="USD">0.00<', '<Amt Ccy="USD">1.00<'
    )
    (tmp_path / "bank.xml").write_text(text, "utf-8")
    import_bank_statement(path=tmp_path / "bank.xml", by="test", now=world.clock.now())
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    over(world, folder=tmp_path)
    found = Discrepancy.objects.get(STANDING, code="quarantined_file")

    with pytest.raises(books.StillOpen) as refusal:
        proposed(world, day)

    assert [item.name for item in refusal.value.items] == [f"discrepancy:{found.pk}"]
