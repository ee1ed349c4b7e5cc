"""What follows a decline, by its class (R29, R31), as a table and as properties."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.dunning import (
    ATTEMPTS_A_ROUND,
    AwaitInstrument,
    GiveUp,
    NextRoundAt,
    Plan,
    RetryInRound,
    after_decline,
    after_round,
)
from checkout.gateways import DeclineClass

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
DAYS = (3.0, 5.0, 7.0)


def in_days(days: float) -> NextRoundAt:
    return NextRoundAt(at=NOW + timedelta(days=days))


# class, counted attempts of the round with this one, steps taken, what follows
TABLE = [
    ("issuer_soft", 1, 0, RetryInRound()),
    ("issuer_soft", 2, 0, RetryInRound()),
    ("issuer_soft", 3, 0, in_days(3)),
    ("issuer_soft", 3, 1, in_days(5)),
    ("issuer_soft", 3, 2, in_days(7)),
    ("issuer_soft", 3, 3, GiveUp()),
    ("issuer_soft", 1, 3, RetryInRound()),
    ("technical", 1, 0, RetryInRound()),
    ("technical", 3, 0, in_days(3)),
    # Funds do not come back within minutes.
    ("funds", 1, 0, in_days(3)),
    ("funds", 1, 2, in_days(7)),
    ("funds", 1, 3, GiveUp()),
    # The instrument is dead, whatever was counted.
    ("never", 1, 0, AwaitInstrument()),
    ("never", 3, 3, AwaitInstrument()),
    ("customer_action", 1, 0, AwaitInstrument()),
    ("customer_action", 3, 3, AwaitInstrument()),
]


@pytest.mark.parametrize(("decline_class", "counted", "step", "plan"), TABLE)
def test_the_plan_after_a_decline(decline_class: str, counted: int, step: int, plan: Plan) -> None:
    seen = after_decline(
        decline_class=DeclineClass(decline_class), counted=counted, step=step, now=NOW, days=DAYS
    )

    assert seen == plan


def test_every_class_is_in_the_table() -> None:
    assert {row[0] for row in TABLE} == set(DeclineClass)


@given(st.sampled_from(list(DeclineClass)), st.integers(1, 5), st.integers(0, 9))
def test_nobody_is_tried_a_fourth_time_in_a_round(
    decline_class: DeclineClass, counted: int, step: int
) -> None:
    plan = after_decline(
        decline_class=decline_class, counted=counted, step=step, now=NOW, days=DAYS
    )

    assert isinstance(plan, RetryInRound) <= (counted < ATTEMPTS_A_ROUND)


@given(st.integers(0, 9), st.lists(st.floats(0.5, 60), max_size=5))
def test_a_round_is_followed_by_a_later_date_or_by_a_person(step: int, days: list[float]) -> None:
    plan = after_round(step=step, now=NOW, days=days)

    match plan:
        case NextRoundAt(at):
            assert at == NOW + timedelta(days=days[step])
            assert at > NOW
        case GiveUp():
            assert step >= len(days)
