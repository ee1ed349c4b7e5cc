"""The proof of one charge: expected · captured · ledger · event · statement, and why one is missing.

It reads everything anew from the records themselves, not from what the last pass of reconciliation
found: a person who doubts a pass must not be shown that pass again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.db import connection

from checkout.clock import Moment
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Awaits,
    Charge,
    ChargeState,
    Door,
    EntryKind,
    LedgerAccount,
    LedgerEntry,
    LedgerPosting,
    OutboxMessage,
)
from settlements.expectations import statement_zone
from settlements.models import (
    Discrepancy,
    ExpectationState,
    ImportState,
    Kind,
    LineType,
    MatchedLine,
    StatementExpectation,
    StatementLine,
    TopicRecord,
    Way,
)

NOTHING: Final = Decimal("0.00")
S = ChargeState
# The event that tells analytics how a charge ended.
CLOSING_EVENT: Final = {
    S.SUCCEEDED: "charge.succeeded",
    S.VOIDED: "charge.voided",
    S.WRITTEN_OFF: "charge.written_off",
}


class Verdict(StrEnum):
    """A tick state, and a charge's. `none`: there is nothing to prove here, and the tick says why."""

    PROVED = "proved"
    AWAITING = "awaiting"
    DISCREPANT = "discrepant"
    NONE = "none"


@dataclass(frozen=True)
class Tick:
    """One of the five: what it is about, whether it holds, its amount in USD, and why so."""

    name: str
    verdict: Verdict
    amount: Decimal | None
    because: str


@dataclass(frozen=True)
class Facts:
    """Everything recorded about a charge, read once."""

    charge: Charge
    owed: Decimal | None
    attempts: Sequence[Attempt]
    postings: Sequence[LedgerPosting]
    entries: Sequence[LedgerEntry]
    messages: Sequence[OutboxMessage]
    records: Sequence[TopicRecord]
    lines: Sequence[StatementLine]
    days: Sequence[StatementExpectation]
    discrepancies: Sequence[Discrepancy]
    # What two people matched by hand and is believed: attempt → proposal, and the lines' ids.
    matches: Mapping[UUID, int]
    matched_lines: frozenset[int]

    @property
    def captures(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.has_capture]

    @property
    def applied(self) -> Decimal:
        return _sum(
            a.captured_amount for a in self.captures if a.outcome == AttemptOutcome.CAPTURED
        )

    @property
    def corrected(self) -> Decimal:
        """By how much two people moved the receivable."""
        return self.moved(LedgerAccount.RECEIVABLE)

    def moved(self, account: LedgerAccount) -> Decimal:
        """By how much corrections of two people moved an account."""
        entries = {entry.pk for entry in self.entries if entry.kind == EntryKind.CORRECTED}
        return _sum(
            posting.amount
            for posting in self.postings
            if posting.entry_id in entries and posting.account == account
        )

    @property
    def captured(self) -> Decimal:
        return _sum(attempt.captured_amount for attempt in self.captures)

    @property
    def corrected_of_lines(self) -> list[Discrepancy]:
        """What its lines say otherwise, and two people corrected in clearing."""
        return [
            found
            for found in self.discrepancies
            if found.kind == Kind.STATEMENT
            and found.proposal is not None
            and found.proposal.way == Way.CORRECTED
            and found.resolved_at
            and not found.cleared_at
        ]

    @property
    def right_amount(self) -> Decimal:
        """What terms and calendar say; where they say nothing, what was billed."""
        return self.charge.amount if self.owed is None else self.owed


@dataclass(frozen=True)
class Proof:
    """The page's first half."""

    facts: Facts
    ticks: Sequence[Tick]

    @property
    def verdict(self) -> Verdict:
        found = {tick.verdict for tick in self.ticks}
        open_ones = any(each.is_standing for each in self.facts.discrepancies)
        if Verdict.DISCREPANT in found or open_ones:
            return Verdict.DISCREPANT
        return Verdict.AWAITING if Verdict.AWAITING in found else Verdict.PROVED

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with the first thing that keeps it from being proved."""
        if self.verdict == Verdict.PROVED:
            return "Proved: every record of this charge agrees to the cent."
        named = [tick for tick in self.ticks if tick.verdict == self.verdict]
        because = f"{named[0].name}: {named[0].because}" if named else "a discrepancy stands."
        word = "Discrepant" if self.verdict == Verdict.DISCREPANT else "Awaiting"
        return f"{word}. {because}"


def prove(*, charge: Charge, now: Moment) -> Proof:
    """Read all records of a charge and compare them, in USD; changes nothing."""
    facts = read_facts(charge)
    ticks = (
        _expected(facts),
        _captured(facts),
        _booked(facts),
        _told(facts),
        _settled(facts, now=now.business),
    )
    return Proof(facts=facts, ticks=ticks)


def read_facts(charge: Charge) -> Facts:
    """All records of a charge, by their indexes."""
    attempts = list(charge.attempts.select_related("instrument").order_by("round", "number"))
    messages = list(
        OutboxMessage.objects.filter(subject=charge.pk)
        .select_related("pending", "published")
        .order_by("id")
    )
    ids = [attempt.pk for attempt in attempts]
    matches, matched_lines = _believed(_MATCHED_ATTEMPTS, ids), frozenset[int]()
    if matches:
        rows = MatchedLine.objects.filter(proposal__in=matches.values())
        matched_lines = frozenset(rows.values_list("line_id", flat=True))
    named = set(StatementLine.objects.filter(key__in=ids).values_list("pk", flat=True))
    wanted = (named - _believed(_MATCHED_LINES, ids).keys()) | matched_lines
    lines = StatementLine.objects.filter(pk__in=wanted)
    events = [message.event_id for message in messages if message.door == Door.KAFKA]
    return Facts(
        charge=charge,
        owed=_owed(charge),
        attempts=attempts,
        postings=list(charge.postings.order_by("id")),
        entries=list(
            charge.ledger_entries.prefetch_related("postings").order_by("posted_at", "id")
        ),
        messages=messages,
        records=list(TopicRecord.objects.filter(event_id__in=events).order_by("id")),
        lines=list(lines.select_related("statement").order_by("id")),
        days=_days(attempts),
        discrepancies=list(
            Discrepancy.objects.filter(charge=charge)
            .select_related("proposal")
            .order_by("opened_at", "id")
        ),
        matches=matches,
        matched_lines=matched_lines,
    )


# Matches of which no row has changed since they were approved, as the comparisons take them.
_MATCHED_ATTEMPTS: Final = """
    SELECT subject, id FROM (
      SELECT m.attempt_id AS subject, p.* FROM settlements_matchedattempt m
      JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
      WHERE m.attempt_id = ANY(%(ids)s) AND m.in_force OFFSET 0
    ) approved WHERE settlements_match_holds(id, count, absolute, net)
"""
_MATCHED_LINES: Final = """
    SELECT subject, id FROM (
      SELECT m.line_id AS subject, p.* FROM settlements_matchedline m
      JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
      WHERE m.key = ANY(%(ids)s) AND m.in_force OFFSET 0
    ) approved WHERE settlements_match_holds(id, count, absolute, net)
"""


def _believed(query: str, ids: Sequence[UUID]) -> dict[Any, int]:
    """The attempt or line of each match that is believed, and its proposal."""
    with connection.cursor() as cursor:
        cursor.execute(query, {"ids": list(ids)})
        return dict(cursor.fetchall())


def _owed(charge: Charge) -> Decimal | None:
    """The amount by terms and calendar alone, computed by SQL that shares no code with billing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT amount FROM settlements_periods(%s, %s, %s)",
            [charge.subscription_id, charge.period_start, charge.period_start],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def _days(attempts: Sequence[Attempt]) -> list[StatementExpectation]:
    wanted = [(attempt.lane, _booked_on(attempt)) for attempt in attempts if attempt.has_capture]
    found = StatementExpectation.objects.filter(
        lane__in={lane for lane, _ in wanted}, day__in={day for _, day in wanted}
    ).order_by("lane", "day")
    return [each for each in found if (each.lane, each.day) in wanted]


def _booked_on(capture: Attempt) -> date:
    """The day in whose file the capture must stand, in the lane's own zone."""
    booked_at = capture.booked_at or capture.ended_at or capture.started_at
    return booked_at.astimezone(statement_zone(capture.lane)).date()


# --- The five ticks ----------------------------------------------------------------------------------


def _expected(facts: Facts) -> Tick:
    charge, name = facts.charge, "Expected"
    if facts.owed is None:
        return Tick(
            name,
            Verdict.DISCREPANT,
            None,
            f"By terms and calendar no period begins on {charge.period_start}.",
        )
    if facts.owed != charge.amount:
        return Tick(
            name,
            Verdict.DISCREPANT,
            facts.owed,
            f"{_difference(facts.owed, charge.amount)}: terms and calendar say {_usd(facts.owed)}, "
            f"the charge says {_usd(charge.amount)}.",
        )
    return Tick(
        name,
        Verdict.PROVED,
        facts.owed,
        f"Plan {charge.terms.plan_id}, the period from {charge.period_start}, computed from terms "
        "and calendar alone.",
    )


def _captured(facts: Facts) -> Tick:
    charge, name = facts.charge, "Captured"
    if facts.captured > facts.applied:
        extra = facts.captured - facts.applied
        text = f"{_usd(extra)} was captured that the charge could not take; it is owed back."
        return Tick(name, Verdict.DISCREPANT, facts.captured, text)
    # What two people approved stands beside the capture.
    if facts.captures and facts.applied - facts.corrected != facts.right_amount:
        text = (
            f"{_difference(facts.right_amount, facts.applied)}: {_usd(facts.right_amount)} was owed, "
            f"{_usd(facts.applied)} was captured."
        )
        return Tick(name, Verdict.DISCREPANT, facts.applied, text)
    if (charge.state == S.SUCCEEDED) != bool(facts.captures):
        text = (
            "The charge says succeeded, but no capture is known."
            if charge.state == S.SUCCEEDED
            else f"It was captured, but the charge says {charge.state}."
        )
        return Tick(name, Verdict.DISCREPANT, facts.applied, text)
    if facts.captures:
        by = facts.captures[0]
        text = (
            f"By attempt {by} through {by.lane}; the processor calls it {by.processor_reference}."
        )
        return Tick(name, Verdict.PROVED, facts.applied, text)
    return _not_captured(facts)


def _not_captured(facts: Facts) -> Tick:
    charge = facts.charge
    verdict = Verdict.NONE if charge.state in {S.VOIDED, S.WRITTEN_OFF} else Verdict.AWAITING
    return Tick("Captured", verdict, None, _why_not_captured(facts))


NOT_CAPTURED: Final = {
    S.DUE: "It is due and was not tried in this round yet.",
    S.ATTEMPTING: "An attempt is under way now.",
    S.FAILED_THEN_RETRY: "An attempt was declined or not made; the next one follows.",
    S.IN_DOUBT: "What the processor did is not known; it is asked again by our reference.",
    S.PENDING: "The processor has not decided yet.",
    S.VOIDED: "Nothing is owed any more: the charge was voided before anything was captured.",
    S.WRITTEN_OFF: "It was given up and written off.",
}


def _why_not_captured(facts: Facts) -> str:
    state = ChargeState(facts.charge.state)
    text = NOT_CAPTURED.get(state) or f"Its round is over; it waits for {_awaited(facts.charge)}."
    declined = [a for a in facts.attempts if a.outcome == AttemptOutcome.DECLINED]
    return f"{text} The last decline was {declined[-1].decline_code}." if declined else text


def _awaited(charge: Charge) -> str:
    match charge.awaits:
        case Awaits.DATE:
            return f"its next round on {charge.next_round_at:%Y-%m-%d}"
        case Awaits.INSTRUMENT:
            return "another card from the creator"
        case _:
            return "a person's decision"


def _booked(facts: Facts) -> Tick:
    name, sums = "Ledger", dict.fromkeys(LedgerAccount, NOTHING)
    for posting in facts.postings:
        sums[LedgerAccount(posting.account)] += posting.amount
    posted = sums[LedgerAccount.CLEARING] - facts.moved(LedgerAccount.CLEARING)
    still = sums[LedgerAccount.RECEIVABLE]
    if sum(sums.values()) != 0:
        text = f"The postings sum to {_usd(sum(sums.values(), NOTHING))}, not to 0.00."
        return Tick(name, Verdict.DISCREPANT, posted, text)
    if posted != facts.captured:
        text = f"{_usd(facts.captured)} was captured, the books say {_usd(posted)}."
        return Tick(name, Verdict.DISCREPANT, posted, text)
    closed = facts.charge.state in {S.VOIDED, S.WRITTEN_OFF}
    right = NOTHING if closed else facts.right_amount - facts.applied + facts.corrected
    if still != right:
        text = f"By the books {_usd(still)} is still owed; by the captures it is {_usd(right)}."
        return Tick(name, Verdict.DISCREPANT, posted or None, text)
    return Tick(
        name,
        Verdict.PROVED,
        posted if facts.captures else still,
        f"Entries that sum to zero: {len(facts.entries)}; {_usd(still)} is still receivable.",
    )


def _told(facts: Facts) -> Tick:
    name, charge = "Event", facts.charge
    events = [message for message in facts.messages if message.door == Door.KAFKA]
    wanted = CLOSING_EVENT.get(ChargeState(charge.state))
    fitting = [event for event in events if wanted is None or event.type == wanted]
    if not fitting:
        text = f"No {wanted} event is recorded." if wanted else "No event is recorded."
        return Tick(name, Verdict.DISCREPANT, None, text)
    event = fitting[-1]
    amount = facts.captured if wanted == "charge.succeeded" else None
    records = [record for record in facts.records if record.event_id == event.event_id]
    if any(record.sha256 != event.payload_sha256 for record in records):
        text = f"The topic holds another {event.type} than the outbox."
        return Tick(name, Verdict.DISCREPANT, amount, text)
    if records:
        at = records[0]
        text = f"{event.type}, number {event.event_seq} of the creator, read back from the topic"
        text += f" (partition {at.partition}, offset {at.offset})."
        return Tick(name, Verdict.PROVED, amount, text)
    if event.waiting and event.waiting.parked_at:
        text = f"{event.type} was refused and is parked: {event.waiting.last_error}"
        return Tick(name, Verdict.DISCREPANT, amount, text)
    text = (
        f"{event.type} was published {_at(event.acknowledged.published_at)} and not read back yet."
        if event.acknowledged
        else f"{event.type} is recorded and waits to be published."
    )
    return Tick(name, Verdict.AWAITING, amount, text)


def _settled(facts: Facts, *, now: datetime) -> Tick:
    name = "Statement"
    lines = [
        line
        for line in facts.lines
        if line.type == LineType.CHARGE and line.statement.state == ImportState.ACCEPTED
    ]
    beside = [line for line in lines if line.pk not in facts.matched_lines]
    matched = [capture for capture in facts.captures if capture.pk in facts.matches]
    # A match shows its attempts' captures, whatever else its lines tell of.
    gross = _sum(line.gross for line in beside) + _sum(each.captured_amount for each in matched)
    if not facts.captures and not lines:
        return Tick(name, Verdict.NONE, None, "Nothing was captured, so no statement shows it.")
    by_hand = facts.corrected_of_lines
    if by_hand and gross - _sum(each.difference for each in by_hand) == facts.captured:
        text = (
            f"{_usd(facts.captured)} was captured, the statement says {_usd(gross)}: the difference is "
            f"corrected in the books by two people in proposal {by_hand[0].proposal_id}."
        )
        return Tick(name, Verdict.PROVED, gross, text)
    if lines and gross != facts.captured:
        text = f"{_difference(facts.captured, gross)}: {len(lines)} lines say {_usd(gross)}, "
        text += f"{_usd(facts.captured)} was captured."
        return Tick(name, Verdict.DISCREPANT, gross, text)
    if matched:
        told = [line for line in lines if line.pk in facts.matched_lines]
        text = (
            f"Matched by two people in proposal {facts.matches[matched[0].pk]}: {len(told)} "
            f"line{'' if len(told) == 1 else 's'} of {_usd(_sum(line.gross for line in told))}."
        )
        return Tick(name, Verdict.PROVED, facts.captured, text)
    if lines:
        file = lines[0].statement
        text = (
            f"Line {lines[0].number} of {file.file_name} ({file.lane}); fee {_usd(lines[0].fee)}."
        )
        return Tick(name, Verdict.PROVED, gross, text)
    return _awaited_statement(facts, now=now)


def _awaited_statement(facts: Facts, *, now: datetime) -> Tick:
    name, capture = "Statement", facts.captures[0]
    booked = _booked_on(capture)
    day = next((day for day in facts.days if day.lane == capture.lane), None)
    if day is None:
        text = f"It awaits the statement of {capture.lane} for {booked}."
        return Tick(name, Verdict.AWAITING, None, text)
    match ExpectationState(day.state):
        case ExpectationState.ARRIVED:
            text = f"The statement of {day.lane} for {day.day} has arrived and does not show it."
            return Tick(name, Verdict.DISCREPANT, None, text)
        case ExpectationState.QUARANTINED:
            text = f"The statement of {day.lane} for {day.day} arrived and was set aside."
            return Tick(name, Verdict.AWAITING, None, text)
        case _:
            late = ", and is late" if day.due_at <= now else ""
            text = (
                f"It awaits the statement of {day.lane} for {day.day}, due {_at(day.due_at)}{late}."
            )
            return Tick(name, Verdict.AWAITING, None, text)


# --- Words -------------------------------------------------------------------------------------------


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((amount or NOTHING for amount in amounts), NOTHING)


def _difference(owed: Decimal, actual: Decimal) -> str:
    word = "Under-charge" if actual < owed else "Surplus"
    return f"{word} of {_usd(abs(owed - actual))}"


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f} USD"


def _at(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "never"
