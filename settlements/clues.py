"""What is known around a difference: the fee, the cut of the day, the lines beside it; read, never written."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from checkout.models import Attempt
from checkout.money import rounded
from settlements.explaining import Clues, Cut, Opposite
from settlements.models import (
    STANDING,
    Discrepancy,
    FeeTerms,
    Kind,
    Payout,
    StatementExpectation,
    StatementLine,
    StatementTerms,
    Way,
    ways_of,
)

# As near to the end of a day as clocks and time zones get wrong.
NEAR_CUT: Final = timedelta(hours=2)
# A payout of the days beside it: a weekend and a holiday lie between at most.
DAYS_BESIDE: Final = timedelta(days=4)
MOST: Final = 3


def clues_of(found: Discrepancy) -> Clues:
    """What `explain` needs to know of this discrepancy."""
    attempt, payout = _attempt(found), _payout(found)
    own, beside = _lines(payout, found.difference) if payout else ([], [])
    return Clues(
        kind=found.kind,
        code=found.code,
        expected=found.expected,
        actual=found.actual,
        lane=found.lane,
        is_correctable=Way.CORRECTED in ways_of(found),
        fee=_agreed_fee(found, attempt),
        cut=_cut(attempt) if attempt and attempt.booked_at else None,
        opposite=_opposite(found),
        own_lines=own,
        next_lines=beside,
    )


def _subject(found: Discrepancy) -> str:
    """The part of the fingerprint after kind and code."""
    return found.fingerprint.split(":", 2)[2]


def _attempt(found: Discrepancy) -> Attempt | None:
    if found.kind not in (Kind.STATEMENT, Kind.LEDGER) or found.charge_id is None:
        return None
    try:
        id = UUID(_subject(found))
    except ValueError:
        return None
    return Attempt.objects.filter(pk=id).first()


def _payout(found: Discrepancy) -> Payout | None:
    id = _subject(found).partition(":")[0]
    if found.kind != Kind.PAYOUT or not id.isdecimal():
        return None
    return Payout.objects.filter(pk=int(id)).first()


def _agreed_fee(found: Discrepancy, attempt: Attempt | None) -> Decimal | None:
    """What the processor may keep of the larger amount, by the terms of the capture's day."""
    terms = FeeTerms.objects.filter(lane=found.lane).order_by("-valid_from")
    if attempt and attempt.booked_at:
        terms = terms.filter(valid_from__lte=attempt.booked_at.date())
    newest = terms.first()
    if newest is None or found.kind == Kind.PAYOUT:
        return None
    return rounded(max(found.expected, found.actual) * newest.rate + newest.fixed)


def _cut(attempt: Attempt) -> Cut | None:
    """How near the capture lies to a midnight of its lane's zone; None beyond two hours."""
    terms = StatementTerms.objects.filter(lane=attempt.lane).first()
    booked = attempt.booked_at or attempt.started_at
    local = booked.astimezone(ZoneInfo(terms.time_zone if terms else "UTC"))
    begun = local - datetime.combine(local.date(), datetime.min.time(), tzinfo=local.tzinfo)
    left = timedelta(days=1) - begun
    if min(begun, left) > NEAR_CUT:
        return None
    is_before = left < begun
    day = local.date() + timedelta(days=1 if is_before else -1)
    file = StatementExpectation.objects.filter(lane=attempt.lane, day=day).first()
    minutes = int(min(begun, left).total_seconds()) // 60
    return Cut(minutes, is_before, day.isoformat(), file.state if file else "")


def _opposite(found: Discrepancy) -> list[Opposite]:
    """Standing ones that differ by as much the other way: one may explain the other."""
    if found.difference == 0:
        return []
    standing = Discrepancy.objects.filter(STANDING, difference=-found.difference)
    return [
        Opposite(
            id=other.pk,
            kind=other.kind,
            of_another_creator=bool(found.creator_id and other.creator_id)
            and found.creator_id != other.creator_id,
        )
        for other in standing.exclude(pk=found.pk).order_by("-opened_at", "-id")[:MOST]
    ]


def _lines(payout: Payout, difference: Decimal) -> tuple[Sequence[str], Sequence[str]]:
    """Lines of exactly this net: of the payout, and of those of the days beside it."""
    near = (
        Payout.objects.filter(
            lane=payout.lane,
            value_on__range=(payout.value_on - DAYS_BESIDE, payout.value_on + DAYS_BESIDE),
        )
        if payout.value_on
        else Payout.objects.none()
    )
    beside = [label for other in near.exclude(pk=payout.pk) for label in _of(other, difference)]
    return _of(payout, difference), beside[:MOST]


def _of(payout: Payout, difference: Decimal) -> list[str]:
    lines = StatementLine.objects.filter(
        statement__payout_parts__payout=payout,
        payout=payout.reference,
        net__in=[difference, -difference],
    ).exclude(type="payout")
    return [f"{line.line_id} of {line.net:,.2f}" for line in lines.order_by("id")[:MOST]]
