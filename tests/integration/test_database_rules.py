"""What the database itself refuses, whoever asks: types, moves, outcomes, paid charges (R1, R25 to R27, R43)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from checkout.models import (
    LEGAL_MOVES,
    TERMINAL,
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    IllegalTransition,
    Instrument,
)
from tests.factories import World, attempts, creator, fresh
from tests.situations import (
    NEVER,
    SITUATIONS,
    attempting,
    failed_then_retry,
    in_doubt,
    open_attempt,
    rewrite,
    succeeded,
    voided,
)

pytestmark = pytest.mark.django_db

# Amounts that not every row has: there is none, rather than zero.
NULLABLE = {
    ("checkout_attempt", "captured_amount"),
    ("checkout_case", "amount"),
}
MONEY_WORDS = ("amount", "price", "usd", "gross", "net", "fee", "balance", "reserve", "total")


@pytest.fixture
def world() -> World:
    return World()


def rows(text: str, *values: Any) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def refused(match: str) -> Iterator[None]:
    with pytest.raises(DatabaseError, match=match), transaction.atomic():
        yield


# --- The schema (R1) -------------------------------------------------------------------------------


def test_no_column_is_a_float() -> None:
    """R1."""
    floats = rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema ="
        " 'public' AND data_type IN ('real', 'double precision', 'money')"
    )

    assert floats == []


def test_every_amount_is_numeric_14_2_and_not_null() -> None:
    """R1: by name, and every NUMERIC there is; rates have 4 to 9 places."""
    columns = rows(
        "SELECT table_name, column_name, data_type, numeric_precision, numeric_scale, is_nullable"
        " FROM information_schema.columns WHERE table_schema = 'public'"
        " AND (data_type = 'numeric' OR column_name ~ %s) AND table_name !~ '^(django|auth)_'",
        f"(^|_)({'|'.join(MONEY_WORDS)})$",
    )
    numeric = [column for column in columns if column[2] == "numeric"]
    wrong = [
        column for column in numeric if column[3:5] != (14, 2) and not 4 <= int(str(column[4])) <= 9
    ]
    null = {(column[0], column[1]) for column in numeric if column[5] == "YES"}

    assert len(numeric) >= 7
    assert wrong == []
    assert {column for column in null if str(column[0]).startswith("checkout_")} == NULLABLE
    assert [column for column in columns if column[2] in {"integer", "bigint", "text"}] == []


def test_every_timestamp_has_its_zone() -> None:
    """R12: stored in UTC."""
    naive = rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema ="
        " 'public' AND data_type = 'timestamp without time zone'"
    )

    assert naive == []


# --- Moves (R27) -----------------------------------------------------------------------------------


def test_the_table_of_moves_and_the_trigger_s_are_the_same() -> None:
    found = {
        (was, becomes): rows("SELECT checkout_legal_move(%s, %s)", was.value, becomes.value)[0][0]
        for was in ChargeState
        for becomes in ChargeState
    }

    assert {move for move, legal in found.items() if legal} == {
        (was, becomes) for was, all_of_it in LEGAL_MOVES.items() for becomes in all_of_it
    }


@pytest.mark.parametrize("where", ["succeeded", "voided", "written_off"])
def test_a_terminal_state_never_changes(world: World, where: str) -> None:
    """R27: by move(), and by raw SQL."""
    charge = SITUATIONS[where](world)

    for to in set(ChargeState) - {ChargeState(charge.state)}:
        with pytest.raises(IllegalTransition):
            fresh(charge).move(to)
        with refused("is not a legal move"):
            rows("UPDATE checkout_charge SET state = %s WHERE id = %s", to.value, charge.pk)
    assert ChargeState(charge.state) in TERMINAL


def test_a_move_from_a_state_read_too_early_is_refused(world: World) -> None:
    """R27: compare-and-set; somebody else was first."""
    charge = world.due_charge()
    mine, theirs = fresh(charge), fresh(charge)
    theirs.move(ChargeState.EXHAUSTED)

    with pytest.raises(IllegalTransition, match="is no longer due"):
        mine.move(ChargeState.VOIDED)


@pytest.mark.parametrize(
    "change",
    [
        "amount = amount + 1",
        "expected_amount = 0.01",
        "period_start = period_start + 1",
        "period_end = period_end + 1",
        "billed_at = now()",
        "currency = 'EUR'",
    ],
)
def test_what_is_owed_never_changes(world: World, change: str) -> None:
    charge = world.due_charge()

    with refused("never changes|charge_usd"):
        rows(f"UPDATE checkout_charge SET {change} WHERE id = %s", charge.pk)


@pytest.mark.parametrize("column", ["round", "dispatch"])
def test_round_and_dispatch_only_grow(world: World, column: str) -> None:
    charge = world.due_charge()

    with refused("only grow"):
        rows(f"UPDATE checkout_charge SET {column} = 0 WHERE id = %s", charge.pk)


@pytest.mark.parametrize("table", ["charge", "attempt"])
def test_charges_and_attempts_are_never_deleted(world: World, table: str) -> None:
    succeeded(world)

    with refused("is never deleted"):
        rows(f"DELETE FROM checkout_{table}")


# --- Attempts (R25, R26, R27) ----------------------------------------------------------------------


def insert_attempt(charge: Charge, **columns: object) -> Attempt:
    """A new open attempt, as a mistaken worker would insert it."""
    instrument = Instrument.objects.filter(creator_id=charge.creator_id).latest("created_at")
    number = len(attempts(charge)) + 1
    facts: dict[str, object] = {
        "id": Attempt.derive_id(charge_id=charge.pk, round=charge.round, number=number),
        "charge_id": charge.pk,
        "creator_id": charge.creator_id,
        "instrument": instrument,
        "lane": "cis",
        "round": charge.round,
        "number": number,
        "amount": charge.amount,
        "started_at": charge.created_at,
        "last_sent_at": charge.created_at,
    }
    return Attempt.objects.create(**(facts | columns))


def test_a_paid_charge_takes_no_further_attempt_whatever_its_state_says(world: World) -> None:
    """R26, F27: the trigger reads attempts and ledger."""
    charge = succeeded(world)
    rewrite(charge, state="failed_then_retry")

    with refused("it is already paid"):
        insert_attempt(charge)


def test_a_charge_with_nothing_receivable_takes_no_attempt(world: World) -> None:
    """R26."""
    charge = voided(world)
    rewrite(charge, state="due")

    with refused("nothing is receivable"):
        insert_attempt(charge)


def test_a_round_takes_three_attempts_and_no_fourth(world: World) -> None:
    charge = SITUATIONS["exhausted, three attempts"](world)
    rewrite(charge, state="failed_then_retry", awaits="", next_round_at=None)

    with refused("has its three attempts"):
        insert_attempt(charge)


def test_attempts_that_were_not_charged_are_not_among_the_three(world: World) -> None:
    charge = failed_then_retry(world)
    for number in (2, 3, 4):
        insert_attempt(
            charge,
            id=Attempt.derive_id(charge_id=charge.pk, round=1, number=number),
            number=number,
            outcome=AttemptOutcome.NOT_CHARGED,
            ended_at=world.clock.real_now(),
        )

    assert insert_attempt(charge).number == 5


def test_a_dead_instrument_takes_no_attempt(world: World) -> None:
    """R29."""
    charge = world.due_charge()
    world.gateway.answers = [NEVER]
    world.receive(charge)
    rewrite(charge, state="failed_then_retry", awaits="")

    with refused("dead instrument"):
        insert_attempt(charge)


def test_a_charge_has_one_open_attempt(world: World) -> None:
    """R25."""
    charge = in_doubt(world)

    with refused("attempt_one_open"):
        insert_attempt(charge)


def test_a_creator_has_one_attempting_charge(world: World) -> None:
    """R25."""
    charge = attempting(world)
    other = world.due_charge(of=charge.creator)

    with refused("charge_one_attempting"):
        fresh(other).move(ChargeState.ATTEMPTING)


def test_two_captures_are_never_both_applied(world: World) -> None:
    """R26: a second one goes to unapplied receipts."""
    charge = SITUATIONS["succeeded, an attempt not found before"](world)

    with refused("attempt_one_captured"):
        Attempt.objects.filter(charge=charge).update(
            outcome="captured", captured_amount="19.99", captured_currency="USD"
        )


FINAL = ["captured", "unapplied", "declined", "not_charged"]
CAPTURES = {"captured", "unapplied"}


@pytest.mark.parametrize("was", FINAL)
@pytest.mark.parametrize("becomes", ["open", *FINAL])
def test_a_final_outcome_gives_way_to_a_capture_alone(world: World, was: str, becomes: str) -> None:
    """R27: not charged or declined by a capture; a capture by nothing."""
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    change(attempt, was)
    legal = was == becomes or (was not in CAPTURES and becomes in CAPTURES)

    if legal:
        change(attempt, becomes)
    else:
        with refused("is final"):
            change(attempt, becomes)


def change(attempt: Attempt, outcome: str) -> None:
    captured = outcome in CAPTURES
    Attempt.objects.filter(pk=attempt.pk).update(
        outcome=outcome,
        ended_at=None if outcome == "open" else attempt.started_at,
        captured_amount="19.99" if captured else None,
        captured_currency="USD" if captured else "",
    )


@pytest.mark.parametrize(
    "change",
    [
        "amount = 1",
        "lane = 'other'",
        "number = 2",
        "round = 2",
        "sends = 0",
        "started_at = now()",
    ],
)
def test_what_was_sent_never_changes(world: World, change: str) -> None:
    """R19, R23."""
    in_doubt(world)

    with refused("what was sent never changes"):
        rows(f"UPDATE checkout_attempt SET {change}")


def test_what_was_captured_never_changes(world: World) -> None:
    succeeded(world)

    with refused("what was captured never changes"):
        rows("UPDATE checkout_attempt SET captured_amount = 0.01")


def test_a_message_says_what_it_said(world: World) -> None:
    """R44, R45: neither payload nor identity of a committed message changes."""
    world.due_charge()

    for column in ("payload = '{}'", "event_id = gen_random_uuid()", "type = 'other'"):
        with refused("what it says never changes"):
            rows(f"UPDATE checkout_outboxmessage SET {column}")
    for statement in ("DELETE FROM checkout_outboxmessage", "DELETE FROM checkout_pendingmessage"):
        with refused("never changes|neither pending nor published"):
            rows(statement)


# --- Checks ----------------------------------------------------------------------------------------


def test_who_proposes_does_not_approve(world: World) -> None:
    """R43."""
    case = Case.objects.create(
        kind=CaseKind.BILL_RUN,
        subject="2026-01-31",
        reason="off",
        opened_at=world.clock.real_now(),
        proposal="bill as planned",
        proposed_by="first",
    )
    at = world.clock.real_now()

    with refused("case_four_eyes"):
        Case.objects.filter(pk=case.pk).update(approved_by="first", approved_at=at)
    with refused("case_approved"):
        Case.objects.filter(pk=case.pk).update(approved_by="second")
    Case.objects.filter(pk=case.pk).update(approved_by="second", approved_at=at)


def test_a_case_is_closed_with_a_reason(world: World) -> None:
    Case.objects.create(
        kind=CaseKind.IN_DOUBT, subject="s", reason="r", opened_at=world.clock.real_now()
    )

    with refused("case_closed"):
        Case.objects.update(closed_at=world.clock.real_now())


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"amount": "0.00"}, "charge_amount_positive"),
        ({"amount": "-1.00"}, "charge_amount_positive"),
        ({"currency": "EUR"}, "charge_usd"),
        ({"state": "lost"}, "charge_state"),
        ({"awaits": "date"}, "charge_awaits"),
        ({"awaits": "person"}, "charge_awaits"),
    ],
)
def test_what_is_no_charge_is_refused(world: World, columns: dict[str, str], rule: str) -> None:
    """R9, R27."""
    charge = world.due_charge()
    Charge.objects.filter(pk=charge.pk)
    copy = fresh(charge)
    copy.pk = Charge.derive_id(
        subscription_id=charge.subscription_id, period_start=charge.period_end
    )
    copy.period_start, copy.period_end = charge.period_end, charge.period_end + timedelta(days=28)
    for name, value in columns.items():
        setattr(copy, name, value)

    with refused(rule):
        copy.save(force_insert=True)


def test_a_period_is_billed_once(world: World) -> None:
    """R15."""
    charge = world.due_charge()
    copy = fresh(charge)
    copy.pk = creator(clock=world.clock).pk

    with pytest.raises(IntegrityError, match="charge_once"), transaction.atomic():
        copy.save(force_insert=True)


# --- Migrations ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_migrations_run_backwards_and_forwards_again() -> None:
    """Down to the bare tables and up: every trigger has its way back."""
    before = triggers()
    down("settlements", None)
    down("checkout", "0001_initial")
    assert triggers() == set()

    call_command("migrate", verbosity=0, stdout=io.StringIO())

    assert triggers() == before


def down(app: str, name: str | None) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate([(app, name)])


def triggers() -> set[object]:
    found = rows(
        "SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal"
        " UNION SELECT p.oid::regprocedure::text FROM pg_proc p"
        " WHERE pronamespace = 'public'::regnamespace"
    )
    return {row[0] for row in found}
