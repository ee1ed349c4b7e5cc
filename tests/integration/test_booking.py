"""What files state beside captures, and what has landed, in the books: once, and to the cent."""

import threading
from datetime import date
from decimal import Decimal
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from uuid import uuid4, uuid5

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from checkout import ledger
from checkout.failpoints import Crash
from checkout.models import Attempt, EntryKind, LedgerAccount, LedgerEntry, LedgerPosting
from settlements import booking, reconciliation
from settlements.exports.journal import journal_of_day, trial_balance, write_journal
from settlements.models import Booking, Kind, Payout, PayoutCredit, StatementImport
from settlements.roles import VIEWER
from tests.factories import LANE, World
from tests.factories_bank import Credit, bank_take_in
from tests.factories_payouts import (
    LAST_OF_JANUARY,
    LEFT,
    NAME,
    NET,
    accepted,
    accepted_short,
    captured_world,
    credited,
    named,
    prove,
    stated,
    with_lines,
)
from tests.factories_roles import member
from tests.factories_settlements import edit, statement_text, take_in
from tests.situations import SITUATIONS, WHOLE, ask, open_attempt

pytestmark = pytest.mark.django_db

FEE = Decimal("0.88")
A = LedgerAccount


@pytest.fixture
def world() -> World:
    return captured_world()


def postings(kind: EntryKind) -> dict[str, Decimal]:
    """By account, of the only entry of this kind."""
    entry = LedgerEntry.objects.get(kind=kind)
    assert (entry.charge, entry.attempt) == (None, None)
    return dict(entry.postings.values_list("account", "amount"))


def named_now(world: World) -> set[str]:
    """What an incremental pass names, which is what a full one names (R55)."""
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    incremental = {each.fingerprint for each in reconciliation.standing(kinds=[Kind.PAYOUT])}
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert incremental == {
        each.fingerprint for each in reconciliation.standing(kinds=[Kind.PAYOUT])
    }
    return incremental


# --- What a file states --------------------------------------------------------------------------------


def test_a_file_s_fees_leave_clearing_once(world, tmp_path: Path):
    stated(world, tmp_path)
    prove(world)

    assert postings(EntryKind.STATED) == {A.CLEARING: -FEE, A.FEES: FEE}
    assert LedgerPosting.objects.get(account=A.CLEARING, charge=None).lane == LANE
    assert LedgerEntry.objects.get(kind=EntryKind.STATED).posted_at == world.clock.now().business


def test_every_kind_of_line_has_its_account(world, tmp_path: Path):
    text = with_lines(
        statement_text(LAST_OF_JANUARY),
        ("refund", "-5.00", "0.10"),
        ("dispute", "-2.00", "0.00"),
        ("dispute_fee", "-1.50", "0.00"),
        ("reversal", "0.50", "0.00"),
        ("fee", "-0.20", "0.00"),
        ("adjustment", "0.03", "0.00"),
        # A reserve is ours, and stays with the processor.
        ("reserve_hold", "-1.00", "0.00"),
    )
    take_in(text, world=world, folder=tmp_path)
    prove(world)

    assert postings(EntryKind.STATED) == {
        A.FEES: Decimal("2.68"),
        A.REFUNDS: Decimal("5.00"),
        A.DISPUTES: Decimal("1.50"),
        A.ADJUSTMENTS: Decimal("-0.03"),
        A.CLEARING: Decimal("-9.15"),
    }


def test_a_refund_that_failed_is_less_refunded_and_no_dispute(world, tmp_path: Path):
    """As Stripe's report and a camt.053 tell it: the refund again, with the other sign."""
    text = with_lines(
        statement_text(LAST_OF_JANUARY), ("refund", "-5.00", "0.00"), ("refund", "2.00", "0.00")
    )
    take_in(text, world=world, folder=tmp_path)
    prove(world)

    booked = postings(EntryKind.STATED)
    assert (booked[A.REFUNDS], A.DISPUTES in booked) == (Decimal("3.00"), False)


def refunded(reference: str) -> str:
    """The file of the capture with a refund of all of it."""
    return with_lines(
        statement_text(LAST_OF_JANUARY), ("refund", "-19.99", "0.00"), reference=reference
    )


@pytest.mark.parametrize(
    ("written", "named"), [("lower", True), ("upper", True), ("bare", False), ("within", False)]
)
def test_a_refund_of_what_no_charge_could_take_gives_back_unapplied_receipts(
    world, tmp_path: Path, written, named
):
    """It names the attempt by the rule by which it is settled (test_closing.py)."""
    id = str(Attempt.objects.get().pk)
    forms = {"lower": id, "upper": id.upper(), "bare": id.replace("-", ""), "within": f"x {id}"}
    text = refunded(forms[written])
    edit("UPDATE checkout_attempt SET outcome = 'unapplied'")
    take_in(text, world=world, folder=tmp_path)
    prove(world)

    booked = postings(EntryKind.STATED)
    assert booked[A.UNAPPLIED_RECEIPTS if named else A.REFUNDS] == Decimal("19.99")
    assert len(booked) == 3


def refunded_late(folder: Path) -> tuple[World, Attempt]:
    """A refund of an attempt in doubt is booked: its charge was paid by the one before."""
    world = World()
    attempt = open_attempt(SITUATIONS["succeeded, an attempt open"](world))
    world.clock.forward(days=2)
    text = statement_text(LAST_OF_JANUARY)
    balance = Decimal(text.rsplit("closing", 1)[1].split(",")[6])
    lines = ("refund", "-19.99", "0.00"), ("refund", "-1.00", "0.00")
    take_in(
        with_lines(text, *lines, reference=str(attempt.pk), of=balance), world=world, folder=folder
    )
    prove(world)
    assert ledger.balance(account=A.REFUNDS) == Decimal("20.99")
    return world, attempt


def test_a_refund_that_is_known_later_to_give_back_is_corrected_once(tmp_path: Path):
    """The late capture is found after the file was booked; the charge could not take it."""
    world, attempt = refunded_late(tmp_path)
    ask(world, attempt, WHOLE)
    assert Attempt.objects.get(pk=attempt.pk).outcome == "unapplied"

    assert (prove(world).booked, prove(world).booked) == (1, 0)

    assert ledger.balance(account=A.REFUNDS) == 0
    assert ledger.balance(account=A.UNAPPLIED_RECEIPTS) == Decimal("20.99") - attempt.amount
    booked = Booking.objects.get(correction=1)
    assert booked.entry is not None
    assert dict(booked.entry.postings.values_list("account", "amount")) == {
        A.REFUNDS: Decimal("-20.99"),
        A.UNAPPLIED_RECEIPTS: Decimal("20.99"),
    }
    world.clock.forward(days=1)
    assert not [name for name in named_now(world) if "file:" in name]


def test_a_refund_that_nobody_corrected_for_an_hour_is_named(tmp_path: Path):
    world, attempt = refunded_late(tmp_path)
    ask(world, attempt, WHOLE)
    file = f"payout:amount:file:{StatementImport.objects.get().pk}:given_back"
    assert file not in named_now(world)

    world.clock.forward(days=1)

    assert file in named_now(world)
    prove(world)
    assert file not in named_now(world)


def test_a_file_that_states_nothing_beside_captures_has_no_entry(world, tmp_path: Path):
    take_in(statement_text(date(2026, 2, 1)), world=world, folder=tmp_path)
    prove(world)

    assert Booking.objects.get().entry is None
    assert not LedgerEntry.objects.filter(kind=EntryKind.STATED).exists()


# --- What has landed -----------------------------------------------------------------------------------


def test_what_landed_is_cash_and_nothing_is_left_in_clearing(world, tmp_path: Path):
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    prove(world)

    assert postings(EntryKind.LANDED) == {A.CLEARING: -NET, A.CASH: NET}
    assert held() == {A.CASH: NET, A.FEES: FEE, A.CLEARING: Decimal("0.00")}
    assert named_now(world) == set()


def held() -> dict[str, Decimal]:
    """What the books hold of what came, and of what has not."""
    return {account: ledger.balance(account=account) for account in (A.CASH, A.FEES, A.CLEARING)}


def test_what_a_bank_kept_is_a_fee_by_itself_once_it_landed(world, tmp_path: Path):
    """The money was there before two people accepted what is missing of it."""
    stated(world, tmp_path)
    credited(world, tmp_path, named("4.11"))
    prove(world)
    short = {A.CASH: Decimal("4.11"), A.FEES: FEE, A.CLEARING: Decimal("15.00")}
    assert (Payout.objects.get().landed_on, held()) == (None, short)

    accepted(world)

    assert Payout.objects.get().kept == Decimal("15.00")
    assert held() == {A.CASH: Decimal("4.11"), A.FEES: FEE + 15, A.CLEARING: Decimal("0.00")}
    assert Booking.objects.get(credit=None, statement=None).fees == Decimal("15.00")
    assert not [name for name in named_now(world) if "booked" in name]


def late(world: World, folder: Path, amount: str, **other: object) -> None:
    """The bank's next statement, a week after the payout landed."""
    bank_take_in(
        [Credit(amount, date(2026, 2, 9), NAME, **other)],  # type: ignore[arg-type]
        world=world,
        folder=folder,
        first=date(2026, 2, 9),
        last=date(2026, 2, 9),
        opening=str(NET),
    )


@pytest.mark.parametrize(
    ("amount", "taken_back", "cash", "clearing"),
    [("-19.11", True, "0.00", "19.11"), ("19.11", False, "38.22", "-19.11")],
)
def test_what_the_bank_takes_back_or_credits_again_is_cash_too(
    world, tmp_path: Path, amount, taken_back, cash, clearing
):
    """Clearing of the lane shows what differs, and the comparison still names it."""
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)

    late(world, tmp_path, amount, is_reversal=taken_back)

    assert prove(world).booked == 1
    assert held() == {A.CASH: Decimal(cash), A.FEES: FEE, A.CLEARING: Decimal(clearing)}
    assert ledger.balance(account=A.CASH) == sum(c.entry.net for c in PayoutCredit.objects.all())
    assert prove(world).booked == 0
    assert named_now(world) == {f"payout:duplicate:{Payout.objects.get().pk}:bank"}


def test_a_credit_of_a_payout_that_may_not_land_is_cash(world, tmp_path: Path):
    """A payout line that is not its lines' sum: the bank's money is there all the same."""
    text = statement_text(LAST_OF_JANUARY, LEFT).replace(
        f"-{NET},0.00,-{NET}", "-18.11,0.00,-18.11"
    )
    head, _, closing = text.rstrip("\n").rpartition("\n")
    closing = closing.replace(",0.00,USD", ",1.00,USD")
    take_in(f"{head}\n{closing}\n", world=world, folder=tmp_path)
    credited(world, tmp_path, named("18.11"))

    prove(world)

    assert Payout.objects.get().landed_on is None
    assert postings(EntryKind.LANDED) == {A.CLEARING: Decimal("-18.11"), A.CASH: Decimal("18.11")}


def test_the_journal_of_the_month_and_of_the_day_hold_it(world, tmp_path: Path):
    stated(world, tmp_path)
    today = world.clock.now().business.date()
    to = BytesIO()
    write_journal(month=today.replace(day=1), today=date(2027, 1, 1), to=to)
    head, *lines = to.getvalue().decode().splitlines(keepends=True)
    of_today = [line for line in lines if line.startswith(today.isoformat())]

    said = journal_of_day(day=today)

    assert any(",stated,fees," in line and ",,0.88," in line for line in of_today)
    assert said.sha256 == sha256("".join([head, *of_today]).encode()).hexdigest()
    fees = [b for b in trial_balance(month=today.replace(day=1)) if b.account == A.FEES]
    assert [(b.debit, b.credit) for b in fees] == [(FEE, Decimal("0.00"))]


# --- Twice, at once, killed ----------------------------------------------------------------------------


def unbooked(world: World, folder: Path) -> None:
    """As the version before left it: gathered and landed, and booked by nobody."""
    stated(world, folder)
    credited(world, folder, named())
    prove(world)
    edit("DELETE FROM settlements_booking")
    edit("DELETE FROM checkout_ledgerposting WHERE charge_id IS NULL")
    edit("DELETE FROM checkout_ledgerentry WHERE charge_id IS NULL")


def test_what_was_gathered_before_is_booked_by_the_first_run(world, tmp_path: Path):
    unbooked(world, tmp_path)

    assert prove(world).booked == 3
    assert (len(postings(EntryKind.STATED)), len(postings(EntryKind.LANDED))) == (2, 2)
    assert prove(world).booked == 0


def test_one_that_dies_books_nothing_and_the_next_all(world, tmp_path: Path):
    unbooked(world, tmp_path)

    def dying() -> None:
        with transaction.atomic():
            for id in booking.unbooked_files():
                booking.book_file(id, now=world.clock.now())
            raise Crash("here")

    with pytest.raises(Crash):
        dying()
    assert not Booking.objects.exists()

    assert prove(world).booked == 3


def test_one_that_cannot_be_booked_keeps_no_other_from_it(world, tmp_path: Path):
    """A sum beyond what a column holds, or whatever else the database refuses."""
    unbooked(world, tmp_path)
    edit("ALTER TABLE settlements_booking ADD CONSTRAINT no_file CHECK (statement_id IS NULL)")

    assert prove(world).booked == 2
    assert not Booking.objects.filter(statement__isnull=False).exists()

    edit("ALTER TABLE settlements_booking DROP CONSTRAINT no_file")
    assert prove(world).booked == 1


def test_a_payout_reversed_after_it_landed_short_is_gathered(world, tmp_path: Path):
    """What left is nothing any more; what the bank kept of it stays what two people accepted."""
    accepted_short(world, tmp_path)
    text = statement_text(date(2026, 2, 3)).rstrip("\n")
    head, _, closing = text.rpartition("\n")
    back = f"x-back,payout,,,2026-02-03T13:00:00Z,{NET},0.00,{NET},USD,{NAME}"
    closing = closing.replace(",0.00,USD", f",{NET},USD")
    world.clock.forward(days=3)
    take_in("\n".join([head, back, closing]) + "\n", world=world, folder=tmp_path, name="back.csv")

    assert prove(world).files == 1
    payout = Payout.objects.get()
    assert (payout.paid, payout.kept) == (Decimal("0.00"), Decimal("15.00"))
    assert ledger.balance(account=A.CASH) == Decimal("4.11")


def test_a_booking_that_somebody_deleted_finds_its_entry(world, tmp_path: Path):
    stated(world, tmp_path)
    edit("DELETE FROM settlements_booking")

    assert prove(world).booked == 1
    assert Booking.objects.get().entry == LedgerEntry.objects.get(kind=EntryKind.STATED)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_book_each_file_once(tmp_path: Path):
    world = captured_world()
    unbooked(world, tmp_path)
    start, failed = threading.Barrier(2), list[Exception]()

    def book() -> None:
        try:
            start.wait(20)
            prove(world)
        except Exception as error:  # noqa: BLE001  told to the main thread
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=book) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not failed
    assert Booking.objects.count() == 3
    assert LedgerEntry.objects.filter(charge=None).count() == 2


# --- Beside the version before, and after it ----------------------------------------------------------


def booked_as_before(world: World) -> None:
    """As the version before books a payout that landed: its first credit and what was kept, in one."""
    payout = Payout.objects.get()
    with transaction.atomic(), connection.cursor() as cursor:
        entry = ledger.post_of_lane(
            kind=EntryKind.LANDED,
            subject=uuid5(uuid5(booking.FACTS, payout.lane), payout.reference),
            lane=payout.lane,
            postings={A.CLEARING: -NET, A.CASH: NET},
            now=world.clock.now(),
        )
        cursor.execute(
            "INSERT INTO settlements_booking (payout_id, entry_id, clearing, cash, fees, refunds,"
            " disputes, adjustments, unapplied_receipts) VALUES (%s, %s, %s, %s, 0, 0, 0, 0, 0)",
            [payout.pk, entry.pk, -NET, NET],
        )


@pytest.mark.django_db(transaction=True)
def test_what_was_booked_before_the_upgrade_is_not_booked_again(tmp_path: Path):
    """Only what no booking names: here the credit that the bank took back since."""
    world = captured_world()
    unbooked(world, tmp_path)
    call_command("migrate", "settlements", "0048", verbosity=0)
    booked_as_before(world)

    call_command("migrate", verbosity=0)

    assert Booking.objects.get().credit == PayoutCredit.objects.get()
    assert prove(world).booked == 1  # the file
    late(world, tmp_path, f"-{NET}", is_reversal=True)
    assert prove(world).booked == 1
    assert ledger.balance(account=A.CASH) == 0
    assert not [name for name in named_now(world) if "booked" in name]


def test_the_version_before_books_a_credit_that_this_one_then_leaves(world, tmp_path: Path):
    unbooked(world, tmp_path)
    booked_as_before(world)

    assert prove(world).booked == 1  # the file
    assert held() == {A.CASH: NET, A.FEES: FEE, A.CLEARING: Decimal("0.00")}
    assert not [name for name in named_now(world) if "rewritten" not in name]


def test_the_version_before_is_refused_a_credit_that_this_one_booked(world, tmp_path: Path):
    """Before the payout landed, so that no row of the payout keeps it from trying."""
    unbooked(world, tmp_path)
    with transaction.atomic():
        booking.book_credit(PayoutCredit.objects.get().pk, now=world.clock.now())

    with pytest.raises(IntegrityError, match="credit_id"):
        booked_as_before(world)

    prove(world)
    assert held() == {A.CASH: NET, A.FEES: FEE, A.CLEARING: Decimal("0.00")}
    assert LedgerEntry.objects.filter(kind=EntryKind.LANDED).count() == 1


# --- Held against the books ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (
            "UPDATE checkout_ledgerposting SET amount = amount + 0.01 WHERE account = 'fees'",
            "UPDATE checkout_ledgerposting SET amount = amount - 0.01 WHERE account = 'fees'",
        ),
        (
            "UPDATE settlements_booking SET fees = fees - 0.01, clearing = clearing + 0.01"
            " WHERE statement_id IS NOT NULL",
            "UPDATE settlements_booking SET fees = fees + 0.01, clearing = clearing - 0.01"
            " WHERE statement_id IS NOT NULL",
        ),
        (
            "UPDATE settlements_payout SET kept = 0.01",
            "UPDATE settlements_payout SET kept = 0",
        ),
        (
            "UPDATE settlements_bankentry SET amount = amount + 0.01",
            "UPDATE settlements_bankentry SET amount = amount - 0.01",
        ),
    ],
)
def test_a_cent_between_what_moved_and_the_books_is_named(world, tmp_path: Path, wrong, right):
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    assert named_now(world) == set()

    edit(wrong)
    assert any("amount" in fingerprint for fingerprint in named_now(world))

    edit(right)
    assert named_now(world) == set()


def test_what_nobody_booked_for_an_hour_is_named_until_it_is(world, tmp_path: Path):
    unbooked(world, tmp_path)
    world.clock.forward(days=3)

    file, credit = StatementImport.objects.get(), PayoutCredit.objects.get()
    assert {name for name in named_now(world) if "missing" in name} == {
        f"payout:missing:file:{file.pk}:booked",
        f"payout:missing:{credit.payout_id}:booked:{credit.pk}",
    }

    prove(world)
    assert not [name for name in named_now(world) if "missing" in name]


def test_what_a_bank_kept_and_nobody_booked_for_an_hour_is_named(world, tmp_path: Path):
    accepted_short(world, tmp_path)
    edit(
        "DELETE FROM checkout_ledgerposting WHERE entry_id IN"
        " (SELECT entry_id FROM settlements_booking WHERE payout_id IS NOT NULL)"
    )
    edit("DELETE FROM settlements_booking WHERE payout_id IS NOT NULL")
    world.clock.forward(days=3)

    assert f"payout:missing:{Payout.objects.get().pk}:booked" in named_now(world)


def test_an_entry_that_no_file_moved_is_named(world, tmp_path: Path):
    stated(world, tmp_path)
    ledger.post_of_lane(
        kind=EntryKind.STATED,
        subject=uuid4(),
        lane=LANE,
        postings={A.CLEARING: Decimal("-1.00"), A.FEES: Decimal("1.00")},
        now=world.clock.now(),
    )

    assert len(named_now(world)) == 2


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE settlements_booking SET fees = 0", "never changed or deleted"),
        ("DELETE FROM settlements_booking", "never changed or deleted"),
        (
            "INSERT INTO checkout_ledgerentry (id, kind, charge_id, posted_at)"
            " SELECT gen_random_uuid(), 'landed', id, now() FROM checkout_charge",
            "entry_charge",
        ),
        (
            "INSERT INTO checkout_ledgerentry (id, kind, posted_at)"
            " VALUES (gen_random_uuid(), 'billed', now())",
            "entry_charge",
        ),
        (
            "INSERT INTO settlements_booking (payout_id, clearing, cash, fees, refunds, disputes,"
            " adjustments, unapplied_receipts) SELECT id, -19.11, 19.10, 0, 0, 0, 0, 0"
            " FROM settlements_payout",
            "is not what the bank",
        ),
        (
            "INSERT INTO settlements_booking (credit_id, clearing, cash, fees, refunds, disputes,"
            " adjustments, unapplied_receipts) SELECT id, -0.01, 0.01, 0, 0, 0, 0, 0"
            " FROM settlements_payoutcredit",
            "is not what the bank credited",
        ),
        (
            "INSERT INTO settlements_booking (payout_id, clearing, cash, fees, refunds, disputes,"
            " adjustments, unapplied_receipts) SELECT id, -0.01, 0, 0.01, 0, 0, 0, 0"
            " FROM settlements_payout",
            "is not what the bank kept",
        ),
        (
            "INSERT INTO settlements_booking (credit_id, entry_id, clearing, cash, fees, refunds,"
            " disputes, adjustments, unapplied_receipts) SELECT credit_id, entry_id, clearing, cash,"
            " fees, refunds, disputes, adjustments, unapplied_receipts FROM settlements_booking"
            " WHERE credit_id IS NOT NULL",
            "duplicate key",
        ),
        (
            "INSERT INTO settlements_booking (clearing, cash, fees, refunds, disputes, adjustments,"
            " unapplied_receipts) VALUES (0, 0, 0, 0, 0, 0, 0)",
            "booking_of_one_thing",
        ),
        (
            "INSERT INTO settlements_booking (statement_id, entry_id, correction, clearing, cash, fees,"
            " refunds, disputes, adjustments, unapplied_receipts) SELECT statement_id, entry_id, 1,"
            " clearing, cash, fees, refunds, disputes, adjustments, unapplied_receipts"
            " FROM settlements_booking WHERE fees <> 0",
            "booking_correction",
        ),
        (
            "INSERT INTO settlements_booking (statement_id, clearing, cash, fees, refunds, disputes,"
            " adjustments, unapplied_receipts) SELECT statement_id, 0, 0, 0, 0, 0, 0, 0"
            " FROM settlements_booking WHERE statement_id IS NOT NULL",
            "booking_file_once",
        ),
    ],
)
def test_r34_the_database_says_it_too(world, tmp_path: Path, sql: str, said: str):
    stated(world, tmp_path)
    credited(world, tmp_path, named("4.11"))
    prove(world)

    with pytest.raises(DatabaseError, match=said):
        raw(sql)


def raw(sql: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)


def test_file_and_payout_lead_to_their_entries(world, tmp_path: Path):
    payout = stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    client = member(VIEWER)
    file = Booking.objects.get(statement__isnull=False)

    pages = {
        f"/admin/settlements/statementimport/{file.statement_id}/change/": "clearing -0.88 · fees +0.88",
        f"/admin/settlements/payout/{payout.pk}/change/": "clearing -19.11 · cash +19.11",
    }
    for address, said in pages.items():
        assert said in client.get(address).content.decode()
    entry = client.get(f"/admin/checkout/ledgerentry/{file.entry_id}/change/")
    assert entry.status_code == 200
    assert "—" in client.get("/admin/checkout/ledgerentry/").content.decode()
