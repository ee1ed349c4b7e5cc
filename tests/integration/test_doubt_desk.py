"""The in-doubt desk: what is known of an attempt in doubt, and the decision of two people (R21, R43)."""

import re
from decimal import Decimal
from html import unescape

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checkout import verdicts
from checkout.billing import bill_due
from checkout.gateways import InDoubt
from checkout.models import Case, Charge, ChargeState, OutboxMessage
from settlements.doubt import MOST_SHOWN, doubts
from settlements.roles import ANALYST, APPROVER, VIEWER
from tests.factories import World, fresh, publish
from tests.factories_roles import member

pytestmark = pytest.mark.django_db
DESK = "/admin/in-doubt/"


@pytest.fixture
def world() -> World:
    return World()


def silent(world: World, price: str = "199.00") -> Charge:
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    charge = world.due_charge(price=price)
    world.receive(charge)
    assert fresh(charge).state == ChargeState.IN_DOUBT
    return charge


def text_of(client: Client, query: str = "") -> str:
    answer = client.get(f"{DESK}{query}")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.content.decode())


def test_it_says_what_is_known_and_what_comes_next(world: World) -> None:
    charge = silent(world)
    attempt = charge.attempts.get()

    page = text_of(member(VIEWER))

    assert str(attempt.pk) in page
    assert "1 charge" in page
    assert "199.00 USD" in page
    assert "no answer within 30 s" in page
    assert f"{attempt.next_query_at:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "the file of cis for 20" in page
    assert "Propose what became of it" not in page


def test_the_inquiry_names_the_attempt_and_nothing_of_the_creator(world: World) -> None:
    charge = silent(world)

    (doubt,) = doubts(now=world.clock.now())

    assert str(doubt.attempt.pk) in doubt.inquiry
    assert "199.00 USD" in doubt.inquiry
    assert "Aigerim" not in doubt.inquiry
    assert charge.creator.external_id not in doubt.inquiry
    assert "KZ" not in doubt.inquiry


def test_the_oldest_comes_first(world: World) -> None:
    older = silent(world)
    world.clock.forward(seconds=60)
    silent(world, "19.99")

    oldest, _ = doubts(now=world.clock.now())
    assert oldest.charge.pk == older.pk


def test_the_rest_is_on_the_next_page(world: World) -> None:
    """An outage puts more in doubt than a page holds: each is reached, the oldest first."""
    charges = [silent(world, "19.99") for _ in range(MOST_SHOWN + 1)]
    first, second = (
        [doubt.charge.pk for doubt in doubts(now=world.clock.now(), page=page)] for page in (1, 2)
    )
    assert len(first) == MOST_SHOWN
    assert {*first, *second} == {charge.pk for charge in charges}

    client = member(VIEWER)
    oldest, newest = text_of(client), text_of(client, "?page=2")
    assert f"<strong>{len(charges)} charges</strong>" in oldest
    assert "shown 1 to 50, oldest first" in oldest
    assert '<a href="?page=2" rel="next">' in oldest
    assert "shown 51 to 51, oldest first" in newest
    assert str(second[0]) in newest
    assert '<a href="?page=1" rel="prev">' in newest
    assert 'rel="next"' not in newest
    # What is no page is the nearest one.
    assert "shown 51 to 51" in text_of(client, "?page=99")
    assert "shown 1 to 50" in text_of(client, "?page=x")


def test_the_creator_asked_for_a_first_charge_and_its_checkout_answers_in_doubt(
    world: World,
) -> None:
    charge = silent(world)

    (doubt,) = doubts(now=world.clock.now())

    assert doubt.told == (
        f"the creator asked for it at checkout {charge.subscription_id}, which answers “in_doubt” to"
        " whoever reads it by the API"
    )
    assert doubt.told in unescape(text_of(member(VIEWER)))


def test_of_a_renewal_the_creator_was_told_nothing(world: World) -> None:
    first = world.due_charge(price="199.00")
    world.receive(first)
    world.clock.forward(days=28)
    bill_due(clock=world.clock, ages=world.ages)
    renewal = Charge.objects.exclude(pk=first.pk).get()
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    world.receive(renewal)

    (doubt,) = doubts(now=world.clock.now())

    assert doubt.charge.pk == renewal.pk
    assert doubt.told.startswith("nothing by us: a renewal, which no creator waits for")
    page = unescape(text_of(member(VIEWER)))
    assert doubt.told in page
    assert "asked for it at checkout" not in page


def test_the_platform_was_told_by_the_event_once_it_is_published(world: World) -> None:
    charge = silent(world)
    (doubt,) = doubts(now=world.clock.now())
    assert doubt.told_platform == "event charge.in_doubt, not published yet"

    event = OutboxMessage.objects.get(subject=charge.pk, type="charge.in_doubt")
    publish(event, at=world.clock.real_now())

    (doubt,) = doubts(now=world.clock.now())
    assert doubt.told_platform == "event charge.in_doubt, published 2026-01-31 12:00:00 UTC"
    assert doubt.told_platform in text_of(member(VIEWER))


def test_r47_it_asks_the_database_as_often_for_five_as_for_one(world: World) -> None:
    silent(world)
    client = member(ANALYST)
    text_of(client)
    with CaptureQueriesContext(connection) as one:
        text_of(client)
    for _ in range(4):
        silent(world, "19.99")

    with CaptureQueriesContext(connection) as five:
        text_of(client)

    assert len(doubts(now=world.clock.now())) == 5
    assert len(five) == len(one) < 30


def test_two_people_decide_from_the_desk(world: World) -> None:
    """R43: the existing decision, reached from here; the page shows what waits for whom."""
    charge = silent(world)
    attempt = charge.attempts.get()
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")
    assert "Propose what became of it" in text_of(ann)
    ann.post(
        "/admin/checkout/attempt/",
        {
            "action": "propose_verdict",
            "_selected_action": [str(attempt.pk)],
            "decided": "yes",
            "happened": "captured",
            "captured": "199.00",
            "reason": "their support confirmed it",
        },
    )

    assert "ann proposes: <strong>captured 199.00 USD</strong>" in text_of(bob)
    assert "Approve: captured 199.00 USD" in text_of(bob)
    assert "Approve: captured" not in text_of(ann)
    case = Case.objects.get()
    bob.post(
        "/admin/checkout/case/",
        {
            "action": "approve_verdict",
            "_selected_action": [str(case.pk)],
            "decided": "yes",
            "reason": "seen the same mail",
            f"seen-{case.pk}": case.proposed,
        },
    )

    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert charge.attempts.get().captured_amount == Decimal("199.00")
    assert "Nothing is in doubt" in text_of(bob)


def test_what_the_page_showed_is_approved_and_nothing_else(world: World) -> None:
    """R43: proposed anew while another person reads, it is another decision."""
    charge = silent(world)
    world.clock.forward(days=1)
    proposed_verdict(world, charge, Decimal("199.00"))
    case, bob = Case.objects.get(), member(APPROVER, name="bob")
    chosen = {"action": "approve_verdict", "_selected_action": [str(case.pk)]}

    page = bob.post("/admin/checkout/case/", chosen).content.decode()
    assert "captured 199.00 USD" in page
    proposed_verdict(world, charge, None)
    posted = {"decided": "yes", "reason": "seen the same mail", **hidden(page)}
    answer = bob.post("/admin/checkout/case/", chosen | posted, follow=True)

    assert "the page showed another proposal" in answer.content.decode()
    assert fresh(charge).state == ChargeState.IN_DOUBT

    page = bob.post("/admin/checkout/case/", chosen).content.decode()
    bob.post("/admin/checkout/case/", chosen | posted | hidden(page))
    assert fresh(charge).state == ChargeState.FAILED_THEN_RETRY


def proposed_verdict(world: World, charge: Charge, captured: Decimal | None) -> None:
    with transaction.atomic():
        verdicts.propose_verdict(
            attempt_id=charge.attempts.get().pk,
            captured=captured,
            by="ann",
            reason="their support told us",
            now=world.clock.now(),
            gateways=world.gateways,
            ages=world.ages,
        )


def hidden(page: str) -> dict[str, str]:
    """What the page says that it showed."""
    found = re.findall(r'<input type="hidden" name="(seen-[0-9]+)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in found}
