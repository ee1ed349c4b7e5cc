"""Days as instants: whole days of a zone, whatever its clocks did (R11, R18)."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from checkout.clock import start_and_end


def test_days_of_utc_end_where_the_next_begins() -> None:
    begins, ends = start_and_end(date(2026, 1, 31), date(2026, 2, 1))

    assert begins == datetime(2026, 1, 31, tzinfo=UTC)
    assert ends == datetime(2026, 2, 2, tzinfo=UTC)
    assert ends == start_and_end(date(2026, 2, 2), date(2026, 2, 2))[0]


def test_a_day_of_a_zone_has_the_hours_its_clocks_show() -> None:
    spring = start_and_end(date(2026, 3, 29), date(2026, 3, 29), ZoneInfo("Europe/Berlin"))
    autumn = start_and_end(date(2026, 10, 25), date(2026, 10, 25), ZoneInfo("Europe/Berlin"))

    assert spring[0] == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert (spring[1] - spring[0]).total_seconds() == 23 * 3600
    assert (autumn[1] - autumn[0]).total_seconds() == 25 * 3600
    assert all(each.tzinfo is UTC for each in (*spring, *autumn))
