"""Which lane may charge, and what stops collection without spending anything (R52, R30, F31)."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from checkout import routing
from checkout.charging import attempt_charge
from checkout.clock import Ages
from checkout.gateways import ChargeRequest, InDoubt, NotSent, Outcome
from checkout.messages import Receive
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Hold,
    HoldKind,
    HoldScope,
    RoutingRule,
)
from checkout.outcomes import Fate
from tests.factories import LANE, World, attempts, creator, dispatches, fresh, routing_rule
from tests.line import Line
from tests.situations import REFUSED, SOFT, letters_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def place(world: World, *, scope: str = "all", subject: str = "", until=None, kind="hold") -> Hold:
    return routing.place_hold(
        kind=HoldKind(kind),
        scope=HoldScope(scope),
        subject=subject,
        reason="a test stops collection",
        by="operator",
        until=until,
        now=world.clock.now(),
    )


# --- Rules -----------------------------------------------------------------------------------------


def test_the_newest_rule_valid_on_the_date_names_the_lane() -> None:
    routing_rule("KZ", "old", valid_from=date(2020, 1, 1))
    routing_rule("KZ", "new", valid_from=date(2026, 1, 1))

    lanes = [
        routing.lane_for(country="KZ", on=day).lane
        for day in (date(2025, 12, 31), date(2026, 1, 1))
    ]

    assert lanes == ["old", "new"]


def test_a_rule_ends_before_its_last_day() -> None:
    """Half-open, as every span here."""
    routing_rule("KZ", valid_from=date(2026, 1, 1), valid_to=date(2026, 2, 1))

    assert routing.lane_for(country="KZ", on=date(2026, 1, 31)).lane == LANE
    with pytest.raises(routing.NoLane, match="no rule allows this country"):
        routing.lane_for(country="KZ", on=date(2026, 2, 1))


def test_a_refusal_gives_the_rule_s_own_reason_and_source() -> None:
    routing_rule("IR", "", reason="sanctions", source="OFAC")

    with pytest.raises(routing.NoLane) as refused:
        routing.lane_for(country="IR", on=date(2026, 1, 1))

    assert (refused.value.refusal.reason, refused.value.refusal.source) == ("sanctions", "OFAC")


def test_a_bill_run_sees_the_lanes_that_a_charge_sees() -> None:
    routing_rule("KZ", "old", valid_from=date(2020, 1, 1))
    routing_rule("KZ", "new", valid_from=date(2026, 1, 1))
    routing_rule("UZ", "gone", valid_from=date(2020, 1, 1), valid_to=date(2021, 1, 1))

    assert routing.lanes_on(date(2026, 1, 31)) == {"KZ": "new"}


# --- Holds and pauses ------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "lane", "plan", "creator"])
def test_a_hold_spends_no_receive_attempt_round_or_step(world: World, scope: str) -> None:
    """R52: the next dispatch starts at receive 1."""
    charge = world.due_charge()
    subjects = {
        "all": "",
        "lane": LANE,
        "plan": charge.terms.plan_id,
        "creator": str(charge.creator_id),
    }
    hold = place(world, scope=scope, subject=subjects[scope])

    fates = [world.receive(charge, count=count) for count in (3, 3, 3)]

    assert fates == [Fate.ACKNOWLEDGE] * 3
    held = fresh(charge)
    assert (held.state, held.round, held.step, held.dispatch) == (ChargeState.DUE, 1, 0, 4)
    assert attempts(charge) == []
    routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED


@pytest.mark.parametrize(("scope", "subject"), [("lane", "other"), ("plan", "yearly")])
def test_a_hold_on_something_else_holds_nothing(world: World, scope: str, subject: str) -> None:
    charge = world.due_charge()
    place(world, scope=scope, subject=subject)

    world.receive(charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_a_pause_runs_out_by_itself_and_its_dispatches_leave_then(world: World) -> None:
    charge = world.due_charge()
    until = world.clock.real_now() + timedelta(minutes=30)
    place(world, scope="lane", subject=LANE, until=until, kind="pause")

    world.receive(charge)

    assert dispatches(charge)[-1].available_at == until
    world.clock.forward(seconds=1800)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_of_two_holds_the_longer_counts(world: World) -> None:
    charge = world.due_charge()
    place(world, until=world.clock.real_now() + timedelta(minutes=1))
    place(world, until=world.clock.real_now() + timedelta(minutes=9))

    world.receive(charge)

    assert dispatches(charge)[-1].available_at == world.clock.real_now() + timedelta(minutes=9)


def test_lifting_a_hold_lets_what_it_delayed_go_at_once(world: World) -> None:
    charge = world.due_charge()
    hold = place(world, until=world.clock.real_now() + timedelta(days=3))
    world.receive(charge)

    routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())

    assert dispatches(charge)[-1].pending.available_at == world.clock.real_now()


def test_what_an_open_ended_hold_keeps_is_received_once_and_not_every_minute(
    world: World,
) -> None:
    """R52: a lift is what lets it go, so nobody needs to look meanwhile."""
    charge, line = world.due_charge(), Line(world)
    hold = place(world)

    line.run(seconds=5 * 3600, step=60)
    received = line.receives
    routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())
    line.run(seconds=60, step=60)

    assert received == 1
    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_a_lift_that_brought_nothing_forward_delays_collection_by_hours_and_no_longer(
    world: World,
) -> None:
    """The row was changed by hand: the dispatch leaves by itself after `sweep_most`."""
    charge, line = world.due_charge(), Line(world)
    hold = place(world)
    line.run(seconds=600, step=60)

    Hold.objects.filter(pk=hold.pk).update(lifted_at=world.clock.real_now(), lifted_by="a hand")
    line.run(seconds=6 * 3600, step=300)

    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_lifting_the_hold_of_a_lane_finds_what_was_billed_for_another_lane(world: World) -> None:
    """The country's rule changed between billing and the first receive."""
    charge = world.due_charge()
    RoutingRule.objects.update(lane="new")
    hold = place(world, scope="lane", subject="new")
    gateways = {"new": world.gateway}
    receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)
    attempt_charge(receive=receive, clock=world.clock, gateways=gateways, ages=world.ages)

    routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())

    assert dispatches(charge)[-1].pending.available_at == world.clock.real_now()


def test_a_hold_is_lifted_once(world: World) -> None:
    hold = place(world)
    routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())

    with pytest.raises(routing.UnknownHold):
        routing.lift_hold(hold_id=hold.pk, by="operator", now=world.clock.now())


# --- Lane failures ---------------------------------------------------------------------------------


def fail(world: World, times: int, answer=REFUSED) -> list[Charge]:
    failed = []
    for _ in range(times):
        charge = world.due_charge()
        world.gateway.answers = [answer]
        world.receive(charge)
        failed.append(charge)
    return failed


@pytest.mark.parametrize(
    "answer",
    [REFUSED, InDoubt("503", lane_failed=True)],
    ids=["not sent", "5xx"],
)
def test_the_fifth_failure_within_a_minute_opens_the_breaker_for_a_minute(
    world: World, answer
) -> None:
    fail(world, 4, answer)
    assert not Hold.objects.exists()

    fail(world, 1, answer)

    breaker = Hold.objects.get()
    assert (breaker.kind, breaker.subject) == (HoldKind.BREAKER, LANE)
    assert breaker.until == world.clock.real_now() + timedelta(seconds=60)


def test_failures_that_are_old_or_mere_doubts_open_nothing(world: World) -> None:
    fail(world, 4)
    world.clock.forward(seconds=60)
    fail(world, 1)
    fail(world, 2, InDoubt("no answer within 30 s"))
    fail(world, 2, SOFT)

    assert not Hold.objects.exists()


def test_a_refused_key_pauses_the_lane_until_a_person_resumes_it(world: World) -> None:
    """R20: 401 and 403."""
    charge = world.due_charge()
    world.gateway.answers = [NotSent("401 unknown key", lane_refused=True)]

    world.receive(charge)
    world.clock.forward(days=2)
    world.receive(charge)

    pause = Hold.objects.get()
    assert (pause.kind, pause.subject, pause.until) == (HoldKind.PAUSE, LANE, None)
    assert Case.objects.filter(kind=CaseKind.LANE_REFUSED).count() == 1
    assert letters_of(charge) == "0"
    routing.lift_hold(hold_id=pause.pk, by="operator", now=world.clock.now())
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED


def test_calls_on_their_way_hear_the_refusal_too_and_the_lane_is_paused_once(world: World) -> None:
    """One pause to lift, one case to read."""
    refused = NotSent("401 unknown key", lane_refused=True)
    first, second = world.due_charge(), world.due_charge()

    def meanwhile(request: ChargeRequest) -> Outcome:
        world.gateway.answers = [refused]
        world.receive(second)
        return refused

    world.gateway.answers = [meanwhile]
    world.receive(first)

    assert Hold.objects.count() == 1
    assert Case.objects.filter(kind=CaseKind.LANE_REFUSED).count() == 1
    assert {letters_of(first), letters_of(second)} == {"0"}


# --- An hour away ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [REFUSED, InDoubt("503 from the processor", lane_failed=True)],
    ids=["refused", "5xx"],
)
def test_an_hour_away_leaves_no_dead_letter_and_all_is_collected_after(answer: Outcome) -> None:
    """F31, R52: the breaker pauses the lane; no round, step or counted attempt is used up.

    The breaker opens for ten minutes here instead of one: the same way, in a tenth of the receives.
    """
    world = World(ages=Ages(breaker_open=600))
    charges = [world.due_charge() for _ in range(4)]
    line = Line(world)
    world.gateway.away = answer

    line.run(seconds=3600, step=30)
    during = Case.objects.filter(kind=CaseKind.DEAD_LETTER).count()
    world.gateway.away = None
    line.run(seconds=2.5 * 3600, step=300)

    assert (during, Case.objects.filter(kind=CaseKind.DEAD_LETTER).count()) == (0, 0)
    assert {fresh(charge).state for charge in charges} == {ChargeState.SUCCEEDED}
    assert {(fresh(charge).round, fresh(charge).step) for charge in charges} == {(1, 0)}
    assert world.gateway.captured == Decimal("79.96")
    counted = Attempt.objects.exclude(outcome=AttemptOutcome.NOT_CHARGED)
    assert counted.count() == len(charges)


# --- The cap of an instrument ----------------------------------------------------------------------


def test_what_was_not_sent_counts_in_no_cap(world: World) -> None:
    """R30 counts tries that may have reached a network; an outage must not lock a card for a month."""
    charge = world.due_charge()
    for _ in range(15):
        world.gateway.answers = [REFUSED]
        world.receive(charge)
        world.clock.forward(seconds=61)

    world.receive(charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert letters_of(charge) == "0" * 15 + "A"


def test_the_sixteenth_attempt_in_thirty_days_waits_for_the_window(world: World) -> None:
    """R30, over all paths: other charges of the creator count."""
    who = creator(clock=world.clock)
    for _ in range(5):
        declined = world.due_charge(of=who)
        for count in (1, 2, 3):
            world.gateway.answers = [SOFT]
            world.receive(declined, count=count)
            world.clock.forward(seconds=301)
    charge = world.due_charge(of=who)

    world.receive(charge)
    assert fresh(charge).state == ChargeState.DUE

    world.clock.forward(days=30)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED
