"""Every creator with a subscription has exactly one active settlement schedule, never deleted."""

import threading
from datetime import date

import pytest
from django.db import IntegrityError, connection, transaction

from settlements.models import RouteSchedule, SettlementSchedule
from settlements.settling import store_default_schedules
from tests.factories import LANE, World, creator

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def default(lane: str, valid_from: date, delay_days: int) -> None:
    RouteSchedule.objects.create(
        lane=lane,
        valid_from=valid_from,
        interval="week",
        anchor_days=[1],
        delay_days=delay_days,
        holiday_rule="following",
    )


def test_a_creator_gets_one_once_subscribed(world):
    creator(clock=world.clock)
    subscribed = world.due_charge().creator

    assert store_default_schedules(now=world.clock.now()) == 1
    assert store_default_schedules(now=world.clock.now()) == 0

    stored = SettlementSchedule.objects.get()
    assert (stored.creator_id, stored.version, stored.lane) == (subscribed.pk, 1, LANE)
    assert (stored.interval, stored.anchor_days, stored.delay_days) == ("month", [1], 2)


def test_the_route_of_the_day_decides_and_a_later_default_rewrites_nothing(world):
    default("", date(2020, 1, 1), 9)
    default(LANE, date(2025, 1, 1), 3)
    default(LANE, date(2026, 1, 1), 4)
    default(LANE, date(2026, 2, 1), 5)
    world.due_charge()
    store_default_schedules(now=world.clock.now())
    world.clock.forward(days=7)
    world.due_charge()

    store_default_schedules(now=world.clock.now())

    stored = SettlementSchedule.objects.order_by("id").values_list("delay_days", "source")
    assert list(stored) == [(4, f"default of lane {LANE}"), (5, f"default of lane {LANE}")]


def test_a_second_active_version_and_a_deletion_are_refused_by_the_database(world):
    world.due_charge()
    store_default_schedules(now=world.clock.now())
    stored = SettlementSchedule.objects.get()
    stored.pk, stored.version = None, 2

    with pytest.raises(IntegrityError, match="schedule_one_active"), transaction.atomic():
        stored.save()
    with pytest.raises(IntegrityError, match="never changed or deleted"), transaction.atomic():
        SettlementSchedule.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_store_one(world):
    world.due_charge()
    barrier, stored = threading.Barrier(2), []

    def run() -> None:
        try:
            barrier.wait(20)
            stored.append(store_default_schedules(now=world.clock.now()))
        finally:
            connection.close()

    runs = [threading.Thread(target=run) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()

    assert sorted(stored) == [0, 1]
    assert SettlementSchedule.objects.count() == 1
