"""A short campaign of the simulation, and the defects it found, each in a few plain steps."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checkout.clock import Ages
from checkout.models import Case, CaseKind, ChargeState
from tests.factories import World, creator, dispatches, events, fresh
from tests.simulation.campaign import regressions
from tests.simulation.plan import ELSEWHERE, FAULTS, Plan
from tests.simulation.run import Simulation
from tests.situations import cancel, rewrite
from tests.workers import processes

ROOT = Path(__file__).parents[2]
SEEDS = 150
ALONE = 2
STEPS = 50
LONGER = 40
DOUBTS = (
    *("F8 late, in doubt", "F8 refused, in doubt", "F9 answer lost, in doubt"),
    *("turned away: 404, in doubt", "turned away: 429, in doubt"),
    *("F12 an answer lies in hand for 310 s", "F12 an answer lies in hand for 700 s"),
)


@pytest.fixture
def simulation(transactional_db: None) -> Iterator[Simulation]:
    with Simulation() as running:
        yield running


# Once a session: tests with a database are sorted by how they use it, so this file is begun twice.
@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first seeds, and each fault alone, come to: run as people run it, on its own databases."""
    told = tmp_path_factory.mktemp("campaign") / "told.json"
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS)]
    command += ["--alone", str(ALONE), "--steps", str(STEPS), "--json", str(told), "--shrink", "30"]
    command += ["--jobs", str(processes())]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.exists(), ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads(told.read_text("utf-8"))
    return found


@pytest.mark.timeout(1200)
def test_the_fixed_schedules_keep_every_invariant(campaign: dict[str, Any]) -> None:
    """I1 to I7: what is accepted is charged once, booked once, told once, and comes to rest."""
    assert campaign["failed"] == []
    assert campaign["done"] == SEEDS + ALONE * len(FAULTS) > 200


@pytest.mark.timeout(1200)
def test_every_simulated_fault_strikes(campaign: dict[str, Any], simulation: Simulation) -> None:
    """A fault that never strikes shows nothing: F1 to F33, those of ELSEWHERE apart.

    One that a change of the product kept away from the campaign is waited for a little longer.
    """
    for fault in sorted(set(FAULTS) - set(campaign["numbers"])):
        assert _strikes(simulation, fault), fault


def _strikes(simulation: Simulation, fault: str) -> bool:
    for seed in range(100, 100 + LONGER):
        result = simulation.run(Plan.of([fault], seed=seed, steps=STEPS))
        assert result.violations == [], result.plan.as_json()
        if fault in result.numbers:
            return True
    return False


@pytest.mark.timeout(1200)
def test_a_seed_is_a_history_in_whichever_process(
    campaign: dict[str, Any], simulation: Simulation
) -> None:
    """The same seed makes the same trace, so that a failure can be looked at again."""
    plans = [Plan.drawn(seed, steps=STEPS) for seed in (3, 16, 41)]

    here = [simulation.run(plan).trace for plan in plans]

    assert here == [campaign["traces"][plan.as_json()] for plan in plans]


def test_doubts_strike_where_an_outcome_hangs_on_them(simulation: Simulation) -> None:
    """R20, R22: what is lost, late, turned away or slept over is neither a decline nor a second capture."""
    never = set(DOUBTS)
    for seed in range(4, 24):
        result = simulation.run(Plan(seed=seed, steps=40, doubts=True, webhooks="none"))
        assert result.violations == [], result.plan.as_json()
        never -= set(result.faults)
        if not never:
            return

    raise AssertionError(f"never struck: {sorted(never)}")


def test_another_seed_is_another_history(simulation: Simulation) -> None:
    traces = {simulation.run(Plan.drawn(seed, steps=20)).trace for seed in range(3)}

    assert len(traces) == 3


def test_every_fault_is_simulated_or_shown_elsewhere() -> None:
    """shared/FAULTS.md ends with F33; who adds one says where it is shown."""
    assert {*FAULTS, *ELSEWHERE} == {f"F{number}" for number in range(1, 34)}


@pytest.mark.parametrize("plan", regressions(), ids=lambda plan: f"{plan.seed}-{plan.steps}")
def test_what_failed_once_holds_now(simulation: Simulation, plan: Plan) -> None:
    """tests/simulation/regressions.jsonl, to which `make simulate` adds what it finds."""
    assert simulation.run(plan).violations == []


def test_a_plan_that_was_printed_is_read_back() -> None:
    for seed in range(40):
        plan = Plan.drawn(seed, steps=7)
        assert Plan.from_json(plan.as_json()) == plan


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
