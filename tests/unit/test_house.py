"""Rules of the house that a reviewer would have to look for: read from the source itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("checkout", "settlements")

CLOCKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("timezone", "now"),
    ("time", "time"),
    ("time", "monotonic"),
    ("time", "sleep"),
    ("time", "perf_counter"),
}


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def attribute(call: ast.Call) -> tuple[str, str] | None:
    """(name, attribute) of a call such as `datetime.now()`, else None."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.value.id, function.attr
    return None


def test_only_the_clock_reads_a_clock_or_waits() -> None:
    """R18: a test clock that one module does not follow bills twice."""
    found = [
        f"{path}:{call.lineno}"
        for path, tree in modules(*APPS)
        if path != Path("checkout/clock.py")
        for call in calls(tree)
        if attribute(call) in CLOCKS
    ]

    assert found == []


def test_no_identifier_is_random() -> None:
    """R51: a restored database must make the same identifiers again."""
    found = [
        f"{path}:{call.lineno}"
        for path, tree in modules(*APPS)
        for call in calls(tree)
        if attribute(call) in {("uuid", "uuid4"), ("uuid", "uuid1")}
        or (isinstance(call.func, ast.Name) and call.func.id in {"uuid4", "uuid1"})
    ]

    assert found == []


def test_money_meets_no_float_and_no_division() -> None:
    """R8: floats are for ages (clock, settings, commands); money is divided in money.py alone."""
    money_modules = {
        "checkout/ledger.py",
        "checkout/charging.py",
        "checkout/outcomes.py",
        "checkout/moves.py",
        "checkout/billing.py",
        "checkout/subscriptions.py",
        "checkout/outbox.py",
        "settlements/statements.py",
        "settlements/banking.py",
        *(
            f"settlements/formats/{path.name}"
            for path in (ROOT / "settlements/formats").glob("*.py")
        ),
        "settlements/reconciliation.py",
        "settlements/settling.py",
        "settlements/closing.py",
        "settlements/payouts.py",
    }
    found = []
    for path, tree in modules(*APPS):
        if str(path) not in money_modules:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                # A path joined by `/` ends in a string or a name of a file, never in money.
                joins = isinstance(node.right, ast.Constant | ast.JoinedStr)
                if not (joins and isinstance(getattr(node.right, "value", ""), str)):
                    found.append(f"{path}:{node.lineno} /")
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "float"
            ):
                found.append(f"{path}:{node.lineno} float()")

    assert found == []


@pytest.mark.parametrize(
    "name", ["services.py", "utils.py", "common", "core", "helpers.py", "signals.py"]
)
def test_there_is_no_drawer_for_leftovers(name: str) -> None:
    assert [p for app in APPS for p in (ROOT / app).rglob(name)] == []


def test_every_module_says_what_lives_in_it() -> None:
    silent = [
        str(path)
        for path, tree in modules("config", *APPS, "processor", "devstack")
        if tree.body and not ast.get_docstring(tree)
    ]

    assert silent == []


def test_charging_can_be_read_in_five_minutes() -> None:
    """STYLE: a file above about 500 lines is split, charging.py above about 400."""
    long = {
        str(path): lines
        for path, _ in modules(*APPS)
        if (lines := len((ROOT / path).read_text(encoding="utf-8").splitlines()))
        > (400 if path.name == "charging.py" else 560)
    }

    assert long == {}


def test_nothing_of_ours_is_patched_in_tests() -> None:
    found = [
        str(path)
        for path, tree in modules("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        and any("mock" in (alias.name or "") for alias in node.names)
        and "unittest" in (getattr(node, "module", "") or "unittest")
    ]

    assert found == []
