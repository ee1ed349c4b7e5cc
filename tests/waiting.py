"""Waiting for something to become true, with a deadline and a sentence for the failure."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.02

T = TypeVar("T")


def wait_for(predicate: Callable[[], T], seconds: float, what: str) -> T:
    """Return the predicate's first true value; fail the test after `seconds`, naming what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {seconds:g} s in vain for: {what} (last answer: {value!r})"
            )
        time.sleep(POLL_SECONDS)
