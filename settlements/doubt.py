"""What is known of each attempt in doubt: what was asked, who asks next, and which file will settle it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final
from uuid import UUID

from checkout.clock import Moment
from checkout.models import (
    Attempt,
    AttemptOutcome,
    AttemptQuery,
    Case,
    CaseKind,
    Charge,
    ChargeState,
)
from settlements.expectations import statement_zone
from settlements.models import MatchedAttempt, Proposal, StatementExpectation, StatementLine
from settlements.pairing import like_attempt, lines_like_each

# The oldest of them; a page that holds more is not read to its end.
MOST_SHOWN: Final = 50
# Questions of one attempt, the newest; its timeline has all that are kept.
MOST_ASKED: Final = 10


@dataclass(frozen=True)
class Doubt:
    """An attempt whose outcome is not known; times are of the real clock, amounts USD."""

    attempt: Attempt
    charge: Charge
    file_day: date
    file: StatementExpectation | None
    # What one person proposed and another has not approved yet.
    proposal: Case | None
    # Unmatched lines of the same account and amount, near in time: the capture may be one of them.
    lines: Sequence[StatementLine]
    # The match by hand that it waits in.
    match: Proposal | None
    # What was asked of the processor and what it answered, newest first.
    asked: Sequence[AttemptQuery]

    @property
    def at_risk(self) -> Decimal:
        return self.attempt.amount

    @property
    def inquiry(self) -> str:
        """What to send to the processor's support; nothing of the creator is in it."""
        attempt = self.attempt
        again = "" if attempt.sends == 1 else f", the last of {attempt.sends} times,"
        return (
            f"Merchant reference: {attempt.pk}\n"
            f"Account: {attempt.lane}\n"
            f"Amount: {attempt.amount} {attempt.currency}\n"
            f"Sent{again} at {attempt.last_sent_at:%Y-%m-%d %H:%M:%S} UTC; our side heard: "
            f"{attempt.doubt or 'no final answer'}.\n"
            f"Asked {attempt.queries} times by this reference since, without a final answer.\n"
            "Please tell us whether this request captured money, how much, and under which reference "
            "of yours. Please do not charge it again."
        )


def doubts(*, now: Moment) -> list[Doubt]:
    """The charges in doubt with their open attempt, oldest first, at most MOST_SHOWN."""
    charges = Charge.objects.filter(state=ChargeState.IN_DOUBT).select_related("creator")
    oldest = list(charges.order_by("created_at", "id")[:MOST_SHOWN])
    attempts = {
        attempt.charge_id: attempt
        for attempt in Attempt.objects.filter(
            charge__in=[charge.pk for charge in oldest], outcome=AttemptOutcome.OPEN
        )
    }
    known = [(charge, attempts[charge.pk]) for charge in oldest if charge.pk in attempts]
    return _with_all([attempt for _, attempt in known], [charge for charge, _ in known], now=now)


def _with_all(
    attempts: Sequence[Attempt], charges: Sequence[Charge], *, now: Moment
) -> list[Doubt]:
    """What is known of each, in as many queries for fifty as for one."""
    likes = [like_attempt(attempt, now=now) for attempt in attempts]
    zones = {lane: statement_zone(lane) for lane in {attempt.lane for attempt in attempts}}
    days = [like.at.astimezone(zones[like.lane]).date() for like in likes]
    files = {
        (file.lane, file.day): file
        for file in StatementExpectation.objects.filter(lane__in=zones, day__in=set(days))
    }
    proposals, matches, asked = _proposals(attempts), _matches(attempts), _asked(attempts)
    rows = zip(attempts, charges, days, lines_like_each(likes), strict=True)
    return [
        Doubt(
            attempt=attempt,
            charge=charge,
            file_day=day,
            file=files.get((attempt.lane, day)),
            proposal=proposals.get(str(attempt.pk)),
            lines=lines,
            match=matches.get(attempt.pk),
            asked=asked.get(attempt.pk, []),
        )
        for attempt, charge, day, lines in rows
    ]


def _matches(attempts: Sequence[Attempt]) -> dict[UUID, Proposal]:
    """By attempt; one waits in one match at a time."""
    found = MatchedAttempt.objects.filter(attempt__in=attempts, in_force=True)
    return {each.attempt_id: each.proposal for each in found.select_related("proposal")}


def _asked(attempts: Sequence[Attempt]) -> dict[UUID, list[AttemptQuery]]:
    """The newest questions by attempt; few are kept of each."""
    asked: dict[UUID, list[AttemptQuery]] = {}
    for one in AttemptQuery.objects.filter(attempt__in=attempts).order_by("-number", "-id"):
        of_it = asked.setdefault(one.attempt_id, [])
        if len(of_it) < MOST_ASKED:
            of_it.append(one)
    return asked


def _proposals(attempts: Sequence[Attempt]) -> dict[str, Case]:
    cases = Case.objects.filter(
        kind=CaseKind.IN_DOUBT,
        subject__in=[str(attempt.pk) for attempt in attempts],
        closed_at__isnull=True,
    )
    return {case.subject: case for case in cases.exclude(proposal="")}
