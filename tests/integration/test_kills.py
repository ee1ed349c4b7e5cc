"""Forked processes are ended with -9 wherever it hurts, and PostgreSQL is; others carry on (FAULTS, layer 3).

A short run of `python -m tests.kills`; and that it would see a defence that is missing. Rules R15, R19,
R20, R31, R33, R44, R49, R55; faults F1 to F7, F10, F11, F15, F18, F25.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError

from checkout import failpoints, outbox
from checkout.commit import DatabaseAway
from checkout.failpoints import failpoint
from checkout.messages import Acknowledged
from checkout.models import Charge, Door, Plan
from tests.kills.campaign import run_place
from tests.kills.crashes import Acknowledged as Acknowledgements
from tests.kills.crashes import is_of_a_crash, lost, run_crashes
from tests.kills.forks import NotKilled, fork, killed_at, serve
from tests.kills.places import PLACES, Place
from tests.kills.storms import run_storm
from tests.kills.yard import PRICE, Yard
from tests.stack import HOME

pytestmark = pytest.mark.django_db(transaction=True)

RANDOM_KILLS = 18
BY_NAME = {(place.name, place.what): place for place in PLACES}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nobody reads what children log of the deaths around them."""
    loggers = [logging.getLogger(name) for name in ("checkout", "settlements", "django.request")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_every_failpoint_is_a_place_where_a_process_is_killed() -> None:
    assert {place.name for place in PLACES} == failpoints.NAMES


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.name}: {place.what}")
def test_others_carry_on_after_a_kill(place: Place) -> None:
    """I1 to I6 after as many deaths as one thing meets; each child did die at the failpoint."""
    row = run_place(place, times=place.deaths)

    assert row.violations == []
    assert row.kills == place.deaths
    assert set(row.healers) <= set(place.carriers)


def test_others_carry_on_after_kills_at_random_moments() -> None:
    storm = run_storm(times=RANDOM_KILLS)

    assert storm.violations == []
    assert storm.kills >= RANDOM_KILLS


def test_nothing_acknowledged_is_lost_when_postgresql_crashes() -> None:
    """F18: one immediate stop and one kill -9 under load; the workers carry on by themselves."""
    crashes = run_crashes(times=2, home=HOME)

    assert crashes.lost == []
    assert crashes.violations == []
    assert crashes.acknowledged > 0
    assert sum(crashes.kinds.values()) == 2


# --- The checks can fail --------------------------------------------------------------------------


def mark_before_send(yard: Yard, _: Any) -> None:
    """A relay as it must not be: what it marked and did not send is lost with it."""
    now = yard.clock.real_now()
    with yard.leading(Door.KAFKA) as lock:
        messages = outbox.claim(lock, door=Door.KAFKA, now=now, limit=100)
        answers = [Acknowledged(message.id, 0, 0) for message in messages]
        outbox.settle(lock, door=Door.KAFKA, messages=messages, answers=answers, now=now)
        failpoint("relay.before_send")
        yard.ask("produce", messages)


def acknowledge_before_work(yard: Yard, _: Any) -> None:
    """A worker as it must not be: it says done, and then begins."""
    message = yard.ask("receive")
    yard.ask("delete", message)
    yard.work_on(message)


def broken(name: str, what: str, work: Any) -> Place:
    """The same death of a process that does its work in this way; nobody is waited for."""
    nobody = {"nobody": lambda *_: None}
    healed = lambda *_: True  # noqa: E731
    return replace(BY_NAME[name, what], work=work, deaths=1, carriers=nobody, healed=healed)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (broken("relay.before_send", "to kafka", mark_before_send), "is not in the topic"),
        (
            broken("commit.written", "tx 1 of two of three receives", acknowledge_before_work),
            "went silent although no message was lost",
        ),
    ],
    ids=["marked before it is sent", "acknowledged before it is done"],
)
def test_a_missing_defence_is_seen(place: Place, said: str) -> None:
    row = run_place(place, times=1)

    assert any(said in sentence for sentence in row.violations), row.violations


def test_a_message_acknowledged_without_its_outcome_is_lost() -> None:
    """F18: neither an attempt nor its outcome survived, and the queue has forgotten the message."""
    yard = Yard(seed=3)
    charge = Charge.objects.get(pk=yard.dispatched(token="approve"))
    told = Acknowledgements(yard)
    told.dispatches.add((charge.pk, charge.round, charge.dispatch))

    assert [sentence for sentence in lost(yard, told) if str(charge.pk) in sentence]

    yard.receive(charge.pk)

    assert list(lost(yard, told)) == []
    yard.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("the connection was lost"), True),
        (psycopg.OperationalError("the connection was lost"), True),
        (DatabaseAway("no commit within 5 s"), True),
        (IntegrityError("duplicate key"), False),
        (ProgrammingError("no such column"), False),
        (psycopg.errors.UniqueViolation("duplicate key"), False),
        (ValueError("a defect"), False),
        (None, False),
    ],
    ids=repr,
)
def test_a_broken_rule_is_no_loss_of_the_database(
    error: BaseException | None, expected: bool
) -> None:
    assert is_of_a_crash(error) is expected


def test_a_charge_that_is_short_is_seen_though_all_the_books_agree() -> None:
    """I3: price, charge, capture and books may all be three cents short together."""
    yard = Yard(seed=4)
    Plan.objects.update(price=PRICE - Decimal("0.03"))
    charge_id = yard.dispatched(token="approve")
    yard.receive(charge_id)

    found = yard.violations()

    assert f"charges: charge {charge_id} is over 19.96, not 19.99" in found
    assert f"charges: charge {charge_id} was captured with 19.96, not 19.99" in found


def test_an_answer_that_should_not_be_is_a_violation() -> None:
    yard = Yard(seed=5)
    key = yard.new_order()
    yard.outside.orders[key] = {"plan": "monthly"}

    yard.post(key)

    [complaint] = yard.outside.complaints
    assert complaint.startswith(f"{key}: 422")
    yard.close()


def test_a_child_that_comes_to_its_end_is_no_kill() -> None:
    with pytest.raises(NotKilled, match=r"sweep\.dispatched was not reached"):
        killed_at("sweep.dispatched", lambda _: None, answer=unasked)


def test_a_child_that_fails_says_why() -> None:
    def fail(_: object) -> None:
        raise ValueError("for a reason")

    with pytest.raises(NotKilled, match="for a reason"):
        serve([fork(fail)], unasked)


def unasked(*question: Sequence[object]) -> None:
    raise AssertionError(f"nobody was to ask {question}")
