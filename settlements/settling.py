"""Settlement schedules: in which periods a creator's charges are grouped and must land."""

from typing import Final

from django.db import connection

from checkout.clock import Moment
from settlements.models import HolidayRule, ScheduleInterval

# What a lane without a RouteSchedule of its own gets: whole months, landing two days later.
DEFAULT: Final[dict[str, str | int]] = {
    "interval": ScheduleInterval.MONTH.value,
    "anchor_day": 1,
    "delay_days": 2,
    "holiday_rule": HolidayRule.FOLLOWING.value,
}


def store_default_schedules(*, now: Moment) -> int:
    """Give each creator with a subscription and no schedule its route's default of today.

    A lane's own default goes before that of any lane, and that before DEFAULT; a later default does
    not rewrite what is stored. Returns how many were stored. Two runs at once store one each: the
    database allows one active version a creator.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {**DEFAULT, "today": now.business.date(), "now": now.real})
        return int(cursor.rowcount)


_STORE: Final = """
    INSERT INTO settlements_settlementschedule
      (creator_id, version, lane, interval, anchor_day, delay_days, holiday_rule, source,
       active_from, created_at)
    SELECT c.id, 1, coalesce(route.lane, ''), coalesce(d.interval, %(interval)s),
           coalesce(d.anchor_day, %(anchor_day)s), coalesce(d.delay_days, %(delay_days)s),
           coalesce(d.holiday_rule, %(holiday_rule)s),
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
