"""What a statement says otherwise is corrected in clearing by two people, which is 0.00 once all has landed."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from checkout import ledger
from checkout.gateways import DeclineClass, Declined
from checkout.models import Attempt, EntryKind, LedgerAccount, LedgerEntry
from processor.statement import Capture, render
from settlements import reconciliation, resolving
from settlements.causes import Cause, free_of
from settlements.clues import clues_of
from settlements.explaining import explain
from settlements.models import (
    STANDING,
    DeskAction,
    Discrepancy,
    Kind,
    StatementLine,
    Way,
    ways_of,
)
from settlements.month import landed_in
from settlements.proof import Verdict, prove
from settlements.roles import ANALYST, APPROVER
from tests.factories import LANE, World
from tests.factories_corrections import (
    DAY,
    LEFT,
    WHY,
    Told,
    approved,
    corrected,
    found,
    landed,
    of_nobody,
    one_by,
    one_declined,
    one_in_parts,
    one_missing,
    one_twice,
    opened_again,
    proposed,
    proved,
    true,
)
from tests.factories_matches import approved_match, doubtful, paid, proposed_match, told
from tests.factories_payouts import with_lines
from tests.factories_roles import member, pages_at
from tests.factories_settlements import captures, edit, statement_text, take_in

pytestmark = pytest.mark.django_db
A = LedgerAccount
ALL = Decimal("19.99")


@pytest.fixture
def world() -> World:
    return World()


def clearing() -> Decimal:
    return ledger.balance(account=A.CLEARING)


def only(**facts: object) -> Discrepancy:
    return Discrepancy.objects.get(STANDING, **facts)


def standing(world: World) -> list[tuple[str, str]]:
    """What an incremental pass leaves standing, and a full one after it too (R55)."""
    found(world)
    rows = sorted(Discrepancy.objects.filter(STANDING).values_list("kind", "code"))
    run = reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert (run.opened, run.cleared) == (0, 0)
    return rows


# --- From the capture to the bank ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tells", "code", "off_by", "against"),
    [
        (of_nobody, "unmatched", ALL, A.UNAPPLIED_RECEIPTS),
        (one_missing, "missing", -ALL, A.WRITE_OFF),
        (one_by("-0.03"), "amount", Decimal("-0.03"), A.WRITE_OFF),
        (one_by("0.03"), "amount", Decimal("0.03"), A.UNAPPLIED_RECEIPTS),
        (one_twice, "duplicate", ALL, A.UNAPPLIED_RECEIPTS),
        (one_in_parts, "duplicate", Decimal("-0.09"), A.WRITE_OFF),
        (one_declined, "not_captured", ALL, A.UNAPPLIED_RECEIPTS),
    ],
)
def test_clearing_is_nothing_once_all_has_landed_and_two_people_corrected_it(
    world: World, tmp_path: Path, tells: Told, code: str, off_by: Decimal, against: LedgerAccount
) -> None:
    landed(world, tmp_path, tells)
    row = only()
    assert (row.kind, row.code, row.difference) == (Kind.STATEMENT, code, off_by)
    assert clearing() == -off_by
    hint = next(each for each in explain(clues_of(row)) if each.entry)

    corrected(world, row)

    assert clearing() == 0
    entry = LedgerEntry.objects.get(kind=EntryKind.CORRECTED)
    assert entry.charge_id == row.charge_id
    posted = dict(entry.postings.values_list("account", "amount"))
    assert posted == {A.CLEARING: off_by, against: -off_by}
    assert posted == {move.account: move.amount for move in hint.entry}
    assert entry.postings.get(account=A.CLEARING).lane == LANE
    assert standing(world) == []

    opened_again(world, row)

    assert clearing() == -off_by
    assert standing(world) == [("statement", code)]
    # And once more: another proposal, another entry.
    corrected(world, only())
    assert clearing() == 0
    assert standing(world) == []


def test_where_the_file_is_true_clearing_is_nothing_by_itself(world: World, tmp_path: Path) -> None:
    landed(world, tmp_path, true)

    assert clearing() == 0
    assert standing(world) == []


def test_the_proof_of_a_corrected_charge_says_what_two_people_did(
    world: World, tmp_path: Path
) -> None:
    landed(world, tmp_path, one_missing)
    row = only()
    assert row.charge is not None
    assert prove(charge=row.charge, now=world.clock.now()).ticks[4].verdict == Verdict.DISCREPANT

    proposal = corrected(world, row)

    proof = prove(charge=row.charge, now=world.clock.now())
    assert proof.ticks[4].verdict == Verdict.PROVED
    assert f"proposal {proposal.pk}" in proof.ticks[4].because
    assert proof.ticks[2].verdict == Verdict.PROVED
    opened_again(world, row)
    assert prove(charge=row.charge, now=world.clock.now()).ticks[4].verdict == Verdict.DISCREPANT


@pytest.mark.parametrize("tells", [of_nobody, one_missing, one_by("-0.03"), one_declined])
def test_r48_the_month_leaves_no_remainder_and_leads_to_what_was_corrected(
    world: World, tmp_path: Path, tells: Told
) -> None:
    landed(world, tmp_path, tells)
    row = only()
    january = {"first": date(2026, 1, 1), "last": date(2026, 1, 31)}
    assert landed_in(**january).remainder == -row.difference

    corrected(world, row)

    month = landed_in(**january)
    assert (month.corrected_lines.count, month.corrected_lines.usd) == (1, row.difference)
    assert (month.remainder, sum(month.causes.values())) == (Decimal("0.00"), Decimal("0.00"))
    client = member(ANALYST)
    page = client.get("/admin/month/?month=2026-01")
    (line,) = [each for each in page.context["landed"] if "otherwise" in each.words]
    printed = client.get(line.link).context["printed"]
    assert (printed.count, printed.usd) == (line.count, line.usd) == (1, row.difference)
    other = client.get(line.link.replace("2026-01", "2026-02")).context["printed"]
    assert other.count == 0


def in_february(known: list[Capture]) -> list[Capture]:
    return [replace(each, booked_at=each.booked_at + timedelta(days=1)) for each in known]


def again_in_february(known: list[Capture]) -> list[Capture]:
    return [*known, *in_february(one_twice(known)[-1:])]


def declined_in_february(known: list[Capture]) -> list[Capture]:
    return [*known, *in_february(one_declined(known)[-1:])]


def less_in_february(known: list[Capture]) -> list[Capture]:
    first, *others = one_by("-0.03")(known)
    return [*in_february([first]), *others]


@pytest.mark.parametrize(
    ("tells", "parts"),
    [
        (again_in_february, ["0.00", "19.99"]),
        (declined_in_february, ["0.00", "19.99"]),
        (less_in_february, ["-19.99", "19.96"]),
    ],
)
def test_r48_a_line_of_the_month_after_leaves_no_remainder_in_either(
    world: World, tmp_path: Path, tells: Told, parts: list[str]
) -> None:
    """The capture is of January 31, the line of February 1: each counts in its own month."""
    paid(world), paid(world)
    world.gateway.answers = [lambda _: Declined(DeclineClass.FUNDS, "insufficient_funds")]
    paid(world)
    world.clock.forward(days=3, seconds=3 * 3600)
    lines = tells(captures(Attempt.objects.filter(lane=LANE).order_by("id")))
    text = render(account=LANE, captures=lines, first=DAY, last=LEFT)
    take_in(text, world=world, folder=tmp_path)
    proved(world)
    found(world)

    corrected(world, only())

    client = member(ANALYST)
    for first, last, part in (
        (date(2026, 1, 1), date(2026, 1, 31), Decimal(parts[0])),
        (date(2026, 2, 1), date(2026, 2, 28), Decimal(parts[1])),
    ):
        month = landed_in(first=first, last=last)
        assert (month.remainder, month.corrected_lines.usd) == (Decimal(0), part)
        address = f"/admin/settlements/discrepancy/?corrected={first:%Y-%m}"
        printed = client.get(address).context["printed"]
        assert (printed.count, printed.usd) == (int(part != 0), part)


def test_a_correction_whose_postings_lost_their_charge_is_named(
    world: World, tmp_path: Path
) -> None:
    """It still sums to what was approved, so that the books alone find nothing in it."""
    landed(world, tmp_path, one_missing)
    corrected(world, only())
    entry = LedgerEntry.objects.get(kind=EntryKind.CORRECTED)

    edit(
        f"UPDATE checkout_ledgerposting SET charge_id = NULL, creator_id = NULL"
        f" WHERE entry_id = '{entry.pk}'"
    )

    found(world)
    named = set(Discrepancy.objects.filter(STANDING).values_list("fingerprint", flat=True))
    assert named >= {
        f"payout:amount:{entry.pk}:clearing",
        f"payout:amount:{entry.pk}:write_off",
    }


# --- What is corrected, and what is not -------------------------------------------------------------------


def test_what_moves_no_clearing_is_not_corrected(world: World, tmp_path: Path) -> None:
    """A refund that names nothing is booked by its file; a file that is late, and a lane, are no money."""
    paid(world)
    world.clock.forward(days=1)
    text = with_lines(
        statement_text(DAY), ("refund", "-5.00", "0.00"), ("reversal", "1.00", "0.00")
    )
    take_in(text, world=world, folder=tmp_path)
    edit("UPDATE checkout_attempt SET lane = 'other'")
    found(world)

    rows = list(Discrepancy.objects.filter(STANDING, kind=Kind.STATEMENT))

    assert {row.code for row in rows} >= {"unmatched", "lane"}
    for row in rows:
        assert ways_of(row) == [Way.ACCEPTED]
        assert [
            each.entry for each in explain(clues_of(row)) if each.why == "nothing asks for it"
        ] in (
            [],
            [()],
        )
        with pytest.raises(resolving.NotProposable, match="it may be accepted"):
            proposed(world, row)


def test_money_that_something_else_puts_right_may_be_accepted(world: World, tmp_path: Path) -> None:
    """An adjustment of the processor, say: nothing is posted, and the proposal says so."""
    landed(world, tmp_path, of_nobody)
    row = only()

    approved(world, proposed(world, row, way=Way.ACCEPTED))

    assert clearing() == -ALL
    assert not LedgerEntry.objects.filter(kind=EntryKind.CORRECTED).exists()
    assert standing(world) == []


# --- Forged ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_a_charge", [True, False])
def test_a_forged_correction_of_clearing_is_named(
    world: World, tmp_path: Path, of_a_charge: bool
) -> None:
    landed(world, tmp_path, true)
    charge = Attempt.objects.filter(outcome="captured")[0].charge

    ledger.correct_each(
        corrections=[
            ledger.Correction(
                charge=charge if of_a_charge else None,
                account=A.CLEARING,
                amount=Decimal("-0.03"),
                against=A.WRITE_OFF,
                subject=uuid4(),
                lane=LANE,
            )
        ],
        now=world.clock.now(),
    )

    assert standing(world) == [("ledger", "extra")]
    assert (only().expected, only().actual) == (Decimal("0.00"), Decimal("-0.03"))


@pytest.mark.parametrize("tells", [of_nobody, one_missing])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE checkout_ledgerposting SET amount = amount + 0.01 * sign(amount)"
        " WHERE entry_id IN (SELECT id FROM checkout_ledgerentry WHERE kind = 'corrected')",
        "UPDATE settlements_proposal SET decision = 'refused'",
        "UPDATE checkout_ledgerposting SET lane = 'other' WHERE lane <> ''"
        " AND entry_id IN (SELECT id FROM checkout_ledgerentry WHERE kind = 'corrected')",
    ],
)
def test_what_two_people_did_not_approve_so_is_named(
    world: World, tmp_path: Path, tells: Told, sql: str
) -> None:
    """R55: one cent more in balance, an approval that is gone, another lane."""
    landed(world, tmp_path, tells)
    corrected(world, only())
    assert standing(world) == []

    edit(sql)

    assert ("ledger", "extra") in standing(world)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO checkout_ledgerentry (id, kind, posted_at)"
        " VALUES (gen_random_uuid(), 'captured', now())",
        "INSERT INTO checkout_ledgerentry (id, kind, charge_id, posted_at)"
        " SELECT gen_random_uuid(), 'stated', id, now() FROM checkout_charge",
    ],
)
def test_r34_nothing_else_is_of_no_charge(world: World, tmp_path: Path, sql: str) -> None:
    landed(world, tmp_path, true)

    with (
        pytest.raises(DatabaseError, match=r"entry_charge|entry_attempt"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)


# --- Evidence that comes later ----------------------------------------------------------------------------


def test_a_line_that_comes_after_its_capture_was_written_off_names_the_entry(
    world: World, tmp_path: Path
) -> None:
    """The next file shows it: evidence clears the discrepancy, and the entry must not stay beside it."""
    lost = paid(world)
    assert told(world, tmp_path, without=[lost]) == []
    row = only()
    corrected(world, row)
    told(world, tmp_path, without=[lost], named=[(lost, "19.99")])

    assert standing(world) == [("ledger", "extra")]
    named = only()
    assert (named.difference, named.charge_id) == (-ALL, lost.charge_id)
    assert f"discrepancy {row.pk} does not stand so any more" in named.explanation
    row.refresh_from_db()
    assert row.cleared_because == "evidence"

    opened_again(world, row)

    assert clearing() == ALL  # what the two files say, and nothing landed yet
    assert standing(world) == []
    last = DeskAction.objects.filter(discrepancy=row).order_by("id").last()
    assert last is not None
    assert (last.kind, last.by) == ("reopened", "ann")


def test_a_line_of_nobody_that_is_matched_by_hand_later_names_the_entry(
    world: World, tmp_path: Path
) -> None:
    attempt = doubtful(world, "19.99")
    (line,) = told(world, tmp_path, "19.99")
    row = only()
    corrected(world, row)
    assert standing(world) == []

    approved_match(world, proposed_match(world, [line], [attempt]))

    assert standing(world) == [("ledger", "extra")]
    assert clearing() == 2 * ALL
    opened_again(world, row)
    assert clearing() == ALL
    assert standing(world) == []


def test_found_with_another_amount_it_stands_again_and_its_entry_is_named(
    world: World, tmp_path: Path
) -> None:
    landed(world, tmp_path, one_by("-0.03"))
    row = only()
    corrected(world, row)
    line = StatementLine.objects.get(key=_subject(row))
    edit(
        "UPDATE settlements_statementline SET gross = gross - 0.01, net = net - 0.01 WHERE id = %s",
        line.pk,
    )

    found(world)

    stands = only(kind=Kind.STATEMENT, code="amount")
    assert (stands.pk, stands.difference) == (row.pk, Decimal("-0.04"))
    assert only(kind=Kind.LEDGER).code == "extra"
    anew = proposed(world, stands)
    with pytest.raises(resolving.NotDecidable, match="open it again first"):
        approved(world, anew)

    opened_again(world, stands)
    approved(world, anew)

    assert clearing() == Decimal("-0.01")  # the payout is what it was: only the line was edited
    found(world)
    assert not Discrepancy.objects.filter(STANDING, kind=Kind.LEDGER).exists()


def test_lines_that_could_not_be_compared_overtake_nothing(world: World, tmp_path: Path) -> None:
    """A row that stops the comparison of lines says nothing of what they were corrected by."""
    landed(world, tmp_path, one_missing)
    corrected(world, only())
    edit(
        "INSERT INTO settlements_statementterms (lane, time_zone, covers, due_days, due_time)"
        " VALUES (%s, 'Pacific/Kiritimati', 'day', 1, '06:00')",
        LANE,
    )
    edit("UPDATE checkout_attempt SET booked_at = '294276-12-31 23:00Z' WHERE outcome = 'captured'")

    run = reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    assert run.ended_at is None
    assert not Discrepancy.objects.filter(kind=Kind.LEDGER).exists()


def _subject(row: Discrepancy) -> str:
    return row.fingerprint.rpartition(":")[2]


def test_only_what_was_resolved_or_posted_is_opened_again(world: World, tmp_path: Path) -> None:
    landed(world, tmp_path, one_missing)

    with pytest.raises(resolving.NotReopenable, match="not resolved by hand"):
        opened_again(world, only())


# --- Many, and the pages ----------------------------------------------------------------------------------


def test_a_whole_cause_is_corrected_in_a_few_statements(world: World, tmp_path: Path) -> None:
    count = 300
    paid(world)
    told(world, tmp_path, *["19.99"] * count)
    cause = Cause(Kind.STATEMENT, "unmatched", LANE, ALL)
    free = free_of(cause)
    assert free.count == count

    with CaptureQueriesContext(connection) as asked:
        proposal = resolving.propose_together(
            cause=cause,
            seen=free.sha256,
            way=Way.CORRECTED,
            by="ann",
            reason=WHY,
            now=world.clock.now(),
        )
        approved(world, proposal)

    assert len(asked) < 40
    assert LedgerEntry.objects.filter(kind=EntryKind.CORRECTED, charge=None).count() == count
    assert clearing() == (count + 1) * ALL
    assert standing(world) == []


def test_the_approver_sees_the_entry_that_he_approves(world: World, tmp_path: Path) -> None:
    landed(world, tmp_path, of_nobody)
    row = only()
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")
    with pages_at(world.clock):
        found_page = ann.get(f"/admin/settlements/discrepancy/{row.pk}/change/").content.decode()
        assert "corrected in the books by an entry of its own; or accepted as it is" in found_page
        proposal = proposed(world, row)
        address = reverse("admin:settlements_proposal_change", args=[proposal.pk])
        page = bob.get(address).content.decode()
        assert f"clearing of {LANE} +19.99, unapplied receipts -19.99" in page
        decide = reverse("admin:settlements_proposal_decide", args=[proposal.pk])
        bob.post(
            decide, {"decision": "approve", "seen": proposal.sha256, "reason": "agreed with them"}
        )
    assert clearing() == 0
    entry = LedgerEntry.objects.get(kind=EntryKind.CORRECTED)
    assert str(entry.pk) in bob.get(address).content.decode()
    opened = ann.get(f"/admin/settlements/discrepancy/{row.pk}/change/").content.decode()
    assert "Open again" in opened


def test_what_evidence_cleared_is_opened_again_by_its_page(world: World, tmp_path: Path) -> None:
    lost = paid(world)
    told(world, tmp_path, without=[lost])
    row = only()
    corrected(world, row)
    told(world, tmp_path, without=[lost], named=[(lost, "19.99")])
    page = f"/admin/settlements/discrepancy/{row.pk}/change/"
    ann = member(ANALYST, name="ann")

    assert "Open again" in ann.get(page).content.decode()
    opened_again(world, row)
    assert "Open again" not in ann.get(page).content.decode()
