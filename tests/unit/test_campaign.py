"""What a campaign of the simulation makes of what its processes say: no failure is lost on the way."""

import argparse
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.__main__ import ended
from tests.simulation.campaign import Campaign, Outcome, follow, summary, tell_the_rest
from tests.simulation.plan import Plan
from tests.simulation.run import Result

PLANS = [Plan(seed=seed) for seed in (1, 2, 3)]
GOOD = Result(PLANS[0], [], "trace", {}, [])
BAD = Result(PLANS[1], ["charge-1 was captured 2 times"], "trace", {}, [])
SHORTER = replace(BAD, plan=replace(BAD.plan, steps=3))
NOTHING_KEPT = argparse.Namespace(json="", keep=False)


def followed(*said: tuple[str, Any], minutes: float = 60.0) -> Outcome:
    outcome = Outcome(asked=len(PLANS))
    follow(Campaign(PLANS, minutes=minutes), outcome, said)
    tell_the_rest(outcome)
    return outcome


def test_all_schedules_without_a_violation_are_a_success() -> None:
    outcome = followed(*[("result", replace(GOOD, plan=plan)) for plan in PLANS])

    assert ended(outcome, NOTHING_KEPT) == 0


def test_a_process_that_ended_before_its_schedules_did_is_no_success() -> None:
    """It was killed, or the scheduler itself raised: what it had left was never looked at."""
    outcome = followed(("result", GOOD))

    assert outcome.failed == []
    assert ended(outcome, NOTHING_KEPT) == 1
    assert "not run: 2 of 3" in summary(outcome)


@pytest.mark.parametrize("minutes", [0.0, 60.0], ids=["out of time", "its process died"])
def test_a_failure_that_was_not_made_shorter_in_time_is_a_failure(minutes: float) -> None:
    outcome = followed(("result", BAD), minutes=minutes)

    assert outcome.failed == [BAD]
    assert ended(outcome, NOTHING_KEPT) == 1


def test_faults_that_never_struck_are_named_in_their_order() -> None:
    said = summary(followed(("result", GOOD))).splitlines()[-1]

    assert said.startswith("never struck: F1, F2, F3, ")


def test_a_failure_that_was_made_shorter_is_told_once() -> None:
    outcome = followed(("result", BAD), ("failed", (BAD.plan, SHORTER)), ("result", GOOD))

    assert outcome.failed == [SHORTER]


def test_a_campaign_out_of_time_says_what_it_has_left() -> None:
    outcome = followed(("result", GOOD), minutes=0.0)

    assert ended(outcome, NOTHING_KEPT) == 0
    assert "not run: 2 of 3, out of time" in summary(outcome)
