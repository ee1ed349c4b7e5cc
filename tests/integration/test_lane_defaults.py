"""A lane's default settlement schedule: agreed by page or command, dated, for new creators alone."""

import getpass
import json
from datetime import date, timedelta
from io import StringIO
from threading import Barrier, Thread

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from checkout import wiring
from settlements.calendar import Rule
from settlements.models import RouteSchedule, SettlementSchedule
from settlements.roles import ANALYST
from settlements.settling import DefaultDiffers, agree_default, store_default_schedules
from tests.factories import LANE, World
from tests.factories_roles import member

pytestmark = pytest.mark.django_db

AGREE = "/admin/settlements/routeschedule/agree/"
TWICE_A_MONTH = Rule("month", (1, 15), 3, "following")
WORDS = "each month from 1, 15, landing 3 days later, following in us-fed"


@pytest.fixture
def world() -> World:
    return World()


def today() -> date:
    return wiring.clock().business_now().date()


def agree(*words: str, lane: str = LANE, since: date | None = None) -> str:
    out = StringIO()
    said = {
        "--interval": "month",
        "--anchor-days": "15, 1",
        "--delay-days": "3",
        "--since": str(since or today()),
        "--reason": "contract 17, annex 2",
    }
    said |= dict(zip(words[::2], words[1::2], strict=True))
    call_command("agree_schedule", lane, *(w for pair in said.items() for w in pair), stdout=out)
    return out.getvalue()


# --- What it does ------------------------------------------------------------------------------------


def test_new_creators_get_it_from_its_day_on_and_who_has_a_schedule_keeps_it(world):
    now = world.clock.now()
    world.due_charge()
    store_default_schedules(now=now)
    begins = now.business.date() + timedelta(days=7)
    assert agree_default(lane=LANE, valid_from=begins, rule=TWICE_A_MONTH, now=now)
    world.due_charge()
    store_default_schedules(now=now)
    world.clock.forward(days=7)
    world.due_charge()

    store_default_schedules(now=world.clock.now())

    stored = SettlementSchedule.objects.order_by("id")
    assert [row.rule == TWICE_A_MONTH for row in stored] == [False, False, True]
    assert stored[2].source == f"default of lane {LANE}"
    assert [row.active_to for row in stored] == [None] * 3


def test_what_was_agreed_is_never_rewritten(world):
    """Not even behind the use case."""
    now, day = world.clock.now(), world.clock.business_now().date()
    agree_default(lane=LANE, valid_from=day, rule=TWICE_A_MONTH, now=now)

    assert not agree_default(lane=LANE, valid_from=day, rule=TWICE_A_MONTH, now=now)
    with pytest.raises(DefaultDiffers, match="agree on a later day"):
        agree_default(lane=LANE, valid_from=day, rule=Rule("week", (1,), 3, "following"), now=now)
    for change in (
        lambda: RouteSchedule.objects.update(delay_days=9),
        lambda: RouteSchedule.objects.all().delete(),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_agree_at_once_one_does(world):
    now, start, added = world.clock.now(), Barrier(2), []

    def race() -> None:
        try:
            start.wait()
            day = now.business.date()
            added.append(agree_default(lane="", valid_from=day, rule=TWICE_A_MONTH, now=now))
        finally:
            connection.close()

    threads = [Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(added) == [False, True]


# --- The command -------------------------------------------------------------------------------------


def test_the_command_agrees_once_with_a_line_of_the_trail():
    assert agree() == f"cis from {today()}: {WORDS}: agreed\n"
    assert agree().endswith("agreed before, nothing changed\n")

    default = RouteSchedule.objects.get()
    assert default.rule == TWICE_A_MONTH
    line = LogEntry.objects.get()
    assert line.object_id == str(default.pk)
    assert line.change_message == (
        f"Agreed: {WORDS} (command line: {getpass.getuser()}): contract 17, annex 2"
    )


def test_the_command_tells_scripts_what_was_agreed():
    out = StringIO()
    words = ("--interval", "day", "--delay-days", "1", "--since", str(today()))
    call_command("agree_schedule", "any", *words, "--reason", "by finance", "--json", stdout=out)

    assert json.loads(out.getvalue()) == {
        "lane": "any",
        "since": str(today()),
        "interval": "day",
        "anchor_days": [],
        "delay_days": 1,
        "holiday_rule": "following",
        "calendar": "us-fed",
        "agreed": True,
    }
    assert RouteSchedule.objects.get().lane == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--anchor-days", ""), "--anchor-days: name at least one day"),
        (("--anchor-days", "1,1"), "--anchor-days: a day stands here twice"),
        (("--anchor-days", "1;15"), "--anchor-days: '1;15' are no days such as 1, 15"),
        (("--anchor-days", "32"), "--anchor-days: a month has the days 1 to 31"),
        (("--anchor-days", "0"), "--anchor-days: a month has the days 1 to 31"),
        (("--interval", "week", "--anchor-days", "8"), "--anchor-days: a week has the days 1"),
        (("--interval", "day"), "--anchor-days: leave it out"),
        (("--interval", "year"), "argument --interval: invalid choice"),
        (("--delay-days", "91"), "argument --delay-days: '91' is no number of days from 0 to 90"),
        (("--calendar", "mars"), "--calendar: no holidays of a calendar 'mars' are known"),
        (("--since", "soon"), "argument --since: 'soon' is not a day"),
        (("--since", "2020-01-01"), "--since: 2020-01-01 is past"),
        (("--reason", "ok"), "argument --reason: a reason is 5 to 300 characters"),
    ],
)
def test_a_refusal_names_the_option_and_agrees_on_nothing(words, says):
    with pytest.raises(CommandError) as refused:
        agree(*words)

    assert says in str(refused.value)
    assert not RouteSchedule.objects.exists()
    assert not LogEntry.objects.exists()


def test_another_default_of_the_same_day_is_refused_by_name():
    agree()

    with pytest.raises(CommandError, match=r"--since: cis from .* has another default"):
        agree("--delay-days", "4")


# --- The page ----------------------------------------------------------------------------------------


def posted(**said: str) -> dict[str, str]:
    return {
        "lane": LANE,
        "valid_from": str(today()),
        "interval": "month",
        "anchor_days": "1, 15",
        "delay_days": "3",
        "holiday_rule": "following",
        "calendar": "us-fed",
        "reason": "contract 17, annex 2",
        **said,
    }


def test_the_page_agrees_with_a_reason_and_lists_it():
    analyst = member(ANALYST)

    done = analyst.post(AGREE, posted(), follow=True).content.decode()
    again = analyst.post(AGREE, posted(), follow=True).content.decode()

    assert f"Agreed: cis from {today()}" in done
    assert "was agreed before; nothing changed" in again
    assert RouteSchedule.objects.get().rule == TWICE_A_MONTH
    line = LogEntry.objects.get()
    assert line.change_message == f"Agreed: {WORDS}: contract 17, annex 2"
    analyst.post(AGREE, posted(lane="", interval="day", anchor_days=""))
    assert "any lane" in analyst.get("/admin/settlements/routeschedule/").content.decode()


@pytest.mark.parametrize(
    ("said", "field", "says"),
    [
        ({"anchor_days": "1, 1"}, "anchor_days", "a day stands here twice"),
        ({"calendar": "mars"}, "calendar", "no holidays of a calendar"),
        ({"valid_from": "2020-01-01"}, "valid_from", "2020-01-01 is past"),
        ({"delay_days": "91"}, "delay_days", "less than or equal to 90"),
        ({"lane": "mars"}, "lane", "mars is not one of the available choices"),
        ({"reason": "ok"}, "reason", "at least 5 characters"),
    ],
)
def test_the_page_shows_a_refusal_beside_its_field(said, field, says):
    answer = member(ANALYST).post(AGREE, posted(**said))

    assert says in " ".join(answer.context["form"].errors[field])
    assert not RouteSchedule.objects.exists()
