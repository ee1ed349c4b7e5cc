"""A bar appears for what takes longer than two seconds, and counts to its end."""

import pytest

from checkout.management.progress import SlowProgress
from tests.fakes import FakeClock


def bar_of(*, total: int, seconds_each: float, capsys: pytest.CaptureFixture[str]) -> str:
    """What is on stderr after `total` steps of this length."""
    clock = FakeClock()
    with SlowProgress(what="Postings", total=total, clock=clock) as bar:
        for _ in range(total):
            clock.forward(seconds=seconds_each)
            bar.advance()
    return capsys.readouterr().err


def test_what_is_quick_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert bar_of(total=3, seconds_each=0.5, capsys=capsys) == ""


@pytest.mark.parametrize("total", [3, 2_500])
def test_what_is_slow_is_counted_to_its_end(total: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the bar moves only every few steps."""
    assert f"{total}/{total}" in bar_of(total=total, seconds_each=1, capsys=capsys)
