"""docs/reliability.md says where each fault is put in, and names tests and commands that are there."""

import re
from pathlib import Path
from typing import Final

from chaos.kills import COMMANDS, PLACES
from chaos.scenes import EVERY
from tests.kills.places import places
from tests.simulation.plan import ELSEWHERE, FAULTS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ALL: Final = {f"F{number}" for number in range(1, 34)}


def said(about: str) -> set[str]:
    """The faults of the row that begins with these words."""
    [row] = re.findall(rf"^\| {about}.*\| (F[F0-9, ]+) \|$", PAGE, re.MULTILINE)
    return set(row.split(", "))


def test_the_simulated_faults_are_those_of_its_plans() -> None:
    assert said("simulated") == set(FAULTS) == ALL - set(ELSEWHERE)


def test_the_faults_of_kills_are_those_of_the_failpoints_and_of_crashes() -> None:
    """A death at a failpoint is the same fault in a forked process as in the chaos runs."""
    at = {each.failpoint: each.faults for each in (*PLACES, *COMMANDS)}
    of_failpoints = {fault for place in places() for fault in at[place.name]}

    assert said("forked") == (of_failpoints & ALL) | {"F18"}


def test_the_faults_of_chaos_are_those_of_its_scenarios() -> None:
    assert said("real processes") == {fault for each in EVERY for fault in each.faults} & ALL


def test_no_fault_is_left_out() -> None:
    shown = said("simulated") | said("forked") | said("real processes") | said("two versions")

    assert shown | said("not built yet") == ALL
    assert not shown & said("not built yet")


def test_the_tests_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))

    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_the_targets_and_campaigns_that_it_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"`make (\w+)", PAGE))
    modules = set(re.findall(r"python -m ([\w.]+)", PAGE))

    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert modules >= {"tests.simulation", "chaos"}
    assert all(
        (ROOT / (path := each.replace(".", "/"))).is_dir() or (ROOT / f"{path}.py").is_file()
        for each in modules
    )
