"""What the resolver asked of a processor, and what was answered, is kept and shown (R21, R22)."""

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from checkout import rescue
from checkout.gateways import Approved, InDoubt, NotFound, Pending
from checkout.models import QUERIES_KEPT, Ask, Attempt, AttemptQuery, Charge
from settlements.roles import VIEWER
from tests.factories import World
from tests.factories_roles import member
from tests.fakes import START
from tests.situations import crashing_at, in_doubt, open_attempt, pending

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def ask_about(world: World, attempt: Attempt) -> None:
    rescue.resolve_attempt(
        attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
    )


def kept(charge: Charge) -> list[tuple[int, str, str]]:
    rows = AttemptQuery.objects.filter(attempt__charge=charge).order_by("number")
    return [(row.number, row.asked, row.answer) for row in rows]


def test_each_question_is_kept_with_its_answer_in_the_gateway_s_words(world: World) -> None:
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    world.gateway.query_answers = [
        InDoubt("not answered: ConnectTimeout: timed out"),
        NotFound(),
        Approved(attempt.amount, "USD", "sbx_77"),
    ]
    for _ in range(3):
        world.clock.forward(seconds=400)
        ask_about(world, attempt)

    assert kept(charge) == [
        (1, Ask.OUTCOME, "no answer to go by: not answered: ConnectTimeout: timed out"),
        (2, Ask.OUTCOME, "not found"),
        (3, Ask.OUTCOME, "captured 19.99 USD, its reference sbx_77"),
    ]
    first = AttemptQuery.objects.earliest("number")
    assert first.asked_at == START + timedelta(seconds=400)
    assert Attempt.objects.get(pk=attempt.pk).queries == 3


def test_ending_what_is_pending_is_a_question_of_its_own(world: World) -> None:
    charge = pending(world)
    attempt = open_attempt(charge)
    Charge.objects.filter(pk=charge.pk).update(void_requested=True)
    world.gateway.query_answers = [Pending(None)]

    ask_about(world, attempt)

    assert kept(charge) == [(1, Ask.END, "expired: it will not be captured any more")]


def test_it_is_written_in_the_commit_of_the_answer_or_not_at_all(world: World) -> None:
    charge = in_doubt(world)
    world.clock.forward(seconds=400)
    with crashing_at("resolve.answered"):
        ask_about(world, open_attempt(charge))

    assert kept(charge) == []
    assert open_attempt(charge).queries == 0


def test_an_attempt_keeps_its_newest_hundred(world: World) -> None:
    charge = in_doubt(world)
    attempt = open_attempt(charge)
    for number in range(QUERIES_KEPT + 3):
        AttemptQuery.record(
            attempt,
            asked=Ask.OUTCOME,
            asked_at=world.clock.real_now(),
            answered_at=world.clock.real_now(),
            answer=f"answer {number}",
        )

    found = kept(charge)

    assert len(found) == QUERIES_KEPT
    assert (found[0][0], found[-1][0]) == (4, QUERIES_KEPT + 3)
    assert Attempt.objects.get(pk=attempt.pk).queries == QUERIES_KEPT + 3


def test_a_long_answer_is_cut(world: World) -> None:
    charge = in_doubt(world)
    world.gateway.query_answers = [InDoubt("x" * 4000)]
    ask_about(world, open_attempt(charge))

    assert len(kept(charge)[0][2]) == 300


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkout_attemptquery SET answer = 'captured'",
        "UPDATE checkout_attemptquery SET asked_at = now()",
        "DELETE FROM checkout_attemptquery",
    ],
)
def test_what_was_asked_and_answered_never_changes(world: World, change: str) -> None:
    charge = in_doubt(world)
    ask_about(world, open_attempt(charge))

    with (
        pytest.raises(IntegrityError, match="never changes"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)

    assert len(kept(charge)) == 1


def test_sending_a_charge_writes_none(world: World) -> None:
    """The hot path stays as it was: an attempt's first answer is on the attempt."""
    world.receive(world.due_charge())
    charge = in_doubt(world)

    assert not AttemptQuery.objects.exists()
    assert open_attempt(charge).doubt


def test_the_desk_and_the_timeline_show_every_question(world: World) -> None:
    charge = in_doubt(world)
    for answer in (NotFound(), InDoubt("503: <b>try later</b>")):
        world.clock.forward(seconds=70)
        world.gateway.query_answers = [answer]
        ask_about(world, open_attempt(charge))
    client = member(VIEWER)

    desk = re.sub(r"\s+", " ", client.get("/admin/in-doubt/").content.decode())
    proof = client.get(f"/admin/checkout/charge/{charge.pk}/proof/").content.decode()

    rows = re.findall(r"<td>what became of it</td><td class=\"text\">(.*?)</td>", desk)
    assert rows == ["no answer to go by: 503: &lt;b&gt;try later&lt;/b&gt;", "not found"]
    assert f"{START + timedelta(seconds=70):%Y-%m-%d %H:%M:%S}" in desk
    assert "the processor was asked what became of it: not found" in proof
