"""Which scenarios are played, in which order, for how long; and that none is forgotten."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chaos.kills import COMMANDS, KILLS, PLACES
from chaos.outages import disk_full
from chaos.scenes import EVERY, UnknownScenario, chosen, programme, table
from chaos.stage import Outcome, Scenario, Stage
from checkout.failpoints import NAMES


def scenario(name: str, *, seconds: float = 10, again: bool = True) -> Scenario:
    return Scenario(name, ("F18",), "breaks something", seconds, lambda _: Outcome(), again=again)


def play(scenarios: list[Scenario], *, seconds: float) -> list[str]:
    """The names in the order in which they are played, if each takes what it says."""
    played: list[Scenario] = []

    def left() -> float:
        return seconds - sum(each.seconds for each in played)

    for each in programme(scenarios, left=left):
        played.append(each)  # noqa: PERF402  `left` looks at it between two
    return [each.name for each in played]


def test_scenarios_are_played_in_order_again_and_again_until_the_time_is_over() -> None:
    assert play([scenario("a"), scenario("b")], seconds=55) == ["a", "b", "a", "b", "a"]


def test_a_scenario_that_would_not_end_in_time_is_passed_over() -> None:
    scenarios = [scenario("long", seconds=60), scenario("short", seconds=20)]

    assert play(scenarios, seconds=50) == ["short", "short"]


def test_a_scenario_that_makes_much_work_is_played_once() -> None:
    scenarios = [scenario("once", again=False), scenario("often")]

    assert play(scenarios, seconds=40) == ["once", "often", "often", "often"]


def test_nothing_is_played_where_no_time_is_left() -> None:
    assert play([scenario("a")], seconds=5) == []


def test_each_failpoint_of_the_service_has_a_scenario_with_three_kills_or_more() -> None:
    """FAULTS, layer 3: a name that is added to the service is killed at, or this fails."""
    played = [place.failpoint for place in PLACES] + [errand.failpoint for errand in COMMANDS]

    assert sorted(played) == sorted(NAMES)
    assert KILLS >= 3


@pytest.mark.parametrize(
    "fault", ["F3", "F5", "F6", "F14", "F15", "F18", "F19", "F20", "F21", "F27", "F29"]
)
def test_each_fault_of_processes_and_links_has_a_scenario(fault: str) -> None:
    assert [each.name for each in EVERY if fault in each.faults]


def test_names_of_scenarios_are_unique_and_every_one_says_its_faults() -> None:
    assert len({each.name for each in EVERY}) == len(EVERY)
    assert all(re.fullmatch(r"[FR][0-9]+", fault) for each in EVERY for fault in each.faults)
    assert all(each.faults and each.what and each.seconds > 0 for each in EVERY)
    assert all(each.name in table(EVERY) for each in EVERY)


def test_what_bills_everybody_anew_is_played_once() -> None:
    once = {each.name for each in EVERY if not each.again}

    assert once == {"bill.batch_committed", "dunning.round_opened"}


def test_a_disk_is_not_filled_that_is_not_a_small_one_of_its_own(tmp_path: Path) -> None:
    """F19: without root there is no such mount; the table then says so instead of a figure."""
    (tmp_path / "postgres-a").mkdir()
    stage = SimpleNamespace(home=tmp_path, cluster=SimpleNamespace(primary="postgres-a"))

    outcome = disk_full(cast(Stage, stage))

    assert "needs root" in outcome.skipped
    assert not list((tmp_path / "postgres-a").iterdir())


def test_some_are_chosen_by_name_and_all_without_one() -> None:
    assert [each.name for each in chosen(names=["read-only", "failover"])] == [
        "read-only",
        "failover",
    ]
    assert chosen(names=[]) == list(EVERY)


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UnknownScenario, match=r"^no scenario is fail-over; there are: .*failover"):
        chosen(names=["fail-over"])
