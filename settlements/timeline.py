"""Everything that happened to a charge, in the order it happened, by the real clock."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType

from checkout.models import (
    Attempt,
    AttemptQuery,
    BulkRequeueItem,
    Case,
    Charge,
    Door,
    EntryKind,
    LedgerEntry,
    OutboxMessage,
)
from settlements.models import DeskAction
from settlements.proof import Facts

# Cause before effect, for what shares a moment.
ORDER: Final = (
    "billed",
    "booked as owed",
    "dispatch",
    "attempt",
    "in doubt",
    "asked",
    "outcome",
    "ledger",
    "event",
    "case",
    "statement",
    "discrepancy",
    "decision",
)


@dataclass(frozen=True)
class Happening:
    """One line: when, what sort of thing, which badge, and what happened in words."""

    at: datetime
    sort: str
    badge: str
    text: str


def timeline(facts: Facts) -> list[Happening]:
    """The whole story, oldest first; what shares a moment keeps the order of cause and effect."""
    charge = facts.charge
    happenings = [
        Happening(
            charge.created_at,
            "billed",
            "due",
            f"{charge.amount} USD for {charge.period_start} to {charge.period_end}, "
            f"billing date {charge.billed_at:%Y-%m-%d %H:%M} UTC",
        ),
        *_entries(facts),
        *_messages(facts),
        *(line for attempt in facts.attempts for line in _attempt(attempt)),
        *_asked(facts),
        *_cases(charge),
        *_statement(facts),
        *_discrepancies(facts),
        *_decisions(charge),
        *_requeues(charge),
    ]
    return sorted(happenings, key=lambda each: (each.at, ORDER.index(each.sort)))


def _attempt(attempt: Attempt) -> Iterator[Happening]:
    sends = f", sent {_times(attempt.sends)}" if attempt.sends > 1 else ""
    text = f"attempt {attempt} begins: {attempt.amount} USD through {attempt.lane}{sends}"
    yield Happening(attempt.started_at, "attempt", "attempting", text)
    if attempt.doubt:
        asked = f"; asked {_times(attempt.queries)}" if attempt.queries else ""
        text = f"attempt {attempt} is in doubt: {attempt.doubt}{asked}"
        yield Happening(attempt.last_sent_at, "in doubt", "in_doubt", text)
    if attempt.ended_at:
        yield Happening(attempt.ended_at, "outcome", attempt.outcome, _outcome(attempt))


def _asked(facts: Facts) -> Iterator[Happening]:
    """Each question that is kept, when it was asked, and its answer."""
    named = {attempt.pk: str(attempt) for attempt in facts.attempts}
    rows = AttemptQuery.objects.filter(attempt__in=list(named)).order_by("id")
    for row in rows:
        which = named[row.attempt_id]
        text = f"attempt {which}, the processor was asked {row.get_asked_display()}: {row.answer}"
        yield Happening(row.asked_at, "asked", "quiet", text)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _outcome(attempt: Attempt) -> str:
    if attempt.has_capture:
        reference = attempt.processor_reference or "no reference"
        text = f"attempt {attempt}: {attempt.captured_amount} USD captured ({reference})"
        return text if attempt.outcome == "captured" else f"{text}, which the charge could not take"
    if attempt.decline_class:
        return f"attempt {attempt}: declined, {attempt.decline_class} ({attempt.decline_code})"
    return f"attempt {attempt}: not charged, {attempt.get_verdict_display() or attempt.verdict}"


def _messages(facts: Facts) -> Iterator[Happening]:
    for message in facts.messages:
        yield Happening(message.created_at, *_message(message))


def _message(message: OutboxMessage) -> tuple[str, str, str]:
    waiting, sent = message.waiting, message.acknowledged
    out = f"published {sent.published_at:%H:%M:%S}" if sent else "not published"
    if waiting and waiting.parked_at:
        out = f"parked: {waiting.last_error}"
    if message.door == Door.SQS:
        later = message.available_at > message.created_at
        when = f", to leave {message.available_at:%Y-%m-%d %H:%M:%S}" if later else ""
        return "dispatch", "pending", f"{message.type} recorded{when}; {out}"
    seen = ", read back" if sent and sent.seen_at else ""
    return "event", "quiet", f"{message.type}, number {message.event_seq}; {out}{seen}"


def _entries(facts: Facts) -> Iterator[Happening]:
    """Entries are dated by the business clock; here each stands beside the fact that made it."""
    ended = {attempt.pk: attempt.ended_at for attempt in facts.attempts}
    for entry in facts.entries:
        postings = ", ".join(f"{p.account} {p.amount:+,.2f}" for p in entry.postings.all())
        at = ended.get(entry.attempt_id) if entry.attempt_id else _closing(entry, facts)
        sort = "booked as owed" if entry.kind == EntryKind.BILLED else "ledger"
        yield Happening(at or entry.posted_at, sort, "quiet", f"{entry.kind}: {postings}")


def _closing(entry: LedgerEntry, facts: Facts) -> datetime | None:
    if entry.kind == EntryKind.BILLED:
        return facts.charge.created_at
    types = (m.created_at for m in facts.messages if m.type == f"charge.{entry.kind}")
    return next(types, None)


def _cases(charge: Charge) -> Iterator[Happening]:
    for case in Case.objects.filter(charge=charge).order_by("opened_at", "id"):
        kind = case.get_kind_display().lower()
        yield Happening(case.opened_at, "case", "open", f"{kind}: {case.reason}")
        if case.closed_at:
            text = f"{kind} closed: {case.closed_because}"
            yield Happening(case.closed_at, "case", "closed", text)


def _statement(facts: Facts) -> Iterator[Happening]:
    for line in facts.lines:
        text = (
            f"line {line.number} of {line.statement.file_name}: {line.type} of {line.gross} USD, "
            f"fee {line.fee}, net {line.net}"
        )
        yield Happening(line.statement.imported_at, "statement", "quiet", text)


def _discrepancies(facts: Facts) -> Iterator[Happening]:
    for found in facts.discrepancies:
        text = f"{found.kind}: {found.explanation}"
        yield Happening(found.opened_at, "discrepancy", "discrepant", text)
        if found.cleared_at:
            text = f"{found.kind} cleared by {found.cleared_because}"
            yield Happening(found.cleared_at, "discrepancy", "proved", text)
    for action in DeskAction.objects.filter(discrepancy__in=facts.discrepancies).order_by("id"):
        text = f"{action.by}, discrepancy {action.discrepancy_id} {action.kind}: {action.reason}"
        yield Happening(action.at, "decision", "open", text)
    matches = DeskAction.objects.filter(
        discrepancy=None, proposal__matched_attempts__attempt__in=facts.attempts
    )
    for action in matches.order_by("id"):
        text = f"{action.by}, match {action.proposal_id} {action.kind}: {action.reason}"
        yield Happening(action.at, "decision", "open", text)


def _decisions(charge: Charge) -> Iterable[Happening]:
    rows = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Charge), object_id=str(charge.pk)
    ).select_related("user")
    for row in rows.order_by("action_time", "id"):
        text = f"{row.user.get_username()}: {row.get_change_message()}"
        yield Happening(row.action_time, "decision", "open", text)


def _requeues(charge: Charge) -> Iterable[Happening]:
    rows = BulkRequeueItem.objects.filter(charge=charge, done_at__isnull=False)
    for item in rows.select_related("requeue").order_by("done_at", "id"):
        run = item.requeue
        why = f": {item.left_because}" if item.left_because else ""
        second = f", approved by {run.decided_by}" if run.decision == "approved" else ""
        text = f"{run} of {run.proposed_by}{second} ({run.reason}): {item.outcome}{why}"
        if item.done_at:
            yield Happening(item.done_at, "decision", "open", text)
