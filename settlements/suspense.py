"""What is still open of a day that is to be closed: each thing by name, with the USD at stake.

A file that is not accepted, an attempt in doubt or under way, a discrepancy that stands, a case that
nobody closed. What other people or days already name is not named twice: an in-doubt case is its
attempt, a day's late or quarantined file is that file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, QuerySet

from checkout.clock import Moment, start_and_end
from checkout.models import Attempt, AttemptOutcome, Case, CaseKind, ChargeState
from checkout.tallies import Tally
from settlements.days import captured_until, closed_through
from settlements.models import (
    NAMED_AS_FILES,
    NOTHING,
    STANDING,
    BankExpectation,
    CarriedOver,
    Decision,
    Discrepancy,
    ExpectationState,
    Kind,
    Span,
    StatementExpectation,
    StatementLine,
)


@dataclass(frozen=True)
class OpenItem:
    """One thing that is open: `kind:id`, what it is in words, and the USD at stake."""

    name: str
    what: str
    usd: Decimal

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Bounds:
    """A UTC day of the business clock, and the same stretch on the real clock."""

    day: date
    start: datetime
    end: datetime
    real_start: datetime
    real_end: datetime


def bounds_of(*, day: date, now: Moment) -> Bounds:
    """What is dated by the real clock falls into the day by how far the clocks are apart now."""
    start, end = start_and_end(day, day)
    apart = now.business - now.real
    return Bounds(day, start, end, start - apart, end - apart)


def open_items(*, day: date, now: Moment) -> list[OpenItem]:
    """Everything of this day or an earlier one that is open now, in order of its name."""
    bounds = bounds_of(day=day, now=now)
    found = [
        *_files(bounds),
        *_bank_statements(bounds),
        *_in_doubt(bounds),
        *_under_way(bounds),
        *_discrepancies(bounds),
        *_cases(bounds),
    ]
    return sorted(found, key=lambda item: item.name)


def in_doubt_of(*, day: date, now: Moment) -> Tally:
    """Attempts sent by the end of this day whose outcome is not known, and their USD."""
    found = list(_in_doubt(bounds_of(day=day, now=now)))
    return Tally(len(found), sum((item.usd for item in found), NOTHING))


def incidents_of(*, day: date, now: Moment) -> dict[str, int]:
    """Cases that were opened on this day, by kind; whatever became of them."""
    bounds = bounds_of(day=day, now=now)
    opened = Case.objects.filter(opened_at__gte=bounds.real_start, opened_at__lt=bounds.real_end)
    counts: dict[str, int] = {}
    for kind in opened.order_by("kind").values_list("kind", flat=True):
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _files(bounds: Bounds) -> Iterator[OpenItem]:
    """Files of this day or before that are not accepted; also of a lane that owes none yet.

    Read from the oldest of them on: what lies before was accepted, or the close of its day would have
    carried it over, and no capture is dated into a closed day.
    """
    since = _oldest_file_open(bounds.day)
    captured = captured_until(day=bounds.day, since=since)
    files = StatementExpectation.objects.filter(day__gte=since, day__lte=bounds.day)
    known = {(file.lane, file.day): file.state for file in files}
    for lane, day in sorted(captured.keys() | known.keys()):
        state = known.get((lane, day))
        if state == ExpectationState.ARRIVED:
            continue
        what = f"the file of {lane} for {day} is {state or 'not expected yet'}"
        yield OpenItem(f"file:{lane}:{day}", what, captured.get((lane, day), Tally()).usd)


def _bank_statements(bounds: Bounds) -> Iterator[OpenItem]:
    """Bank statements of this day or before that are late by now; one set aside is its discrepancy."""
    late = BankExpectation.objects.filter(day__lte=bounds.day, state=ExpectationState.LATE)
    for each in late:
        what = f"the bank's statement of {each.account} for {each.day} is late"
        yield OpenItem(f"file:bank:{each.account}:{each.day}", what, NOTHING)


def _oldest_file_open(day: date) -> date:
    """The first day of which a file may be open; without a close it is the first day there is."""
    closed = closed_through()
    if closed is None:
        return date.min
    owed = StatementExpectation.objects.filter(day__lte=day).exclude(state=ExpectationState.ARRIVED)
    carried = CarriedOver.objects.filter(
        close__span=Span.DAY,
        close__decision=Decision.APPROVED,
        close__first_day=closed,
        name__startswith="file:",
    )
    names = carried.values_list("name", flat=True)
    days = [date.fromisoformat(name.rpartition(":")[2]) for name in names]
    return min([closed, day, *days, *owed.order_by("day").values_list("day", flat=True)[:1]])


def _in_doubt(bounds: Bounds) -> Iterator[OpenItem]:
    for attempt in _open(bounds).filter(charge__state=ChargeState.IN_DOUBT):
        what = f"attempt of {attempt.creator.external_id} at {attempt.lane} is in doubt"
        yield OpenItem(f"attempt:{attempt.pk}", what, attempt.amount)


def _under_way(bounds: Bounds) -> Iterator[OpenItem]:
    """Begun and not known to have ended: a payer who confirms, a worker that died, a charge that is over."""
    for attempt in _open(bounds).exclude(charge__state=ChargeState.IN_DOUBT):
        whose = f"attempt of {attempt.creator.external_id} at {attempt.lane}"
        what = f"{whose} is open, its charge is {attempt.charge.get_state_display()}"
        yield OpenItem(f"attempt:{attempt.pk}", what, attempt.amount)


def _open(bounds: Bounds) -> QuerySet[Attempt]:
    # Not its last send: one that is sent again tomorrow has been in doubt since today.
    begun = Attempt.objects.filter(outcome=AttemptOutcome.OPEN, started_at__lt=bounds.real_end)
    return begun.select_related("creator", "charge")


def _discrepancies(bounds: Bounds) -> Iterator[OpenItem]:
    """Found that day or before, or since: about what was billed, captured or booked by then, or about
    payouts and files, which are of no day alone."""
    lines = StatementLine.objects.filter(key=OuterRef("key"), booked_at__lt=bounds.end)
    of_the_day = (
        Q(first_run__business_at__lt=bounds.end)
        | Q(charge__billed_at__lt=bounds.end)
        | Q(charge__isnull=True, key__isnull=True)
        | Q(Exists(lines), kind=Kind.STATEMENT)
    )
    standing = Discrepancy.objects.filter(STANDING).exclude(NAMED_AS_FILES)
    for found in standing.filter(of_the_day):
        what = f"{found.kind}, {found.code.replace('_', ' ')}: {found.explanation}"
        yield OpenItem(f"discrepancy:{found.pk}", what[:300], abs(found.difference))


def _cases(bounds: Bounds) -> Iterator[OpenItem]:
    waiting = Case.objects.filter(closed_at__isnull=True, opened_at__lt=bounds.real_end)
    for case in waiting.exclude(kind=CaseKind.IN_DOUBT):
        what = f"{case.get_kind_display()}: {case.reason}"
        yield OpenItem(f"case:{case.pk}", what[:300], case.amount or NOTHING)
