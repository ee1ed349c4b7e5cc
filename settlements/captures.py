"""The captures behind a figure of home: proved, awaiting their file, or discrepant, by the lanes' days.

The figures are summed from what is kept (settlements/days.py); the lists are conditions on the index of
captures by time, so that nobody counts them (R47). Both say the same in one snapshot.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.models import Exists, OuterRef, Q, QuerySet

from checkout.models import AttemptOutcome
from settlements.days import Stretch
from settlements.models import (
    STANDING,
    Capture,
    Discrepancy,
    ExpectationState,
    ProofState,
    StatementExpectation,
    StatementTerms,
)

DAY: Final = timedelta(days=1)
TAKEN: Final = (AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED)


def captures() -> QuerySet[Capture]:
    """Every capture, along the index of captures by time."""
    return QuerySet(Capture).filter(outcome__in=TAKEN, booked_at__isnull=False)


def within(stretch: Stretch) -> Q:
    """Captured on these days, each by its lane's own calendar."""
    zones = _zones()
    condition = Q(**_between(stretch, ZoneInfo("UTC"))) & ~Q(lane__in=list(zones))
    for lane, zone in zones.items():
        condition |= Q(lane=lane, **_between(stretch, zone))
    return _bounded(condition, [stretch])


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
    zones, utc = _zones(), ZoneInfo("UTC")
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
    arrived = StatementExpectation.objects.filter(state=ExpectationState.ARRIVED)
    if stretch:
        arrived = arrived.filter(day__gte=stretch.first, day__lte=stretch.last)
    zones = _zones()
    condition, stretches = Q(pk__in=[]), []
    rows = arrived.order_by("lane", "day").values_list("lane", "day")
    for lane, days in groupby(rows, key=lambda row: row[0]):
        zone = zones.get(lane, ZoneInfo("UTC"))
        for one in _stretches(day for _, day in days):
            condition |= Q(lane=lane, **_between(one, zone))
            stretches.append(one)
    return _bounded(condition, stretches)


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


def _bounded(condition: Q, stretches: Sequence[Stretch]) -> Q:
    """The same with the outermost times said once, which is what the index of times is read by."""
    if not stretches:
        return condition
    first = datetime.combine(min(stretch.first for stretch in stretches) - DAY, time(), UTC)
    last = datetime.combine(max(stretch.last for stretch in stretches) + 2 * DAY, time(), UTC)
    return Q(booked_at__gte=first, booked_at__lt=last) & condition


def _between(stretch: Stretch, zone: ZoneInfo) -> dict[str, datetime]:
    return {
        "booked_at__gte": datetime.combine(stretch.first, time(), zone).astimezone(UTC),
        "booked_at__lt": datetime.combine(stretch.last + DAY, time(), zone).astimezone(UTC),
    }


def _zones() -> Mapping[str, ZoneInfo]:
    """The lanes whose files have their days in a zone of their own; all others have them in UTC."""
    zones = {}
    for lane, name in StatementTerms.objects.values_list("lane", "time_zone"):
        try:
            zones[lane] = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            zones[lane] = ZoneInfo("UTC")
    return zones
