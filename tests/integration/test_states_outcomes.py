"""docs/states.md, "Outcome × attempt": what an answer writes on an attempt (R20, R22, R27), and the † of tx 2.

The charge is one that still owes, unless the row says otherwise.
"""

from pathlib import Path

import pytest

from checkout.commit import committed
from checkout.gateways import Answer, Expired, NotFound, NotSent, Outcome, Pending
from checkout.messages import Receive
from checkout.models import Attempt, Charge, ChargeState
from checkout.outcomes import Asked, Fate, record_outcome
from tests.factories import World, attempts, fresh
from tests.situations import (
    BELIEVED_AFTER,
    NEVER,
    SITUATIONS,
    SOFT,
    TIMED_OUT,
    WHOLE,
    dies,
    letters_of,
    open_attempt,
    rewrite,
)

pytestmark = pytest.mark.django_db

STATES = Path(__file__).parents[2] / "docs" / "states.md"


@pytest.fixture
def world() -> World:
    return World()


def write(
    world: World,
    attempt: Attempt,
    answer: Outcome | Answer,
    *,
    sends: int = 1,
    receive: Receive | None = None,
) -> Fate:
    return committed(
        lambda: record_outcome(
            attempt_id=attempt.pk,
            answer=answer,
            sends=sends,
            asked=Asked(
                at=world.clock.real_now(),
                minimum_age=world.gateway.minimum_age,
                repeats=world.gateway.not_found_repeats,
            ),
            receive=receive,
            now=world.clock.now(),
            ages=world.ages,
        ),
        deadline=5,
        clock=world.clock,
    )


ANSWERS: dict[str, Outcome | Answer] = {
    "captured": WHOLE,
    "declined": SOFT,
    "never": NEVER,
    "expired": Expired(),
    "not found": NotFound(),
    "in doubt": TIMED_OUT,
    "not sent": NotSent("refused"),
    "pending": Pending(None),
}

# the attempt is, in this situation, the answer, what is written on it
CELLS = [
    ("?", "attempting", "captured", "A"),
    ("?", "attempting", "declined", "S"),
    ("?", "attempting", "never", "N"),
    ("?", "attempting", "expired", "0"),
    ("?", "attempting", "in doubt", "?"),
    ("?", "attempting", "pending", "?"),
    ("?", "attempting", "not sent", "0"),
    ("?", "voided by hand, an attempt open", "declined", "S"),
    ("S", "failed_then_retry", "captured", "A"),
    ("S", "failed_then_retry", "declined", "S"),
    ("S", "failed_then_retry", "never", "S"),
    ("S", "failed_then_retry", "expired", "S"),
    ("S", "failed_then_retry", "not found", "S"),
    ("S", "failed_then_retry", "in doubt", "S"),
    ("S", "failed_then_retry", "not sent", "S"),
    ("S", "failed_then_retry", "pending", "S"),
    ("N", "exhausted, awaits an instrument", "captured", "A"),
    ("N", "exhausted, awaits an instrument", "declined", "N"),
    ("N", "exhausted, awaits an instrument", "not found", "N"),
    ("N", "exhausted, awaits an instrument", "in doubt", "N"),
    ("N", "exhausted, awaits an instrument", "not sent", "N"),
    ("0", "failed_then_retry, not charged", "captured", "A"),
    ("0", "failed_then_retry, not charged", "declined", "0"),
    ("0", "failed_then_retry, not charged", "not found", "0"),
    ("0", "failed_then_retry, not charged", "in doubt", "0"),
    ("0", "failed_then_retry, not charged", "not sent", "0"),
    ("0", "voided, an attempt not found before", "captured", "U"),
    ("A", "succeeded", "captured", "A"),
    ("A", "succeeded", "declined", "A"),
    ("A", "succeeded", "not found", "A"),
    ("A", "succeeded", "in doubt", "A"),
    ("A", "succeeded", "not sent", "A"),
]


@pytest.mark.parametrize(("attempt_is", "where", "answer", "becomes"), CELLS)
def test_outcome_meets_attempt(
    world: World, attempt_is: str, where: str, answer: str, becomes: str
) -> None:
    charge = SITUATIONS[where](world)
    assert letters_of(charge) == attempt_is

    write(world, attempts(charge)[0], ANSWERS[answer])

    assert letters_of(charge) == becomes


def test_every_kind_of_attempt_is_in_the_table() -> None:
    rows = [
        line.split("|")[1]
        for line in STATES.read_text("utf-8").split("## Outcome × attempt")[1].splitlines()
        if line.startswith("| ") and "|---" not in line
    ][1:]
    named = {
        letter
        for row in rows
        for letter in ("`S`", "`N`", "`0`", "`A`", "`U`", "open")
        if letter in row
    }

    assert {letter.strip("`").replace("open", "?") for letter in named} == {
        row[0] for row in CELLS
    } | {"U"}


@pytest.mark.parametrize("answer", ["captured", "declined", "not found", "in doubt", "not sent"])
def test_an_unapplied_capture_is_overwritten_by_nothing(world: World, answer: str) -> None:
    charge = SITUATIONS["succeeded, an attempt open"](world)
    attempt = open_attempt(charge)
    write(world, attempt, WHOLE)

    write(world, attempt, ANSWERS[answer])

    assert letters_of(charge) == "AU"


@pytest.mark.parametrize(("sends", "letter"), [(1, "?"), (2, "0")])
def test_not_found_is_believed_only_if_nobody_sent_since_the_query(
    world: World, sends: int, letter: str
) -> None:
    """R22: `sends` before the query and under the lock."""
    charge = SITUATIONS["attempting"](world)
    dies(world, charge, count=2)
    world.clock.forward(seconds=BELIEVED_AFTER)

    for _ in range(3):
        write(world, open_attempt(charge) if letters_of(charge) == "?" else attempts(charge)[0],
              NotFound(), sends=sends)  # fmt: skip
        world.clock.forward(seconds=60)

    assert letters_of(charge) == letter


@pytest.mark.parametrize(("sends", "letter"), [(1, "?"), (2, "0")])
def test_expired_is_believed_only_if_nobody_sent_since_the_query(
    world: World, sends: int, letter: str
) -> None:
    """docs/states.md: no way of being not charged is believed over a send that came after it."""
    charge = SITUATIONS["attempting"](world)
    dies(world, charge, count=2)

    write(world, open_attempt(charge), Expired(), sends=sends)

    assert letters_of(charge) == letter


@pytest.mark.parametrize(("seen", "letter"), [(1, "?"), (2, "?")])
def test_not_sent_is_believed_only_if_there_was_one_send(
    world: World, seen: int, letter: str
) -> None:
    """R20: whoever hears it, two requests with this key may have left."""
    charge = SITUATIONS["attempting"](world)
    dies(world, charge, count=2)

    write(world, open_attempt(charge), NotSent("refused"), sends=seen)

    assert letters_of(charge) == letter
    assert fresh(charge).state == ChargeState.IN_DOUBT


def test_a_late_decline_of_an_older_round_does_not_move_the_charge(world: World) -> None:
    """The attempt of round 1 was open by a hand's doing when round 2 was opened."""
    charge = SITUATIONS["attempting"](world)
    rewrite(charge, round=2)

    write(world, open_attempt(charge), SOFT)

    assert fresh(charge).state == ChargeState.ATTEMPTING
    assert letters_of(charge) == "S"


# --- † what becomes of the message -----------------------------------------------------------------

# receive's dispatch relative to the charge's, its count, the fate, dispatches added
FATES = [
    (0, 1, Fate.LEAVE, 0),
    (0, 2, Fate.LEAVE, 0),
    (0, 3, Fate.ACKNOWLEDGE, 1),
    (-1, 1, Fate.ACKNOWLEDGE, 0),
    (-1, 3, Fate.ACKNOWLEDGE, 0),
]


@pytest.mark.parametrize(("older", "count", "fate", "added"), FATES)
@pytest.mark.parametrize("was", ["open", "final"])
def test_a_message_is_left_only_if_it_is_to_come_again(
    world: World, was: str, older: int, count: int, fate: Fate, added: int
) -> None:
    """†, for the worker that writes the decline and for the one that finds it written."""
    charge = SITUATIONS["attempting"](world)
    attempt = open_attempt(charge)
    rewrite(charge, dispatch=2)
    if was == "final":
        write(world, attempt, SOFT, receive=Receive(charge.pk, 1, 2, 1))
    receive = Receive(charge_id=charge.pk, round=1, dispatch=2 + older, count=count)

    seen = write(world, attempt, SOFT, receive=receive)

    assert seen == fate
    assert fresh(charge).dispatch == 2 + added


def test_the_backoff_of_a_dispatch_that_replaces_the_third_receive_is_kept(world: World) -> None:
    charge = SITUATIONS["attempting"](world)

    write(world, open_attempt(charge), SOFT, receive=Receive(charge.pk, 1, 1, 3))

    now = Charge.objects.get(pk=charge.pk)
    assert now.retry_at is not None
    assert (now.retry_at - world.clock.real_now()).total_seconds() == 300


@pytest.mark.parametrize(("between", "state"), [("in doubt", "in_doubt"), ("pending", "pending")])
def test_a_message_another_worker_acknowledged_is_not_counted_on(
    world: World, between: str, state: str
) -> None:
    """Two workers hold one message: the first thaws, writes what it has and acknowledges it; the
    second then hears the decline. What brings the charge back is a dispatch of its own.
    """
    charge = SITUATIONS["attempting"](world)
    attempt = open_attempt(charge)
    first, second = (Receive(charge.pk, 1, 1, count) for count in (1, 2))
    assert write(world, attempt, ANSWERS[between], receive=first) == Fate.ACKNOWLEDGE
    assert fresh(charge).state == state

    assert write(world, attempt, SOFT, receive=second) == Fate.ACKNOWLEDGE

    assert fresh(charge).state == ChargeState.FAILED_THEN_RETRY
    assert fresh(charge).dispatch == 2
