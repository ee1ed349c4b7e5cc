"""Closing the books: a UTC day, then its month, is proposed by one person and locked by another (R43).

A locked day takes no ledger entry any more; what is learned later is dated into the day on which it is
learned. What is open is carried over by name and with a reason, or nothing is proposed. Every function
runs in the caller's transaction; the triggers of migrations 0026 and 0037 hold order, four eyes and the
lock.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any, Final, TypeAlias

from django.db import connection

from checkout import tallies
from checkout.clock import Moment
from checkout.models import LedgerEntry
from checkout.requeues import BY_COMMAND
from checkout.tallies import Tally
from settlements.days import closed_through, proof_of_day
from settlements.exports.csv_file import Progress, unwatched
from settlements.exports.journal import (
    Journal,
    NotBalanced,
    count_postings,
    journal_of_day,
    next_month,
    write_journal,
    write_trial_balance,
)
from settlements.models import (
    NOTHING,
    BooksClose,
    CarriedOver,
    Decision,
    DirtyKind,
    ImportState,
    ReconcileDirty,
    ReconciliationRun,
    RunMode,
    Span,
    StatementImport,
    books_digest,
)
from settlements.suspense import (
    OpenItem,
    bounds_of,
    in_doubt_of,
    incidents_of,
    open_items,
)

logger = logging.getLogger(__name__)

# After a day's end (business clock), before it may be closed: much longer than any task that read the
# clock before midnight may run (R32), so that no outcome is ever refused by the lock.
CLOSES_AFTER: Final = timedelta(hours=1)
# A reason for everything of a kind.
KINDS: Final = ("attempt", "case", "discrepancy", "file")

LONGEST_REASON: Final = 300
# Of the draft of a day, as `progress` is told: journal, charges, figures, what is open.
STEPS_OF_A_DAY: Final = 4

Json: TypeAlias = dict[str, Any]


class NotClosable(Exception):
    """This day or month cannot be proposed now; the message says why and what is next."""


class StillOpen(Exception):
    """Something is open and no reason was given to carry it over; `items` names each."""

    def __init__(self, items: Sequence[OpenItem]) -> None:
        super().__init__(f"{len(items)} open without a reason: {', '.join(i.name for i in items)}")
        self.items = items


class NotDecidable(Exception):
    """This person cannot decide this close now; the message says why."""


@dataclass(frozen=True)
class Carried:
    """Something open and the reason for which it may wait; empty while none was given."""

    item: OpenItem
    reason: str


@dataclass(frozen=True)
class Draft:
    """What would be closed: the books' sums and hash, the figures, and what is open."""

    span: Span
    first_day: date
    line_count: int
    debit: Decimal
    credit: Decimal
    journal_sha256: str
    figures: Json
    charges: Json
    carried: Sequence[Carried]

    @property
    def carried_usd(self) -> Decimal:
        return sum((each.item.usd for each in self.carried), NOTHING)

    @property
    def sha256(self) -> str:
        """What the approver must have seen: everything above, to the cent and to the letter."""
        return books_digest(
            {
                "span": str(self.span),
                "first_day": self.first_day.isoformat(),
                "journal": [
                    self.line_count,
                    str(self.debit),
                    str(self.credit),
                    self.journal_sha256,
                ],
                "figures": self.figures,
                "charges": self.charges,
                "carried": [
                    [c.item.name, c.item.what, str(c.item.usd), c.reason] for c in self.carried
                ],
            }
        )


# --- What is next ----------------------------------------------------------------------------------


def next_day() -> date | None:
    """The day that is to be closed next: after the last, or the first on which anything was posted."""
    if closed := closed_through():
        return closed + timedelta(days=1)
    first = LedgerEntry.objects.order_by("posted_at").values_list("posted_at", flat=True).first()
    return first.date() if first else None


# --- Propose ---------------------------------------------------------------------------------------


def propose_close(
    *,
    day: date,
    reasons: Mapping[str, str],
    by: str,
    now: Moment,
    progress: Progress = unwatched,
) -> BooksClose:
    """Propose to close a UTC day; `reasons` by an open thing's name or by its kind.

    A reason of the former close carries on. The same proposal again is the one that waits already.
    Raises StillOpen, and NotClosable: not over, not compared, not the next day, a reason for nothing
    that is open.
    """
    _lock()
    last = closed_through()
    if last is not None and day != last + timedelta(days=1):
        raise NotClosable(f"the books are closed through {last}; the next is {last + timedelta(1)}")
    if now.business < bounds_of(day=day, now=now).end + CLOSES_AFTER:
        raise NotClosable(f"{day} may be closed one hour after its end, UTC")
    _require_compared(day, now)
    draft = draft_of_day(day=day, reasons=reasons, now=now, progress=progress)
    _refuse_unknown(reasons, draft)
    if without := [each.item for each in draft.carried if not each.reason]:
        raise StillOpen(without)
    return _store(draft, by=by, now=now)


def propose_month(
    *, month: date, by: str, now: Moment, progress: Progress = unwatched
) -> BooksClose:
    """Propose to close a month (its first day) all of whose days are closed. Raises NotClosable.

    `progress` is told of each posting.
    """
    _lock()
    last, last_of_month = closed_through(), next_month(month) - timedelta(days=1)
    if last is None or last < last_of_month:
        raise NotClosable(
            f"{month:%Y-%m}: its days are closed through {last or 'none'}, {last_of_month} is its last"
        )
    return _store(draft_of_month(month=month, now=now, progress=progress), by=by, now=now)


def count_steps(*, span: Span, first_day: date) -> int:
    """How much `progress` will be told while this day or month is drafted, or drafted anew."""
    return STEPS_OF_A_DAY if span == Span.DAY else count_postings(month=first_day)


def draft_of_day(
    *, day: date, reasons: Mapping[str, str], now: Moment, progress: Progress = unwatched
) -> Draft:
    """Everything that closing this day would say, with the reasons there are. Raises NotClosable."""
    lines = journal_of_day(day=day)
    progress(1)
    if lines.debit != lines.credit:
        raise NotClosable(f"{day}: debits are {lines.debit}, credits {lines.credit} USD")
    before = _former_reasons(day)
    charges = tallies.charges_by_day(first=day, last=day).get(day, {})
    progress(1)
    figures = _figures_of_day(day, now)
    progress(1)
    is_open = open_items(day=day, now=now)
    progress(1)
    return Draft(
        span=Span.DAY,
        first_day=day,
        line_count=lines.count,
        debit=lines.debit,
        credit=lines.credit,
        journal_sha256=lines.sha256,
        figures=figures,
        charges={state: _tally(tally) for state, tally in charges.items()},
        carried=[
            Carried(
                item, reasons.get(item.name) or reasons.get(item.kind) or before.get(item.name, "")
            )
            for item in is_open
        ],
    )


def draft_of_month(*, month: date, now: Moment, progress: Progress = unwatched) -> Draft:
    """Everything that closing this month would say. Raises NotClosable."""
    journal = _journal_of_month(month, now, progress)
    days = BooksClose.objects.filter(
        span=Span.DAY,
        decision=Decision.APPROVED,
        first_day__gte=month,
        first_day__lt=next_month(month),
    )
    of_days = list(days.order_by("first_day"))
    last = of_days[-1] if of_days else None
    return Draft(
        span=Span.MONTH,
        first_day=month,
        line_count=journal.lines,
        debit=journal.debit,
        credit=journal.credit,
        journal_sha256=journal.sha256,
        figures={
            "trial_balance": [
                [
                    each.account,
                    each.lane,
                    *map(str, (each.opening, each.debit, each.credit, each.closing)),
                ]
                for each in journal.balances
            ],
            "trial_balance_sha256": write_trial_balance(journal=journal, to=BytesIO()),
            "days": {f"{each.first_day}": each.sha256 for each in of_days},
            "open_at_the_end": _tally(Tally(last.carried_count, last.carried_usd)) if last else {},
            # As the closes of its days say: whatever is learned later is another month's.
            "in_doubt": last.figures.get("in_doubt", {}) if last else {},
            "incidents": _incidents(of_days),
        },
        charges={},
        carried=[],
    )


def _figures_of_day(day: date, now: Moment) -> Json:
    proof = proof_of_day(day=day)
    files = StatementImport.objects.filter(
        state=ImportState.ACCEPTED, first_day__lte=day, last_day__gte=day
    )
    return {
        "proved": _tally(proof.proved),
        "awaiting": _tally(proof.awaiting),
        "discrepant": _tally(proof.discrepant),
        "in_doubt": _tally(in_doubt_of(day=day, now=now)),
        "files": [
            {"lane": file.lane, "file": file.file_name, "sha256": file.sha256}
            for file in files.order_by("lane", "first_day", "id")
        ],
        "incidents": incidents_of(day=day, now=now),
    }


def _incidents(of_days: Sequence[BooksClose]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in of_days:
        counts.update(each.figures.get("incidents", {}))
    return dict(counts)


def _tally(tally: Tally) -> Json:
    return {"count": tally.count, "usd": f"{tally.usd:.2f}"}


def _journal_of_month(month: date, now: Moment, progress: Progress) -> Journal:
    today = now.business.date()
    try:
        with open(os.devnull, "wb") as nowhere:
            return write_journal(month=month, today=today, to=nowhere, progress=progress)
    except NotBalanced as refusal:
        raise NotClosable(str(refusal)) from refusal


def _former_reasons(day: date) -> dict[str, str]:
    rows = CarriedOver.objects.filter(
        close__span=Span.DAY,
        close__decision=Decision.APPROVED,
        close__first_day=day - timedelta(days=1),
    )
    return dict(rows.values_list("name", "reason"))


def _require_compared(day: date, now: Moment) -> None:
    """Where nobody looked nothing differs, and every capture of an accepted file would count as proved.

    An incremental pass compares everything, and consumes the marks of files in the transaction that
    looks at them: a file whose mark is still there has been read by none.
    """
    passes = ReconciliationRun.objects.filter(mode=RunMode.INCREMENTAL, ended_at__isnull=False)
    files = ReconcileDirty.objects.filter(kind__in=[DirtyKind.STATEMENT, DirtyKind.DAYS])
    ended = bounds_of(day=day, now=now).end
    if not passes.filter(business_at__gte=ended).exists() or files.exists():
        raise NotClosable(
            f"nothing was compared since {day} ended or its files came; start the timetable, or run "
            "manage.py reconcile"
        )


def _refuse_unknown(reasons: Mapping[str, str], draft: Draft) -> None:
    if any(len(reason) > LONGEST_REASON for reason in reasons.values()):
        raise NotClosable(f"a reason has at most {LONGEST_REASON} characters")
    known = {each.item.name for each in draft.carried} | set(KINDS)
    if unknown := sorted(set(reasons) - known):
        raise NotClosable(f"nothing open is named {unknown[0]}; leave its reason out")


def _store(draft: Draft, *, by: str, now: Moment) -> BooksClose:
    present = BooksClose.objects.filter(
        span=draft.span, first_day=draft.first_day, decision__in=[Decision.OPEN, Decision.APPROVED]
    ).first()
    if present is not None:
        return _same(present, draft)
    close = BooksClose.objects.create(
        span=draft.span,
        first_day=draft.first_day,
        line_count=draft.line_count,
        debit=draft.debit,
        credit=draft.credit,
        journal_sha256=draft.journal_sha256,
        figures=draft.figures,
        charges=draft.charges,
        carried_count=len(draft.carried),
        carried_usd=draft.carried_usd,
        sha256=draft.sha256,
        as_of=now.business,
        proposed_by=by,
        proposed_at=now.real,
    )
    CarriedOver.objects.bulk_create(
        CarriedOver(
            close=close,
            name=each.item.name,
            what=each.item.what,
            usd=each.item.usd,
            reason=each.reason,
        )
        for each in draft.carried
    )
    logger.info("books close proposed", extra={"close": close.name, "by": by})
    return close


def _same(present: BooksClose, draft: Draft) -> BooksClose:
    if present.decision == Decision.APPROVED:
        raise NotClosable(f"{present.name} is closed since {present.decided_at:%Y-%m-%d}")
    if present.sha256 != _as_kept(draft, present).sha256:
        raise NotClosable(
            f"{present.proposed_by} proposed {present.name} already and something else: "
            "withdraw that first"
        )
    return present


# --- Decide ----------------------------------------------------------------------------------------


def approve_close(
    *,
    close_id: int,
    seen: str,
    by: str,
    reason: str,
    now: Moment,
    progress: Progress = unwatched,
) -> BooksClose:
    """Lock what another person proposed, exactly as this one saw it; `seen` is the page's digest.

    1. Wait for what is being posted into the day; from then on nothing is.
    2. Count everything again; only the states of its charges may have moved on meanwhile.
    Approved again by the same person it stays as it is. Raises NotDecidable.
    """
    _lock()
    close = BooksClose.objects.select_for_update(no_key=True).get(pk=close_id)
    if (close.decision, close.decided_by, seen) == (Decision.APPROVED, by, close.sha256):
        return close
    _require_open(close)
    if is_own(close=close, by=by):
        raise NotDecidable("who proposed it does not approve it")
    if seen != close.sha256:
        raise NotDecidable("the page showed something else: look at it again")
    if close.span == Span.DAY:
        _lock_day(close.first_day)
    if changed := what_changed(close=close, now=now, progress=progress):
        raise NotDecidable(f"since it was proposed {changed}: send it back and propose anew")
    return _decide(close, Decision.APPROVED, by=by, reason=reason, now=now)


def send_back(*, close_id: int, by: str, reason: str, now: Moment) -> BooksClose:
    """Refuse what another proposed, or withdraw one's own; the day is free for another proposal.

    Raises NotDecidable.
    """
    _lock()
    close = BooksClose.objects.select_for_update(no_key=True).get(pk=close_id)
    _require_open(close)
    decision = Decision.WITHDRAWN if is_own(close=close, by=by) else Decision.REFUSED
    return _decide(close, decision, by=by, reason=reason, now=now)


def is_own(*, close: BooksClose, by: str) -> bool:
    """Whether this person proposed it; on a page and on the command line he is the same one (R43)."""
    return close.proposed_by.removeprefix(BY_COMMAND) == by.removeprefix(BY_COMMAND)


def what_changed(*, close: BooksClose, now: Moment, progress: Progress = unwatched) -> str:
    """What is not any more as it was proposed, in words; empty when all is."""
    carried = {row.name: row for row in close.carried.order_by("name")}
    try:
        if close.span == Span.MONTH:
            draft = draft_of_month(month=close.first_day, now=now, progress=progress)
        else:
            reasons = {name: row.reason for name, row in carried.items()}
            draft = draft_of_day(day=close.first_day, reasons=reasons, now=now, progress=progress)
    except NotClosable as refusal:
        return f"the books do not balance ({refusal})"
    draft = _as_kept(draft, close)
    new = [each.item.name for each in draft.carried if each.item.name not in carried]
    gone = sorted(carried.keys() - {each.item.name for each in draft.carried})
    if new:
        return f"{', '.join(new[:5])} opened"
    if gone:
        return f"{', '.join(gone[:5])} was settled"
    if draft.journal_sha256 != close.journal_sha256:
        return "its journal changed"
    moved = [name for name in draft.figures if draft.figures[name] != close.figures.get(name)]
    if moved:
        return f"{moved[0].replace('_', ' ')} changed"
    stood = replace(draft, charges=close.charges)
    return "" if stood.sha256 == close.sha256 else "what is carried over changed"


def _as_kept(draft: Draft, close: BooksClose) -> Draft:
    """With no other figures than the close has: one proposed by an older version keeps fewer of them."""
    kept = {name: draft.figures.get(name) for name in close.figures}
    return replace(draft, figures=kept)


def _require_open(close: BooksClose) -> None:
    if close.decision != Decision.OPEN:
        raise NotDecidable(f"it was {close.decision} by {close.decided_by}")


def _decide(
    close: BooksClose, decision: Decision, *, by: str, reason: str, now: Moment
) -> BooksClose:
    close.decision, close.decided_by = decision, by
    close.decided_at, close.decided_because = now.real, reason
    close.save(update_fields=["decision", "decided_by", "decided_at", "decided_because"])
    facts = {"close": close.name, "decision": str(decision), "by": by}
    logger.info("books close decided", extra=facts)
    return close


def _lock() -> None:
    """One at a time proposes or decides a close; the second finds what the first did."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(settlements_books_key(), 0)")


def _lock_day(day: date) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT settlements_lock_day(%s)", [day])
