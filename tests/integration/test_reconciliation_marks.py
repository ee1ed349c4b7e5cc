"""R55, hole by hole: each of these once made an incremental pass and a full one disagree, or stopped both.

Rows are moved, deleted and put back past every trigger but the marks', one comparison reads what another
table's mark did not name, and no row, however broken, may keep a pass from naming the others.
"""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from checkout import billing
from checkout.gateways import Approved
from checkout.models import Charge, Creator
from settlements import readings, reconciliation, resolving
from settlements.closing import close_periods
from settlements.models import Discrepancy, FeeTerms, Payout, ReconcileDirty, Way
from settlements.settling import store_default_schedules
from tests import factories_matches
from tests.factories import LANE, World, creator, fresh
from tests.factories_bank import bank_take_in
from tests.factories_matches import approved_match, doubtful, proposed_match, told
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def look(world: World) -> dict[str, tuple[Decimal, Decimal]]:
    """What stands after an incremental pass."""
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    return standing()


def standing() -> dict[str, tuple[Decimal, Decimal]]:
    rows = Discrepancy.objects.filter(cleared_at__isnull=True)
    return {row.fingerprint: (row.expected, row.actual) for row in rows}


def assert_agree(world: World, *, at_once: int = reconciliation.SLICE) -> None:
    """A full pass right after an incremental one opens nothing and clears nothing."""
    incremental = look(world)
    reconciliation.reconcile(clock=world.clock, ages=world.ages, at_once=at_once)
    assert incremental == standing()


def paid(world: World, **facts: Any) -> Charge:
    charge = world.due_charge(**facts)
    world.receive(charge)
    return fresh(charge)


def take_out(table: str, where: str) -> list[str]:
    """Delete these rows, and return them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_jsonb(t)::text FROM {table} t WHERE {where}")
        rows = [row for (row,) in cursor.fetchall()]
    edit(f"DELETE FROM {table} WHERE {where}")
    return rows


def put_back(table: str, rows: list[str], **changed: object) -> None:
    for row in rows:
        text = json.dumps({**json.loads(row), **changed})
        columns = f"(jsonb_populate_record(NULL::{table}, %s::jsonb)).*"
        edit(f"INSERT INTO {table} SELECT {columns}", text)


# --- Moved, taken out, put back --------------------------------------------------------------------


def test_a_subscription_that_was_put_back_says_again_what_its_charges_owe(world):
    charge = paid(world)
    edit("UPDATE checkout_charge SET amount = amount - 0.03 WHERE id = %s", charge.pk)
    look(world)
    rows = take_out("checkout_subscription", f"id = '{charge.subscription_id}'")
    look(world)

    put_back("checkout_subscription", rows)

    assert_agree(world)


def test_a_subscription_taken_out_is_missed_by_a_charge_that_was_moved_away(world):
    charge, other = world.due_charge(), paid(world)
    edit("UPDATE checkout_charge SET creator_id = %s WHERE id = %s", other.creator_id, charge.pk)
    look(world)

    edit("DELETE FROM checkout_subscription WHERE id = %s", charge.subscription_id)

    assert_agree(world)


def test_a_charge_of_another_id_and_period_leaves_its_period_missing(world):
    charge = paid(world)
    look(world)

    edit(
        "UPDATE checkout_charge SET id = gen_random_uuid(), period_start = period_start - 7"
        " WHERE id = %s",
        charge.pk,
    )

    assert_agree(world)


def test_a_posting_put_in_under_another_charge_is_about_both(world):
    charge, other = paid(world), paid(world)
    moved = "UPDATE checkout_ledgerposting SET charge_id = %s WHERE charge_id = %s AND account = 'clearing'"
    edit(moved, other.pk, charge.pk)
    look(world)
    own = f"SELECT id FROM checkout_ledgerentry WHERE charge_id = '{charge.pk}'"
    rows = take_out("checkout_ledgerposting", f"account = 'clearing' AND entry_id IN ({own})")
    look(world)

    put_back("checkout_ledgerposting", rows)

    assert_agree(world)


@pytest.mark.parametrize(
    "then",
    [
        "DELETE FROM checkout_ledgerentry WHERE attempt_id ="
        " (SELECT id FROM checkout_attempt WHERE charge_id = %s)",
        "UPDATE checkout_attempt SET outcome = 'declined', captured_amount = NULL,"
        " captured_currency = '' WHERE charge_id = %s",
    ],
)
def test_an_entry_that_was_moved_is_still_that_of_its_attempt(world, then):
    charge, other = paid(world), paid(world)
    moved = (
        "UPDATE checkout_ledgerentry SET charge_id = %s WHERE charge_id = %s AND kind = 'captured'"
    )
    edit(moved, other.pk, charge.pk)
    look(world)

    edit(then, charge.pk)

    assert_agree(world)


def test_a_settlement_that_was_moved_is_looked_at_where_it_is(world):
    store_default_schedules(now=world.clock.now())
    other = creator(clock=world.clock)
    paid(world)
    store_default_schedules(now=world.clock.now())
    world.clock.forward(days=31)
    billing.bill_due(clock=world.clock, ages=world.ages)
    close_periods(clock=world.clock, ages=world.ages)
    look(world)

    edit(
        "UPDATE settlements_settlement SET net = net + 1, charged = charged + 1, creator_id = %s",
        other.pk,
    )

    assert_agree(world)


# --- Matches and corrections -------------------------------------------------------------------------


def test_a_posting_of_a_match_that_was_moved_corrects_the_charge_it_names(world, tmp_path: Path):
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "198.97")
    approved_match(world, proposed_match(world, [line], [attempt]))
    world.gateway.answers = []
    other = paid(world, of=Creator.objects.get(pk=attempt.creator_id), price="4.99")
    look(world)
    edit(
        "UPDATE checkout_ledgerposting SET charge_id = %s WHERE account = 'receivable' AND charge_id = %s"
        " AND entry_id IN (SELECT entry_id FROM settlements_matchedattempt)",
        other.pk,
        attempt.charge_id,
    )
    assert_agree(world)

    edit("UPDATE checkout_charge SET sweeps = sweeps + 1 WHERE id = %s", other.pk)

    assert_agree(world)


def test_a_slice_without_the_matched_attempt_raises_no_alarm(world, tmp_path: Path):
    attempt = doubtful(world)
    (line,) = told(world, tmp_path, "198.97")
    approved_match(world, proposed_match(world, [line], [attempt]))
    for charge in [paid(world) for _ in range(3)]:
        edit(
            "UPDATE checkout_attempt SET creator_id = %s WHERE id = %s",
            charge.creator_id,
            attempt.pk,
        )

        assert_agree(world, at_once=1)


def test_an_approved_match_that_was_put_back_is_believed_again(world, tmp_path: Path):
    attempt = factories_matches.paid(world)
    (line,) = told(world, tmp_path, "19.99", without=[attempt])
    proposal = approved_match(world, proposed_match(world, [line], [attempt]))
    look(world)
    rows = take_out("settlements_proposal", f"id = {proposal.pk}")
    look(world)

    put_back("settlements_proposal", rows)

    assert_agree(world)


def test_an_item_that_forgets_its_entry_no_longer_covers_it(world):
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", "short")
    ]
    world.receive(world.due_charge())
    look(world)
    found = Discrepancy.objects.get(cleared_at__isnull=True)
    now = world.clock.now()
    proposal = resolving.propose(
        discrepancy_ids=[found.pk], way=Way.CORRECTED, by="ann", reason="short", now=now
    )
    resolving.approve(
        proposal_id=proposal.pk, seen=proposal.sha256, by="bob", reason="yes", now=now
    )
    look(world)

    edit("UPDATE settlements_proposalitem SET entry_id = NULL")

    assert_agree(world)


# --- Time, terms and days ----------------------------------------------------------------------------


def test_a_calendar_that_was_moved_ahead_is_judged_when_its_day_comes(world):
    paid(world)
    look(world)
    edit("UPDATE checkout_subscriptionterms SET starts_on = starts_on + 10, anchor = anchor + 10")
    look(world)
    world.clock.forward(days=14)
    look(world)
    world.clock.forward(seconds=1000)
    look(world)

    assert_agree(world)


def test_fee_terms_bear_on_lines_that_were_booked_after_our_midnight(world, tmp_path: Path):
    paid(world)
    day = world.clock.business_now().date()
    world.clock.forward(days=2)
    take_in(statement_text(day, day + timedelta(days=1)), world=world, folder=tmp_path)
    edit(
        "UPDATE settlements_statementline SET booked_at = booked_at + interval '1 day'"
        " WHERE type = 'charge'"
    )
    look(world)

    FeeTerms.objects.create(
        lane=LANE, valid_from=day + timedelta(days=1), rate=Decimal("0.5"), fixed=Decimal("0.30")
    )

    assert_agree(world)


# --- One row must not stop the others ------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE checkout_outboxmessage SET payload = 'x' WHERE type = 'subscription.started'",
        "UPDATE checkout_outboxmessage SET payload = '{}' WHERE type = 'subscription.started'",
        'UPDATE checkout_outboxmessage SET payload = \'{"price": "much"}\''
        " WHERE type = 'subscription.started'",
        "UPDATE checkout_creator SET event_seq = 9000000000000",
        "UPDATE checkout_subscription SET next_billing_at = 'infinity'",
        "UPDATE checkout_subscriptionterms SET interval_count = 0",
    ],
)
def test_a_row_that_nobody_can_read_stops_no_pass(world, broken: str):
    charge = paid(world)
    look(world)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '20s'")
    edit(broken)
    edit("UPDATE checkout_attempt SET captured_amount = captured_amount + 0.01")

    assert_agree(world)

    assert f"captured:surplus:{charge.pk}" in standing()


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE checkout_subscriptionterms SET starts_on = '5000000-01-01'",
        "UPDATE checkout_charge SET period_end = '5000000-01-02'",
        "UPDATE checkout_charge SET period_end = 'infinity'",
    ],
)
def test_a_day_that_nothing_else_can_read_is_refused(world, broken: str):
    paid(world)

    with pytest.raises(IntegrityError, match="_readable"), transaction.atomic():
        edit(broken)


def test_amounts_that_a_hand_wrote_are_named_however_large(world):
    charge = paid(world)
    look(world)

    edit("UPDATE checkout_ledgerposting SET amount = 999999999999.99")

    assert_agree(world)
    assert Discrepancy.objects.filter(kind="ledger", charge=charge).exists()


def payout(reference: str, *, paid: str) -> Payout:
    """A payout that a hand put in: its lines come to 19.11."""
    edit(
        "INSERT INTO settlements_payout (processor, lane, reference, value_on, gross, refunds,"
        " disputes, adjustments, reserve, fees, net, paid, line_count)"
        " VALUES ('sandbox', %s, %s, '2026-02-02', 19.11, 0, 0, 0, 0, 0, 19.11, %s, 1)",
        *(LANE, reference, paid),
    )
    return Payout.objects.get(reference=reference)


def test_a_row_that_cannot_be_computed_with_stops_its_comparison_alone(world, tmp_path: Path):
    """What the others find is told; nothing of its own is cleared, forgotten or taken for compared."""
    bank_take_in([], world=world, folder=tmp_path, first=date(2026, 1, 31), last=date(2026, 1, 31))
    charge, short, far = paid(world), payout("short", paid="19.08"), payout("far", paid="19.11")
    named = f"payout:amount:{short.pk}"
    assert named in look(world)
    edit("UPDATE settlements_payout SET value_on = '5874897-12-31' WHERE id = %s", far.pk)
    edit("UPDATE checkout_attempt SET captured_amount = captured_amount - 0.01")

    run = reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    assert run.ended_at is None
    assert {named, f"captured:under_charge:{charge.pk}"} <= standing().keys()
    assert ReconcileDirty.objects.exists()
    assert not readings.is_last_pass_whole()
    assert reconciliation.reconcile(clock=world.clock, ages=world.ages).ended_at is None
    with pytest.raises(reconciliation.NotCompared, match="payout"):
        reconciliation.look(as_of=world.clock.business_now(), now=world.clock.now())

    edit("UPDATE settlements_payout SET value_on = '2026-02-02' WHERE id = %s", far.pk)
    edit("UPDATE settlements_payout SET paid = 19.11 WHERE id = %s", short.pk)
    assert_agree(world)
    assert named not in standing()
    assert not ReconcileDirty.objects.exists()
    assert readings.is_last_pass_whole()


def test_a_capture_of_a_day_that_cannot_be_computed_expects_no_file_and_stops_nothing(world):
    charge = paid(world)
    look(world)
    edit("UPDATE checkout_attempt SET booked_at = '294276-12-31'")
    edit("UPDATE checkout_attempt SET captured_amount = captured_amount - 0.01")

    run = reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    assert run.ended_at is None
    assert f"captured:under_charge:{charge.pk}" in standing()
