"""The captures behind a figure of home: proved, awaiting their file, or discrepant, by the lanes' days.

The figures are summed from what is kept (settlements/days.py); the lists are conditions on the index of
captures by time, so that nobody counts them (R47). Both say the same in one snapshot.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef, Q, QuerySet

from checkout.clock import DAY
from checkout.models import AttemptOutcome
from settlements.days import LaneDay, Stretch, captured_until
from settlements.expectations import around, between, on_lane_days, statement_zones
from settlements.models import (
    STANDING,
    Capture,
    Discrepancy,
    ExpectationState,
    ProofState,
    StatementExpectation,
)

TAKEN: Final = (AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED)


def captures() -> QuerySet[Capture]:
    """Every capture, along the index of captures by time."""
    return QuerySet(Capture).filter(outcome__in=TAKEN, booked_at__isnull=False)


def within(stretch: Stretch) -> Q:
    """Captured on these days, each by its lane's own calendar."""
    return on_lane_days(first=stretch.first, last=stretch.last)


def without_file(stretch: Stretch | None) -> Q:
    """On days of which no accepted file is there, whatever stands against the charge; of all days without.

    By the days on which anything was captured, which are kept: so that the few that wait are read, and not
    all that do not.
    """
    days = stretch or Stretch(date.min, date.max)
    captured = captured_until(day=days.last, since=days.first)
    return _on(sorted(captured.keys() - set(_arrived(stretch).values_list("lane", "day"))))


def of_proof(proof: ProofState, stretch: Stretch | None) -> Q:
    """In this state of proof, of these days; of all days where none are named."""
    standing = Exists(Discrepancy.objects.filter(STANDING, charge=OuterRef("charge_id")))
    of_the_days = within(stretch) if stretch else Q()
    match proof:
        case ProofState.DISCREPANT:
            # By the few that stand, not by the many that were captured.
            charges = Discrepancy.objects.filter(STANDING, charge__isnull=False)
            return of_the_days & Q(charge_id__in=charges.values("charge_id"))
        case ProofState.PROVED:
            return _covered(stretch) & ~Q(standing)
        case ProofState.AWAITING:
            return of_the_days & ~_covered(stretch) & ~Q(standing)


def tell_proof(rows: Sequence[Capture]) -> None:
    """Fill in the day and the proof of each of a page's rows, by three queries."""
    zones, utc = statement_zones(), ZoneInfo("UTC")
    for row in rows:
        if row.booked_at is not None:
            row.day = row.booked_at.astimezone(zones.get(row.lane, utc)).date()
    standing = Discrepancy.objects.filter(STANDING, charge__in={row.charge_id for row in rows})
    differing = set(standing.values_list("charge_id", flat=True))
    arrived = StatementExpectation.objects.filter(
        state=ExpectationState.ARRIVED, day__in={row.day for row in rows if row.day}
    )
    covered = set(arrived.values_list("lane", "day"))
    for row in rows:
        if row.charge_id in differing:
            row.proof = ProofState.DISCREPANT
        else:
            is_covered = (row.lane, row.day) in covered
            row.proof = ProofState.PROVED if is_covered else ProofState.AWAITING


def _covered(stretch: Stretch | None) -> Q:
    """On a day that an accepted file covers: stretches of days, a condition each."""
    return _on(_arrived(stretch).order_by("lane", "day").values_list("lane", "day"))


def _arrived(stretch: Stretch | None) -> QuerySet[StatementExpectation]:
    arrived = StatementExpectation.objects.filter(state=ExpectationState.ARRIVED)
    return arrived.filter(day__range=(stretch.first, stretch.last)) if stretch else arrived


def _on(lane_days: Iterable[LaneDay]) -> Q:
    """Captured on these days of lanes, which come in order; their outermost times are said once, too."""
    zones = statement_zones()
    condition, stretches = Q(pk__in=[]), []
    for lane, days in groupby(lane_days, key=lambda row: row[0]):
        zone = zones.get(lane, ZoneInfo("UTC"))
        for one in _stretches(day for _, day in days):
            condition |= Q(lane=lane) & between(one.first, one.last, zone)
            stretches.append(one)
    if not stretches:
        return condition
    first = min(stretch.first for stretch in stretches)
    return around(first, max(stretch.last for stretch in stretches)) & condition


def _stretches(days: Iterable[date]) -> Iterator[Stretch]:
    """Days in order, as stretches without a gap."""
    first = last = None
    for day in days:
        if first is None or last is None:
            first = last = day
        elif day == last + DAY:
            last = day
        else:
            yield Stretch(first, last)
            first = last = day
    if first is not None and last is not None:
        yield Stretch(first, last)
