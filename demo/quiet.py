"""Waiting until nothing is under way any more, by the figures in PostgreSQL and never by the clock."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.db import connection

from checkout.clock import Clock
from demo.unrest import unrest

LOOK_SECONDS: Final = 0.2


class NeverQuiet(Exception):
    """Something was still under way at the deadline; the text says what."""


def wait_until_quiet(*, clock: Clock, seconds: float, tell: Callable[[str], None]) -> None:
    """Return when nothing is under way; raises NeverQuiet after `seconds`."""
    end = clock.monotonic() + seconds
    while (under_way := unrest(_one_row, now=clock.now())).total:
        tell(str(under_way))
        if clock.monotonic() > end:
            raise NeverQuiet(f"after {seconds:g} s still under way: {under_way}")
        clock.sleep(LOOK_SECONDS)


def _one_row(query: str, values: Mapping[str, Any]) -> Sequence[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row: Sequence[Any] = cursor.fetchone()
    return row
