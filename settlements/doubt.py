"""What is known of each attempt in doubt: what was asked, who asks next, and which file will settle it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

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
from settlements.pairing import like_attempt, unmatched_lines

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
    proposals = _proposals([attempt for _, attempt in known])
    return [
        _doubt(charge, attempt, proposals.get(str(attempt.pk)), now=now)
        for charge, attempt in known
    ]


def _doubt(charge: Charge, attempt: Attempt, proposal: Case | None, *, now: Moment) -> Doubt:
    like = like_attempt(attempt, now=now)
    day = like.at.astimezone(statement_zone(attempt.lane)).date()
    matched = MatchedAttempt.objects.filter(attempt=attempt, in_force=True)
    waits = matched.select_related("proposal").first()
    return Doubt(
        attempt=attempt,
        charge=charge,
        file_day=day,
        file=StatementExpectation.objects.filter(lane=attempt.lane, day=day).first(),
        proposal=proposal,
        lines=unmatched_lines(like=like),
        match=waits.proposal if waits else None,
        asked=list(attempt.asked.order_by("-number", "-id")[:MOST_ASKED]),
    )


def _proposals(attempts: Sequence[Attempt]) -> dict[str, Case]:
    cases = Case.objects.filter(
        kind=CaseKind.IN_DOUBT,
        subject__in=[str(attempt.pk) for attempt in attempts],
        closed_at__isnull=True,
    )
    return {case.subject: case for case in cases.exclude(proposal="")}
