"""A short campaign of the simulation, and the defects it found, each in a few plain steps."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from checkout.clock import Ages
from checkout.models import Case, CaseKind, ChargeState
from tests.factories import World, creator, dispatches, events, fresh
from tests.simulation.run import Simulation
from tests.simulation.world import Plan
from tests.situations import cancel, rewrite

SEEDS = range(24)
STEPS = 40


@pytest.fixture
def simulation(transactional_db: None) -> Iterator[Simulation]:
    with Simulation() as running:
        yield running


def test_the_fixed_schedules_keep_every_invariant(simulation: Simulation) -> None:
    """I1 to I7: what is accepted is charged once, booked once, told once, and comes to rest."""
    results = [simulation.run(Plan.drawn(seed, steps=STEPS)) for seed in SEEDS]

    broken = {result.seed: result.violations for result in results if result.violations}
    assert broken == {}
    assert sum(sum(result.faults.values()) for result in results) > 30


def test_a_seed_is_a_history(simulation: Simulation) -> None:
    """The same seed makes the same trace, so that a failure can be looked at again."""
    plan = Plan.drawn(16, steps=60)

    assert simulation.run(plan).trace == simulation.run(plan).trace


def test_another_seed_is_another_history(simulation: Simulation) -> None:
    traces = {simulation.run(Plan.drawn(seed, steps=20)).trace for seed in range(3)}

    assert len(traces) == 3


# --- Found by the simulation -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_card_tried_too_often_is_looked_at_again_after_hours_not_every_minute() -> None:
    """R30, seed 10: each charge of a capped card was dispatched every 60 s for thirty days."""
    world = World(ages=Ages(attempts_per_instrument=2))
    who = creator(clock=world.clock)
    for _ in range(2):
        world.receive(world.due_charge(of=who))
    capped = world.due_charge(of=who)

    world.receive(capped)

    again = dispatches(capped)[-1].available_at
    assert fresh(capped).state == ChargeState.DUE
    assert again - world.clock.real_now() == timedelta(hours=6)


@pytest.mark.django_db(transaction=True)
def test_a_card_tried_too_often_goes_again_when_its_window_has_passed() -> None:
    """R30: the last wait ends when the oldest of the fifteen attempts leaves the window."""
    world = World(ages=Ages(attempts_per_instrument=2))
    who = creator(clock=world.clock)
    for _ in range(2):
        world.receive(world.due_charge(of=who))
    capped = world.due_charge(of=who)
    world.clock.forward(days=30, seconds=-100)

    world.receive(capped)
    waits = dispatches(capped)[-1].available_at - world.clock.real_now()
    world.clock.forward(seconds=waits.total_seconds())
    world.receive(capped)

    assert waits == timedelta(seconds=100)
    assert fresh(capped).state == ChargeState.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_a_paid_charge_that_was_rewritten_stays_paid_when_its_subscription_is_cancelled() -> None:
    """R26, F27, seed 245: the cancel looked at the state alone, and voided what had been captured."""
    world = World()
    charge = world.due_charge()
    world.receive(charge)
    rewrite(charge, state="failed_then_retry")

    cancel(world, charge)

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE, charge=charge).count() == 1
    assert "charge.voided" not in events(charge)
