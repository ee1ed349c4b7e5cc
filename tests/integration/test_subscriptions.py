"""Subscriptions: what a checkout starts, refuses and shows; cards, cancels (R29, R51, F33)."""

from typing import Any

import pytest
from django.db import transaction

from checkout import routing, subscriptions
from checkout.models import (
    Charge,
    ChargeState,
    Creator,
    Instrument,
    RoutingRule,
    Subscription,
    SubscriptionState,
)
from checkout.subscriptions import (
    CreatorExists,
    DeadInstrument,
    NotActive,
    UnknownCreator,
    UnknownPlan,
    UnknownTimeZone,
    checkout_state,
)
from tests.factories import (
    ACCOUNT_ID,
    World,
    attempts,
    creator,
    events,
    fresh,
    plan,
    routing_rule,
    subscription_of,
    unknown_id,
)
from tests.situations import (
    SITUATIONS,
    add_instrument,
    cancel,
    exhausted_awaits_an_instrument,
    exhausted_on_a_date,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def register(world: World, **facts: str) -> Creator:
    with transaction.atomic():
        return subscriptions.register_creator(
            account_id=ACCOUNT_ID,
            **{
                "external_id": "creator-x",
                "name": "Aigerim",
                "email": "aigerim@example.org",
                "country": "KZ",
                "time_zone": "Asia/Almaty",
                **facts,
            },
            now=world.clock.now(),
        )


def start(world: World, who: Creator | None = None, **other: Any) -> Charge:
    who = who or creator(clock=world.clock)
    arguments: dict[str, Any] = {
        "account_id": who.account_id,
        "creator_id": who.pk,
        "plan_code": plan().code,
        "token": "tok_approve",
        "idempotency_key": "key-of-the-test",
        "now": world.clock.now(),
    }
    with transaction.atomic():
        return subscriptions.start_checkout(**(arguments | other))


# --- What the frontend shows -----------------------------------------------------------------------

# situation, state, decline class, whether another card is asked for
SHOWN = [
    ("due", "open", None, None),
    ("due again, round 2", "processing", None, None),
    ("attempting", "processing", None, None),
    ("failed_then_retry", "processing", None, None),
    ("pending", "processing", None, None),
    ("in_doubt", "in_doubt", None, None),
    ("succeeded", "succeeded", None, None),
    ("exhausted, waits for a date", "declined", "funds", False),
    ("exhausted, three attempts", "declined", "issuer_soft", False),
    ("exhausted, awaits an instrument", "declined", "never", True),
    ("written_off", "declined", "funds", False),
    ("voided", "expired", None, None),
]


@pytest.mark.parametrize(("where", "state", "decline_class", "other_card"), SHOWN)
def test_what_a_charge_means_to_the_frontend(
    world: World, where: str, state: str, decline_class: str | None, other_card: bool | None
) -> None:
    charge = SITUATIONS[where](world)

    assert checkout_state(charge) == {
        "state": state,
        "decline_class": decline_class,
        "try_other_card": other_card,
    }


# --- What is started, and what is refused ------------------------------------------------------------


def test_a_checkout_starts_a_subscription_with_terms_charge_and_books(world: World) -> None:
    charge = start(world)

    subscription = subscription_of(charge)
    assert subscription.state == SubscriptionState.ACTIVE
    assert subscription.next_period_start == charge.period_end
    assert charge.terms.price == charge.amount == charge.expected_amount
    assert events(charge) == ["charge.billed"]


def test_the_same_key_makes_the_same_subscription_in_a_restored_database(world: World) -> None:
    """R51."""
    who = creator(clock=world.clock)
    before = transaction.savepoint()
    first = start(world, who)
    transaction.savepoint_rollback(before)

    again = start(world, who)

    assert (first.pk, first.subscription_id) == (again.pk, again.subscription_id)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"creator_id": unknown_id("creator")}, UnknownCreator),
        ({"account_id": unknown_id("account")}, UnknownCreator),
        ({"plan_code": "no-such-plan"}, UnknownPlan),
    ],
    ids=["creator", "account", "plan"],
)
def test_a_checkout_of_what_is_not_there_is_refused(
    world: World, wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        start(world, **wrong)

    assert not Subscription.objects.exists()


def test_a_country_refused_since_starts_no_checkout(world: World) -> None:
    who = creator(clock=world.clock)
    RoutingRule.objects.update(lane="", reason="sanctions")

    with pytest.raises(routing.NoLane, match="sanctions"):
        start(world, who)


def test_the_same_creator_again_is_found_and_other_facts_are_refused(world: World) -> None:
    routing_rule()
    first = creator(clock=world.clock)
    routing_rule("UZ")
    made = register(world)

    assert register(world).pk == made.pk != first.pk
    with pytest.raises(CreatorExists):
        register(world, country="UZ")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "asia", "UTC\x00"])
def test_a_time_zone_is_an_iana_name(world: World, zone: str) -> None:
    routing_rule()

    with pytest.raises(UnknownTimeZone):
        register(world, time_zone=zone)


# --- Cards -----------------------------------------------------------------------------------------


def test_a_dead_card_is_not_taken_again(world: World) -> None:
    """R29."""
    charge = exhausted_awaits_an_instrument(world)

    with pytest.raises(DeadInstrument):
        add_instrument(world, charge, "tok_approve")
    with pytest.raises(DeadInstrument):
        start(world, Creator.objects.get(pk=charge.creator_id), token="tok_approve")

    assert fresh(charge).state == ChargeState.EXHAUSTED


def test_a_card_added_again_is_the_newest_again_and_is_told_once(world: World) -> None:
    charge = world.due_charge()
    add_instrument(world, charge, "tok_other")

    add_instrument(world, charge, "tok_approve")
    world.receive(charge)

    assert attempts(charge)[0].instrument.token == "tok_approve"
    assert Instrument.objects.count() == 2


def test_a_new_card_opens_every_charge_that_waits_for_one_oldest_first(world: World) -> None:
    first = exhausted_awaits_an_instrument(world)
    with transaction.atomic():
        who = Creator.objects.get(pk=first.creator_id)
        second = world.due_charge(of=who, token="tok_second")
    Instrument.objects.filter(token="tok_second").update(dead_at=world.clock.real_now())
    world.receive(second)
    assert fresh(second).awaits == "instrument"

    add_instrument(world, first, "tok_third")

    assert {fresh(charge).round for charge in (first, second)} == {2}


# --- Cancels ---------------------------------------------------------------------------------------


def test_a_cancel_twice_is_one_cancel(world: World) -> None:
    charge = world.due_charge()
    cancel(world, charge)
    before = events(charge)

    cancel(world, charge)

    assert events(charge) == before
    assert subscription_of(charge).state == SubscriptionState.CANCELLED


def test_a_cancelled_subscription_changes_no_plan(world: World) -> None:
    charge = world.due_charge()
    plan("dearer", "29.99")
    cancel(world, charge)

    with pytest.raises(NotActive), transaction.atomic():
        subscriptions.change_plan(
            subscription_id=charge.subscription_id, plan_code="dearer", now=world.clock.now()
        )


def test_a_past_due_subscription_can_be_cancelled_and_owes_nothing(world: World) -> None:
    charge = exhausted_on_a_date(world)
    subscriptions.review(clock=world.clock, ages=world.ages)

    cancel(world, charge)

    assert fresh(charge).state == ChargeState.VOIDED
    assert subscriptions.review(clock=world.clock, ages=world.ages) == 0
