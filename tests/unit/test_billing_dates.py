"""Billing dates from anchor, interval and zone alone (R11 to R14), as tables and over 48 months."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.billing import begins_at, period_date, period_end

MONTHS = 48
ANCHORS = st.dates(date(2020, 1, 1), date(2032, 12, 31))
INTERVALS = st.sampled_from(
    [("week", 1), ("week", 2), ("month", 1), ("month", 3), ("month", 5), ("year", 1), ("year", 2)]
)
ZONES = [
    "UTC",
    "Asia/Almaty",
    "Asia/Kathmandu",
    # These change their clocks at local midnight, or did.
    "Asia/Beirut",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "America/Havana",
    "Atlantic/Azores",
    "Asia/Tehran",
    "America/Asuncion",
    # A whole local day never was: 30 December 2011.
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",
]


def dates(anchor: date, interval: str, count: int, how_many: int) -> list[date]:
    """Period starts as a bill run walks them: each from the end of the one before."""
    starts = [anchor]
    for _ in range(how_many - 1):
        starts.append(period_end(anchor=anchor, interval=interval, count=count, start=starts[-1]))
    return starts


# --- The calendar (R11, R14) -------------------------------------------------------------------------


def test_the_thirty_first_comes_back_after_shorter_months() -> None:
    """R11: Jan 31 → Feb 28/29 → Mar 31 → Apr 30."""
    common = dates(date(2026, 1, 31), "month", 1, 5)
    leap = dates(date(2028, 1, 31), "month", 1, 3)

    assert [d.isoformat()[5:] for d in common] == ["01-31", "02-28", "03-31", "04-30", "05-31"]
    assert [d.isoformat()[5:] for d in leap] == ["01-31", "02-29", "03-31"]


def test_a_leap_day_comes_back_in_leap_years() -> None:
    """R11: yearly from Feb 29 → Feb 28 → … → Feb 29. F21."""
    years = dates(date(2024, 2, 29), "year", 1, 6)

    assert [d.isoformat() for d in years] == [
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
        "2029-02-28",
    ]


def test_weeks_are_seven_days_over_any_month_and_year() -> None:
    weeks = dates(date(2027, 12, 20), "week", 2, 60)

    assert {later - earlier for earlier, later in pairwise(weeks)} == {timedelta(days=14)}


@given(ANCHORS, INTERVALS)
def test_periods_are_contiguous_and_have_no_sliver_over_48_months(
    anchor: date, interval: tuple[str, int]
) -> None:
    """R14: half-open; each begins where the former ends, at anchor + k intervals, none too short."""
    unit, count = interval
    shortest = {"week": 7, "month": 28, "year": 365}[unit]
    starts = dates(anchor, unit, count, MONTHS)

    expected = [period_date(anchor=anchor, interval=unit, count=count, k=k) for k in range(MONTHS)]
    assert starts == expected
    assert all((later - earlier).days >= shortest * count for earlier, later in pairwise(starts))


@given(ANCHORS)
def test_a_month_has_one_billing_date(anchor: date) -> None:
    """R11: no month is skipped, none has two."""
    starts = dates(anchor, "month", 1, MONTHS)

    months = [d.year * 12 + d.month for d in starts]
    assert months == list(range(months[0], months[0] + MONTHS))
    assert all(d.day == anchor.day or d.day < anchor.day <= 31 for d in starts)


# --- The instant (R12, R13) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "zone", "instant"),
    [
        (date(2026, 2, 28), "UTC", "2026-02-28T00:00"),
        (date(2026, 2, 28), "Asia/Almaty", "2026-02-27T19:00"),
        (date(2026, 2, 28), "Asia/Kathmandu", "2026-02-27T18:15"),
        # Spring gap at midnight: the day begins at 01:00, which is the instant of the gap.
        (date(2026, 3, 29), "Asia/Beirut", "2026-03-28T22:00"),
        (date(2026, 4, 24), "Africa/Cairo", "2026-04-23T22:00"),
        (date(2018, 11, 4), "America/Sao_Paulo", "2018-11-04T03:00"),
        (date(2026, 3, 8), "America/Havana", "2026-03-08T05:00"),
        # Autumn fold at midnight: the first of the two midnights.
        (date(2026, 11, 1), "America/Havana", "2026-11-01T04:00"),
        (date(2026, 10, 25), "Atlantic/Azores", "2026-10-25T00:00"),
        # The fold is the hour before: midnight is there once.
        (date(2018, 2, 18), "America/Sao_Paulo", "2018-02-18T03:00"),
        (date(2026, 10, 25), "Asia/Beirut", "2026-10-24T22:00"),
        # The day that never was begins where the next one does.
        (date(2011, 12, 30), "Pacific/Apia", "2011-12-30T10:00"),
        (date(2011, 12, 31), "Pacific/Apia", "2011-12-30T10:00"),
    ],
)
def test_a_local_day_begins_at_one_instant(day: date, zone: str, instant: str) -> None:
    """R12, R13, F21."""
    assert begins_at(day, zone) == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", ZONES)
def test_days_begin_in_their_order_in_every_zone(zone: str) -> None:
    """R13: neither gap nor fold turns two days about, over 48 months and over history."""
    first = date(2010, 1, 1)
    days = [first + timedelta(days=n) for n in range(365 * 20)]

    instants = [begins_at(day, zone) for day in days]

    assert all(
        timedelta() <= later - earlier <= timedelta(hours=48)
        for earlier, later in pairwise(instants)
    )
    assert sum(later == earlier for earlier, later in pairwise(instants)) == (
        1 if zone == "Pacific/Apia" else 0
    )


@pytest.mark.parametrize("zone", ZONES)
def test_just_before_a_day_begins_it_is_not_that_day_yet(zone: str) -> None:
    """R12: a run at 23:30 local bills nothing of tomorrow, one at 00:30 bills it."""
    zone_info = ZoneInfo(zone)
    for n in range(365 * 4):
        day = date(2025, 1, 1) + timedelta(days=n)
        begins = begins_at(day, zone)
        assert begins.astimezone(zone_info).date() == day
        assert (begins - timedelta(seconds=1)).astimezone(zone_info).date() < day or (
            # In a fold that begins at midnight the day has had its first midnight an hour ago.
            begins.astimezone(zone_info).fold == 1
        )


@given(ANCHORS, INTERVALS, st.sampled_from(ZONES))
def test_billing_instants_are_apart_over_48_months(
    anchor: date, interval: tuple[str, int], zone: str
) -> None:
    """R13, R14: two periods never fall due at the same instant."""
    starts = dates(anchor, *interval, MONTHS)

    instants = [begins_at(day, zone) for day in starts]

    assert all(later - earlier > timedelta(days=6) for earlier, later in pairwise(instants))
