"""What two people decide about an attempt that nobody else can decide about (R21, R43)."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from checkout import ledger, rescue, verdicts
from checkout.gateways import InDoubt
from checkout.models import Case, CaseKind, Charge, ChargeState, LedgerAccount, Verdict
from checkout.verdicts import NotApprovable, NotInDoubt
from tests.factories import World, attempts, dispatches, fresh
from tests.situations import (
    BELIEVED_AFTER,
    WHOLE,
    ask,
    attempting,
    dies,
    in_doubt,
    letters_of,
    open_attempt,
)

pytestmark = pytest.mark.django_db

NET = Decimal("19.99")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def doubtful(world: World) -> Charge:
    """Its processor has answered nonsense for a day."""
    charge = in_doubt(world)
    world.clock.forward(days=1)
    return charge


def propose(world: World, charge: Charge, captured: Decimal | None = NET, by: str = "one") -> Case:
    with transaction.atomic():
        return verdicts.propose_verdict(
            attempt_id=open_attempt(charge).pk,
            captured=captured,
            by=by,
            reason="asked the processor by telephone",
            now=world.clock.now(),
            gateways=world.gateways,
            ages=world.ages,
        )


def approve(world: World, case: Case, by: str = "two") -> Charge:
    with transaction.atomic():
        return verdicts.approve_verdict(
            case_id=case.pk,
            seen=case.proposed,
            by=by,
            reason="seen it too",
            now=world.clock.now(),
            gateways=world.gateways,
            ages=world.ages,
        )


def test_a_proposal_alone_changes_nothing(world: World, doubtful: Charge) -> None:
    """R21."""
    case = propose(world, doubtful)

    assert (case.proposal, case.amount) == ("captured 19.99 USD", NET)
    assert (fresh(doubtful).state, letters_of(doubtful)) == (ChargeState.IN_DOUBT, "?")


@pytest.mark.parametrize("amount", ["19.99", "19.96"])
def test_an_approved_capture_is_booked_in_its_own_amount(
    world: World, doubtful: Charge, amount: str
) -> None:
    """R21, R36: a short one is for reconciliation to name."""
    case = propose(world, doubtful, Decimal(amount))

    approve(world, case)

    assert fresh(doubtful).state == ChargeState.SUCCEEDED
    assert ledger.receivable(charge_id=doubtful.pk) == NET - Decimal(amount)
    assert doubtful.postings.get(account=LedgerAccount.CLEARING).amount == Decimal(amount)


def test_what_was_called_not_charged_is_dispatched_and_still_asked_about(
    world: World, doubtful: Charge
) -> None:
    """R22: two people may be wrong; a late capture is found, and a second one is owed back."""
    case = propose(world, doubtful, None)
    before = len(dispatches(doubtful))

    approve(world, case)

    attempt = attempts(doubtful)[0]
    assert (fresh(doubtful).state, attempt.verdict) == (
        ChargeState.FAILED_THEN_RETRY,
        Verdict.NOT_FOUND,
    )
    assert len(dispatches(doubtful)) == before + 1
    world.gateway.journal[attempt.pk] = WHOLE
    world.clock.forward(days=1)
    rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
    assert letters_of(doubtful) == "A"


def test_who_proposes_does_not_approve_and_nothing_is_approved_twice(
    world: World, doubtful: Charge
) -> None:
    """R43."""
    case = propose(world, doubtful)
    with pytest.raises(NotApprovable, match="who proposed it"):
        approve(world, case, by="one")
    approve(world, case)

    with pytest.raises(NotApprovable, match="it is closed"):
        approve(world, case, by="three")
    assert letters_of(doubtful) == "A"


def test_the_processor_s_own_answer_comes_first_and_ends_the_proposal(
    world: World, doubtful: Charge
) -> None:
    case = propose(world, doubtful, None)
    ask(world, open_attempt(doubtful), WHOLE)

    with pytest.raises(NotApprovable, match="the processor answered: captured"):
        approve(world, case)
    assert letters_of(doubtful) == "A"


def test_another_proposal_takes_the_place_of_the_first(world: World, doubtful: Charge) -> None:
    propose(world, doubtful, None)
    case = propose(world, doubtful, NET, by="two")

    approve(world, case, by="one")

    assert letters_of(doubtful) == "A"
    assert Case.objects.filter(kind=CaseKind.IN_DOUBT).count() == 1


def test_no_verdict_while_the_request_may_still_be_on_its_way(world: World) -> None:
    """R20, R22: what is called not charged too early would be charged twice."""
    charge = in_doubt(world)
    world.clock.forward(seconds=BELIEVED_AFTER - 1)

    with pytest.raises(NotInDoubt, match="let the resolver ask"):
        propose(world, charge, None)


def test_a_send_after_the_proposal_asks_for_another_one(world: World) -> None:
    """R20: the same key left again, so what was found out before is old."""
    charge = attempting(world)
    world.clock.forward(seconds=BELIEVED_AFTER)
    case = propose(world, charge, None)
    dies(world, charge, count=2)
    world.clock.forward(seconds=BELIEVED_AFTER)

    with pytest.raises(NotInDoubt, match="sent again"):
        approve(world, case)
    assert letters_of(charge) == "?"


def test_two_people_decide_in_the_admin(world: World, doubtful: Charge) -> None:
    first, second = (Client(), Client())
    for client, name in ((first, "one"), (second, "two")):
        client.force_login(User.objects.create_superuser(name))
    attempt = open_attempt(doubtful)
    world.gateway.query_answers = [InDoubt("garbled")]

    def decide(client: Client, model: str, action: str, row: object, **answers: str) -> str:
        address = reverse(f"admin:checkout_{model}_changelist")
        sent = {"action": action, "_selected_action": [str(row)], "decided": "yes", **answers}
        return client.post(address, sent | {"reason": "by telephone"}, follow=True).content.decode()

    guessed = decide(first, "attempt", "propose_verdict", attempt.pk, happened="captured")
    proposal = {"happened": "captured", "captured": "19.99"}
    decide(first, "attempt", "propose_verdict", attempt.pk, **proposal)
    case = Case.objects.get()
    own = decide(first, "case", "approve_verdict", case.pk)
    decide(second, "case", "approve_verdict", case.pk, **{f"seen-{case.pk}": case.proposed})

    assert "An amount belongs to captured" in guessed
    assert "who proposed it does not approve it" in own
    assert fresh(doubtful).state == ChargeState.SUCCEEDED
