"""The days finance has still to prove: what is proved, what waits for which file, what differs.

A capture is **proved** when an accepted file covers its day and nothing stands against its charge;
**awaiting** when its day's file is not accepted; **discrepant** when something stands. It is summed
from kept figures and from what is open, never counted over the charges (R47).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from django.db import connection
from django.db.models import Count, F, Sum
from django.db.models.functions import Abs

from checkout.models import AttemptOutcome, AttemptTally
from checkout.tallies import Tally
from settlements.models import (
    NOTHING,
    STANDING,
    BooksClose,
    Decision,
    Discrepancy,
    ExpectationState,
    ProofState,
    Span,
    StatementExpectation,
)

# No page opens on more days than these; what is older and not proved is a warning.
MOST_DAYS: Final = 31

CAPTURED: Final = (AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED)

LaneDay = tuple[str, date]


@dataclass(frozen=True)
class Stretch:
    """Days of the lanes' own calendars, both included."""

    first: date
    last: date


@dataclass(frozen=True)
class Awaited:
    """A day of a lane whose file is not accepted: its captures, and when the file is or was due."""

    lane: str
    day: date
    captures: Tally
    state: str
    due_at: datetime | None

    def late(self, now: datetime) -> timedelta | None:
        """By how much it is late on the business clock; None while it is in time, or was set aside."""
        if self.due_at is None or self.due_at > now:
            return None
        return now - self.due_at


@dataclass(frozen=True)
class Differing:
    """What stands: how many discrepancies, their absolute and net USD, and about how many captures."""

    count: int
    absolute: Decimal
    net: Decimal


@dataclass(frozen=True)
class Days:
    """The days from `first` to `last`, by the lanes' own days, both included."""

    first: date
    last: date
    # The last day that two people locked; the days above begin after it.
    closed: date | None
    proved: Tally
    awaiting: Sequence[Awaited]
    discrepant: Tally
    differing: Differing
    # Days of lanes before `first` whose file is not accepted.
    older: int

    @property
    def stretch(self) -> Stretch:
        return Stretch(self.first, self.last)

    @property
    def captures(self) -> int:
        waiting = sum(each.captures.count for each in self.awaiting)
        return self.proved.count + waiting + self.discrepant.count


def closed_through() -> date | None:
    """The last day that is locked; None before the first close."""
    closed = BooksClose.objects.filter(span=Span.DAY, decision=Decision.APPROVED)
    return closed.order_by("-first_day").values_list("first_day", flat=True).first()


def days_to_prove(*, now: datetime) -> Days:
    """The days since the last close up to today (business clock), at most MOST_DAYS.

    Before the first close they begin with the first capture.
    """
    today, closed = now.date(), closed_through()
    horizon = today - timedelta(days=MOST_DAYS - 1)
    captured = _captures(first=horizon)
    files = {
        (file.lane, file.day): file
        for file in StatementExpectation.objects.filter(day__gte=horizon - timedelta(days=1))
    }
    against = _captures_with_discrepancies()
    oldest = horizon if _has_older(horizon) else min([today, *(day for _, day in captured)])
    since = min(closed + timedelta(days=1), today) if closed else oldest
    first = max(since, horizon)
    within = {at: tally for at, tally in captured.items() if at[1] >= first}
    return Days(
        first=first,
        # East of Greenwich a lane's day may be tomorrow's already.
        last=max([today, *(day for _, day in within)]),
        closed=closed,
        proved=_sum(_less(t, against.get(at)) for at, t in within.items() if _covered(files, at)),
        awaiting=[
            Awaited(
                lane=at[0],
                day=at[1],
                captures=_less(tally, against.get(at)),
                state=files[at].state if at in files else ExpectationState.EXPECTED,
                due_at=files[at].due_at if at in files else None,
            )
            for at, tally in sorted(within.items(), key=lambda item: (item[0][1], item[0][0]))
            if not _covered(files, at)
        ],
        discrepant=_sum(tally for (_, day), tally in against.items() if day >= first),
        differing=_differing(),
        older=_older_files(first),
    )


@dataclass(frozen=True)
class DayProof:
    """The captures of one day: proved by an accepted file, awaiting theirs, or differing."""

    proved: Tally
    awaiting: Tally
    discrepant: Tally


def proof_of_day(*, day: date) -> DayProof:
    """One day, by the lanes' own days; as `days_to_prove` counts it."""
    captured = _captures(first=day, last=day)
    against = {at: t for at, t in _captures_with_discrepancies().items() if at[1] == day}
    files = {(file.lane, file.day): file for file in StatementExpectation.objects.filter(day=day)}
    agreeing = {at: _less(tally, against.get(at)) for at, tally in captured.items()}
    return DayProof(
        proved=_sum(tally for at, tally in agreeing.items() if _covered(files, at)),
        awaiting=_sum(tally for at, tally in agreeing.items() if not _covered(files, at)),
        discrepant=_sum(against.values()),
    )


def captures_in(
    *, proof: str, stretch: Stretch | None, lane: str, is_without_file: bool = False
) -> Tally:
    """How many captures are in this state of proof, by kept figures; empty or None leaves it open.

    `is_without_file` takes those of days that no accepted file covers, whatever their state.
    """

    days = stretch or Stretch(date.min, date.max)
    found = _captures(first=days.first, last=days.last)
    arrived = StatementExpectation.objects.filter(state=ExpectationState.ARRIVED)
    covered = set(arrived.values_list("lane", "day"))

    def is_chosen(at: LaneDay) -> bool:
        in_days = stretch is None or stretch.first <= at[1] <= stretch.last
        return in_days and lane in {"", at[0]} and not (is_without_file and at in covered)

    captured = {at: tally for at, tally in found.items() if is_chosen(at)}
    if proof not in ProofState.values:
        return _sum(captured.values())
    against = {at: t for at, t in _captures_with_discrepancies().items() if is_chosen(at)}
    if proof == ProofState.DISCREPANT:
        return _sum(against.values())
    is_proved = proof == ProofState.PROVED
    agreeing = (
        _less(t, against.get(at)) for at, t in captured.items() if (at in covered) == is_proved
    )
    return _sum(agreeing)


def captured_until(*, day: date, since: date = date.min) -> Mapping[LaneDay, Tally]:
    """Captures by lane and the lane's own day, up to this one."""
    return _captures(first=since, last=day)


def _has_older(horizon: date) -> bool:
    """Whether anything was captured long before this day, to within a day; one look at an index."""
    before = datetime.combine(horizon - timedelta(days=1), time(), UTC)
    captured = AttemptTally.objects.filter(slot__lt=before, outcome__in=CAPTURED)
    return captured.order_by("slot").exists()


def _is_covered(file: StatementExpectation | None) -> bool:
    return file is not None and file.state == ExpectationState.ARRIVED


def _covered(files: Mapping[LaneDay, StatementExpectation], at: LaneDay) -> bool:
    return _is_covered(files.get(at))


def _less(all_of: Tally, some: Tally | None) -> Tally:
    return Tally(all_of.count - some.count, all_of.usd - some.usd) if some else all_of


def _sum(tallies: Iterable[Tally]) -> Tally:
    counted = list(tallies)
    return Tally(sum(t.count for t in counted), sum((t.usd for t in counted), NOTHING))


def _older_files(first: date) -> int:
    older = StatementExpectation.objects.filter(day__lt=first)
    return older.exclude(state=ExpectationState.ARRIVED).count()


def _differing() -> Differing:
    found = Discrepancy.objects.filter(STANDING, charge__isnull=False).aggregate(
        count=Count("pk"), net=Sum("difference"), absolute=Sum(Abs(F("difference")))
    )
    return Differing(found["count"], found["absolute"] or NOTHING, found["net"] or NOTHING)


_CAPTURES: Final = """
    WITH zones AS MATERIALIZED (
      SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
    )
    SELECT t.lane, (t.slot AT TIME ZONE coalesce(z.zone, 'UTC'))::date, sum(t.count), sum(t.usd)
    FROM checkout_attempttally t LEFT JOIN zones z ON z.lane = t.lane
    WHERE t.outcome IN ('captured', 'unapplied')
      -- No zone is a day away from UTC; so it reads these days, not all there ever were.
      AND t.slot >= (%(first)s::date - 1)::timestamp AT TIME ZONE 'UTC'
      AND t.slot < (%(last)s::date + 2)::timestamp AT TIME ZONE 'UTC'
      AND (t.slot AT TIME ZONE coalesce(z.zone, 'UTC'))::date BETWEEN %(first)s AND %(last)s
    GROUP BY 1, 2 HAVING sum(t.count) <> 0
"""
_AGAINST: Final = """
    WITH zones AS MATERIALIZED (
      SELECT lane, settlements_statement_zone(lane) AS zone FROM settlements_statementterms
    )
    SELECT a.lane, (coalesce(a.booked_at, a.ended_at) AT TIME ZONE coalesce(z.zone, 'UTC'))::date,
           count(*), sum(a.captured_amount)
    FROM (SELECT charge_id FROM settlements_discrepancy
          WHERE cleared_at IS NULL AND resolved_at IS NULL AND charge_id IS NOT NULL
          GROUP BY charge_id) d
    JOIN checkout_attempt a
      ON a.charge_id = d.charge_id AND a.outcome IN ('captured', 'unapplied')
    LEFT JOIN zones z ON z.lane = a.lane
    GROUP BY 1, 2
"""


def _captures(*, first: date = date.min, last: date = date.max) -> dict[LaneDay, Tally]:
    """Captures by lane and the lane's own day, both days included."""
    return _tallied(_CAPTURES, first=first, last=last)


def _captures_with_discrepancies() -> dict[LaneDay, Tally]:
    return _tallied(_AGAINST)


def _tallied(query: str, **values: date) -> dict[LaneDay, Tally]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return {(lane, day): Tally(count, usd) for lane, day, count, usd in cursor.fetchall()}
