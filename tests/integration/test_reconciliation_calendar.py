"""Two computations of the calendar, one in Python and one in SQL, must agree on every date."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkout.billing import begins_at, period_end
from checkout.models import LEGAL_MOVES, ChargeState
from tests.factories import World
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db

# Midnight that never comes (Beirut, Cairo, Havana, Santiago), that comes twice (Havana, Azores), half
# hours (Lord Howe, Kathmandu), a zone that changed its offset for good (Almaty), a skipped day (Apia).
ZONES = (
    "UTC",
    "Africa/Cairo",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "Asia/Almaty",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
)


def ask(sql: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


@pytest.mark.parametrize("zone", ZONES)
def test_both_calendars_begin_every_day_at_the_same_instant(zone):
    """R12, R13: spring gaps and autumn folds from 2024 to 2028."""
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(5 * 365)]

    rows = ask("SELECT d, settlements_day_start(d, %s) FROM unnest(%s::date[]) AS d", zone, days)

    differ = [(day, at) for day, at in rows if at != begins_at(day, zone)]
    assert differ == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    anchor=st.dates(date(2024, 1, 1), date(2028, 12, 31)),
    interval=st.sampled_from([("week", 1), ("week", 2), ("month", 1), ("month", 3), ("year", 1)]),
    days=st.integers(min_value=0, max_value=1500),
)
def test_both_calendars_cut_the_same_periods(subscription, anchor, interval, days):
    """R11, R14: from the anchor each time, half-open, without a gap or a sliver."""
    unit, count = interval
    until = anchor + timedelta(days=days)
    edit(
        "UPDATE checkout_subscriptionterms SET anchor = %s, starts_on = %s, interval = %s,"
        " interval_count = %s WHERE subscription_id = %s",
        anchor,
        anchor,
        unit,
        count,
        subscription,
    )

    rows = ask(
        "SELECT period_start, period_end FROM settlements_periods(%s, %s) ORDER BY 1",
        subscription,
        until,
    )

    expected, start = [], anchor
    while start <= until:
        end = period_end(anchor=anchor, interval=unit, count=count, start=start)
        expected.append((start, end))
        start = end
    assert rows == expected
    # And each alone, as a pass asks for the period of one charge.
    alone = ask(
        "SELECT d, p.period_start, p.period_end FROM unnest(%s::date[]) AS d"
        " LEFT JOIN LATERAL settlements_periods(%s, d, d) p ON true ORDER BY 1",
        [start for start, _ in expected],
        subscription,
    )
    assert alone == [(start, start, end) for start, end in expected]


@pytest.fixture
def subscription():
    return World().due_charge().subscription_id


def test_the_31st_comes_back():
    """R11: Jan 31 → Feb 28 → Mar 31 → Apr 30; Feb 29 yearly → Feb 28 → Feb 29."""
    charge = World().due_charge()

    rows = ask(
        "SELECT period_start FROM settlements_periods(%s, '2026-05-01')", charge.subscription_id
    )

    assert [start.isoformat() for (start,) in rows] == [
        "2026-01-31",
        "2026-02-28",
        "2026-03-31",
        "2026-04-30",
    ]


def test_only_moves_that_are_not_legal_are_marked_as_rewritten():
    """F27, R27: the marks' own view of a move is LEGAL_MOVES, for every pair of states."""
    charge = World().due_charge()
    for was in ChargeState:
        for becomes in ChargeState:
            edit("UPDATE checkout_charge SET state = %s WHERE id = %s", was, charge.pk)
            ask("DELETE FROM reconcile_dirty RETURNING id")

            edit("UPDATE checkout_charge SET state = %s WHERE id = %s", becomes, charge.pk)

            marked = ask(
                "SELECT detail ->> 'was', detail ->> 'now' FROM reconcile_dirty"
                " WHERE kind = 'rewritten'"
            )
            legal = was == becomes or becomes in LEGAL_MOVES[was]
            assert marked == ([] if legal else [(was.value, becomes.value)])


def test_a_mark_tells_since_when_it_waits():
    World().due_charge()

    ((oldest,),) = ask("SELECT min(marked_at) FROM reconcile_dirty")

    assert datetime.now(UTC) - oldest < timedelta(minutes=1)
