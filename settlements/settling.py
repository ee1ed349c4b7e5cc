"""Settlement schedules: in which periods a creator's charges are grouped and must land."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q

from checkout.clock import Moment
from checkout.models import Creator
from settlements.calendar import DAY, FEDERAL_RESERVE, WEEK, Period, Rule, period_of
from settlements.models import (
    Holiday,
    HolidayRule,
    RouteSchedule,
    ScheduleInterval,
    SettlementSchedule,
)

# What a lane without a RouteSchedule of its own gets: whole months, landing two days later.
DEFAULT: Final[dict[str, str | int | list[int]]] = {
    "interval": ScheduleInterval.MONTH.value,
    "anchor_days": [1],
    "delay_days": 2,
    "holiday_rule": HolidayRule.FOLLOWING.value,
    "calendar": FEDERAL_RESERVE,
}


# Days from a period's last day to the day its money must have landed.
LONGEST_DELAY: Final = 90
_ANCHORS: Final = re.compile(r"[0-9]{1,2}( *, *[0-9]{1,2})*", re.ASCII)


class UnknownCalendar(Exception):
    """No holiday of a calendar with this name was ever loaded."""


class UnfitAnchors(Exception):
    """These are no days that a period of this interval begins on."""


class DayIsPast(Exception):
    """A default cannot begin on a day whose creators took another one already."""


class DefaultDiffers(Exception):
    """The lane has another default from that day on."""


@dataclass(frozen=True)
class Versions:
    """The version that holds today, and the one that follows it from the next period on."""

    in_force: SettlementSchedule
    upcoming: SettlementSchedule | None


def store_default_schedules(*, now: Moment) -> int:
    """Give each creator with a subscription and no schedule its route's default of today.

    A lane's own default goes before that of any lane, and that before DEFAULT; a later default does
    not rewrite what is stored. Returns how many were stored. Two runs at once store one each: the
    database allows one active version a creator.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {**DEFAULT, "today": now.business.date(), "now": now.real})
        return int(cursor.rowcount)


def agree_default(*, lane: str, valid_from: date, rule: Rule, now: Moment) -> bool:
    """Have a lane's new creators settled by `rule` from a day on (business clock); an empty lane is any.

    Whoever has a schedule keeps it, so that nothing settled or begun ever moves. False when the same
    was agreed before. Raises UnknownCalendar, DayIsPast, and DefaultDiffers when that day has another
    default: what was agreed is never rewritten (trigger).
    """
    if not is_calendar(rule.calendar):
        raise UnknownCalendar(f"no holidays of a calendar {rule.calendar!r} are known")
    agreed = RouteSchedule.objects.filter(lane=lane, valid_from=valid_from).first()
    if agreed is None and valid_from < (today := now.business.date()):
        raise DayIsPast(f"{valid_from} is past; new creators are settled by it from {today} on")
    added = False
    if agreed is None:
        facts = vars(rule) | {"anchor_days": list(rule.anchor_days)}
        # Of two at once the second finds what the first agreed on.
        agreed, added = RouteSchedule.objects.get_or_create(
            lane=lane, valid_from=valid_from, defaults=facts
        )
    if agreed.rule != rule:
        raise DefaultDiffers(f"{agreed} has another default; agree on a later day")
    return added


def unfit_anchors(interval: str, days: Sequence[int]) -> str:
    """Why these are no days that a period of this interval begins on; nothing if they are."""
    if interval == DAY:
        return "leave it out: every day begins a period" if days else ""
    if not days:
        return "name at least one day"
    if len(set(days)) != len(days):
        return "a day stands here twice"
    if interval == WEEK and max(days) > 7:
        return "a week has the days 1 (Monday) to 7 (Sunday)"
    return ""


def anchors_of(*, interval: str, text: str) -> tuple[int, ...]:
    """Anchor days as people write them, `1, 15`, in order; none for days. Raises UnfitAnchors."""
    if text.strip() and not _ANCHORS.fullmatch(text.strip()):
        raise UnfitAnchors(f"{text.strip()[:40]!r} are no days such as 1, 15")
    days = sorted(int(each) for each in text.split(",") if each.strip())
    if days and not 1 <= days[0] <= days[-1] <= 31:
        raise UnfitAnchors("a month has the days 1 to 31")
    if reason := unfit_anchors(interval, days):
        raise UnfitAnchors(reason)
    # Stored as the one anchor that a day has.
    return tuple(days) or (1,)


def schedule_for(*, creator_id: UUID, today: date) -> Versions | None:
    """The creator's versions as of this day (business clock, UTC); None before the first was stored."""
    upcoming = SettlementSchedule.objects.filter(creator_id=creator_id, active_to__isnull=True)
    newest = upcoming.first()
    if newest is None or newest.active_from <= today:
        return Versions(newest, None) if newest else None
    past = SettlementSchedule.objects.filter(creator_id=creator_id, active_from__lte=today)
    in_force = past.filter(Q(active_to__gt=today)).first()
    return Versions(in_force, newest) if in_force else Versions(newest, None)


def change_schedule(*, creator_id: UUID, rule: Rule, by: str, now: Moment) -> bool:
    """Have the creator's charges grouped by `rule` from the next period on; False if they are already.

    What is in force stays so until its present period ends, and no version is ever rewritten. A
    creator without a schedule gets this one from today on. Runs in the caller's transaction and takes
    the creator's lock, so that two changes and a close take turns. Raises UnknownCalendar.
    """
    if not is_calendar(rule.calendar):
        raise UnknownCalendar(rule.calendar)
    Creator.lock([creator_id])
    today = now.business.date()
    versions = schedule_for(creator_id=creator_id, today=today)
    if versions is None:
        _open_version(creator_id, rule, number=1, lane="", active_from=today, by=by, now=now)
        return True
    newest = versions.upcoming or versions.in_force
    if newest.rule == rule:
        return False
    begins = newest.active_from
    if versions.upcoming is None:
        begins = period_of(rule=newest.rule, day=max(today, newest.active_from)).end
    SettlementSchedule.objects.filter(pk=newest.pk).update(active_to=begins)
    _open_version(
        creator_id,
        rule,
        number=newest.version + 1,
        lane=newest.lane,
        active_from=begins,
        by=by,
        now=now,
    )
    return True


def present_period(version: SettlementSchedule, *, today: date) -> Period:
    """The period of a version that holds today; a version begins its first one where it begins.

    A creator's very first version has none before it, so its first period is the whole one.
    """
    period = period_of(rule=version.rule, day=max(today, version.active_from))
    if version.version == 1:
        return period
    return Period(max(period.start, version.active_from), period.end)


def holidays_of(calendars: Collection[str]) -> dict[str, frozenset[date]]:
    """The holidays of these calendars, by name."""
    days: dict[str, set[date]] = {name: set() for name in calendars}
    known = Holiday.objects.filter(calendar__in=days).values_list("calendar", "day")
    for name, day in known:
        days[name].add(day)
    return {name: frozenset(found) for name, found in days.items()}


def is_calendar(name: str) -> bool:
    """Whether holidays of this name were loaded; the default counts as weekends until they are."""
    return name == FEDERAL_RESERVE or Holiday.objects.filter(calendar=name).exists()


def store_holidays(*, calendar: str, days: Mapping[date, str]) -> int:
    """Add the days to a calendar, with their names; how many it did not have. None is ever taken out."""
    before = Holiday.objects.filter(calendar=calendar).count()
    Holiday.objects.bulk_create(
        [Holiday(calendar=calendar, day=day, name=name) for day, name in sorted(days.items())],
        ignore_conflicts=True,
    )
    return Holiday.objects.filter(calendar=calendar).count() - before


def _open_version(
    creator_id: UUID,
    rule: Rule,
    *,
    number: int,
    lane: str,
    active_from: date,
    by: str,
    now: Moment,
) -> None:
    SettlementSchedule.objects.create(
        creator_id=creator_id,
        version=number,
        lane=lane,
        interval=rule.interval,
        anchor_days=list(rule.anchor_days),
        delay_days=rule.delay_days,
        holiday_rule=rule.holiday_rule,
        calendar=rule.calendar,
        source=by,
        active_from=active_from,
        created_at=now.real,
    )


_STORE: Final = """
    INSERT INTO settlements_settlementschedule
      (creator_id, version, lane, interval, anchor_days, delay_days, holiday_rule, calendar, source,
       active_from, created_at)
    SELECT c.id, 1, coalesce(route.lane, ''), coalesce(d.interval, %(interval)s),
           coalesce(d.anchor_days, %(anchor_days)s::smallint[]),
           coalesce(d.delay_days, %(delay_days)s), coalesce(d.holiday_rule, %(holiday_rule)s),
           coalesce(d.calendar, %(calendar)s),
           CASE WHEN d.id IS NULL THEN 'default of the service'
                WHEN d.lane = '' THEN 'default of any lane'
                ELSE 'default of lane ' || d.lane END,
           %(today)s, %(now)s
    FROM checkout_creator c
    LEFT JOIN LATERAL (
      SELECT r.lane FROM checkout_routingrule r
      WHERE r.country = c.country AND r.valid_from <= %(today)s
        AND (r.valid_to IS NULL OR r.valid_to > %(today)s)
      ORDER BY r.valid_from DESC LIMIT 1
    ) route ON true
    LEFT JOIN LATERAL (
      SELECT s.* FROM settlements_routeschedule s
      WHERE s.lane IN ('', route.lane) AND s.valid_from <= %(today)s
      ORDER BY s.lane = '', s.valid_from DESC LIMIT 1
    ) d ON true
    WHERE EXISTS (SELECT 1 FROM checkout_subscription u WHERE u.creator_id = c.id)
      AND NOT EXISTS (SELECT 1 FROM settlements_settlementschedule h WHERE h.creator_id = c.id)
    ON CONFLICT DO NOTHING
"""
