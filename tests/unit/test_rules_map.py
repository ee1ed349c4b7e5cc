"""tests/RULES.md: every rule and fault has a test that exists, or names the issue it waits for."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = ROOT / "tests" / "RULES.md"
NUMBERS = [f"R{number}" for number in range(1, 57)] + [f"F{number}" for number in range(1, 34)]
# These must have tests now; the others may still be open.
HELD_NOW = {
    *(f"R{n}" for n in range(1, 57) if n != 10),
    *(f"F{n}" for n in range(1, 34) if n not in {28, 32}),
}
ENTRY = re.compile(r"^\*\*([RF]\d+)\*\* (.+)$")
TEST = re.compile(r"^- `(tests/[\w/]+\.py)::(test_\w+)`$")
OPEN = re.compile(r"^- open: .{10,}$")


@cache
def entries() -> dict[str, list[str]]:
    """The lines below each number, in the file's own words."""
    found: dict[str, list[str]] = {}
    number = ""
    for line in MAP.read_text("utf-8").splitlines():
        entry = ENTRY.match(line)
        if entry:
            number = entry[1]
            assert number not in found, f"{number} stands twice"
            found[number] = []
        elif number and line.startswith("- "):
            found[number].append(line)
    return found


@cache
def defined_in(path: str) -> set[str]:
    """Names of the test functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_number_has_its_line_and_no_other() -> None:
    assert sorted(entries()) == sorted(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_has_a_test_or_an_open_issue(number: str) -> None:
    lines = entries()[number]

    assert lines, f"{number} has neither a test nor an issue"
    assert all(TEST.match(line) or OPEN.match(line) for line in lines), lines
    if number in HELD_NOW:
        assert not any(OPEN.match(line) for line in lines), f"{number} must have a test"


@pytest.mark.parametrize("number", NUMBERS)
def test_each_named_test_exists(number: str) -> None:
    for line in entries()[number]:
        named = TEST.match(line)
        if named is None:
            continue
        path, test = named.groups()
        assert (ROOT / path).is_file(), f"{number}: {path} does not exist"
        assert test in defined_in(path), f"{number}: {path} has no {test}"
