"""What the campaigns answer to a command line that cannot be meant."""

import argparse

import pytest

from chaos.__main__ import parser as chaos_parser
from tests.arguments import counted
from tests.simulation.__main__ import faults, plan


@pytest.mark.parametrize("text", ["-3", "1.5", "x", "", "１２"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no whole number"):
        counted(text)


def test_a_fault_nobody_simulates_is_named_with_those_that_are() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="F99 is not simulated; these are: F1, F2"):
        faults("F8,F99")


@pytest.mark.parametrize("text", ["{", "[]", '"seed"', "{}"])
def test_what_is_no_plan_is_shown(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no plan as a failure prints it"):
        plan(text)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_chaos_wants_minutes(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos_parser().parse_args(["--minutes", minutes])

    assert f"'{minutes}' is no number above 0" in capsys.readouterr().err
