"""What is known of each attempt in doubt: what was asked, who asks next, and which file will settle it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef

from checkout.clock import Moment
from checkout.models import (
    Attempt,
    AttemptOutcome,
    AttemptQuery,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    OutboxMessage,
)
from checkout.outbox import event_id
from checkout.subscriptions import checkout_state
from settlements.expectations import statement_zone
from settlements.models import MatchedAttempt, Proposal, StatementExpectation, StatementLine
from settlements.pairing import like_attempt, lines_like_each

# Of one page; one that holds more is not read to its end.
MOST_SHOWN: Final = 50
# Questions of one attempt, the newest; its timeline has all that are kept.
MOST_ASKED: Final = 10
# The event that an attempt came to be in doubt.
TOLD: Final = "charge.in_doubt"


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
    # Whether its creator asked for it at a checkout: it is the first charge of its subscription.
    is_first: bool
    # The event that says so to the platform.
    event: OutboxMessage | None

    @property
    def at_risk(self) -> Decimal:
        return self.attempt.amount

    @property
    def told(self) -> str:
        """What its creator may know. Who read an answer of the API is not written down, so it says so."""
        if self.is_first:
            state = checkout_state(self.charge)["state"]
            return (
                f"the creator asked for it at checkout {self.charge.subscription_id}, which answers"
                f" “{state}” to whoever reads it by the API"
            )
        return (
            "nothing by us: a renewal, which no creator waits for at a checkout; the charge answers"
            f" “{self.charge.state}” to whoever reads it by the API"
        )

    @property
    def told_platform(self) -> str:
        """Whether the platform had an event of it; times UTC, real clock."""
        if self.event is None:
            return f"no event {TOLD} was recorded"
        waiting, sent = self.event.waiting, self.event.acknowledged
        if sent is not None:
            return f"event {TOLD}, published {sent.published_at:%Y-%m-%d %H:%M:%S} UTC"
        parked = waiting is not None and waiting.parked_at is not None
        how = "parked, so it was not published" if parked else "not published yet"
        return f"event {TOLD}, {how}"

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


def doubts(*, now: Moment, page: int = 1) -> list[Doubt]:
    """The charges in doubt with their open attempt, oldest first, MOST_SHOWN of them a page."""
    charges = Charge.objects.filter(state=ChargeState.IN_DOUBT).select_related("creator")
    passed = (page - 1) * MOST_SHOWN
    oldest = list(charges.order_by("created_at", "id")[passed : passed + MOST_SHOWN])
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
    renewals, events = _renewals(charges), _events(attempts)
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
            is_first=charge.pk not in renewals,
            event=events.get(_event_id(attempt)),
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


def _renewals(charges: Sequence[Charge]) -> set[UUID]:
    """Those before which their subscription had another charge; the first one is a checkout's."""
    before = Charge.objects.filter(
        subscription=OuterRef("subscription"), period_start__lt=OuterRef("period_start")
    )
    found = Charge.objects.filter(Exists(before), pk__in=[charge.pk for charge in charges])
    return set(found.values_list("pk", flat=True))


def _events(attempts: Sequence[Attempt]) -> dict[UUID, OutboxMessage]:
    """What was recorded when each came to be in doubt, by the event's id."""
    ids = [_event_id(attempt) for attempt in attempts]
    found = OutboxMessage.objects.filter(event_id__in=ids)
    return {each.event_id: each for each in found.select_related("pending", "published")}


def _event_id(attempt: Attempt) -> UUID:
    return event_id(
        subject=attempt.charge_id, type=TOLD, round=attempt.round, number=attempt.number
    )


def _proposals(attempts: Sequence[Attempt]) -> dict[str, Case]:
    cases = Case.objects.filter(
        kind=CaseKind.IN_DOUBT,
        subject__in=[str(attempt.pk) for attempt in attempts],
        closed_at__isnull=True,
    )
    return {case.subject: case for case in cases.exclude(proposal="")}
