"""What the campaigns answer to a command line that cannot be meant."""

import argparse
import sys
from collections.abc import Callable

import pytest

from chaos.__main__ import parser as chaos_parser
from tests.arguments import counted, positive, some
from tests.cents.__main__ import read_arguments as read_cents
from tests.kills.__main__ import read_arguments as read_kills
from tests.mutants.__main__ import read_arguments as read_mutants
from tests.simulation.__main__ import faults, plan
from tests.simulation.__main__ import read_arguments as read_simulation


@pytest.mark.parametrize("text", ["-3", "1.5", "x", "", "１２"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no whole number"):
        counted(text)


@pytest.mark.parametrize("text", ["0", "-3", "x"])
def test_what_is_less_than_one_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no whole number, 1 or more"):
        some(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "ten"])
def test_what_is_no_length_of_time_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no number above 0"):
        positive(text)


@pytest.mark.parametrize(
    ("read", "words", "said"),
    [
        (read_simulation, "--seeds 0", "no schedule is left to run"),
        (read_simulation, "--minutes 0", "'0' is no number above 0"),
        (read_simulation, "--failures 0", "'0' is no whole number, 1 or more"),
        (read_kills, "--times 0", "nothing is to be killed"),
        (read_kills, "--only nowhere", "'nowhere' is in the name of no failpoint; there are api."),
        (read_mutants, "nonsense", "there is no mutant nonsense"),
        # Nobody would take a mutant up, for ever.
        (read_mutants, "--hands 0", "'0' is no whole number, 1 or more"),
        (read_mutants, "--seeds 0", "'0' is no whole number, 1 or more"),
        # A test of its own finds it, so that nothing would be tried.
        (read_mutants, "--known overtaken", "no seed is known for any of these"),
        (read_cents, "--times 0", "'0' is no whole number, 1 or more"),
    ],
)
def test_a_campaign_that_would_try_nothing_is_refused(
    read: Callable[[], argparse.Namespace],
    words: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["campaign", *words.split()])

    with pytest.raises(SystemExit) as ended:
        read()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_fault_nobody_simulates_is_named_with_those_that_are() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="F99 is not simulated; these are: F1, F2"):
        faults("F8,F99")


@pytest.mark.parametrize(
    "text", ["{", "[]", '"seed"', "{}", '{"seed": 3, "steps": "x"}', '{"seed": 3, "calm": 1}']
)
def test_what_is_no_plan_is_shown(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no plan as a failure prints it"):
        plan(text)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_chaos_wants_minutes(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos_parser().parse_args(["--minutes", minutes])

    assert f"'{minutes}' is no number above 0" in capsys.readouterr().err
