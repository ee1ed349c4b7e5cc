"""Kept figures: after anything that happens to charges and attempts they equal a full count (R47)."""

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from checkout import rescue, tallies
from checkout.gateways import ChargeRequest, DeclineClass, Declined, InDoubt, NotSent, Outcome
from checkout.models import AttemptTally, Charge, ChargeTally
from checkout.tallies import Tally
from tests.factories import World, fresh
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db

FULL_COUNT = {
    "charges": (
        "SELECT period_start, lane, state, count(*), sum(amount) FROM checkout_charge GROUP BY 1, 2, 3",
        "SELECT day, lane, state, sum(count), sum(usd) FROM checkout_chargetally GROUP BY 1, 2, 3"
        " HAVING sum(count) <> 0 OR sum(usd) <> 0",
    ),
    "attempts": (
        "SELECT date_bin('15 minutes', coalesce(booked_at, ended_at, started_at),"
        " '2000-01-01T00:00:00Z'), lane, outcome, decline_class, count(*),"
        " sum(coalesce(captured_amount, amount)) FROM checkout_attempt WHERE outcome <> 'open'"
        " GROUP BY 1, 2, 3, 4",
        "SELECT slot, lane, outcome, decline_class, sum(count), sum(usd) FROM checkout_attempttally"
        " GROUP BY 1, 2, 3, 4 HAVING sum(count) <> 0 OR sum(usd) <> 0",
    ),
}


def rows(sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return sorted(cursor.fetchall())


def assert_exact() -> None:
    for name, (counted, kept) in FULL_COUNT.items():
        assert rows(kept) == rows(counted), name


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_the_figures_equal_a_full_count(world: World, seed: int) -> None:
    """Charges come and go through their states, hands edit behind the triggers, folds in between."""
    dice = random.Random(seed)
    answers: list[Outcome | Callable[[ChargeRequest], Outcome]] = [
        Declined(DeclineClass.ISSUER_SOFT, "do_not_honor"),
        Declined(DeclineClass.FUNDS, "insufficient_funds"),
        InDoubt("no answer within 30 s"),
        NotSent("connection refused"),
    ]
    charges = [world.due_charge(price=f"{dice.randint(1, 300)}.99") for _ in range(4)]
    for _ in range(25):
        charge = dice.choice(charges)
        match dice.randrange(6):
            case 0 | 1 | 2:
                world.gateway.answers = dice.sample(answers, k=dice.randint(0, 2))
                world.receive(charge)
                world.clock.forward(seconds=dice.choice([1, 400, 90_000]))
            case 3:
                rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
            case 4:
                edit("UPDATE checkout_charge SET amount = amount + 0.01 WHERE id = %s", charge.pk)
                edit("UPDATE checkout_attempt SET lane = 'mena' WHERE charge_id = %s", charge.pk)
            case _:
                tallies.fold()
        assert_exact()
    tallies.fold()
    assert_exact()
    assert not ChargeTally.objects.filter(is_folded=False).exists()
    assert not AttemptTally.objects.filter(is_folded=False).exists()


def test_a_fold_leaves_one_row_a_key_and_the_same_sums(world: World) -> None:
    for _ in range(3):
        world.receive(world.due_charge())
    before = tallies.charges_by_state()

    assert tallies.fold() > 0
    assert tallies.fold() == 0

    assert tallies.charges_by_state() == before == {"succeeded": Tally(3, Decimal("59.97"))}
    assert ChargeTally.objects.count() == 1


def test_what_is_rolled_back_was_never_counted(world: World) -> None:
    charge = world.due_charge()
    with transaction.atomic():
        Charge.objects.filter(pk=charge.pk).update(state="attempting")
        assert list(tallies.charges_by_state()) == ["attempting"]
        transaction.set_rollback(True)

    assert tallies.charges_by_state() == {"due": Tally(1, Decimal("19.99"))}
    assert_exact()


def test_a_deleted_row_is_taken_off(world: World) -> None:
    world.receive(world.due_charge())
    charge = world.due_charge()
    for table in ("ledgerposting", "ledgerentry"):
        edit(f"DELETE FROM checkout_{table} WHERE charge_id = %s", charge.pk)
    edit("DELETE FROM checkout_charge WHERE id = %s", charge.pk)

    assert_exact()
    assert Charge.objects.count() == 1


def test_figures_by_day_and_by_class(world: World) -> None:
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    charge = world.due_charge(price="5.00")
    world.receive(charge)
    day = fresh(charge).period_start

    assert tallies.charges_by_day(first=day, last=day) == {
        day: {"exhausted": Tally(1, Decimal("5.00"))}
    }
    assert tallies.declines_by_class(first=day, last=day) == {"funds": Tally(1, Decimal("5.00"))}
    before = day - timedelta(days=1)
    assert tallies.declines_by_class(first=before, last=before) == {}
