"""A schedule changes from the next period on, by the API; what is agreed is never rewritten."""

import getpass
import json
import threading
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from checkout import wiring
from checkout.models import Creator
from settlements.calendar import Rule
from settlements.models import Holiday, SettlementSchedule
from settlements.settling import change_schedule, schedule_for, store_default_schedules
from tests.factories import World, creator
from tests.platforms import Platform, fields, platform_named, ready_platform, register, slug

pytestmark = pytest.mark.django_db

TWICE_A_MONTH = {
    "interval": "month",
    "anchor_days": [1, 15],
    "delay_days": 2,
    "holiday_rule": "following",
}
WEEKLY = Rule("week", (1,), 1, "following")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


def scheduled(world: World) -> Creator:
    """A creator with the default schedule, monthly, from Jan 31 on."""
    who = world.due_charge().creator
    store_default_schedules(now=world.clock.now())
    return who


def change(world: World, who: Creator, rule: Rule) -> bool:
    with transaction.atomic():
        return change_schedule(creator_id=who.pk, rule=rule, by="test", now=world.clock.now())


def spans(who: Creator) -> list[tuple[Any, ...]]:
    versions = SettlementSchedule.objects.filter(creator=who).order_by("version")
    return list(versions.values_list("version", "interval", "active_from", "active_to"))


def put(platform: Platform, who: Creator, body: object) -> Any:
    return platform.client.put(
        f"/v1/creators/{who.pk}/settlement-schedule",
        body if isinstance(body, str) else json.dumps(body),
        "application/json",
        headers={"Authorization": f"Bearer {platform.key}"},
    )


# --- Versions ----------------------------------------------------------------------------------------


def test_a_change_holds_from_the_next_period_and_again_changes_nothing(world):
    who = scheduled(world)

    assert change(world, who, WEEKLY) is True
    assert change(world, who, WEEKLY) is False

    assert spans(who) == [
        (1, "month", date(2026, 1, 31), date(2026, 2, 1)),
        (2, "week", date(2026, 2, 1), None),
    ]
    versions = schedule_for(creator_id=who.pk, today=date(2026, 1, 31))
    assert versions
    assert versions.upcoming
    assert (versions.in_force.version, versions.upcoming.version) == (1, 2)
    later = schedule_for(creator_id=who.pk, today=date(2026, 2, 1))
    assert later
    assert (later.in_force.version, later.upcoming) == (2, None)


def test_a_second_change_before_the_first_holds_takes_its_place(world):
    who = scheduled(world)
    change(world, who, WEEKLY)

    change(world, who, Rule("day", (1,), 0, "preceding"))

    assert spans(who)[1:] == [
        (2, "week", date(2026, 2, 1), date(2026, 2, 1)),
        (3, "day", date(2026, 2, 1), None),
    ]
    versions = schedule_for(creator_id=who.pk, today=date(2026, 1, 31))
    assert versions
    assert versions.upcoming
    assert (versions.in_force.version, versions.upcoming.version) == (1, 3)


def test_a_creator_without_a_schedule_gets_this_one_from_today_on(world):
    who = creator(clock=world.clock)

    change(world, who, WEEKLY)
    store_default_schedules(now=world.clock.now())

    assert spans(who) == [(1, "week", date(2026, 1, 31), None)]


@pytest.mark.django_db(transaction=True)
def test_two_changes_at_once_take_turns(world):
    who = scheduled(world)
    barrier, changed = threading.Barrier(2), []

    def run() -> None:
        try:
            barrier.wait(20)
            changed.append(change(world, who, WEEKLY))
        finally:
            connection.close()

    runs = [threading.Thread(target=run) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()

    assert sorted(changed) == [False, True]
    assert len(spans(who)) == 2


@pytest.mark.parametrize(
    "edit",
    [
        "delay_days = 9",
        "anchor_days = '{2}'",
        "calendar = 'other'",
        "active_from = active_from - 30",
        "active_to = NULL",
        "creator_id = creator_id, source = 'x'",
    ],
)
def test_a_version_is_never_rewritten(world, edit):
    who = scheduled(world)
    change(world, who, WEEKLY)

    with (
        pytest.raises(DatabaseError, match="a version is never changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"UPDATE settlements_settlementschedule SET {edit} WHERE version = 1")


@pytest.mark.parametrize(
    ("interval", "anchors"),
    [
        ("month", []),
        ("month", [0]),
        ("month", [32]),
        ("month", [15, 1]),
        ("month", [1, 1]),
        ("month", [1, None]),
        ("week", [1, 8]),
        ("day", [2]),
        ("day", [1, 2]),
    ],
)
def test_anchors_that_are_no_days_of_the_interval_are_refused(world, interval, anchors):
    who = creator(clock=world.clock)
    version = SettlementSchedule(
        creator=who,
        version=1,
        interval=interval,
        anchor_days=anchors,
        delay_days=0,
        holiday_rule="following",
        source="test",
        active_from=date(2026, 1, 1),
        created_at=world.clock.real_now(),
    )

    if anchors == []:  # what a version before leaves empty is filled from its own single day
        version.save()
        version.refresh_from_db()
        assert version.anchor_days == [1]
        return
    with pytest.raises(IntegrityError, match="schedule_anchors"), transaction.atomic():
        version.save()


@pytest.mark.parametrize(
    ("interval", "before", "now"), [("month", 28, [28]), ("week", 9, [2]), ("day", 5, [1])]
)
def test_f26_a_schedule_that_the_version_before_writes_has_its_anchors(
    world, interval, before, now
):
    who = creator(clock=world.clock)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO settlements_settlementschedule (creator_id, version, lane, interval,"
            " anchor_day, delay_days, holiday_rule, source, active_from, created_at)"
            " VALUES (%s, 1, '', %s, %s, 2, 'following', 'before', '2026-01-01', now())",
            [who.pk, interval, before],
        )

    assert SettlementSchedule.objects.get().anchor_days == now


@pytest.mark.django_db(transaction=True)
def test_f26_the_anchors_that_were_stored_are_kept_by_the_migration(world):
    who = scheduled(world)
    executor = MigrationExecutor(connection)
    executor.migrate([("settlements", "0009_statement_terms")])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE settlements_settlementschedule SET anchor_day = 28, delay_days = 5")

    call_command("migrate", verbosity=0, stdout=StringIO())

    version = SettlementSchedule.objects.get(creator=who)
    assert (version.anchor_days, version.delay_days, version.calendar) == ([28], 5, "us-fed")


# --- The API -----------------------------------------------------------------------------------------


def test_a_first_put_is_201_the_same_again_200_and_get_says_so(platform):
    who = register(platform)
    today = wiring.clock().business_now().date()
    assert slug(platform.get(f"/v1/creators/{who.pk}/settlement-schedule")) == "not-found"

    first, again = put(platform, who, TWICE_A_MONTH), put(platform, who, TWICE_A_MONTH)
    read = platform.get(f"/v1/creators/{who.pk}/settlement-schedule")

    assert (first.status_code, again.status_code, read.status_code) == (201, 200, 200)
    assert first.json() == again.json() == read.json()
    body = read.json()
    assert body["upcoming"] is None
    assert body["in_force"] == TWICE_A_MONTH | {
        "calendar": "us-fed",
        "version": 1,
        "active_from": today.isoformat(),
        "active_to": None,
    }
    assert body["period"]["start"] <= today.isoformat() < body["period"]["end"]
    assert body["period"]["lands_on"] > body["period"]["end"]


def test_what_get_answers_of_a_version_can_be_put_again(platform):
    who = register(platform)
    daily = {"interval": "day", "delay_days": 0, "holiday_rule": "preceding"}
    shown = put(platform, who, daily).json()["in_force"]

    sent = {name: shown[name] for name in (*daily, "anchor_days", "calendar")}

    assert sent["anchor_days"] == []
    assert put(platform, who, sent).status_code == 200
    assert SettlementSchedule.objects.count() == 1


def test_a_change_is_upcoming_until_the_present_period_ends(platform):
    who = register(platform)
    put(platform, who, TWICE_A_MONTH)

    body = put(platform, who, TWICE_A_MONTH | {"anchor_days": [31, 10]}).json()

    assert body["in_force"]["anchor_days"] == [1, 15]
    assert body["in_force"]["active_to"] == body["upcoming"]["active_from"] == body["period"]["end"]
    assert body["upcoming"]["anchor_days"] == [10, 31]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"interval": "year"}, "interval"),
        ({"anchor_days": []}, "anchor_days"),
        ({"anchor_days": [0]}, "anchor_days.0"),
        ({"anchor_days": [32]}, "anchor_days.0"),
        ({"anchor_days": ["1"]}, "anchor_days.0"),
        ({"anchor_days": [True]}, "anchor_days.0"),
        ({"anchor_days": [1.0]}, "anchor_days.0"),
        ({"anchor_days": [1, 1]}, "anchor_days"),
        ({"anchor_days": None}, "anchor_days"),
        ({"anchor_days": {"1": 1}}, "anchor_days"),
        ({"interval": "week", "anchor_days": [8]}, "anchor_days"),
        ({"interval": "day", "anchor_days": [1]}, "anchor_days"),
        ({"delay_days": -1}, "delay_days"),
        ({"delay_days": 91}, "delay_days"),
        ({"delay_days": "2"}, "delay_days"),
        ({"holiday_rule": "never"}, "holiday_rule"),
        ({"calendar": "moon"}, "calendar"),
        ({"calendar": ""}, "calendar"),
        ({"currency": "USD"}, "currency"),
    ],
)
def test_r50_what_is_no_schedule_is_refused_naming_the_field(platform, wrong, field):
    who = register(platform)

    response = put(platform, who, TWICE_A_MONTH | wrong)

    assert (response.status_code, slug(response)) == (422, "validation-failed")
    assert fields(response) == {field}
    assert not SettlementSchedule.objects.exists()


def test_r50_another_account_s_creator_is_not_found(platform):
    who = register(platform_named("another platform"))

    assert slug(put(platform, who, TWICE_A_MONTH)) == "not-found"
    assert slug(platform.get(f"/v1/creators/{who.pk}/settlement-schedule")) == "not-found"


def test_r50_a_body_that_is_no_json_and_a_key_that_is_none_are_refused(platform):
    who = register(platform)

    assert slug(put(platform, who, "{")) == "malformed-body"
    platform.key = "ck_nobody"
    assert slug(put(platform, who, TWICE_A_MONTH)) == "unauthenticated"


# --- Holidays ----------------------------------------------------------------------------------------


def load(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("load_holidays", *arguments, "--reason", "decree 1043", "--json", stdout=out)
    counts: dict[str, Any] = json.loads(out.getvalue())
    return counts


def test_r17_the_calendar_is_data_loaded_twice_without_harm():
    assert load("us-fed", "--years", "2026-2027")["added"] == 19
    assert load("us-fed", "--years", "2027-2028") == {
        "calendar": "us-fed",
        "added": 9,
        "already_there": 9,
    }
    assert Holiday.objects.filter(day=date(2026, 11, 26), name="Thanksgiving Day").exists()
    who = f"(command line: {getpass.getuser()}): decree 1043"
    assert [(each.object_id, each.change_message) for each in LogEntry.objects.order_by("id")] == [
        ("us-fed", f"19 holidays added to us-fed {who}"),
        ("us-fed", f"9 holidays added to us-fed {who}"),
    ]


def test_holidays_are_loaded_with_a_reason():
    with pytest.raises(CommandError, match="--reason"):
        call_command("load_holidays", "us-fed", "--years", "2026")

    assert not Holiday.objects.exists()


def test_r17_another_calendar_comes_from_a_file(platform, tmp_path: Path):
    file = tmp_path / "kz.csv"
    file.write_text("day,name\n2026-03-21,Nauryz\n2026-03-22,Nauryz\n", "utf-8")
    who = register(platform)

    assert load("kz-banks", "--file", str(file))["added"] == 2

    assert put(platform, who, TWICE_A_MONTH | {"calendar": "kz-banks"}).status_code == 201


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("kz", "--years", "2026"), "only us-fed can be computed"),
        (("kz", "--file", "/nowhere.csv"), "cannot be read"),
    ],
)
def test_what_cannot_be_loaded_is_explained(arguments, said):
    with pytest.raises(CommandError, match=said):
        load(*arguments)


def test_a_bad_line_of_a_file_is_named_and_nothing_loaded(tmp_path: Path):
    file = tmp_path / "kz.csv"
    file.write_text("day,name\n2026-03-21,Nauryz\n21.03.2026,Nauryz\n2026-03-21,\n", "utf-8")

    with pytest.raises(CommandError, match=r"(?s)line 3, day.*line 4, day.*line 4, name"):
        load("kz", "--file", str(file))

    assert not Holiday.objects.exists()
