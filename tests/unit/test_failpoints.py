"""Failpoints: nothing unless enabled, every name in the product once and in a test (FAULTS, layer 3)."""

import ast
from pathlib import Path

import pytest

from checkout import failpoints
from checkout.failpoints import NAMES, UnknownFailpoint, enable_from_environment, failpoint

ROOT = Path(__file__).parents[2]


def names_passed(tree: ast.AST) -> list[str]:
    """Constant names given to failpoint(…)."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    return [
        node.args[0].value
        for node in calls
        if (isinstance(node.func, ast.Name) and node.func.id == "failpoint")
        or (isinstance(node.func, ast.Attribute) and node.func.attr == "failpoint")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]


def test_every_registered_name_is_one_place_of_the_product() -> None:
    placed = [
        name
        for app in ("checkout", "settlements")
        for path in sorted((ROOT / app).rglob("*.py"))
        for name in names_passed(ast.parse(path.read_text("utf-8")))
    ]

    assert sorted(placed) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_registered_name_is_used_by_a_test_with_a_database_or_processes(name: str) -> None:
    tests = [
        path
        for folder in ("integration", "system", "kills")
        for path in (ROOT / "tests" / folder).glob("*.py")
        if f'"{name}' in path.read_text("utf-8") or f"{name}=kill" in path.read_text("utf-8")
    ]

    assert tests


def test_a_failpoint_does_nothing_until_it_is_enabled_and_after() -> None:
    reached: list[str] = []
    failpoint("charging.answered")
    failpoints.enable("charging.answered", lambda: reached.append("here"))
    failpoint("charging.answered")
    failpoints.disable("charging.answered")
    failpoint("charging.answered")

    assert reached == ["here"]


def test_an_unknown_name_is_refused_everywhere() -> None:
    with pytest.raises(UnknownFailpoint):
        failpoint("charging.nowhere")
    with pytest.raises(UnknownFailpoint):
        failpoints.enable("charging.nowhere", failpoints.kill)
    with pytest.raises(UnknownFailpoint):
        enable_from_environment("charging.nowhere=kill")


@pytest.mark.parametrize("text", ["charging.answered", "charging.answered=raise", "=kill"])
def test_an_unreadable_environment_stops_the_start(text: str) -> None:
    with pytest.raises(UnknownFailpoint):
        enable_from_environment(text)


def test_a_crash_is_hidden_by_no_except_exception() -> None:
    assert not issubclass(failpoints.Crash, Exception)
