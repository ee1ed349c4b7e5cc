"""Statement files: taken in whole or not at all, and compared with what was captured."""

import getpass
import json
from datetime import date, time, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction

from checkout import rescue
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import Attempt, AttemptOutcome, Charge, ChargeState
from demo.story import PROCESSOR_FEES
from settlements import reconciliation
from settlements.expectations import mark_late_expectations
from settlements.formats.lines import Refused, Told
from settlements.formats.source import Torn
from settlements.models import (
    Code,
    Discrepancy,
    ExpectationState,
    FeeTerms,
    ImportState,
    Kind,
    StatementExpectation,
    StatementImport,
    StatementLine,
    StatementTerms,
)
from settlements.statements import Imported, import_statement, preview_statement
from tests.factories import LANE, World, fresh
from tests.factories_settlements import days_over, edit, statement_text, take_in
from tests.fakes import charged_but_silent

pytestmark = pytest.mark.django_db

DAY = date(2026, 1, 31)
NEXT = date(2026, 2, 1)
FILES = Path(__file__).parents[1] / "files" / "statements"
[STRIPE] = FILES.glob("itemized*.csv")


@pytest.fixture
def world() -> World:
    return World()


def look_again(world: World, **facts: Any) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages, **facts)


def named() -> list[tuple[str, str, str]]:
    rows = Discrepancy.objects.filter(cleared_at__isnull=True, kind=Kind.STATEMENT)
    return [(row.code, str(row.expected), str(row.actual)) for row in rows.order_by("code", "id")]


def paid(world: World, **facts: Any) -> Charge:
    charge = world.due_charge(**facts)
    world.receive(charge)
    return fresh(charge)


def line_of(text: str, charge: Charge) -> str:
    """The row of a file that names a charge's attempt."""
    reference = str(charge.attempts.get().pk)
    return next(row for row in text.splitlines(keepends=True) if reference in row)


def without(text: str, row: str) -> str:
    """The file without one row, its closing made to agree."""
    return rebalanced(text.replace(row, "", 1))


def rebalanced(text: str) -> str:
    """The file with its closing set to opening + lines, as a processor that errs would still write."""
    header, opening, *rows, closing = text.splitlines()
    total = sum((Decimal(row.split(",")[7]) for row in [opening, *rows]), Decimal("0.00"))
    fields = closing.split(",")
    fields[7] = f"{total:.2f}"
    return "\n".join([header, opening, *rows, ",".join(fields), ""])


# --- Taking in ------------------------------------------------------------------------------------


def test_a_true_file_is_accepted_and_proves_its_captures(world, tmp_path):
    paid(world)
    look_again(world)

    imported = take_in(statement_text(DAY), world=world, folder=tmp_path)
    look_again(world)

    assert imported.statement.state == ImportState.ACCEPTED
    assert StatementLine.objects.filter(type="charge").count() == 1
    assert StatementExpectation.objects.get(day=DAY).state == ExpectationState.ARRIVED
    assert named() == []


def test_the_same_file_again_adds_nothing(world, tmp_path):
    """R39."""
    paid(world)
    text = statement_text(DAY)
    take_in(text, world=world, folder=tmp_path)
    lines = StatementLine.objects.count()

    again = take_in(text, world=world, folder=tmp_path, name="renamed.csv")

    assert again.again
    assert StatementLine.objects.count() == lines
    assert StatementImport.objects.count() == 1


def test_one_unreadable_amount_refuses_the_whole_file(world, tmp_path):
    """R39: never 0.00, and nothing is stored."""
    one, other = paid(world), paid(world)
    text = statement_text(DAY)
    for charge in (one, other):
        row = line_of(text, charge)
        text = text.replace(row, row.replace("19.99", "l9.99", 1))

    with pytest.raises(Refused) as refused:
        take_in(text, world=world, folder=tmp_path)

    assert [bad.number for bad in refused.value.bad] == [3, 4]
    assert StatementImport.objects.count() == 0
    assert StatementLine.objects.count() == 0


def test_a_file_that_does_not_add_up_is_set_aside(world, tmp_path):
    """R40: opening + lines = closing."""
    charge = paid(world)
    text = statement_text(DAY)
    text = text.replace(line_of(text, charge), "")

    imported = take_in(text, world=world, folder=tmp_path)
    look_again(world)

    assert imported.statement.state == ImportState.QUARANTINED
    assert "but the closing is 19.11" in imported.statement.reason
    assert named() == [(Code.QUARANTINED_FILE, "0.00", "0.00")]


def test_a_file_that_does_not_follow_is_set_aside(world, tmp_path):
    """R40: opening = the former closing."""
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)
    text = statement_text(NEXT).replace("19.11", "19.12")

    imported = take_in(text, world=world, folder=tmp_path)

    assert imported.statement.reason == "opening 19.12 is not the former closing 19.11"


def test_a_file_that_came_early_is_taken_up_once_the_one_before_it_came(world, tmp_path):
    """R40: out of order is not wrong, only early."""
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)
    later = [statement_text(NEXT + timedelta(days=n)) for n in range(3)]
    for text in (later[2], later[1]):
        aside = take_in(text, world=world, folder=tmp_path).statement
        assert "have no accepted file yet" in aside.reason

    imported = take_in(later[0], world=world, folder=tmp_path)
    look_again(world)

    assert [file.first_day.day for file in imported.released] == [2, 3]
    assert set(StatementImport.objects.values_list("state", flat=True)) == {"accepted"}
    assert named() == []


def test_a_day_is_covered_once(world, tmp_path):
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)

    again = take_in(statement_text(DAY, NEXT), world=world, folder=tmp_path).statement

    assert again.reason == "2026-01-31 is covered by another file already"
    look_again(world)
    assert named() == [(Code.QUARANTINED_FILE, "0.00", "0.00")]


def test_a_second_file_that_waited_beside_the_first_is_named_once_that_is_accepted(world, tmp_path):
    """R40: both came early and say other things; the one that is taken up hides the other from nobody."""
    paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)
    early = statement_text(NEXT + timedelta(days=1))
    other = early.replace("19.11", "19.12")
    for text in (early, other):
        aside = take_in(text, world=world, folder=tmp_path).statement
        assert "have no accepted file yet" in aside.reason

    world.clock.forward(seconds=60)
    released = take_in(statement_text(NEXT), world=world, folder=tmp_path).released
    look_again(world)

    assert [file.first_day.day for file in released] == [2]
    assert named() == [(Code.QUARANTINED_FILE, "0.00", "0.00")]
    found = Discrepancy.objects.get(cleared_at__isnull=True)
    assert "another file covers its days" in found.explanation
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert len(named()) == 1


def test_a_type_that_nobody_agreed_on_sets_the_file_aside(world, tmp_path):
    """DESIGN section 5."""
    charge = paid(world)
    text = statement_text(DAY)
    row = line_of(text, charge)

    imported = take_in(
        text.replace(row, row.replace(",charge,", ",cashback,")), world=world, folder=tmp_path
    )

    assert "is of the type 'cashback'" in imported.statement.reason


def test_a_file_that_grows_while_it_is_taken_in_leaves_nothing(world, tmp_path):
    """What was hashed is what is stored, or nothing is."""
    paid(world)
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY))

    with pytest.raises(Torn):
        import_statement(
            path=path,
            processor="sandbox",
            lane=LANE,
            by="test",
            now=days_over(world),
            ages=world.ages,
            progress=lambda _: path.write_text("more"),
        )

    assert StatementImport.objects.count() == StatementLine.objects.count() == 0


def test_a_file_of_a_day_that_goes_on_is_refused(world, tmp_path):
    """R53: a capture of its last hours would be missing from a file that is said to cover it."""
    paid(world)
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY))

    with pytest.raises(Refused, match=f"{DAY} is not over before 2026-02-01 00:00 UTC"):
        import_statement(
            path=path,
            processor="sandbox",
            lane=LANE,
            by="test",
            now=world.clock.now(),
            ages=world.ages,
        )

    assert not StatementImport.objects.exists()


def test_what_stands_in_a_field_is_stored_as_it_stands(world, tmp_path):
    """What COPY gives a meaning to has none in a file: tabs, line ends, backslashes, `\\N`."""
    text = statement_text(DAY).replace(
        "cis-2026-01-31-closing",
        'x,fee,"a\tb\nc\\N\r\\",\\N,2026-01-31T23:00:00Z,0.00,0.00,0.00,USD,"é ""q"""\ncis-2026-01-31-closing',
    )

    take_in(text, world=world, folder=tmp_path)

    line = StatementLine.objects.get(line_id="x")
    assert line.reference == "a\tb\nc\\N\r\\"
    assert (line.processor_reference, line.payout) == ("\\N", 'é "q"')


# --- Expected files -------------------------------------------------------------------------------


def test_a_capture_is_not_missing_before_an_accepted_file_covers_its_day(world, tmp_path):
    """R53: until then the file is expected, then late; late is a discrepancy of its own."""
    paid(world)
    look_again(world)
    expected = StatementExpectation.objects.get()
    assert (expected.lane, expected.day, expected.state) == (LANE, DAY, "expected")

    world.clock.forward(days=1)
    assert named() == []
    look_again(world)
    assert mark_late_expectations(now=world.clock.now()) == 1
    assert mark_late_expectations(now=world.clock.now()) == 0

    assert named() == [(Code.LATE_FILE, "0.00", "0.00")]
    assert "was due 2026-02-01 06:00 UTC" in Discrepancy.objects.get().explanation

    take_in(statement_text(DAY), world=world, folder=tmp_path)
    look_again(world)
    assert named() == []


def test_a_capture_that_the_file_does_not_show_is_missing(world, tmp_path):
    """R53."""
    shown, hidden = paid(world), paid(world)
    look_again(world)
    text = statement_text(DAY)

    take_in(without(text, line_of(text, hidden)), world=world, folder=tmp_path)
    look_again(world)

    assert named() == [(Code.MISSING, "19.99", "0.00")]
    found = Discrepancy.objects.get()
    assert (found.charge_id, found.creator_id) == (hidden.pk, hidden.creator_id)
    assert shown.pk != hidden.pk


# --- Lines ----------------------------------------------------------------------------------------


def test_a_line_short_by_three_cents_is_named(world, tmp_path):
    """R37, R38, for what only a statement can show."""
    charge = paid(world)
    look_again(world)
    text = statement_text(DAY)
    row = line_of(text, charge)
    shorted = row.replace("19.99,0.88,19.11", "19.96,0.88,19.08")

    take_in(rebalanced(text.replace(row, shorted)), world=world, folder=tmp_path)
    look_again(world)

    assert named() == [(Code.AMOUNT, "19.99", "19.96")]
    assert "Under-charge of 0.03 USD in the statement" in Discrepancy.objects.get().explanation


def test_two_equal_lines_are_counted_never_collapsed(world, tmp_path):
    """R39, R41."""
    charge = paid(world)
    look_again(world)
    text = statement_text(DAY)
    row = line_of(text, charge)

    take_in(rebalanced(text.replace(row, row + row)), world=world, folder=tmp_path)
    look_again(world)

    assert StatementLine.objects.filter(type="charge").count() == 2
    assert named() == [(Code.DUPLICATE, "19.99", "39.98")]


@pytest.mark.parametrize("reference", ["", "order 17", "6f1c0000-0000-5000-8000-000000000001"])
def test_a_line_that_names_nothing_of_ours_stays_unmatched(world, tmp_path, reference):
    """R42."""
    charge = paid(world)
    look_again(world)
    text = statement_text(DAY)
    row = line_of(text, charge)
    other = row.replace(str(charge.attempts.get().pk), reference).replace("ln_", "ln_x")

    take_in(rebalanced(text.replace(row, row + other)), world=world, folder=tmp_path)
    look_again(world)

    assert named() == [(Code.UNMATCHED, "0.00", "19.99")]


def agree(*terms: str) -> str:
    out = StringIO()
    call_command("agree_fees", LANE, *terms, "--reason", "contract of May", stdout=out)
    return out.getvalue()


def test_fees_are_agreed_once_and_never_rewritten():
    terms = ("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01")

    assert agree(*terms).endswith(": agreed\n")
    assert agree(*terms).endswith("nothing changed\n")
    with pytest.raises(CommandError, match="agree on another day"):
        agree("--rate", "0.03", *terms[2:])
    agreed = FeeTerms.objects.get()
    assert agreed.rate == Decimal("0.029")
    # Once: what changed nothing is no action.
    kept = LogEntry.objects.get()
    assert (kept.object_id, kept.object_repr) == (str(agreed.pk), str(agreed))
    assert kept.change_message == f"Agreed (command line: {getpass.getuser()}): contract of May"


@pytest.mark.parametrize("reason", [(), ("--reason", "ok")])
def test_fees_are_agreed_with_a_reason(reason):
    with pytest.raises(CommandError, match="reason"):
        call_command(
            "agree_fees",
            LANE,
            *("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01"),
            *reason,
        )

    assert not FeeTerms.objects.exists()


def test_the_demonstration_agrees_its_fees_again_at_the_next_start():
    assert agree(*PROCESSOR_FEES).endswith(": agreed\n")
    assert agree(*PROCESSOR_FEES).endswith("nothing changed\n")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--rate", "1.5"),
        ("--rate", "3%"),
        ("--fixed", "0.305"),
        ("--fixed", "-1"),
        ("--since", "soon"),
    ],
)
def test_fees_that_are_not_terms_are_refused(wrong):
    """R2, R3."""
    with pytest.raises(CommandError):
        agree("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01", *wrong)

    assert FeeTerms.objects.count() == 0


def test_a_fee_other_than_agreed_is_named(world, tmp_path):
    agree("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01")
    right, wrong = paid(world), paid(world)
    text = statement_text(DAY)
    row = line_of(text, wrong)

    take_in(
        rebalanced(text.replace(row, row.replace("0.88,19.11", "0.98,19.01"))),
        world=world,
        folder=tmp_path,
    )
    look_again(world)

    assert named() == [(Code.FEE, "0.88", "0.98")]
    assert right.pk != wrong.pk


def test_a_line_shown_by_another_lane_is_named(world, tmp_path):
    paid(world)
    text = statement_text(DAY)

    take_in(text.replace(f"{LANE}-2026", "mena-2026"), world=world, folder=tmp_path, lane="mena")
    look_again(world)

    assert named() == [(Code.LANE, "19.99", "19.99")]


def test_a_line_edited_behind_the_service_is_named(world, tmp_path):
    """R55: with triggers off; the line's own trigger forbids it otherwise."""
    charge = paid(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)
    look_again(world)
    assert named() == []

    edit(
        "UPDATE settlements_statementline SET gross = 19.96, net = 19.08 WHERE key = %s",
        charge.attempts.get().pk,
    )
    look_again(world)

    assert (Code.AMOUNT, "19.99", "19.96") in named()


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (DAY, date(2062, 1, 31), "ends on 2062-01-31"),
        (date(1900, 1, 2), DAY, "more than 400 days"),
    ],
)
def test_a_file_of_years_is_refused(world, tmp_path, first, last, reason):
    """R39: a typing error in a year, or a trap: its days would be covered for ever, each a row."""
    with pytest.raises(Refused, match=reason):
        take_in(statement_text(first, last), world=world, folder=tmp_path)

    assert StatementExpectation.objects.count() == 0


def test_fee_terms_begin_with_the_lane_s_own_day(world, tmp_path):
    """2026-01-31 20:00 UTC is the first of February in Almaty, where the new terms hold already."""
    StatementTerms.objects.create(lane=LANE, time_zone="Asia/Almaty", due_time=time(6))
    agree("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01")
    agree("--rate", "0.029", "--fixed", "0.40", "--since", "2026-02-01")
    world.clock.forward(seconds=8 * 3600)
    attempt = paid(world).attempts.get()
    assert attempt.booked_at is not None
    assert attempt.booked_at.date() == DAY
    world.clock.forward(days=1)
    report = tmp_path / "itemized_2026-02-01_to_2026-02-01_closing_19.01.csv"
    report.write_text(
        "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,"
        "payment_metadata[attempt_id]\n"
        f"txn_1,{attempt.booked_at:%Y-%m-%d %H:%M:%S},usd,19.99,0.98,19.01,charge,{attempt.pk}\n"
    )

    import_statement(
        path=report, processor="sandbox", lane=LANE, by="t", now=world.clock.now(), ages=world.ages
    )
    look_again(world)

    assert named() == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE settlements_statementimport SET state = 'quarantined', reason = 'x', accepted_at = NULL",
        "UPDATE settlements_statementimport SET opening = opening + 1, closing = closing + 1",
        "UPDATE settlements_statementimport SET sha256 = repeat('0', 64)",
        "DELETE FROM settlements_statementimport",
        "UPDATE settlements_feeterms SET fixed = fixed + 0.10",
        "DELETE FROM settlements_feeterms",
    ],
)
def test_what_was_accepted_and_agreed_never_changes(world, tmp_path, sql):
    """R35 for what is not ours, for raw SQL too: a fee that is rewritten would hide what was kept."""
    agree("--rate", "0.029", "--fixed", "0.30", "--since", "2026-01-01")
    take_in(statement_text(DAY), world=world, folder=tmp_path)
    StatementExpectation.objects.update(state=ExpectationState.EXPECTED, statement=None)

    with (
        pytest.raises(DatabaseError, match="never change"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)


def test_another_file_of_a_day_that_is_covered_is_named(world, tmp_path):
    """A file that the processor mended is no secret: two people look at it, or it is the same again."""
    charge = paid(world)
    text = statement_text(DAY)
    take_in(text, world=world, folder=tmp_path)
    take_in(text.replace("ln_", "ln_x"), world=world, folder=tmp_path, name="again.csv")
    look_again(world)
    assert named() == []

    row = line_of(text, charge)
    dispute = row.replace(",charge,", ",dispute,").replace("19.99,0.88,19.11", "-9.99,0.00,-9.99")
    take_in(
        rebalanced(text.replace(row, row + dispute)), world=world, folder=tmp_path, name="mended"
    )
    look_again(world)

    assert named() == [(Code.QUARANTINED_FILE, "0.00", "0.00")]
    found = Discrepancy.objects.get(cleared_at__isnull=True)
    assert "2026-01-31 is covered by another file already" in found.explanation
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    assert len(named()) == 1


# --- What the resolver is asked first ---------------------------------------------------------------


def resolver(world: World):
    def resolve(attempt_id: UUID) -> None:
        rescue.resolve_attempt(
            attempt_id=attempt_id, clock=world.clock, gateways=world.gateways, ages=world.ages
        )

    return resolve


def test_a_line_for_an_attempt_in_doubt_goes_to_the_resolver_first(world, tmp_path):
    """R53, R21: the processor confirms, the charge is paid, and there is nothing to name."""
    world.gateway.answers = [charged_but_silent(world.gateway, InDoubt("time-out"))]
    charge = world.due_charge()
    world.receive(charge)
    attempt = charge.attempts.get()
    text = _file_with(attempt, world)

    take_in(text, world=world, folder=tmp_path)
    look_again(world, resolve=resolver(world))

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert named() == []


def test_a_line_for_an_open_attempt_is_no_discrepancy_while_nobody_knows(world, tmp_path):
    """R53: without an answer it waits with the resolver."""
    world.gateway.answers = [InDoubt("time-out")]
    world.gateway.query_answers = [InDoubt("time-out")]
    charge = world.due_charge()
    world.receive(charge)

    take_in(_file_with(charge.attempts.get(), world), world=world, folder=tmp_path)
    look_again(world, resolve=resolver(world))

    assert charge.attempts.get().outcome == AttemptOutcome.OPEN
    assert named() == []


def test_a_line_for_a_declined_attempt_is_named(world, tmp_path):
    """R53: the processor was asked and stays with its decline; its own statement says otherwise."""
    world.gateway.answers = [Declined(DeclineClass.NEVER, "stolen_card")]
    charge = world.due_charge()
    world.receive(charge)

    take_in(_file_with(charge.attempts.get(), world), world=world, folder=tmp_path)
    look_again(world, resolve=resolver(world))

    assert named() == [(Code.NOT_CAPTURED, "0.00", "19.99")]


def test_an_accepted_file_ends_the_daily_asking_for_what_it_does_not_list(world, tmp_path):
    """R22: not found is asked again daily until a statement covers its day."""
    world.gateway.answers = [InDoubt("lost")]
    charge = world.due_charge()
    world.receive(charge)
    for _ in range(4):
        world.clock.forward(seconds=3700)
        rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
    lost = charge.attempts.get()
    assert (lost.verdict, lost.next_query_at is None) == ("not_found", False)

    take_in(statement_text(DAY), world=world, folder=tmp_path)

    assert charge.attempts.get().next_query_at is None


def _file_with(attempt: Attempt, world: World) -> str:
    """A file that shows a capture of an attempt we know no capture of."""
    outcome = attempt.outcome
    shown = Approved(attempt.amount, "USD", "sbx_1")
    text = statement_text(DAY)
    row = (
        f"ln_1,charge,{attempt.pk},{shown.processor_reference},2026-01-31T12:00:00Z,"
        f"{shown.amount},0.88,{shown.amount - Decimal('0.88')},USD,po_1\n"
    )
    assert outcome != AttemptOutcome.CAPTURED
    header, opening, *rest = text.splitlines(keepends=True)
    return rebalanced("".join([header, opening, row, *rest]))


# --- The command ----------------------------------------------------------------------------------


def test_the_command_takes_in_a_file_and_says_so(world, tmp_path):
    paid(world)
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY))

    out = StringIO()
    call_command("import_statement", str(path), processor="sandbox", account="cis", stdout=out)
    call_command("import_statement", str(path), processor="sandbox", account="cis", stdout=out)

    assert out.getvalue().splitlines() == [
        "cis, 2026-01-31 to 2026-01-31: accepted: 1 lines",
        "cis, 2026-01-31 to 2026-01-31: was imported before, nothing added: 1 lines",
    ]


def test_the_command_refuses_with_every_bad_line_and_code_2(world, tmp_path):
    """R39."""
    paid(world)
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY).replace("19.99", "null"))

    with pytest.raises(CommandError, match="line 3: gross 'null'") as refused:
        call_command("import_statement", str(path), processor="sandbox", account="cis")

    assert refused.value.returncode == 2


@pytest.mark.parametrize("account", ["nowhere", ""])
def test_the_command_knows_its_accounts(world, tmp_path, account):
    with pytest.raises(CommandError, match="is no account of ours; there are sandbox cis"):
        call_command("import_statement", str(tmp_path), processor="sandbox", account=account)


def test_the_command_tells_scripts_what_became_of_each_file(world, tmp_path):
    paid(world)
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text(statement_text(DAY))
    bad.write_text(statement_text(NEXT).replace("19.11,USD", "x,USD", 1))

    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(
            *("import_statement", str(good), str(bad), "--json"),
            processor="sandbox",
            account="cis",
            stdout=out,
        )

    assert ended.value.code == 2
    first, second = json.loads(out.getvalue())
    assert (first["state"], first["statements"][0]["movement"]) == ("imported", "19.11")
    assert first["statements"][0]["format"] == "processor-csv"
    assert (second["state"], second["statements"]) == ("refused", [])
    assert second["faults"] == ["line 2: net 'x' is not an amount such as -19.99"]


def test_the_command_takes_in_a_banks_statement(world):
    path = FILES / "mock-bank-day-1.camt.053.001.08.xml"

    out = StringIO()
    call_command("import_statement", str(path), bank=True, stdout=out)

    assert out.getvalue() == (
        "GB33BUKB20201555555555, 2026-01-05 to 2026-01-05: accepted: 3 entries of 1949.22 USD\n"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bank": True, "processor": "sandbox"}, "--bank goes without"),
        ({"first_day": date(2026, 1, 5)}, "--first-day goes with --last-day"),
        ({"opening": Decimal("1.00")}, "--opening with --closing"),
        ({"first_day": date(2026, 1, 5), "last_day": date(2026, 1, 4)}, "is before"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, says):
    whose = {} if "bank" in options else {"processor": "sandbox", "account": "cis"}
    with pytest.raises(CommandError, match=says):
        call_command("import_statement", "x.csv", **whose, **options)


# --- Other processors' formats ----------------------------------------------------------------------


def stripe_report(charge: Charge, *, day: str = "2026-01-31", amount: str = "19.99") -> str:
    """A report in Stripe's own columns that shows one charge."""
    [header, row] = STRIPE.read_text("utf-8").splitlines()[:2]
    attempt = charge.attempts.get()
    net = Decimal(amount) - Decimal("0.88")
    row = row.replace("2026-01-05", day).replace(
        "6f1c0000-0000-5000-8000-000000000001", str(attempt.pk)
    )
    return f"{header}\n{row.replace('19.99,0.88,19.11', f'{amount},0.88,{net}')}\n"


def stripe_name(day: str, closing: str) -> str:
    """As Stripe names it, and whoever fetched it added what its balance became."""
    return STRIPE.name.replace("2026-01-05", day).replace(".csv", f"_closing_{closing}.csv")


def test_stripes_report_proves_its_captures(world, tmp_path):
    """Its days and its closing stand in its name, its opening is the former closing."""
    charge = paid(world)
    look_again(world)
    name = stripe_name("2026-01-31", "19.11")

    imported = take_in(stripe_report(charge), world=world, folder=tmp_path, name=name)
    look_again(world)

    statement = imported.statement
    assert (statement.format, statement.state) == ("stripe-balance", "accepted")
    assert (statement.opening, statement.closing) == (Decimal("0.00"), Decimal("19.11"))
    assert statement.balances_stated is False
    assert named() == []


def test_a_cent_in_stripes_report_is_named(world, tmp_path):
    """R37, R38."""
    charge = paid(world)
    look_again(world)
    name = stripe_name("2026-01-31", "19.08")

    take_in(stripe_report(charge, amount="19.96"), world=world, folder=tmp_path, name=name)
    look_again(world)

    assert named() == [(Code.AMOUNT, "19.99", "19.96")]


def test_balances_that_were_told_are_held_against_the_lines(world, tmp_path):
    """R40: from Stripe's balance summary."""
    path = tmp_path / STRIPE.name
    path.write_text(STRIPE.read_text("utf-8"))

    def tell(opening: str, closing: str) -> Imported:
        return import_statement(
            path=path,
            processor="sandbox",
            lane=LANE,
            by="test",
            now=world.clock.now(),
            ages=world.ages,
            told=Told(opening=Decimal(opening), closing=Decimal(closing)),
        )

    says = "opening 100.00 and lines of -5.02 make 94.98, but the closing is 94.99"
    with pytest.raises(Refused, match=says):
        tell("100.00", "94.99")

    # Nothing is kept of it, so that what was mistyped can be told again.
    assert tell("100.00", "94.98").statement.state == "accepted"


def test_a_report_that_is_cut_at_the_end_of_a_row_is_refused(world, tmp_path):
    """R40: it has no closing row; what it should come to is told, here after a file that was whole."""
    text = STRIPE.read_text("utf-8")
    take_in(text, world=world, folder=tmp_path, name=stripe_name("2026-01-05", "-5.02"))
    second = text.replace("2026-01-05", "2026-01-06").replace("txn_3Q", "txn_6")
    cut = "".join(second.splitlines(keepends=True)[:-2])
    name = stripe_name("2026-01-06", "-10.04")

    with pytest.raises(Refused, match=r"lines of -1\.77 make -6\.79, but the closing is -10\.04"):
        take_in(cut, world=world, folder=tmp_path, name=name)
    with pytest.raises(Refused, match="it does not say its closing balance"):
        take_in(cut, world=world, folder=tmp_path, name=name.replace("_closing_-10.04", ""))

    assert StatementImport.objects.count() == 1
    assert take_in(second, world=world, folder=tmp_path, name=name).statement.state == "accepted"


def test_a_report_without_an_opening_that_came_early_follows_later(world, tmp_path):
    """Its opening is the former closing as it is when it is taken up."""
    closings = {5: "-5.02", 6: "-10.04", 7: "-15.06"}
    names = [stripe_name(f"2026-01-0{day}", closing) for day, closing in closings.items()]
    texts = [
        STRIPE.read_text("utf-8")
        .replace("2026-01-05", f"2026-01-0{day}")
        .replace("txn_3Q", f"txn_{day}")
        for day in (5, 6, 7)
    ]
    take_in(texts[0], world=world, folder=tmp_path, name=names[0])
    early = take_in(texts[2], world=world, folder=tmp_path, name=names[2])
    assert early.statement.reason == "the days from 2026-01-06 have no accepted file yet"
    take_in(texts[1], world=world, folder=tmp_path, name=names[1])

    files = StatementImport.objects.order_by("first_day")
    assert [file.state for file in files] == ["accepted"] * 3
    assert [str(file.opening) for file in files] == ["0.00", "-5.02", "-10.04"]


def test_a_processors_camt_proves_its_captures(world, tmp_path):
    charge = paid(world)
    look_again(world)
    text = (FILES / "processor.camt.053.001.14.xml").read_text("utf-8")
    text = text.replace("2026-01-05", "2026-01-31").replace("2026-01-06", "2026-02-01")
    text = text.replace("6f1c0000000050008000000000000001", charge.attempts.get().pk.hex)

    imported = take_in(text, world=world, folder=tmp_path, name="cis.xml")
    look_again(world)

    assert (imported.statement.format, imported.statement.state) == ("camt.053", "accepted")
    assert named() == []


def test_days_of_another_zone_than_the_lanes_are_refused(world, tmp_path):
    """R53: a UTC file covers no day of Almaty whole."""
    StatementTerms.objects.create(lane=LANE, time_zone="Asia/Almaty", due_time=time(6))

    with pytest.raises(Refused, match="its days are UTC's, those of cis are Asia/Almaty's"):
        take_in(statement_text(DAY), world=world, folder=tmp_path)


def test_a_preview_says_what_would_become_of_a_file_and_stores_nothing(world, tmp_path):
    paid(world)
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY))
    facts = {"path": path, "processor": "sandbox", "lane": LANE, "by": "test"}

    preview = preview_statement(**facts, now=days_over(world))

    assert (preview.statement.state, preview.known) == ("accepted", None)
    assert {name: (each.count, str(each.net)) for name, each in preview.summary.sums.items()} == {
        "charge": (1, "19.11")
    }
    assert StatementImport.objects.count() == 0

    imported = take_in(path.read_text(), world=world, folder=tmp_path, name="cis.csv")
    assert preview_statement(**facts, now=days_over(world)).known == imported.statement
