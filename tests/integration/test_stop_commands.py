"""`manage.py pause`, `resume` and `create_staff`: what they do, and what they refuse in words."""

import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from checkout import wiring
from checkout.models import ChargeState, Hold, HoldKind, HoldScope
from checkout.outcomes import Fate
from tests.factories import LANE, World, attempts, creator, fresh, plan
from tests.factories_roles import ensure_roles
from tests.fakes import FakeClock

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    text = io.StringIO()
    call_command(*words, stdout=text, stderr=text)
    return text.getvalue()


def test_a_pause_of_a_lane_has_an_end_a_reason_and_a_name() -> None:
    before = wiring.clock().real_now()
    said = run("pause", LANE, "--for", "30m", "--reason", "the processor answers 503")

    hold = Hold.objects.get()
    assert (hold.kind, hold.scope, hold.subject) == (HoldKind.PAUSE, HoldScope.LANE, LANE)
    assert hold.reason == "the processor answers 503"
    assert hold.placed_by.startswith("command line: ")
    assert hold.until is not None
    assert timedelta(0) <= hold.until - before - timedelta(minutes=30) < timedelta(seconds=30)
    assert f"manage.py resume {LANE}" in said


def test_r52_a_paused_lane_spends_no_attempt_and_resume_lets_it_go_on() -> None:
    world = World()
    charge = world.due_charge()
    run("pause", LANE, "--reason", "maintenance")

    assert world.receive(charge) == Fate.ACKNOWLEDGE
    assert attempts(charge) == []
    assert fresh(charge).round == 1

    run("resume", LANE, "--reason", "it answers again")
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_a_plan_a_creator_by_external_id_and_everything_can_be_paused() -> None:
    plan("weekly", price="4.99", interval="week")
    who = creator(clock=FakeClock())
    for target in ("plan:weekly", f"creator:{who.external_id}", f"creator:{who.pk}", "all"):
        run("pause", target, "--reason", "asked by support")

    placed = list(Hold.objects.order_by("id").values_list("scope", "subject"))
    assert placed == [
        ("plan", "weekly"),
        ("creator", str(who.pk)),
        ("creator", str(who.pk)),
        ("all", ""),
    ]


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["pause", "mars", "--reason", "maintenance"], "there is no lane 'mars'"),
        (["pause", "plan:gold", "--reason", "maintenance"], "there is no plan 'gold'"),
        (["pause", "creator:nobody", "--reason", "maintenance"], "there is no creator 'nobody'"),
        (["pause", LANE, "--reason", "x"], "5 to 300 characters"),
        (["pause", LANE], "--reason"),
        (["pause", LANE, "--for", "soon", "--reason", "maintenance"], "'soon' is not a length"),
        (["pause", LANE, "--for", "0m", "--reason", "maintenance"], "'0m' is not a length"),
        (["resume", LANE, "--reason", "it answers again"], f"{LANE} is not paused"),
        (["resume", "mars", "--reason", "it answers again"], "there is no lane 'mars'"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_places_nothing(
    words: list[str], refusal: str
) -> None:
    with pytest.raises(CommandError, match=refusal):
        run(*words)
    assert not Hold.objects.exists()


def test_resume_leaves_a_persons_hold_in_force_and_says_so() -> None:
    run("pause", LANE, "--reason", "maintenance")
    Hold.objects.update(kind=HoldKind.HOLD)
    run("pause", LANE, "--reason", "maintenance too")

    said = run("resume", LANE, "--reason", "it answers again")

    assert "1 lifted" in said
    assert "still held" in said
    assert Hold.objects.in_force(wiring.clock().real_now()).get().kind == HoldKind.HOLD


def test_staff_can_be_made_on_a_local_stack_and_reads_without_deciding() -> None:
    ensure_roles()
    run("create_staff", "finance", "--password", "local-only", "--reason", "joined")
    run("create_staff", "finance", "--password", "local-only", "--reason", "joined")

    user = User.objects.get(username="finance")
    assert user.is_staff
    assert user.check_password("local-only")
    assert user.has_perm("checkout.view_charge")
    assert not user.has_perm("checkout.change_charge")


@override_settings(LOCAL=False, ENVIRONMENT="production")
def test_staff_is_not_made_outside_a_local_stack() -> None:
    with pytest.raises(CommandError, match="refused: this is production"):
        run("create_staff", "finance", "--password", "local-only", "--reason", "joined")
    assert not User.objects.exists()
