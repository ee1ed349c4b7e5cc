"""Which files are owed, by processors and by our banks, for which days, and when they are late."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from checkout.clock import DAY, Ages, Moment, start_and_end
from settlements.models import (
    BankExpectation,
    BankTerms,
    Covers,
    ExpectationState,
    StatementExpectation,
    StatementImport,
    StatementTerms,
)


class ZoneStays(Exception):
    """A file of the lane was accepted: its days stay in their zone."""


def agree_terms(
    *, lane: str, covers: Covers, time_zone: str, due_days: int, due_time: time
) -> StatementTerms:
    """Set which files a lane's processor owes us from now on. Raises ZoneStays.

    What is expected already keeps its due time, but for days that another zone cuts differently: they
    are expected anew by the next pass.
    """
    try:
        with transaction.atomic():
            terms, _ = StatementTerms.objects.update_or_create(
                lane=lane,
                defaults={
                    "covers": covers,
                    "time_zone": time_zone,
                    "due_days": due_days,
                    "due_time": due_time,
                },
            )
    except IntegrityError as error:
        raise ZoneStays(str(error).splitlines()[0]) from error
    return terms


def agree_bank_terms(
    *,
    account: str,
    from_day: date,
    calendar: str,
    time_zone: str,
    due_days: int,
    due_time: time,
) -> BankTerms:
    """Set that our bank owes us a statement of this account for each business day from `from_day` on.

    What is expected already keeps its due time.
    """
    terms, _ = BankTerms.objects.update_or_create(
        account=account,
        defaults={
            "from_day": from_day,
            "calendar": calendar,
            "time_zone": time_zone,
            "due_days": due_days,
            "due_time": due_time,
        },
    )
    return terms


def note_bank_days(accounts: Iterable[str]) -> None:
    """Note on each expected day of these accounts which statement covers it, if any does."""
    with connection.cursor() as cursor:
        for account in sorted(accounts):
            cursor.execute("SELECT settlements_note_bank_days(%s)", [account])


def statement_zone(lane: str) -> ZoneInfo:
    """The zone in which a lane's files have their days; UTC where its terms name none we know."""
    terms = StatementTerms.objects.filter(lane=lane).first()
    return _zone(terms.time_zone if terms else "UTC")


def statement_zones() -> Mapping[str, ZoneInfo]:
    """Those of the lanes that have terms; all others have their days in UTC."""
    terms = StatementTerms.objects.values_list("lane", "time_zone")
    return {lane: _zone(name) for lane, name in terms}


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def on_lane_days(*, first: date, last: date, lane: str = "lane", at: str = "booked_at") -> Q:
    """On these days, both included, each row by the calendar of its lane; `lane` and `at` are columns.

    The outermost times are said once, too: an index of times is read by them.
    """
    zones = statement_zones()
    condition = between(first, last, ZoneInfo("UTC"), at=at) & ~Q(**{f"{lane}__in": list(zones)})
    for name, zone in zones.items():
        condition |= Q(**{lane: name}) & between(first, last, zone, at=at)
    return around(first, last, at=at) & condition


def between(first: date, last: date, zone: ZoneInfo, *, at: str = "booked_at") -> Q:
    """On these days of a zone, both included."""
    begins, ends = start_and_end(first, last, zone)
    return Q(**{f"{at}__gte": begins, f"{at}__lt": ends})


def around(first: date, last: date, *, at: str = "booked_at") -> Q:
    """On these days or a day beside them (UTC): whatever the zone, theirs lie within."""
    return between(first - DAY, last + DAY, ZoneInfo("UTC"), at=at)


def day_start(*, lane: str, day: date) -> datetime:
    """The instant (UTC) at which a day of a lane's files begins."""
    return datetime.combine(day, time(), statement_zone(lane)).astimezone(UTC)


def mark_late_expectations(*, now: Moment) -> int:
    """Call every file late whose time has passed on the business clock; how many were not before."""
    return sum(
        each.objects.filter(state=ExpectationState.EXPECTED, due_at__lte=now.business).update(
            state=ExpectationState.LATE
        )
        for each in (StatementExpectation, BankExpectation)
    )


def note_days(*, statement: StatementImport, state: ExpectationState, ages: Ages) -> int:
    """Note what became of a file on each of its days that no accepted file covers; how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE_DAYS,
            {
                "lane": statement.lane,
                "first": statement.first_day,
                "last": statement.last_day,
                "due": ages.statement_due,
                "state": state.value,
                "statement": statement.pk,
            },
        )
        return int(cursor.rowcount)


_NOTE_DAYS: Final = """
    INSERT INTO settlements_statementexpectation AS e
      (lane, day, time_zone, due_at, state, statement_id)
    SELECT %(lane)s, d::date, settlements_statement_zone(%(lane)s),
           settlements_statement_due(%(lane)s, d::date, %(due)s), %(state)s, %(statement)s
    FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS d
    ON CONFLICT (lane, day) DO UPDATE
      SET state = EXCLUDED.state, statement_id = EXCLUDED.statement_id
      WHERE e.state <> 'arrived'
"""
