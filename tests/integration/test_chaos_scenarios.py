"""A scenario that breaks nothing says so: what nobody met proves nothing."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import connection

from chaos.brokers import broker_killed, processor_away
from chaos.stage import Stage
from checkout import routing
from checkout.models import HoldKind, HoldScope
from tests.fakes import FakeClock
from tests.platforms import ready_platform, register

pytestmark = pytest.mark.django_db(transaction=True)


def stage(*, meanwhile: Callable[[], object] = lambda: None) -> Stage:
    """A stage with a database alone; `meanwhile` happens while something is away."""
    nothing = SimpleNamespace(
        refuse=lambda: None,
        heal=lambda: None,
        start=lambda _: None,
        stop=lambda _: None,
        end=lambda _: None,
    )
    facts = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    made: Any = SimpleNamespace(
        away=0.0,
        links={"processor": nothing},
        processes=nothing,
        sleep=lambda _: meanwhile(),
        admin_url=" ".join(f"{name}={facts[name]}" for name in names),
    )
    return cast(Stage, made)


def a_breaker_opens() -> None:
    routing.place_hold(
        kind=HoldKind.BREAKER,
        scope=HoldScope.LANE,
        subject="cis",
        reason="5 attempts failed",
        by="breaker",
        until=None,
        now=FakeClock().now(),
    )


def test_f31_a_processor_that_nobody_missed_was_not_away() -> None:
    missed = processor_away(stage(meanwhile=a_breaker_opens))
    unmissed = processor_away(stage())

    assert (missed.unfulfilled, missed.facts["lanes paused"]) == ("", 1)
    assert "no lane was paused" in unmissed.unfulfilled


def test_f14_a_broker_for_which_nothing_waited_was_not_away() -> None:
    without = broker_killed(stage())
    register(ready_platform())  # its event is on no topic yet
    with_an_event = broker_killed(stage())

    assert "no event waited" in without.unfulfilled
    assert with_an_event.unfulfilled == ""
    assert with_an_event.facts["events that waited"]
