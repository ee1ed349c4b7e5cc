"""Banks' statements: taken in whole or not at all, each following its account's former one."""

import threading
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction

from settlements import reconciliation
from settlements.banking import BankImported, import_bank_statement, preview_bank_statement
from settlements.formats.lines import Refused
from settlements.formats.source import Bounds
from settlements.models import BankEntry, BankStatement, Code, Discrepancy, ImportState, Side
from tests.factories import World
from tests.together import together

pytestmark = pytest.mark.django_db

FILES = Path(__file__).parents[1] / "files" / "statements"
DAY_1 = (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_bytes()
DAY_2 = (FILES / "mock-bank-day-2-with-a-gap.camt.053.001.08.xml").read_bytes()
# The second day as it would be without the hole: nothing moved.
QUIET = DAY_2.replace(b'"USD">1987.44<', b'"USD">1949.22<')


@pytest.fixture
def world() -> World:
    return World()


def take_in(content: bytes, folder: Path, world: World, name: str = "bank.xml") -> BankImported:
    path = folder / name
    path.write_bytes(content)
    return import_bank_statement(path=path, by="test", now=world.clock.now())


def numbered(content: bytes, number: int, day: int) -> bytes:
    """A quiet day's statement with another number and date."""
    return (
        content.replace(b"PLATFORM-2<", f"PLATFORM-{number}<".encode())
        .replace(b"<ElctrncSeqNb>2<", f"<ElctrncSeqNb>{number}<".encode())
        .replace(b"2026-01-06", f"2026-01-{day:02}".encode())
    )


def test_a_statement_that_other_software_wrote_is_accepted_with_its_entries(world, tmp_path):
    (statement,) = take_in(DAY_1, tmp_path, world).statements

    assert (statement.state, statement.account) == ("accepted", "GB33BUKB20201555555555")
    assert (statement.opening, statement.closing) == (Decimal("0.00"), Decimal("1949.22"))
    payout, *equal = BankEntry.objects.order_by("number")
    assert (payout.net, payout.side, payout.value_on) == (
        Decimal("1911.00"),
        Side.CREDIT,
        date(2026, 1, 5),
    )
    assert payout.end_to_end_id == "po_cis_20260103"
    # R39, R41: two credits of the same amount and words are two.
    assert [str(entry.net) for entry in equal] == ["19.11", "19.11"]


def test_the_same_file_again_adds_nothing(world, tmp_path):
    """R39."""
    take_in(DAY_1, tmp_path, world)

    again = take_in(DAY_1, tmp_path, world, name="renamed.xml")

    assert again.again
    assert (BankStatement.objects.count(), BankEntry.objects.count()) == (1, 3)


def test_the_same_statement_in_another_file_is_set_aside(world, tmp_path):
    take_in(DAY_1, tmp_path, world)

    (second,) = take_in(DAY_1.replace(b"\n", b"\n\n", 1), tmp_path, world).statements

    assert second.reason == "statement MB-C053-PLATFORM-1 of GB33BUKB20201555555555 is here already"


def test_a_statement_of_an_account_that_is_not_ours_is_set_aside_until_it_is(world, tmp_path):
    """Whoever brings it proves no payout with a credit at a bank of one's own choice."""
    path = tmp_path / "bank.xml"
    path.write_bytes(DAY_1)
    ours = Bounds(accounts=frozenset({"DE89370400440532013000"}))
    now = world.clock.now()

    (aside,) = import_bank_statement(path=path, by="ann", now=now, bounds=ours).statements

    assert aside.state == "quarantined"
    assert "GB33BUKB20201555555555 is no account of ours" in aside.reason
    (shown,) = preview_bank_statement(path=path, by="ann", now=now, bounds=ours).statements
    assert shown.reason == aside.reason
    named = Bounds(accounts=frozenset({"GB33BUKB20201555555555"}))
    again = import_bank_statement(path=path, by="ann", now=now, bounds=named)
    assert (again.again, [each.pk for each in again.released]) == (True, [aside.pk])
    assert BankStatement.objects.get().state == "accepted"


def test_a_statement_with_a_hole_in_it_is_set_aside_and_named(world, tmp_path):
    """R40: opening + entries = closing; cleared by evidence once the bank sends the true one."""
    take_in(DAY_1, tmp_path, world)
    (gap,) = take_in(DAY_2, tmp_path, world).statements
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    assert gap.reason == (
        "opening 1949.22 and entries of 0.00 make 1949.22, but the closing is 1987.44"
    )
    found = Discrepancy.objects.get(cleared_at__isnull=True)
    assert found.code == Code.QUARANTINED_FILE
    assert "MB-C053-PLATFORM-2" in found.explanation

    take_in(QUIET, tmp_path, world, name="corrected.xml")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert not Discrepancy.objects.filter(cleared_at__isnull=True).exists()


def test_a_statement_that_came_early_is_taken_up_once_the_one_before_it_came(world, tmp_path):
    """R40: by the bank's own numbers."""
    take_in(DAY_1, tmp_path, world)
    (early,) = take_in(numbered(QUIET, 3, 7), tmp_path, world, name="3.xml").statements
    assert early.reason == "statement number 2 has not come yet"

    imported = take_in(QUIET, tmp_path, world, name="2.xml")

    assert [each.sequence for each in imported.released] == [3]
    assert set(BankStatement.objects.values_list("state", flat=True)) == {ImportState.ACCEPTED}


def test_an_opening_other_than_the_former_closing_is_set_aside(world, tmp_path):
    """R40."""
    take_in(DAY_1, tmp_path, world)

    (other,) = take_in(
        QUIET.replace(b'"USD">1949.22<', b'"USD">1949.23<'), tmp_path, world
    ).statements

    assert other.reason == "opening 1949.23 is not the former closing 1949.22"


def test_one_bad_entry_refuses_the_whole_file(world, tmp_path):
    """R39: never 0.00, and nothing is stored."""
    with pytest.raises(Refused, match="entry 3: '' is not an amount"):
        take_in(_third_amount_gone(), tmp_path, world)

    assert (BankStatement.objects.count(), BankEntry.objects.count()) == (0, 0)


def _third_amount_gone() -> bytes:
    head, _, tail = DAY_1.rpartition(b'<Ntry><Amt Ccy="USD">19.11')
    return head + b'<Ntry><Amt Ccy="USD">' + tail


def test_two_statements_of_a_day_without_numbers_follow_each_other(world, tmp_path):
    """R40, R41: written anew under another name it would double each entry; a second one of the day
    begins where the first ended."""
    unnumbered = DAY_1.replace(b"<ElctrncSeqNb>1</ElctrncSeqNb>", b"")
    take_in(unnumbered, tmp_path, world)

    again = unnumbered.replace(b"PLATFORM-1<", b"PLATFORM-1-AGAIN<")
    (doubled,) = take_in(again, tmp_path, world, name="again.xml").statements

    assert (doubled.state, doubled.reason) == (
        "quarantined",
        "opening 0.00 is not the former closing 1949.22",
    )
    evening = QUIET.replace(b"<ElctrncSeqNb>2</ElctrncSeqNb>", b"").replace(
        b"2026-01-06", b"2026-01-05"
    )
    (second,) = take_in(evening, tmp_path, world, name="evening.xml").statements
    assert second.state == "accepted", second.reason


def test_a_second_statement_of_a_day_that_is_set_aside_is_named(world, tmp_path):
    """R40: the morning's was accepted; the evening's has a hole, until the bank sends the true one."""
    unnumbered = DAY_1.replace(b"<ElctrncSeqNb>1</ElctrncSeqNb>", b"")
    take_in(unnumbered, tmp_path, world)
    evening = DAY_2.replace(b"<ElctrncSeqNb>2</ElctrncSeqNb>", b"").replace(
        b"2026-01-06", b"2026-01-05"
    )
    (hole,) = take_in(evening, tmp_path, world, name="evening.xml").statements
    # The first one's own words in another file are no news.
    take_in(unnumbered.replace(b"\n", b"\n\n", 1), tmp_path, world, name="again.xml")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    found = Discrepancy.objects.get(cleared_at__isnull=True)
    assert (found.code, found.fingerprint) == (
        Code.QUARANTINED_FILE,
        f"statement:quarantined_file:bank:{hole.pk}",
    )

    true = evening.replace(b'"USD">1987.44<', b'"USD">1949.22<')
    take_in(true, tmp_path, world, name="corrected.xml")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert not Discrepancy.objects.filter(cleared_at__isnull=True).exists()


def test_a_statement_of_days_to_come_is_refused(world, tmp_path):
    """A typing error in a year would put every later statement aside."""
    with pytest.raises(Refused, match="ends on 2062-01-05"):
        take_in(DAY_1.replace(b"2026-01-0", b"2062-01-0"), tmp_path, world)

    assert BankStatement.objects.count() == 0


def test_amounts_beyond_what_a_sum_may_hold_are_refused(world, tmp_path):
    entry = b"<Ntry>" + DAY_1.partition(b"<Ntry>")[2].partition(b"</Ntry>")[0] + b"</Ntry>"
    large = entry.replace(b'"USD">1911.00<', b'"USD">9999999999.99<')
    assert large != entry
    with pytest.raises(Refused, match=r"more than 999999999999\.99"):
        take_in(DAY_1.replace(b"<Ntry>", large * 101 + b"<Ntry>", 1), tmp_path, world)

    assert BankStatement.objects.count() == 0


def test_a_preview_stores_nothing(world, tmp_path):
    path = tmp_path / "bank.xml"
    path.write_bytes(DAY_1)

    preview = preview_bank_statement(path=path, by="test", now=world.clock.now())

    assert [(each.state, each.entry_count) for each in preview.statements] == [("accepted", 3)]
    assert preview.known == []
    assert BankStatement.objects.count() == 0


def test_what_a_bank_wrote_never_changes(world, tmp_path):
    """R35 for what is not ours: by trigger, for raw SQL too."""
    take_in(DAY_1, tmp_path, world)

    for sql in (
        "UPDATE settlements_bankentry SET amount = amount + 0.01",
        "DELETE FROM settlements_bankentry",
        "UPDATE settlements_bankstatement SET closing = closing",
        "DELETE FROM settlements_bankstatement",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)


@pytest.mark.django_db(transaction=True)
def test_two_imports_of_one_file_at_once_store_it_once(world, tmp_path):
    """R39: the second waits for the first, and then knows the file."""
    path = tmp_path / "bank.xml"
    path.write_bytes(DAY_1)
    results: list[bool] = []
    lock = threading.Lock()

    def take() -> None:
        imported = import_bank_statement(path=path, by="test", now=world.clock.now())
        with lock:
            results.append(imported.again)

    together(take, take)

    assert sorted(results) == [False, True]
    assert BankEntry.objects.count() == 3
