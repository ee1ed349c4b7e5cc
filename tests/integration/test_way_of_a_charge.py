"""The way of a charge, from owed to collected, with a real database and a fake processor."""

from decimal import Decimal

import pytest

from checkout import ledger
from checkout.gateways import DeclineClass, Declined
from checkout.models import ChargeState, LedgerAccount
from checkout.outcomes import Fate
from tests.factories import World, attempts, dispatches, events, fresh

pytestmark = pytest.mark.django_db(transaction=True)

SOFT = Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")


@pytest.fixture
def world() -> World:
    return World()


def test_an_approved_charge_is_collected_booked_and_told(world: World) -> None:
    charge = world.due_charge()

    fate = world.receive(charge)

    assert fate == Fate.ACKNOWLEDGE
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert world.gateway.captured == Decimal("19.99")
    assert ledger.receivable(charge_id=charge.pk) == 0
    assert ledger.balance(account=LedgerAccount.CLEARING) == Decimal("19.99")
    assert events(charge) == ["charge.billed", "charge.succeeded"]


def test_third_decline_is_final_for_the_round(world: World) -> None:
    world.gateway.answers = [SOFT, SOFT, SOFT]
    charge = world.due_charge()

    fates = []
    for count in (1, 2, 3):
        fates.append(world.receive(charge, count=count))
        world.clock.forward(seconds=301)

    assert fates == [Fate.LEAVE, Fate.LEAVE, Fate.ACKNOWLEDGE]
    assert fresh(charge).state == ChargeState.EXHAUSTED
    assert fresh(charge).awaits == "date"
    assert [a.number for a in attempts(charge)] == [1, 2, 3]
    assert len(dispatches(charge)) == 1


def test_the_same_receive_again_changes_nothing(world: World) -> None:
    charge = world.due_charge()
    world.receive(charge)
    before = fresh(charge).__dict__ | {"_state": None}

    fate = world.receive(charge, count=2)

    assert fate == Fate.ACKNOWLEDGE
    assert len(world.gateway.sent) == 1
    assert fresh(charge).__dict__ | {"_state": None} == before
