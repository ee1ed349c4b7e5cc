"""Periods of a settlement schedule and the day their money must land: pure arithmetic on dates.

A period is half-open and begins where the one before it ended (R14). Its anchors are counted afresh in
each month, so that the 31st comes back after February (R11). Days are UTC days of the business clock.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

DAY: Final = "day"
WEEK: Final = "week"
FOLLOWING: Final = "following"
# The banks of the United States, which move the dollar; weekends count with every calendar.
FEDERAL_RESERVE: Final = "us-fed"
SATURDAY: Final = 6
SUNDAY: Final = 7

_ONE: Final = timedelta(days=1)


@dataclass(frozen=True)
class Rule:
    """What a schedule says. `interval` is day, week or month; `holiday_rule` following or preceding.

    `anchor_days` are the days a period may begin on: 1-7 (Monday is 1) of a week, 1-31 of a month, in
    order; (1,) where the interval is a day. `calendar` names the holidays.
    """

    interval: str
    anchor_days: tuple[int, ...]
    delay_days: int
    holiday_rule: str
    calendar: str = FEDERAL_RESERVE


@dataclass(frozen=True)
class Period:
    """The days from `start` up to, not including, `end`."""

    start: date
    end: date


def period_of(*, rule: Rule, day: date) -> Period:
    """The period that holds this day."""
    if rule.interval == DAY:
        return Period(day, day + _ONE)
    starts = _week_starts(rule, day) if rule.interval == WEEK else _month_starts(rule, day)
    known = sorted(starts)
    return Period(
        start=max(start for start in known if start <= day),
        end=min(start for start in known if start > day),
    )


def period_from(*, rule: Rule, start: date, until: date | None = None) -> Period:
    """The period that begins on `start`, whether or not that is an anchor; cut at `until`.

    Only the first period after a change of schedule begins elsewhere than on an anchor.
    """
    end = period_of(rule=rule, day=start).end
    return Period(start, min(end, until) if until else end)


def lands_on(*, rule: Rule, end: date, holidays: Container[date]) -> date:
    """The day by which the money of a period that ended before `end` must have landed (R17).

    `delay_days` are calendar days after the period's last day. What falls on a weekend or a holiday
    moves to the next business day after it, or with "preceding" to the one before; but no money of a
    period lands before the period is over, so it then follows all the same.
    """
    due = end - _ONE + timedelta(days=rule.delay_days)
    if rule.holiday_rule != FOLLOWING:
        earlier = _business_day(due, holidays, step=-_ONE)
        if earlier >= end:
            return earlier
    return _business_day(due, holidays, step=_ONE)


def is_business_day(day: date, holidays: Container[date]) -> bool:
    return day.isoweekday() < SATURDAY and day not in holidays


def federal_reserve_holidays(year: int) -> dict[date, str]:
    """The days of a year on which the Federal Reserve Banks are closed, but for weekends.

    A holiday on a Sunday is kept on the Monday after; one on a Saturday is not kept on another day
    (federalreserve.gov, "Holidays Observed").
    """
    fixed = {
        date(year, 1, 1): "New Year's Day",
        date(year, 6, 19): "Juneteenth National Independence Day",
        date(year, 7, 4): "Independence Day",
        date(year, 11, 11): "Veterans Day",
        date(year, 12, 25): "Christmas Day",
    }
    moving = {
        _weekday_of(year, 1, weekday=1, nth=3): "Birthday of Martin Luther King, Jr.",
        _weekday_of(year, 2, weekday=1, nth=3): "Washington's Birthday",
        _last_monday(year, 5): "Memorial Day",
        _weekday_of(year, 9, weekday=1, nth=1): "Labor Day",
        _weekday_of(year, 10, weekday=1, nth=2): "Columbus Day",
        _weekday_of(year, 11, weekday=4, nth=4): "Thanksgiving Day",
    }
    kept = {day + _ONE if day.isoweekday() == SUNDAY else day: name for day, name in fixed.items()}
    weekdays = {day: name for day, name in kept.items() if day.isoweekday() != SATURDAY}
    return dict(sorted((weekdays | moving).items()))


def _week_starts(rule: Rule, day: date) -> Iterator[date]:
    near = (day + timedelta(days=offset) for offset in range(-6, 8))
    return (each for each in near if each.isoweekday() in rule.anchor_days)


def _month_starts(rule: Rule, day: date) -> set[date]:
    """Where periods begin in this month and its neighbours; two anchors past the end are one day."""
    first = day.replace(day=1)
    before, after = (first - _ONE).replace(day=1), (first + timedelta(days=31)).replace(day=1)
    return {
        min(month + timedelta(days=anchor - 1), _last_of(month))
        for month in (before, first, after)
        for anchor in rule.anchor_days
    }


def _last_of(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1) - _ONE


def _business_day(day: date, holidays: Container[date], *, step: timedelta) -> date:
    while not is_business_day(day, holidays):
        day += step
    return day


def _weekday_of(year: int, month: int, *, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.isoweekday()) % 7 + 7 * (nth - 1))


def _last_monday(year: int, month: int) -> date:
    last = _last_of(date(year, month, 1))
    return last - timedelta(days=last.isoweekday() - 1)
