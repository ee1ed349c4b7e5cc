"""docs/states.md, "Receive": the twelve rows, first that fits, and the sixty seconds before the first byte.

Rules R20, R23 to R26, R29, R30, R52; faults F7, F11, F12, F23, F27, F33.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from checkout import failpoints, routing
from checkout.gateways import Approved
from checkout.models import (
    Attempt,
    AttemptKind,
    Charge,
    ChargeState,
    Creator,
    Hold,
    HoldKind,
    HoldScope,
    RoutingRule,
)
from checkout.outcomes import Fate
from tests.factories import LANE, World, dispatches, fresh
from tests.situations import (
    NEVER,
    SITUATIONS,
    SOFT,
    add_instrument,
    described,
    dies,
    failed_then_retry,
    letters_of,
    open_attempt,
    rewrite,
    unsound,
)

pytestmark = pytest.mark.django_db

STATES = Path(__file__).parents[2] / "docs" / "states.md"


@pytest.fixture
def world() -> World:
    return World()


# --- What is there besides -------------------------------------------------------------------------


def hold(world: World, **where: str) -> Hold:
    return routing.place_hold(
        kind=HoldKind(where.get("kind", "hold")),
        scope=HoldScope(where.get("scope", "all")),
        subject=where.get("subject", ""),
        reason="a test stops collection",
        by="operator",
        until=None,
        now=world.clock.now(),
    )


def older_dispatch(world: World, charge: Charge) -> dict[str, int]:
    """The sweep has dispatched it again since."""
    rewrite(charge, dispatch=charge.dispatch + 1)
    return {"dispatch": charge.dispatch}


def older_round(world: World, charge: Charge) -> dict[str, int]:
    return {"round": charge.round - 1}


def of_a_page(world: World, charge: Charge) -> None:
    """The hosted page is an issue of its own; its attempts are the resolver's already."""
    Attempt.objects.filter(charge=charge).update(kind=AttemptKind.PAGE)


def on_hold(world: World, charge: Charge) -> None:
    hold(world)


def paused(world: World, charge: Charge) -> None:
    hold(world, kind="pause", scope="lane", subject=LANE)


def forgotten(world: World, charge: Charge) -> None:
    """24 h of idempotency, less a margin of one, have passed (R24)."""
    world.clock.forward(seconds=23 * 3600 + 1)


def captured(world: World, charge: Charge) -> None:
    """The processor took it before the worker died."""
    attempt = open_attempt(charge)
    world.gateway.journal[attempt.pk] = Approved(attempt.amount, "USD", "found")


def held_and_declined(world: World, charge: Charge) -> None:
    hold(world)
    world.gateway.journal[open_attempt(charge).pk] = SOFT


def void_by_hand(world: World, charge: Charge) -> None:
    Charge.objects.filter(pk=charge.pk).update(void_requested=True)


def rewritten(world: World, charge: Charge) -> None:
    """The chaos night (F27)."""
    rewrite(charge, state=ChargeState.FAILED_THEN_RETRY, awaits="", next_round_at=None)


def rewritten_and_void(world: World, charge: Charge) -> None:
    rewritten(world, charge)
    void_by_hand(world, charge)


def died_of_another(world: World, charge: Charge) -> None:
    other = world.due_charge(of=Creator.objects.get(pk=charge.creator_id))
    world.gateway.answers = [NEVER]
    world.receive(other)


def another_attempting(world: World, charge: Charge) -> None:
    dies(world, world.due_charge(of=Creator.objects.get(pk=charge.creator_id)))


def fifteen_attempts(world: World, charge: Charge) -> None:
    """On the same instrument, over other charges: five rounds of three (R30)."""
    for _ in range(5):
        other = world.due_charge(of=Creator.objects.get(pk=charge.creator_id))
        for count in (1, 2, 3):
            world.gateway.answers = [SOFT]
            world.receive(other, count=count)
            world.clock.forward(seconds=301)


def no_lane(world: World, charge: Charge) -> None:
    RoutingRule.objects.update(lane="", reason="no processor may serve it any more")


def almost(world: World, charge: Charge) -> None:
    world.clock.forward(seconds=239)


def just_enough(world: World, charge: Charge) -> None:
    """0.8 of the backoff of 300 s."""
    world.clock.forward(seconds=240)


BESIDES = {
    "an older dispatch": older_dispatch,
    "an older round": older_round,
    "the attempt is a page's": of_a_page,
    "a hold": on_hold,
    "a pause": paused,
    "no longer idempotent": forgotten,
    "captured": captured,
    "a hold, declined": held_and_declined,
    "void_requested by hand": void_by_hand,
    "rewritten": rewritten,
    "rewritten, void_requested by hand": rewritten_and_void,
    "its instrument died of another charge": died_of_another,
    "another charge of the creator attempting": another_attempting,
    "fifteen attempts in 30 days": fifteen_attempts,
    "no lane any more": no_lane,
    "239 s after": almost,
    "240 s after": just_enough,
}

# --- The rows --------------------------------------------------------------------------------------
# row, situation, what is there besides, receive count, what the worker does
RECEIVES = [
    (1, "due", "an older dispatch", 1, "ack"),
    (1, "due again, round 2", "an older round", 1, "ack"),
    (1, "in_doubt", "", 2, "ack"),
    (1, "pending", "", 2, "ack"),
    (1, "exhausted, waits for a date", "", 2, "ack"),
    (1, "succeeded", "", 2, "ack"),
    (1, "voided", "", 1, "ack"),
    (1, "written_off", "", 2, "ack"),
    (1, "attempting", "an older dispatch", 1, "ack"),
    (2, "failed_then_retry by hand, its attempt open", "", 1, "ack"),
    (2, "attempting", "the attempt is a page's", 2, "ack"),
    (3, "attempting, void_requested", "", 2, "in_doubt, asked, ack"),
    (3, "attempting", "a hold", 2, "in_doubt, asked, ack"),
    (3, "attempting", "a pause", 2, "in_doubt, asked, ack"),
    (3, "attempting", "no longer idempotent", 2, "in_doubt, asked, ack"),
    (3, "attempting, void_requested", "captured", 2,
     "succeeded, A, refund_after_cancel case, asked, ack"),
    (3, "attempting", "a hold, declined", 2, "failed_then_retry, S, asked, leave"),
    (3, "attempting", "a hold, declined", 3, "failed_then_retry, disp, S, asked, ack"),
    (4, "attempting", "", 2, "succeeded, A, sent, ack"),
    (4, "attempting", "captured", 2, "succeeded, A, sent, ack"),
    (5, "succeeded", "rewritten", 1, "succeeded, repaired_charge case, ack"),
    (5, "succeeded", "rewritten, void_requested by hand", 1,
     "succeeded, repaired_charge case, ack"),
    (6, "due", "void_requested by hand", 1, "voided, ack"),
    (6, "voided", "rewritten", 1, "voided, repaired_charge case, ack"),
    (6, "written_off", "rewritten", 1, "written_off, repaired_charge case, ack"),
    (7, "exhausted, three attempts", "rewritten", 1, "exhausted, awaits date, ack"),
    (8, "exhausted, awaits an instrument", "rewritten", 1,
     "exhausted, awaits instrument, ack"),
    (8, "due", "its instrument died of another charge", 1, "exhausted, awaits instrument, ack"),
    (9, "due", "a hold", 1, "disp, ack"),
    (9, "due", "a pause", 3, "disp, ack"),
    (9, "due", "another charge of the creator attempting", 1, "disp, ack"),
    (9, "due", "fifteen attempts in 30 days", 1, "disp, ack"),
    (9, "due", "no lane any more", 1, "disp, ack"),
    (10, "failed_then_retry", "239 s after", 2, "disp, ack"),
    (11, "failed_then_retry", "240 s after", 2, "succeeded, SA, sent, ack"),
    (11, "failed_then_retry, not charged", "", 1, "succeeded, 0A, sent, ack"),
    (11, "due", "", 1, "succeeded, A, sent, ack"),
    (11, "due", "", 3, "succeeded, A, sent, ack"),
    (11, "due again, round 2", "", 1, "succeeded, SA, sent, ack"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "where", "besides", "count", "does"), RECEIVES, ids=str)
def test_receive(world: World, row: int, where: str, besides: str, count: int, does: str) -> None:
    charge = SITUATIONS[where](world)
    receive = BESIDES[besides](world, charge) if besides else {}

    seen = described(world, charge, lambda: world.receive(charge, count=count, **(receive or {})))

    assert seen == does
    assert unsound(charge) == []


def test_every_row_of_the_receive_table_is_tested() -> None:
    """Row 12, the database away, is tests/integration/test_commit.py; here the eleven others."""
    rows = {
        int(line.split("|")[1]) for line in STATES.read_text("utf-8").splitlines() if is_row(line)
    }

    assert {row for row, *_ in RECEIVES} | {12} == rows


def is_row(line: str) -> bool:
    return line.startswith("|") and line.split("|")[1].strip().isdigit()


def test_row_10_counts_from_the_end_of_the_last_attempt_to_its_own_retry_at(world: World) -> None:
    """A backoff is that of its receive; a new dispatch made early leaves when it is over."""
    charge = failed_then_retry(world)
    retry_at = charge.retry_at
    world.clock.forward(seconds=100)

    world.receive(charge, count=2)

    assert dispatches(charge)[-1].available_at == retry_at
    assert fresh(charge).retry_at == retry_at


def test_a_worker_that_asks_never_judges_that_nothing_was_found(world: World) -> None:
    """Row 3, R22: how late and how often is the resolver's business, whatever the settings."""
    world.ages = replace(world.ages, not_found_repeats=1)
    charge = world.due_charge()
    dies(world, charge)
    hold(world)
    world.clock.forward(seconds=3600)

    world.receive(charge, count=2)

    assert letters_of(charge) == "?"
    assert fresh(charge).state == ChargeState.IN_DOUBT


def test_a_key_that_is_sent_again_carries_the_card_of_its_attempt(world: World) -> None:
    """R23, row 4: another card came meanwhile; the same key with another body would be another order."""
    charge = world.due_charge()
    dies(world, charge, at="charging.answered")
    add_instrument(world, charge)

    world.receive(charge, count=2)

    first, second = world.gateway.sent
    assert first == second
    assert second.token == "tok_approve"


# --- Sixty seconds ---------------------------------------------------------------------------------


def frozen_before_the_send(world: World, seconds: float, charge: Charge) -> Fate:
    """The process is stopped between its commit and its first byte."""

    def time_passes() -> None:
        world.clock.forward(seconds=seconds)

    failpoints.enable("charging.intent_committed", time_passes)
    try:
        return world.receive(charge)
    finally:
        failpoints.disable("charging.intent_committed")


def test_nothing_is_sent_more_than_60_s_after_the_commit_and_the_message_is_left(
    world: World,
) -> None:
    """R20: another worker or the resolver may have decided meanwhile."""
    charge = world.due_charge()

    fate = frozen_before_the_send(world, 60.1, charge)

    assert fate == Fate.LEAVE
    assert world.gateway.sent == []
    assert fresh(charge).state == ChargeState.ATTEMPTING


def test_at_60_s_it_is_sent(world: World) -> None:
    charge = world.due_charge()

    fate = frozen_before_the_send(world, 60, charge)

    assert fate == Fate.ACKNOWLEDGE
    assert fresh(charge).state == ChargeState.SUCCEEDED
