"""Periods of settlement schedules and the day money must land, over every anchor and many years."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlements.calendar import (
    Period,
    Rule,
    federal_reserve_holidays,
    is_business_day,
    lands_on,
    period_from,
    period_of,
)

HOLIDAYS = frozenset(day for year in range(2019, 2034) for day in federal_reserve_holidays(year))
DAYS = st.dates(date(2020, 1, 1), date(2028, 12, 31))


def rule(
    interval: str = "month", *anchors: int, delay: int = 2, holiday: str = "following"
) -> Rule:
    return Rule(interval, anchors or (1,), delay, holiday)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    interval = draw(st.sampled_from(["day", "week", "month"]))
    most = {"day": 1, "week": 7, "month": 31}[interval]
    anchors = draw(st.sets(st.integers(1, most), min_size=1, max_size=4))
    return Rule(
        interval,
        tuple(sorted(anchors)),
        draw(st.integers(0, 40)),
        draw(st.sampled_from(["following", "preceding"])),
    )


def periods(of: Rule, since: date, until: date) -> Iterator[Period]:
    period = period_of(rule=of, day=since)
    while period.start < until:
        yield period
        period = period_from(rule=of, start=period.end)


@given(rules(), DAYS)
def test_r14_periods_are_contiguous_and_hold_each_day_once_over_48_months(
    of: Rule, since: date
) -> None:
    until = since + timedelta(days=1461)

    found = list(periods(of, since, until))

    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    assert all(period.start < period.end for period in found)
    assert found[0].start <= since < found[0].end
    assert found[-1].end >= until


@given(rules(), DAYS)
def test_r14_each_day_of_a_period_names_the_same_period(of: Rule, day: date) -> None:
    period = period_of(rule=of, day=day)

    for each in (period.start, period.end - timedelta(days=1)):
        assert period_of(rule=of, day=each) == period
    assert period_of(rule=of, day=period.end) != period


@given(rules(), DAYS)
def test_r14_a_month_has_as_many_periods_as_anchors_that_differ_in_it(of: Rule, day: date) -> None:
    """No sliver: anchors past the end of a short month are one day, not an empty period."""
    first = day.replace(day=1)
    end = (first + timedelta(days=31)).replace(day=1)
    starts = [p.start for p in periods(of, first, end) if p.start >= first]

    if of.interval == "month":
        last = (end - timedelta(days=1)).day
        assert [start.day for start in starts] == sorted({min(a, last) for a in of.anchor_days})


def test_r11_the_last_days_of_a_month_come_back_after_a_short_one() -> None:
    found = periods(rule("month", 15, 31), date(2026, 1, 20), date(2026, 5, 1))
    leap = periods(rule("month", 29, 30, 31), date(2028, 1, 31), date(2028, 4, 1))

    assert [f"{p.start:%m-%d}" for p in found] == [
        *("01-15", "01-31", "02-15", "02-28", "03-15", "03-31", "04-15", "04-30"),
    ]
    assert [f"{p.start:%m-%d}" for p in leap] == ["01-31", "02-29", "03-29", "03-30", "03-31"]


def test_weeks_begin_on_each_of_their_anchors() -> None:
    found = list(periods(rule("week", 1, 4), date(2025, 12, 30), date(2026, 1, 6)))

    assert [f"{p.start:%a %m-%d}" for p in found] == ["Mon 12-29", "Thu 01-01", "Mon 01-05"]


def test_a_day_is_a_period() -> None:
    assert period_of(rule=rule("day"), day=date(2026, 2, 28)).end == date(2026, 3, 1)


def test_the_first_period_after_a_change_begins_where_the_old_schedule_ended() -> None:
    weekly = rule("week", 1)

    assert period_from(rule=weekly, start=date(2026, 2, 1)) == Period(
        date(2026, 2, 1), date(2026, 2, 2)
    )
    assert period_from(rule=weekly, start=date(2026, 2, 3), until=date(2026, 2, 5)).end == date(
        2026, 2, 5
    )


@pytest.mark.parametrize(
    ("end", "delay", "holiday", "lands"),
    [
        # A month's last day is Sunday the 31st; two calendar days later is Tuesday.
        (date(2026, 6, 1), 2, "following", date(2026, 6, 2)),
        # Friday the 31st plus two is a Sunday.
        (date(2026, 8, 1), 2, "following", date(2026, 8, 3)),
        # … and preceding would be that Friday itself, before the period is over.
        (date(2026, 8, 1), 2, "preceding", date(2026, 8, 3)),
        (date(2026, 8, 1), 9, "preceding", date(2026, 8, 7)),
        # 2026-07-03 is an open Friday: the 4th, a Saturday, is not kept on another day.
        (date(2026, 7, 2), 2, "following", date(2026, 7, 3)),
        (date(2026, 7, 3), 2, "following", date(2026, 7, 6)),
        # Thanksgiving.
        (date(2026, 11, 25), 2, "following", date(2026, 11, 27)),
        (date(2026, 11, 25), 2, "preceding", date(2026, 11, 25)),
        # New Year's Day, a Friday: the weekend behind it as well.
        (date(2027, 1, 1), 1, "following", date(2027, 1, 4)),
        (date(2027, 1, 1), 0, "following", date(2026, 12, 31)),
    ],
)
def test_r17_holidays_follow_the_schedule_s_rule(
    end: date, delay: int, holiday: str, lands: date
) -> None:
    of = rule("month", 1, delay=delay, holiday=holiday)

    assert lands_on(rule=of, end=end, holidays=HOLIDAYS) == lands


@given(rules(), DAYS)
def test_r17_money_lands_on_a_business_day_near_its_due_day(of: Rule, day: date) -> None:
    end = period_of(rule=of, day=day).end
    due = end - timedelta(days=1) + timedelta(days=of.delay_days)

    found = lands_on(rule=of, end=end, holidays=HOLIDAYS)

    assert is_business_day(found, HOLIDAYS)
    assert abs((found - due).days) <= 4
    if of.holiday_rule == "following" or found < end:
        assert found >= due
    between = (found + timedelta(days=n) for n in range(1, (due - found).days + 1))
    assert not any(is_business_day(each, HOLIDAYS) for each in between)


def test_the_federal_reserve_s_own_list() -> None:
    """federalreserve.gov, K.8: 2026, 2027, 2028."""
    found = {
        year: [f"{day:%m-%d}" for day in federal_reserve_holidays(year)]
        for year in (2026, 2027, 2028)
    }

    assert found[2026] == [
        *("01-01", "01-19", "02-16", "05-25", "06-19", "09-07", "10-12", "11-11", "11-26", "12-25"),
    ]
    # July 4th is a Sunday; Juneteenth and Christmas are Saturdays.
    assert found[2027] == [
        *("01-01", "01-18", "02-15", "05-31", "07-05", "09-06", "10-11", "11-11", "11-25"),
    ]
    # New Year's Day and Veterans Day are Saturdays.
    assert found[2028] == [
        *("01-17", "02-21", "05-29", "06-19", "07-04", "09-04", "10-09", "11-23", "12-25"),
    ]
