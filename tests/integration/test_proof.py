"""The proof of a charge: five ticks, each with its amount, and a sentence for what is missing."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import Charge, ChargeState, Door, OutboxMessage
from settlements import reconciliation
from settlements.models import TopicRecord
from settlements.proof import Proof, Verdict, prove
from settlements.timeline import timeline
from tests.factories import World, fresh
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db

DAY = date(2026, 1, 31)
NAMES = ["Expected", "Captured", "Ledger", "Event", "Statement"]


@pytest.fixture
def world() -> World:
    return World()


def paid(world: World, **facts: Any) -> Charge:
    charge = world.due_charge(**facts)
    world.receive(charge)
    return fresh(charge)


def published(world: World) -> None:
    """The topic holds every event as the outbox has it."""
    for offset, message in enumerate(OutboxMessage.objects.filter(door=Door.KAFKA).order_by("id")):
        TopicRecord.objects.create(
            partition=0,
            offset=offset,
            event_id=message.event_id,
            key=message.key,
            sequence=message.event_seq or 0,
            sha256=message.payload_sha256,
            read_at=world.clock.real_now(),
        )


def proof_of(charge: Charge, world: World) -> Proof:
    return prove(charge=fresh(charge), now=world.clock.now())


def ticks(proof: Proof) -> dict[str, tuple[str, str]]:
    assert [tick.name for tick in proof.ticks] == NAMES
    return {
        tick.name: (tick.verdict.value, "" if tick.amount is None else f"{tick.amount:.2f}")
        for tick in proof.ticks
    }


def because(proof: Proof, name: str) -> str:
    return next(tick.because for tick in proof.ticks if tick.name == name)


def test_a_charge_whose_five_records_agree_is_proved(world: World, tmp_path: Path) -> None:
    charge = paid(world)
    published(world)
    take_in(statement_text(DAY), world=world, folder=tmp_path)

    proof = proof_of(charge, world)

    assert ticks(proof) == dict.fromkeys(NAMES, ("proved", "19.99"))
    assert proof.verdict == Verdict.PROVED


def test_a_charge_that_waits_for_its_event_and_its_statement_says_for_which(world: World) -> None:
    charge = paid(world)

    proof = proof_of(charge, world)

    assert ticks(proof)["Captured"] == ("proved", "19.99")
    assert ticks(proof)["Event"] == ("awaiting", "19.99")
    assert ticks(proof)["Statement"] == ("awaiting", "")
    assert "waits to be published" in because(proof, "Event")
    assert "statement of cis for 2026-01-31" in because(proof, "Statement")
    assert proof.sentence.startswith("Awaiting.")


def test_r53_the_statement_it_awaits_has_a_date_and_becomes_late(world: World) -> None:
    charge = paid(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert "due 2026-02-0" in because(proof_of(charge, world), "Statement")

    world.clock.forward(days=10)

    assert because(proof_of(charge, world), "Statement").endswith("and is late.")


def test_r37_three_cents_captured_short_are_named(world: World) -> None:
    world.gateway.answers = [lambda request: Approved(request.amount - Decimal("0.03"), "USD", "p")]
    charge = paid(world)

    proof = proof_of(charge, world)

    assert ticks(proof)["Captured"] == ("discrepant", "19.96")
    assert because(proof, "Captured") == (
        "Under-charge of 0.03 USD: 19.99 USD was owed, 19.96 USD was captured."
    )
    assert proof.verdict == Verdict.DISCREPANT


def test_r37_a_row_shorted_behind_the_triggers_is_named(world: World) -> None:
    charge = paid(world)
    edit(
        "UPDATE checkout_charge SET amount = 19.96, expected_amount = 19.96 WHERE id = %s",
        charge.pk,
    )

    proof = proof_of(charge, world)

    assert ticks(proof)["Expected"] == ("discrepant", "19.99")
    assert "Under-charge of 0.03 USD" in proof.sentence


def test_books_that_miss_a_capture_are_named(world: World) -> None:
    charge = paid(world)
    edit(
        "DELETE FROM checkout_ledgerposting WHERE charge_id = %s AND entry_id IN"
        " (SELECT id FROM checkout_ledgerentry WHERE kind = 'captured')",
        charge.pk,
    )

    proof = proof_of(charge, world)

    assert ticks(proof)["Ledger"][0] == "discrepant"
    assert because(proof, "Ledger") == "19.99 USD was captured, the books say 0.00 USD."


def test_a_topic_that_holds_something_else_is_named(world: World) -> None:
    charge = paid(world)
    published(world)
    TopicRecord.objects.update(sha256="0" * 64)

    assert ticks(proof_of(charge, world))["Event"][0] == "discrepant"


def test_a_statement_without_the_capture_is_named(world: World, tmp_path: Path) -> None:
    before = statement_text(DAY)
    charge = paid(world)
    take_in(before, world=world, folder=tmp_path)

    proof = proof_of(charge, world)

    assert ticks(proof)["Statement"] == ("discrepant", "")
    assert "has arrived and does not show it" in because(proof, "Statement")


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (None, ChargeState.DUE, "not tried"),
        (InDoubt("timed out"), ChargeState.IN_DOUBT, "is not known"),
        (Declined(DeclineClass.NEVER, "stolen_card"), ChargeState.EXHAUSTED, "another card"),
        (Declined(DeclineClass.FUNDS, "no_funds"), ChargeState.EXHAUSTED, "its next round on"),
        (Declined(DeclineClass.ISSUER_SOFT, "try"), ChargeState.FAILED_THEN_RETRY, "declined"),
    ],
)
def test_a_charge_without_a_capture_says_why(
    world: World, answer: Any, state: ChargeState, words: str
) -> None:
    charge = world.due_charge()
    if answer:
        world.gateway.answers = [answer]
        world.receive(charge)

    proof = proof_of(charge, world)

    assert proof.facts.charge.state == state
    assert ticks(proof)["Captured"] == ("awaiting", "")
    assert words in because(proof, "Captured")
    assert ticks(proof)["Ledger"][0] == "proved"
    assert ticks(proof)["Statement"][0] == "none"


def test_the_timeline_tells_the_story_in_order(world: World, tmp_path: Path) -> None:
    soft = Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")
    world.gateway.answers = [soft]
    charge = world.due_charge()
    world.receive(charge)
    world.clock.forward(seconds=400)
    world.receive(charge, count=2)
    take_in(statement_text(DAY), world=world, folder=tmp_path)

    story = timeline(proof_of(charge, world).facts)

    assert [line.at for line in story] == sorted(line.at for line in story)
    sorts = [line.sort for line in story]
    assert sorts[0] == "billed"
    assert sorts.index("dispatch") < sorts.index("attempt") < sorts.index("outcome")
    assert sorts[-1] == "statement"
    told = " | ".join(line.text for line in story)
    for words in ("attempt 1.1: declined, issuer_soft (do_not_honor)", "attempt 1.2: 19.99 USD"):
        assert words in told


# --- The page ------------------------------------------------------------------------------------


def finance(*rights: str) -> Client:
    user = User.objects.create_user("finance", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


def test_finance_staff_reads_the_proof_and_the_charge_links_to_it(world: World) -> None:
    charge = paid(world)
    client, url = finance("view_charge"), reverse("charge_proof", args=[charge.pk])

    page = client.get(url)

    assert page.status_code == 200
    shown = page.content.decode()
    for tick in proof_of(charge, world).ticks:
        assert tick.name in shown
        assert escape(tick.because) in shown
    change = client.get(reverse("admin:checkout_charge_change", args=[charge.pk]))
    assert url in change.content.decode()


def test_the_proof_is_not_for_others(world: World) -> None:
    charge = paid(world)
    url = reverse("charge_proof", args=[charge.pk])

    assert finance().get(url).status_code == 403
    assert Client().get(url).status_code == 302
    assert (
        finance_again().get(url.replace(str(charge.pk), str(charge.creator_id))).status_code == 404
    )


def finance_again() -> Client:
    user = User.objects.get(username="finance")
    user.user_permissions.set(Permission.objects.filter(codename="view_charge"))
    client = Client()
    client.force_login(user)
    return client
