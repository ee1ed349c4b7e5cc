"""Matching by hand: what two people put together is believed, until a row of it changes (R42, R43, R55)."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import Error, connection, transaction

from checkout import ledger, rescue
from checkout.gateways import Approved, DeclineClass, Declined
from checkout.models import Attempt, AttemptOutcome, ChargeState, EntryKind, LedgerEntry
from settlements import books, matching, reconciliation, resolving
from settlements.closing import close_periods
from settlements.exports.journal import journal_of_day
from settlements.models import (
    STANDING,
    DeskAction,
    Discrepancy,
    MatchedAttempt,
    MatchedLine,
    Proposal,
    SettlementLine,
    StatementLine,
    Way,
)
from settlements.month import landed_in
from settlements.proof import Verdict, prove
from settlements.settling import store_default_schedules
from settlements.statements import agree_fees
from tests.factories import World, fresh
from tests.factories_matches import (
    WHY,
    approved_match,
    doubtful,
    find,
    match_of,
    paid,
    proposed_match,
    told,
)
from tests.factories_settlements import edit
from tests.together import together

pytestmark = pytest.mark.django_db
NO_ATTEMPT = UUID(int=7)


@pytest.fixture
def world() -> World:
    return World()


def matched(world: World, lines: list[StatementLine], attempts: list[Attempt]) -> Proposal:
    return approved_match(world, proposed_match(world, lines, attempts))


def codes() -> list[str]:
    """What stands, incremental and full alike."""
    return sorted(Discrepancy.objects.filter(STANDING).values_list("code", flat=True))


def looked_again(world: World) -> list[str]:
    """What stands after an incremental pass; a full one must find the same (R55)."""
    find(world)
    found = codes()
    full = reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert (full.opened, full.cleared) == (0, 0)
    return found


def edit_plainly(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


# --- What is matched ---------------------------------------------------------------------------------


def test_an_attempt_in_doubt_is_captured_with_its_unmatched_line(
    world: World, tmp_path: Path
) -> None:
    """R21: 199.00 in doubt, and a line of 199.00 that names nobody; two people say they are one."""
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "199.00")
    assert codes() == ["unmatched"]

    matched(world, [line], [attempt])

    attempt.refresh_from_db()
    assert (attempt.outcome, attempt.captured_amount) == ("captured", Decimal("199.00"))
    assert attempt.processor_reference == line.processor_reference
    assert fresh(attempt.charge).state == ChargeState.SUCCEEDED
    assert looked_again(world) == []
    assert Discrepancy.objects.get(code="unmatched").cleared_because == "evidence"


def test_a_capture_that_its_file_does_not_show_is_matched_with_a_line(
    world: World, tmp_path: Path
) -> None:
    """Both sides are cleared by evidence, and the proof of the charge names the match."""
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    assert codes() == ["missing", "unmatched"]

    proposal = matched(world, [line], [attempt])

    assert looked_again(world) == []
    settled = prove(charge=attempt.charge, now=world.clock.now()).ticks[4]
    assert settled.verdict == Verdict.PROVED
    assert f"proposal {proposal.pk}" in settled.because


def test_one_line_tells_of_many_attempts(world: World, tmp_path: Path) -> None:
    attempts = [paid(world), paid(world), doubtful(world, "5.00")]
    (line,) = told(world, tmp_path, "44.98", without=attempts)

    proposal = matched(world, [line], attempts)

    assert (proposal.count, proposal.net, proposal.absolute) == (
        4,
        Decimal("0.00"),
        Decimal("44.98"),
    )
    assert looked_again(world) == []
    assert not Attempt.objects.filter(outcome=AttemptOutcome.OPEN).exists()


def test_many_lines_tell_of_one_attempt(world: World, tmp_path: Path) -> None:
    attempt = paid(world)
    lines = told(world, tmp_path, "10.00", "9.99", without=[attempt])
    assert codes() == ["missing", "unmatched", "unmatched"]

    matched(world, lines, [attempt])

    assert looked_again(world) == []


def test_a_line_that_names_the_wrong_attempt_is_matched_with_the_right_one(
    world: World, tmp_path: Path
) -> None:
    right, wrong = paid(world, "5.00"), paid(world)
    told(world, tmp_path, without=[right], named=[(wrong, "5.00")])
    assert codes() == ["duplicate", "missing"]

    matched(world, [StatementLine.objects.get(key=wrong.pk, gross="5.00")], [right])

    assert looked_again(world) == []


def test_the_fee_of_a_matched_line_is_still_compared(world: World, tmp_path: Path) -> None:
    attempt = paid(world)
    agree_fees(
        lane=attempt.lane,
        valid_from=world.clock.business_now().date(),
        rate=Decimal("0.010"),
        fixed=Decimal("0.30"),
    )
    (line,) = told(world, tmp_path, "19.99", without=[attempt])

    matched(world, [line], [attempt])

    assert looked_again(world) == ["fee"]


# --- A difference becomes a correction ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("told_of", "against", "posted"),
    [
        ("198.97", "write_off", Decimal("0.03")),
        ("199.01", "unapplied_receipts", Decimal("-0.01")),
    ],
)
def test_in_doubt_a_difference_moves_what_is_owed(
    world: World, tmp_path: Path, told_of: str, against: str, posted: Decimal
) -> None:
    """R38: captured is what the line says; the cent between is posted with the same approval."""
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, told_of)
    draft = match_of([line], [attempt])
    assert draft.difference == -posted
    assert f"receivable {-posted:+,.2f}" in draft.parts[0].written

    matched(world, [line], [attempt])

    attempt.refresh_from_db()
    assert attempt.captured_amount == Decimal(told_of)
    assert ledger.receivable(charge_id=attempt.charge_id) == 0
    entry = LedgerEntry.objects.get(charge=attempt.charge, kind=EntryKind.CORRECTED)
    assert entry.postings.get(account=against).amount == posted
    assert looked_again(world) == []
    assert prove(charge=attempt.charge, now=world.clock.now()).verdict != Verdict.DISCREPANT


def test_captured_already_a_difference_moves_what_the_lane_holds(
    world: World, tmp_path: Path
) -> None:
    """The largest attempt bears it: the processor holds 19.96 of the 19.99 that it told us."""
    small, large = paid(world, "5.00"), paid(world)
    (line,) = told(world, tmp_path, "24.96", without=[small, large])

    proposal = matched(world, [line], [small, large])

    assert proposal.net == Decimal("-0.03")
    entry = MatchedAttempt.objects.get(attempt=large).entry
    assert entry is not None
    postings = {p.account: (p.amount, p.lane) for p in entry.postings.all()}
    assert postings == {
        "clearing": (Decimal("-0.03"), large.lane),
        "write_off": (Decimal("0.03"), ""),
    }
    assert MatchedAttempt.objects.get(attempt=small).entry is None
    assert looked_again(world) == []
    month = landed_in(first=date(2026, 1, 1), last=date(2026, 1, 31))
    assert (month.corrected.usd, month.remainder) == (Decimal("-0.03"), Decimal("0.00"))
    assert prove(charge=large.charge, now=world.clock.now()).verdict != Verdict.DISCREPANT


# --- What cannot be matched --------------------------------------------------------------------------


def test_shapes_that_say_nothing_are_refused_with_what_to_choose(
    world: World, tmp_path: Path
) -> None:
    first, second = paid(world), paid(world, "5.00")
    proved = paid(world, "7.00")
    lines = told(world, tmp_path, "19.99", "5.00", "0.01", without=[first, second])
    own = StatementLine.objects.get(key=proved.pk)
    payout = StatementLine.objects.exclude(type="charge").first()

    for chosen, attempts, why in (
        ([], [first], "choose at least one statement line"),
        (lines[:1], [], "at least one attempt"),
        (lines[:2], [first, second], "make a match for each line"),
        ([own], [proved], "agree already"),
        ([own], [first], "proves attempt"),
        (lines[:1], [proved], "choose it as well"),
        (lines[2:], [first, second], "leaves nothing|choose"),
    ):
        with pytest.raises(matching.NotMatchable, match=why):
            match_of(chosen, attempts)
    with pytest.raises(matching.NotMatchable, match="no attempt"):
        matching.draft_match(line_ids=[lines[0].pk], attempt_ids=[NO_ATTEMPT])
    with pytest.raises(matching.NotMatchable, match="no statement line 0"):
        matching.draft_match(line_ids=[0], attempt_ids=[first.pk])
    if payout:
        with pytest.raises(matching.NotMatchable, match="only lines of charges"):
            match_of([payout], [first])


def test_what_was_declined_is_matched_with_nothing(world: World, tmp_path: Path) -> None:
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99")

    with pytest.raises(matching.NotMatchable, match="captured or in doubt"):
        match_of([line], [attempt])


def test_a_match_is_of_one_processor_account(world: World, tmp_path: Path) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    edit("UPDATE checkout_attempt SET lane = 'mena' WHERE id = %s", attempt.pk)

    with pytest.raises(matching.NotMatchable, match="cis and mena: a match is of one"):
        match_of([line], [attempt])


def test_a_file_that_is_set_aside_proves_nothing(world: World, tmp_path: Path) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    edit(
        "UPDATE settlements_statementimport SET state = 'quarantined', reason = 'by hand',"
        " accepted_at = NULL"
    )

    with pytest.raises(matching.NotMatchable, match="set aside"):
        match_of([line], [attempt])


def test_what_may_still_be_under_way_is_not_matched(world: World, tmp_path: Path) -> None:
    """R21: its own answer may yet come."""
    (line,) = told(world, tmp_path, "199.00")
    attempt = doubtful(world)

    with pytest.raises(matching.NotMatchable, match="let the resolver ask"):
        proposed_match(world, [line], [attempt])


def test_a_line_and_an_attempt_are_in_one_match_at_most(world: World, tmp_path: Path) -> None:
    first, second = paid(world), paid(world)
    lines = told(world, tmp_path, "19.99", "19.99", without=[first, second])
    proposal = proposed_match(world, lines[:1], [first])

    with pytest.raises(matching.NotMatchable, match=f"is in proposal {proposal.pk} already"):
        match_of(lines[:1], [second])
    with pytest.raises(matching.NotMatchable, match=f"is in proposal {proposal.pk} already"):
        match_of(lines[1:], [first])
    with pytest.raises(resolving.NotProposable, match="waits in proposal"):
        resolving.propose(
            discrepancy_ids=list(Discrepancy.objects.values_list("pk", flat=True)),
            way=Way.ACCEPTED,
            by="cem",
            reason=WHY,
            now=world.clock.now(),
        )

    resolving.refuse(proposal_id=proposal.pk, by="bob", reason="ask again", now=world.clock.now())

    assert proposed_match(world, lines[:1], [second]).pk != proposal.pk
    assert codes() == ["missing", "missing", "unmatched", "unmatched"]


# --- Four eyes ---------------------------------------------------------------------------------------


def test_who_proposes_a_match_does_not_approve_it(world: World, tmp_path: Path) -> None:
    """R43, in the use case and in the database."""
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    proposal = proposed_match(world, [line], [attempt])

    with pytest.raises(resolving.NotDecidable, match="who proposed it"):
        approved_match(world, proposal, by="ann")
    with pytest.raises(Error, match="proposal_four_eyes"), transaction.atomic():
        edit_plainly(
            "UPDATE settlements_proposal SET decision = 'approved', decided_by = 'ann',"
            " decided_because = 'mine', decided_at = now()"
        )
    with pytest.raises(resolving.NotDecidable, match="page showed something else"):
        approved_match(world, proposal, seen="0" * 64)
    approved_match(world, proposal)
    with pytest.raises(resolving.NotDecidable, match="approved by bob"):
        approved_match(world, proposal, by="cem")
    assert list(
        DeskAction.objects.filter(discrepancy=None).order_by("id").values_list("kind", "by")
    ) == [("proposed", "ann"), ("approved", "bob")]
    assert DeskAction.objects.filter(proposal=proposal, discrepancy__isnull=False).count() == 4


def test_what_changed_since_it_was_proposed_is_not_matched(world: World, tmp_path: Path) -> None:
    """R43: the doubt was resolved meanwhile; the approver saw another match."""
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "199.00")
    proposal = proposed_match(world, [line], [attempt])
    edit("UPDATE checkout_attempt SET sends = 2 WHERE id = %s", attempt.pk)

    with pytest.raises(resolving.NotDecidable, match="has changed"):
        approved_match(world, proposal)
    with pytest.raises(Error, match="not what was proposed"), transaction.atomic():
        edit_plainly(
            "UPDATE settlements_proposal SET decision = 'approved', decided_by = 'bob',"
            " decided_because = 'sure', decided_at = now()"
        )
    resolving.withdraw(proposal_id=proposal.pk, by="ann", reason=WHY, now=world.clock.now())
    with pytest.raises(matching.NotMatchable, match="changed since the page was shown"):
        proposed_match(world, [line], [attempt], seen=proposal.sha256)


def test_what_was_matched_never_changes(world: World, tmp_path: Path) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    proposal = matched(world, [line], [attempt])

    for sql in (
        "UPDATE settlements_proposal SET reason = 'other'",
        "UPDATE settlements_matchedline SET gross = 1",
        "UPDATE settlements_matchedattempt SET correction = 1",
        "DELETE FROM settlements_matchedline",
        "DELETE FROM settlements_matchedattempt",
    ):
        with pytest.raises(Error, match="never change"), transaction.atomic():
            edit_plainly(sql)
    with pytest.raises(Error, match="matched undecided"), transaction.atomic():
        edit_plainly(
            "INSERT INTO settlements_matchedline (proposal_id, line_id, key, gross, in_force)"
            " SELECT %s, line_id, key, gross, true FROM settlements_matchedline",
            proposal.pk,
        )


@pytest.mark.django_db(transaction=True)
def test_two_that_choose_one_line_at_once_match_it_once(world: World, tmp_path: Path) -> None:
    attempts = [paid(world), paid(world)]
    (line, *_) = told(world, tmp_path, "19.99", without=attempts)

    def choose(attempt: Attempt) -> Proposal:
        with transaction.atomic():
            return proposed_match(world, [line], [attempt])

    results = together(*(lambda each=each: choose(each) for each in attempts))

    assert sorted(type(each).__name__ for each in results) == ["NotMatchable", "Proposal"]
    assert MatchedLine.objects.filter(in_force=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_that_approve_at_once_capture_once(world: World, tmp_path: Path) -> None:
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "198.97")
    with transaction.atomic():
        proposal = proposed_match(world, [line], [attempt])

    def approve(by: str) -> Proposal:
        with transaction.atomic():
            return approved_match(world, proposal, by=by)

    results = together(lambda: approve("bob"), lambda: approve("cem"))

    assert sorted(type(each).__name__ for each in results) == ["NotDecidable", "Proposal"]
    assert LedgerEntry.objects.filter(kind=EntryKind.CORRECTED).count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_processor_answers_while_a_match_is_approved(world: World, tmp_path: Path) -> None:
    """Two run here, the resolver and the approver: one capture, whoever is first under the lock."""
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "199.00")
    with transaction.atomic():
        proposal = proposed_match(world, [line], [attempt])
    world.gateway.query_answers = [Approved(Decimal("199.00"), "USD", "found by query")]

    def approve() -> object:
        with transaction.atomic():
            return approved_match(world, proposal)

    def resolve() -> object:
        rescue.resolve_attempt(
            attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
        )
        return None

    approval, _ = together(approve, resolve)

    assert isinstance(approval, Proposal | resolving.NotDecidable)
    attempt.refresh_from_db()
    assert (attempt.outcome, attempt.captured_amount) == ("captured", Decimal("199.00"))
    assert LedgerEntry.objects.filter(attempt=attempt).count() == 1
    assert ledger.receivable(charge_id=attempt.charge_id) == 0
    looked_again(world)


# --- What changes afterwards is found again ------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE settlements_statementline SET gross = gross - 1, net = net - 1 WHERE id = {line}",
        "UPDATE settlements_statementline SET key = gen_random_uuid() WHERE id = {line}",
        "DELETE FROM settlements_statementline WHERE id = {line}",
        "UPDATE settlements_statementimport SET state = 'quarantined', reason = 'by hand',"
        " accepted_at = NULL",
        "UPDATE checkout_attempt SET captured_amount = captured_amount - 1 WHERE id = {attempt}",
        "UPDATE checkout_attempt SET lane = 'mena' WHERE id = {attempt}",
        "DELETE FROM checkout_attempt WHERE id = {attempt}",
        "UPDATE settlements_matchedline SET gross = gross - 1",
        "DELETE FROM settlements_matchedline",
        "DELETE FROM settlements_matchedattempt",
        "UPDATE settlements_matchedattempt SET in_force = false",
        "UPDATE settlements_proposal SET decision = 'refused'",
        "UPDATE settlements_proposal SET count = 9",
    ],
)
def test_a_match_of_which_a_row_changed_is_believed_no_more(
    world: World, tmp_path: Path, sql: str
) -> None:
    """R55: edited behind the triggers, both passes find the same, and name it."""
    attempts = [paid(world), paid(world, "5.00")]
    (line,) = told(world, tmp_path, "24.99", without=attempts)
    matched(world, [line], attempts)
    assert looked_again(world) == []

    edit(sql.format(line=line.pk, attempt=f"'{attempts[0].pk}'"))

    found = looked_again(world)
    assert set(found) & {"unmatched", "missing", "rewritten"}
    # The other attempt, which nobody touched, has lost its proof with it.
    whole_file_is_gone = "quarantined" in sql
    assert ("missing" in found) or whole_file_is_gone


def test_a_line_that_names_a_matched_attempt_later_is_a_duplicate(
    world: World, tmp_path: Path
) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    matched(world, [line], [attempt])
    assert looked_again(world) == []

    # The next day's file must follow the former one: it is the day's lines alone that count.
    edit(
        "INSERT INTO settlements_statementline (statement_id, number, key, line_id, type, reference,"
        " processor_reference, booked_at, gross, fee, net, currency, payout)"
        " SELECT statement_id, 99, %s, 'again', type, '', '', booked_at, gross, fee, net, currency,"
        " payout FROM settlements_statementline WHERE id = %s",
        attempt.pk,
        line.pk,
    )

    assert looked_again(world) == ["duplicate"]


def test_a_line_of_a_match_believed_no_more_is_its_attempts_own_again(
    world: World, tmp_path: Path
) -> None:
    """R42: or it would count twice, once as it names the attempt and once by the new match."""
    right, wrong = paid(world, "5.00"), paid(world)
    lines = told(world, tmp_path, "19.99", without=[right, wrong], named=[(wrong, "5.00")])
    matched(world, [StatementLine.objects.get(key=wrong.pk)], [right])
    assert match_of(lines, [wrong]).difference == 0

    edit("UPDATE settlements_matchedline SET gross = 1")

    with pytest.raises(matching.NotMatchable, match="choose it as well"):
        match_of(lines, [wrong])


def test_a_fee_is_settled_by_a_match_only_while_it_is_believed(
    world: World, tmp_path: Path
) -> None:
    """R42: the line names another creator's attempt; believed no more, that is whose it is again."""
    right, wrong = paid(world, "5.00"), paid(world)
    told(world, tmp_path, without=[right, wrong], named=[(wrong, "5.00")])
    line = StatementLine.objects.get(key=wrong.pk)
    matched(world, [line], [right])
    store_default_schedules(now=world.clock.now())
    edit("UPDATE settlements_matchedline SET gross = 1")

    world.clock.forward(days=31)
    close_periods(clock=world.clock, ages=world.ages)

    assert SettlementLine.objects.get(statement_line=line).attempt == wrong


def test_what_a_match_posted_is_in_the_month_until_it_is_taken_apart(
    world: World, tmp_path: Path
) -> None:
    """Believed no more, its entry still stands in the books, and the month is of the books."""
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.96", without=[attempt])
    proposal = matched(world, [line], [attempt])
    january = {"first": date(2026, 1, 1), "last": date(2026, 1, 31)}

    edit("UPDATE settlements_statementline SET gross = 19.95, net = 19.95 - fee")

    assert "unmatched" in looked_again(world)
    month = landed_in(**january)
    assert month.corrected.usd == Decimal("-0.03") == _posted_for(proposal)
    assert sum(month.causes.values()) == month.remainder
    assert Decimal("0.01") in month.causes.values()

    matching.take_apart(proposal_id=proposal.pk, by="ann", reason=WHY, now=world.clock.now())

    assert landed_in(**january).corrected.usd == Decimal("0.00") == _posted_for(proposal)


def _posted_for(proposal: Proposal) -> Decimal:
    """What the books moved at the processor's account for a match, posted and posted back; USD."""
    rows = MatchedAttempt.objects.filter(proposal=proposal)
    entries = [entry for row in rows for entry in (row.entry, row.reversal) if entry]
    return sum(
        (each.amount for entry in entries for each in entry.postings.filter(account="clearing")),
        Decimal("0.00"),
    )


def test_taken_apart_both_sides_stand_again_and_the_entry_is_posted_back(
    world: World, tmp_path: Path
) -> None:
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.96", without=[attempt])
    proposal = matched(world, [line], [attempt])
    assert looked_again(world) == []

    matching.take_apart(
        proposal_id=proposal.pk, by="ann", reason="it was another's", now=world.clock.now()
    )

    assert looked_again(world) == ["missing", "unmatched"]
    row = MatchedAttempt.objects.get()
    assert row.reversal is not None
    assert row.reversal.postings.get(account="clearing").amount == Decimal("0.03")
    with pytest.raises(resolving.NotDecidable, match="no match in force"):
        matching.take_apart(proposal_id=proposal.pk, by="ann", reason=WHY, now=world.clock.now())
    # And matched once more: another proposal, another entry.
    matched(world, [line], [attempt])
    assert looked_again(world) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkout_ledgerposting SET amount = amount + 0.01",
        "DELETE FROM checkout_ledgerposting",
    ],
)
def test_what_somebody_changed_since_is_not_posted_back(
    world: World, tmp_path: Path, change: str
) -> None:
    """A person is told so; an entry of other cents, or of none, would hide what was changed."""
    attempt = paid(world)
    (line,) = told(world, tmp_path, "19.96", without=[attempt])
    proposal = matched(world, [line], [attempt])
    entry = MatchedAttempt.objects.get().entry
    assert entry is not None
    edit(f"{change} WHERE entry_id = %s", entry.pk)

    with pytest.raises(resolving.NotDecidable, match=f"changed the postings of entry {entry.pk}"):
        matching.take_apart(proposal_id=proposal.pk, by="ann", reason=WHY, now=world.clock.now())

    row = MatchedAttempt.objects.get()
    assert row.in_force
    assert row.reversal is None


# --- With the close of the books -----------------------------------------------------------------------


def test_after_the_close_a_match_posts_to_the_open_day(world: World, tmp_path: Path) -> None:
    """What is open was carried over; what is learned of it later never moves the closed day."""
    attempt = doubtful(world)
    day = world.clock.business_now().date()
    (line,) = told(world, tmp_path, "198.97")
    proposal = proposed_match(world, [line], [attempt])
    before = world.clock.now()
    looked_again(world)
    close = books.propose_close(
        day=day, reasons=dict.fromkeys(books.KINDS, "looked at"), by="ann", now=before
    )
    books.approve_close(
        close_id=close.pk, seen=close.sha256, by="bob", reason=WHY, now=world.clock.now()
    )
    journal = journal_of_day(day=day).sha256

    approved_match(world, proposal)

    assert journal_of_day(day=day).sha256 == journal
    entries = LedgerEntry.objects.filter(charge=attempt.charge).exclude(kind=EntryKind.BILLED)
    assert {entry.posted_at.date() > day for entry in entries} == {True}
    assert looked_again(world) == []
