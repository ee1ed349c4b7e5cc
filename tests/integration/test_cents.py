"""A cent that is moved anywhere is named, with exactly that difference, and nothing else is (R38, R55)."""

import pytest

from bench._crowd import load, named_faults
from checkout.clock import Ages
from settlements import reconciliation
from settlements.models import Kind, StatementExpectation
from tests.cents import campaign
from tests.cents.places import PLACES
from tests.factories_settlements import edit
from tests.fakes import FakeClock

pytestmark = pytest.mark.django_db


def test_r55_cents_at_random_are_all_named_and_nothing_else_is():
    """R38, R54, R55: by an incremental and by a full pass; put back, all are cleared by evidence."""
    clock = FakeClock()
    load(charges=1_000, today=clock.business_now().date())
    assert campaign.standing() == {}

    tally = campaign.plant(times=400, at_once=200, seed=4, clock=clock, ages=Ages())

    assert tally.wrong == []
    assert tally.found == tally.planted
    assert set(tally.planted) == {place.name for place in PLACES}
    assert tally.false_alarms == tally.left == 0


def test_r38_faults_of_the_processors_own_files_are_named_exactly():
    """R37, R41, R42, R53: short, missing, doubled and foreign lines, and short captures."""
    clock = FakeClock()
    load(charges=500, today=clock.business_now().date(), faults=50)

    reconciliation.reconcile(clock=clock, ages=Ages())

    found = {name: f"{usd:.2f}" for name, usd in campaign.standing().items()}
    assert found == named_faults()
    assert len(found) == 50


def test_r38_two_cents_of_one_charge_at_once_are_both_named():
    """What an attempt asked for has no second record, so nothing found of its charge may hide it."""
    clock = FakeClock()
    load(charges=5, today=clock.business_now().date())
    edit(
        "UPDATE checkout_charge SET amount = amount - 0.01 WHERE id ="
        " (SELECT charge_id FROM checkout_attempt ORDER BY id LIMIT 1)"
    )
    edit(
        "UPDATE checkout_attempt SET amount = amount + 0.02 WHERE id ="
        " (SELECT id FROM checkout_attempt ORDER BY id LIMIT 1)"
    )

    reconciliation.reconcile_incremental(clock=clock, ages=Ages())

    found = {name.rsplit(":", 1)[0]: usd for name, usd in campaign.standing().items()}
    assert sorted(map(str, found.values())) == ["-0.01", "0.02"]


def test_r53_a_full_pass_alone_expects_the_files_of_every_capture():
    """Marks that were lost keep no file from being expected."""
    clock = FakeClock()
    load(charges=50, today=clock.business_now().date())
    edit("DELETE FROM settlements_statementexpectation")
    edit("DELETE FROM reconcile_dirty")

    reconciliation.reconcile(kinds=[Kind.STATEMENT], clock=clock, ages=Ages())

    assert StatementExpectation.objects.filter(state="expected").exists()
