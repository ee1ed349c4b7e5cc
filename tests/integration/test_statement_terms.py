"""Which files a lane owes us: their days, in whose zone, and when each is due."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DataError

from settlements import reconciliation
from settlements.models import Covers, StatementExpectation, StatementTerms
from settlements.proof import prove
from tests.factories import LANE, World, fresh
from tests.factories_settlements import statement_text, take_in

pytestmark = pytest.mark.django_db

SIX = time(6, 0)


def agree(**facts) -> StatementTerms:
    return StatementTerms.objects.create(**{"lane": LANE, "due_time": SIX} | facts)


def due(lane: str, day: date) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT settlements_statement_due(%s, %s, 21600)", [lane, day])
        (at,) = cursor.fetchone()
    assert isinstance(at, datetime)
    return at


@pytest.fixture
def world() -> World:
    return World()


def paid(world: World):
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


def look_again(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


@pytest.mark.parametrize(
    ("terms", "day", "expected"),
    [
        # A Wednesday; the week's file ends on Sunday the 11th, the month's on the 31st.
        ({"covers": Covers.DAY}, date(2026, 1, 7), datetime(2026, 1, 8, 6, tzinfo=UTC)),
        ({"covers": Covers.WEEK}, date(2026, 1, 7), datetime(2026, 1, 12, 6, tzinfo=UTC)),
        ({"covers": Covers.WEEK}, date(2026, 1, 11), datetime(2026, 1, 12, 6, tzinfo=UTC)),
        ({"covers": Covers.MONTH}, date(2026, 1, 7), datetime(2026, 2, 1, 6, tzinfo=UTC)),
        ({"due_days": 3}, date(2026, 1, 7), datetime(2026, 1, 10, 6, tzinfo=UTC)),
        ({"time_zone": "Asia/Almaty"}, date(2026, 1, 7), datetime(2026, 1, 8, 1, tzinfo=UTC)),
        # Six in New York is an hour earlier in UTC once the clocks went forward that night.
        ({"time_zone": "America/New_York"}, date(2026, 3, 7), datetime(2026, 3, 8, 10, tzinfo=UTC)),
        ({"time_zone": "America/New_York"}, date(2026, 3, 6), datetime(2026, 3, 7, 11, tzinfo=UTC)),
    ],
)
def test_a_file_is_due_by_its_lanes_terms(terms, day, expected):
    """R53: what is not due yet is not late."""
    agree(**terms)

    assert due(LANE, day) == expected
    assert due("mena", day) == datetime(day.year, day.month, day.day + 1, 6, tzinfo=UTC)


def test_a_capture_is_expected_in_the_file_of_its_day_in_the_lanes_zone(world):
    """R53: 2026-01-31 20:00 UTC is the first of February in Almaty."""
    agree(time_zone="Asia/Almaty")
    world.clock.forward(seconds=8 * 3600)
    charge = paid(world)
    booked_at = charge.attempts.get().booked_at
    look_again(world)

    expected = StatementExpectation.objects.get()
    local = booked_at.astimezone(ZoneInfo("Asia/Almaty")).date()
    assert (expected.day, expected.time_zone) == (local, "Asia/Almaty")
    assert local != booked_at.date()
    statement = prove(charge=charge, now=world.clock.now()).ticks[-1]
    assert f"for {local}, due" in statement.because


def test_terms_with_another_zone_move_what_is_expected(world):
    world.clock.forward(seconds=8 * 3600)
    paid(world)
    look_again(world)
    assert StatementExpectation.objects.get().time_zone == "UTC"

    agree(time_zone="Asia/Almaty")
    look_again(world)

    assert [e.time_zone for e in StatementExpectation.objects.all()] == ["Asia/Almaty"]


def test_a_lanes_zone_stays_once_a_file_was_accepted(world, tmp_path):
    paid(world)
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)

    with pytest.raises(IntegrityError, match="its days stay in their zone"), transaction.atomic():
        agree(time_zone="Asia/Almaty")
    agree(time_zone="UTC", due_days=2)


def test_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="not recognized"), transaction.atomic():
        agree(time_zone="Mars/Olympus")


def test_terms_stay_with_their_lane():
    terms = agree()
    terms.lane = "mena"

    with pytest.raises(IntegrityError, match="the lane stays"), transaction.atomic():
        terms.save()
