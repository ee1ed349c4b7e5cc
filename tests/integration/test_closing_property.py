"""Whatever is captured, told, changed and closed, and whenever: each fact is settled once, in its time."""

import random
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import transaction
from django.db.models import Sum

from checkout.models import Attempt, Creator, OutboxMessage
from settlements import payouts
from settlements.calendar import Rule
from settlements.closing import close_periods
from settlements.models import OpenPeriod, Settlement, SettlementLine, StatementLine
from settlements.settling import change_schedule, store_default_schedules
from tests.factories import World, creator
from tests.factories_settlements import statement_text, take_in

pytestmark = pytest.mark.django_db

RULES = (
    Rule("day", (1,), 0, "following"),
    Rule("week", (1, 4), 1, "preceding"),
    Rule("month", (1, 15), 2, "following"),
    Rule("month", (10, 31), 5, "preceding"),
)


@pytest.mark.parametrize("seed", range(6))
def test_r14_each_fact_is_settled_once_by_the_first_cut_after_it(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    world = World()
    creators = [creator(clock=world.clock) for _ in range(2)]
    told_from = world.clock.business_now().date()

    for step in range(14):
        who = chance.choice(creators)
        match chance.choice(["charge", "charge", "change", "close", "tell", "wait"]):
            case "charge":
                world.receive(world.due_charge(of=who, price=chance.choice(["4.99", "19.99"])))
            case "change":
                _change(world, who, chance.choice(RULES))
            case "close":
                close_periods(clock=world.clock, ages=world.ages, batch=chance.choice([1, 2]))
            case "tell":
                told_from = _tell(world, told_from, folder=tmp_path, name=f"{step}.csv")
            case "wait":
                world.clock.forward(days=chance.choice([0.3, 1, 6, 17]))
        store_default_schedules(now=world.clock.now())
    _tell(world, told_from, folder=tmp_path, name="last.csv")
    world.clock.forward(days=70)
    close_periods(clock=world.clock, ages=world.ages)

    _each_fact_is_settled_once()
    for who in creators:
        _periods_are_apart(who)
        _nothing_waits_longer_than_to_the_next_cut(who)
        told = OutboxMessage.objects.filter(key=who.pk, door="kafka").order_by("id")
        assert list(told.values_list("event_seq", flat=True)) == list(range(1, len(told) + 1))
    payouts.prove(clock=world.clock, ages=world.ages)
    assert not Settlement.objects.exclude(proved_at=None).exists()  # no bank has said anything


def _change(world: World, who: Creator, rule: Rule) -> None:
    with transaction.atomic():
        change_schedule(creator_id=who.pk, rule=rule, by="test", now=world.clock.now())


def _tell(world: World, since: date, *, folder: Path, name: str) -> date:
    """The processor's file of the days that are over; from which day the next one is."""
    world.clock.forward(seconds=_to_tomorrow(world))
    until = world.clock.business_now().date()
    take_in(statement_text(since, until - timedelta(days=1)), world=world, folder=folder, name=name)
    return until


def _to_tomorrow(world: World) -> float:
    now = world.clock.business_now()
    return 86400 - now.hour * 3600 - now.minute * 60 - now.second + 60.0


def _each_fact_is_settled_once() -> None:
    captured = Attempt.objects.filter(outcome="captured")
    settled = SettlementLine.objects.filter(kind="charge")
    assert sorted(settled.values_list("attempt_id", flat=True)) == sorted(
        captured.values_list("id", flat=True)
    )
    total = settled.aggregate(usd=Sum("amount"))["usd"] or Decimal(0)
    assert total == (captured.aggregate(usd=Sum("captured_amount"))["usd"] or Decimal(0))
    told = StatementLine.objects.filter(type="charge", statement__state="accepted")
    fees = SettlementLine.objects.filter(kind="fee")
    assert sorted(fees.values_list("statement_line_id", flat=True)) == sorted(
        told.values_list("id", flat=True)
    )


def _periods_are_apart(who: Creator) -> None:
    settlements = list(Settlement.objects.filter(creator=who).order_by("period_start"))
    assert all(one.period_end <= two.period_start for one, two in pairwise(settlements))
    if settlements:
        assert settlements[-1].period_end <= OpenPeriod.objects.get(creator=who).starts_on
    for one in settlements:
        assert one.schedule.active_from < one.period_end


def _nothing_waits_longer_than_to_the_next_cut(who: Creator) -> None:
    """A capture is in the settlement of its own period, unless that began before any schedule."""
    first = Settlement.objects.filter(creator=who).order_by("period_start").first()
    for line in SettlementLine.objects.filter(settlement__creator=who, kind="charge"):
        day, settlement = line.occurred_at.date(), line.settlement
        assert day < settlement.period_end
        assert day >= settlement.period_start or settlement == first
