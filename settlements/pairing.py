"""Which unmatched lines and which attempts may belong together: offered to people, never matched by itself.

Same processor account, same amount, near in time (R42: what is ambiguous stays unmatched).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from checkout.clock import Moment
from checkout.models import Attempt, AttemptOutcome, Charge, ChargeState
from settlements.models import STANDING, Code, Discrepancy, Kind, LineType, StatementLine

# A processor books a capture on its day or the next; a weekend and a holiday lie between at most.
NEAR: Final = timedelta(days=7)
# On a page of one; a page on which people choose shows more.
MOST_OFFERED: Final = 5
MOST_LISTED: Final = 50


@dataclass(frozen=True)
class Like:
    """What the other side of a pair would be: its account, amount in USD, and business time."""

    lane: str
    amount: Decimal
    at: datetime


def like_attempt(attempt: Attempt, *, now: Moment) -> Like:
    """A line of this attempt would be so; an attempt in doubt is dated by its last send."""
    sent = attempt.last_sent_at + (now.business - now.real)
    amount = attempt.captured_amount or attempt.amount
    return Like(attempt.lane, amount, attempt.booked_at or sent)


def like_line(line: StatementLine) -> Like:
    return Like(line.statement.lane, line.gross, line.booked_at)


def unmatched_lines(
    *, lane: str = "", like: Like | None = None, most: int = MOST_OFFERED
) -> list[StatementLine]:
    """Lines of charges that fit nothing and wait in no proposal, newest first."""
    found = _standing(Code.UNMATCHED, lane=like.lane if like else lane)
    if like:
        found = found.filter(actual=like.amount)
    names = found.order_by("-opened_at", "-id").values_list("fingerprint", flat=True)[:MOST_LISTED]
    lines = StatementLine.objects.filter(pk__in=[int(_subject(n)) for n in names])
    if like:
        lines = lines.filter(booked_at__range=(like.at - NEAR, like.at + NEAR))
    lines = lines.filter(type=LineType.CHARGE).select_related("statement")
    return list(lines.order_by("-booked_at", "-id")[:most])


def lines_like_each(likes: Sequence[Like]) -> list[list[StatementLine]]:
    """`unmatched_lines` for each of several, in their order and in two queries for all."""
    found = _standing(Code.UNMATCHED, lane="").filter(
        lane__in={like.lane for like in likes}, actual__in={like.amount for like in likes}
    )
    most = MOST_LISTED * len(likes)
    names = found.order_by("-opened_at", "-id").values_list("fingerprint", flat=True)[:most]
    lines = StatementLine.objects.filter(
        pk__in=[int(_subject(name)) for name in names], type=LineType.CHARGE
    )
    rows = list(lines.select_related("statement").order_by("-booked_at", "-id"))
    return [
        [line for line in rows if _fits(like_line(line), like)][:MOST_OFFERED] for like in likes
    ]


def attempts_without_line(
    *, now: Moment, lane: str = "", like: Like | None = None, most: int = MOST_OFFERED
) -> list[Attempt]:
    """Attempts in doubt, and captures that their file does not show, in no match; oldest first."""
    ids = [*_in_doubt(), *_missing(lane=like.lane if like else lane)]
    attempts = Attempt.objects.filter(pk__in=ids).exclude(matched__in_force=True)
    rows = attempts.select_related("charge__creator").order_by("last_sent_at", "id")
    return [
        attempt
        for attempt in rows
        if (not lane or attempt.lane == lane)
        and (like is None or _fits(like_attempt(attempt, now=now), like))
    ][:most]


def _fits(one: Like, other: Like) -> bool:
    return (one.lane, one.amount) == (other.lane, other.amount) and abs(one.at - other.at) <= NEAR


def _in_doubt() -> Iterable[UUID]:
    """By the charges, whose state is indexed: attempts are millions."""
    charges = Charge.objects.filter(state__in=[ChargeState.IN_DOUBT, ChargeState.PENDING])
    oldest = list(charges.order_by("created_at", "id").values_list("pk", flat=True)[:MOST_LISTED])
    return Attempt.objects.filter(charge__in=oldest, outcome=AttemptOutcome.OPEN).values_list(
        "pk", flat=True
    )


def _missing(*, lane: str) -> Iterable[UUID]:
    found = _standing(Code.MISSING, lane=lane).order_by("-opened_at", "-id")
    return [UUID(_subject(n)) for n in found.values_list("fingerprint", flat=True)[:MOST_LISTED]]


def _standing(code: Code, *, lane: str) -> QuerySet[Discrepancy]:
    found = Discrepancy.objects.filter(
        STANDING, kind=Kind.STATEMENT, code=code, proposal__isnull=True
    )
    return found.filter(lane=lane) if lane else found


def _subject(fingerprint: str) -> str:
    """What a comparison named: the id of a line, or of an attempt."""
    return fingerprint.rpartition(":")[2]
