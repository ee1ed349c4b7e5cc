"""The books balance, whoever writes them, and nobody rewrites them (R34, R35, R36)."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Sum

from checkout import ledger
from checkout.ledger import Unbalanced
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Charge,
    EntryKind,
    LedgerAccount,
    LedgerEntry,
    LedgerPosting,
)
from tests.factories import World, attempts
from tests.situations import (
    WHOLE,
    ask,
    exhausted_on_a_date,
    open_attempt,
    rewrite,
    succeeded,
    succeeded_with_open_attempt,
    voided,
    written_off,
)

pytestmark = pytest.mark.django_db

A = LedgerAccount
NAME = UUID("00000000-0000-5000-8000-000000000003")


@pytest.fixture
def world() -> World:
    return World()


def sql(text: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text, values)


def deferred() -> None:
    """What a commit would check."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")


@contextmanager
def refused(match: str) -> Iterator[None]:
    """The database refuses; the test goes on in a savepoint."""
    with pytest.raises(DatabaseError, match=match), transaction.atomic():
        yield


def entry(charge: Charge, *amounts: str) -> UUID:
    """An entry by raw SQL, with these postings."""
    entry_id = uuid5(NAME, "entry")
    sql(
        "INSERT INTO checkout_ledgerentry (id, kind, charge_id, posted_at)"
        " VALUES (%s, 'voided', %s, now())",
        entry_id,
        charge.pk,
    )
    for account, amount in zip(("receivable", "revenue", "cash"), amounts, strict=False):
        sql(
            "INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id,"
            " amount) VALUES (%s, %s, '', %s, %s, %s)",
            entry_id,
            account,
            charge.creator_id,
            charge.pk,
            amount,
        )
    return entry_id


def accounts(charge: Charge) -> dict[str, str]:
    rows = LedgerPosting.objects.filter(charge=charge).values_list("account")
    return {name: str(total) for name, total in rows.annotate(Sum("amount")) if total}


# --- What is posted when ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "books"),
    [
        (World.due_charge, {"receivable": "19.99", "revenue": "-19.99"}),
        (succeeded, {"clearing": "19.99", "revenue": "-19.99"}),
        (voided, {}),
        (written_off, {"write_off": "19.99", "revenue": "-19.99"}),
        (exhausted_on_a_date, {"receivable": "19.99", "revenue": "-19.99"}),
    ],
    ids=["billed", "captured", "voided", "written off", "exhausted"],
)
def test_what_the_books_hold_of_a_charge(world: World, make, books: dict[str, str]) -> None:
    charge = make(world)

    assert accounts(charge) == books
    deferred()


def test_each_captured_attempt_has_one_entry_of_the_captured_amount(world: World) -> None:
    """R36: the applied capture and the one the charge could not take."""
    charge = succeeded_with_open_attempt(world)
    ask(world, open_attempt(charge), WHOLE)

    for attempt in attempts(charge):
        posted = LedgerEntry.objects.get(attempt=attempt)
        clearing = posted.postings.get(account=A.CLEARING)
        assert (clearing.amount, clearing.lane) == (attempt.captured_amount, attempt.lane)
    captured = Attempt.objects.filter(
        outcome__in=[AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED]
    )
    assert LedgerEntry.objects.filter(attempt__isnull=False).count() == captured.count() == 2
    assert accounts(charge) == {
        "clearing": "39.98",
        "revenue": "-19.99",
        "unapplied_receipts": "-19.99",
    }


def test_a_fact_is_posted_once(world: World) -> None:
    """R36: the entry's id is derived from its fact."""
    charge = succeeded(world)
    attempt = attempts(charge)[0]

    with pytest.raises(IntegrityError), transaction.atomic():
        ledger.post_capture(
            charge=charge, attempt=attempt, amount=Decimal("19.99"), now=world.clock.now()
        )
    with refused("entry_attempt_once"):
        ledger.post_unapplied(
            charge=charge, attempt=attempt, amount=Decimal("19.99"), now=world.clock.now()
        )


def test_a_capture_without_its_attempt_is_refused(world: World) -> None:
    """R36."""
    charge = world.due_charge()

    with refused("entry_attempt"):
        ledger.post(
            kind=EntryKind.CAPTURED,
            charge=charge,
            postings={A.CLEARING: Decimal("1.00"), A.RECEIVABLE: Decimal("-1.00")},
            now=world.clock.now(),
        )


def test_closing_what_is_closed_posts_nothing(world: World) -> None:
    charge = voided(world)

    closed = ledger.close_receivable(charge=charge, kind=EntryKind.VOIDED, now=world.clock.now())

    assert closed is None


# --- Balance ---------------------------------------------------------------------------------------


def test_an_unbalanced_entry_is_not_even_written(world: World) -> None:
    """R34."""
    charge = world.due_charge()

    with pytest.raises(Unbalanced):
        ledger.post(
            kind=EntryKind.VOIDED,
            charge=charge,
            postings={A.REVENUE: Decimal("19.99"), A.RECEIVABLE: Decimal("-19.98")},
            now=world.clock.now(),
        )


@pytest.mark.parametrize(
    "amounts", [("19.99", "-19.98"), ("19.99",), (), ("-0.01", "0.02", "0.01")]
)
def test_raw_sql_that_does_not_balance_fails_at_commit(world: World, amounts) -> None:
    """R34: a cent off, one side alone, no posting at all."""
    charge = world.due_charge()

    with refused("not to zero"):
        entry(charge, *amounts)
        deferred()


def test_raw_sql_that_balances_is_taken(world: World) -> None:
    """R34: checked at commit, because the postings of an entry come one after the other."""
    charge = world.due_charge()

    entry(charge, "-5.00", "2.50", "2.50")

    deferred()


def test_a_posting_added_to_an_old_entry_fails_at_commit(world: World) -> None:
    """R34: by the posting's own trigger."""
    charge = succeeded(world)
    old = LedgerEntry.objects.filter(charge=charge).latest("posted_at")

    with refused("not to zero"):
        sql(
            "INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id,"
            " amount) VALUES (%s, 'cash', '', %s, %s, 1)",
            old.pk,
            charge.creator_id,
            charge.pk,
        )
        deferred()


@pytest.mark.parametrize(
    ("account", "lane", "amount", "rule"),
    [
        ("receivable", "", "0.00", "posting_not_zero"),
        ("pocket", "", "1.00", "posting_account"),
        ("clearing", "", "1.00", "posting_lane"),
        ("revenue", "cis", "1.00", "posting_lane"),
    ],
)
def test_what_is_no_posting_is_refused(
    world: World, account: str, lane: str, amount: str, rule: str
) -> None:
    charge = world.due_charge()
    entry_id = entry(charge, "1.00", "-1.00")

    with refused(rule):
        sql(
            "INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id,"
            " amount) VALUES (%s, %s, %s, %s, %s, %s)",
            entry_id,
            account if account != "receivable" else "fees",
            lane,
            charge.creator_id,
            charge.pk,
            amount,
        )


def test_all_postings_together_sum_to_zero(world: World) -> None:
    """I3: debits = credits."""
    for make in (succeeded, voided, written_off, exhausted_on_a_date):
        make(world)

    total = LedgerPosting.objects.aggregate(total=Sum("amount"))["total"]

    assert total == 0


# --- Append only -----------------------------------------------------------------------------------

REWRITES = [
    "UPDATE checkout_ledgerposting SET amount = amount + 1",
    "UPDATE checkout_ledgerposting SET account = 'cash', lane = ''",
    "DELETE FROM checkout_ledgerposting",
    "UPDATE checkout_ledgerentry SET kind = 'voided'",
    "DELETE FROM checkout_ledgerentry",
]


@pytest.mark.parametrize("statement", REWRITES)
def test_entries_and_postings_are_never_changed_or_deleted(world: World, statement: str) -> None:
    """R35: not even by the owner of the tables."""
    succeeded(world)

    with refused("a correction is a reversal"):
        sql(statement)


@pytest.mark.parametrize("statement", [*REWRITES, "TRUNCATE checkout_ledgerposting"])
def test_the_application_s_role_has_no_right_to_rewrite(world: World, statement: str) -> None:
    """R35."""
    succeeded(world)

    with refused("permission denied"):
        sql("SET LOCAL ROLE checkout_app")
        sql(statement)


@pytest.mark.parametrize("table", ["charge", "attempt", "case"])
def test_the_application_s_role_may_not_delete_what_money_hangs_on(table: str) -> None:
    with refused("permission denied"):
        sql("SET LOCAL ROLE checkout_app")
        sql(f"DELETE FROM checkout_{table}")


def test_the_application_s_role_can_do_its_work(world: World) -> None:
    """A charge from owed to collected, with no more rights than that role has."""
    sql("SET ROLE checkout_app")
    try:
        charge = succeeded(world)
        voided(world)
        written_off(world)
        deferred()
    finally:
        sql("RESET ROLE")

    assert accounts(charge) == {"clearing": "19.99", "revenue": "-19.99"}


def test_the_application_s_role_may_not_switch_triggers_off() -> None:
    with refused("permission denied"):
        sql("SET LOCAL ROLE checkout_app")
        sql("SET LOCAL session_replication_role = replica")


def test_the_books_are_read_and_not_the_state(world: World) -> None:
    """R26: a row that says `due` changes nothing about what is receivable."""
    charge = succeeded(world)
    rewrite(charge, state="due")

    assert ledger.receivable(charge_id=charge.pk) == 0
