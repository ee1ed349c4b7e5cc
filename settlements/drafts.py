"""What there is to tell finance now, in words: drafts of notices, from what nobody was told of yet.

A draft names its subjects: the things it tells of, each with the moment that makes it new. A thing is
told of once; the same discrepancy with another amount, or opened again, is a new thing. Words carry
figures, lanes and links, never a person's data: the pages behind the links have the rest, by role.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import connection

from checkout import readings
from checkout.clock import Moment
from checkout.models import CASE_WAITS, REQUEUE_WAITS, BulkRequeue, Case
from settlements.days import Awaited, Days, days_to_prove
from settlements.models import (
    ABOUT_FILES,
    NOTHING,
    OF_A_DAY,
    BankExpectation,
    BooksClose,
    Decision,
    ExpectationState,
    Notice,
    NoticeItem,
    NoticeKind,
    Proposal,
    StatementExpectation,
    Way,
)
from settlements.paging import Limits, Reason, Standing, standing

# Of one notice; what is beyond is told by the next.
MOST_SUBJECTS: Final = 20_000
MOST_LINES: Final = 20

DESK: Final = "/admin/settlements/discrepancy/?standing=yes"
FILES: Final = "/admin/settlements/statementexpectation/"
PROPOSALS: Final = "/admin/settlements/proposal/"
CASES: Final = "/admin/checkout/case/"
REQUEUES: Final = "/admin/checkout/bulkrequeue/"
HOME: Final = "/admin/"
PASSES: Final = "/admin/settlements/reconciliationrun/"


@dataclass(frozen=True)
class Terms:
    """How finance wants to be told: its zone, the digest's local time, seconds between notices of
    discrepancies, what pages, and the address before every link (empty: paths alone)."""

    zone: ZoneInfo
    digest_at: time
    every: float
    limits: Limits
    pages: str = ""

    def link(self, path: str) -> str:
        return f"{self.pages}{path}"


@dataclass(frozen=True)
class Draft:
    """A notice before it is written; amounts in `figures` are strings of USD."""

    kind: NoticeKind
    subjects: Sequence[str]
    title: str
    lines: Sequence[str]
    figures: Mapping[str, object]


# --- Discrepancies that opened ---------------------------------------------------------------------


_OPENED: Final = """
    SELECT subject, id, kind, code, difference, opened_at
    FROM (SELECT d.*, concat_ws(':', 'discrepancy', d.id, extract(epoch FROM d.opened_at),
                                d.difference) AS subject
          FROM settlements_discrepancy d
          WHERE d.cleared_at IS NULL AND d.resolved_at IS NULL
            AND NOT (d.code = ANY(%s) AND d.fingerprint ~ %s)) d
    WHERE NOT EXISTS (SELECT 1 FROM settlements_noticeitem i WHERE i.subject = d.subject)
    ORDER BY opened_at, id LIMIT %s
"""


@dataclass(frozen=True)
class _Opened:
    subject: str
    id: int
    kind: str
    code: str
    difference: Decimal
    opened_at: datetime


def opened_discrepancies(*, now: Moment, terms: Terms) -> Draft | None:
    """All that stand and were not told of, once `terms.every` passed since the last such notice.

    What opened and was cleared in between is not told: the digest and the desk speak of what stands.
    """
    since = now.real - timedelta(seconds=terms.every)
    recent = Notice.objects.filter(kind=NoticeKind.DISCREPANCIES, noticed_at__gt=since)
    if recent.exists():
        return None
    with connection.cursor() as cursor:
        codes = [code.value for code in ABOUT_FILES]
        cursor.execute(_OPENED, [codes, OF_A_DAY, MOST_SUBJECTS])
        found = [_Opened(*row) for row in cursor.fetchall()]
    if not found:
        return None
    absolute = sum((abs(each.difference) for each in found), NOTHING)
    net = sum((each.difference for each in found), NOTHING)
    sums = f"{absolute:,.2f} USD absolute, {net:+,.2f} net"
    return Draft(
        kind=NoticeKind.DISCREPANCIES,
        subjects=[each.subject for each in found],
        title=f"{_count(len(found), 'discrepancy', 'discrepancies')} opened: {sums}",
        lines=[
            f"The oldest opened {instant(found[0].opened_at, terms.zone)}.",
            *_by_cause(found),
            f"All that stand: {terms.link(DESK)}",
            f"The oldest: {terms.link(f'/admin/settlements/discrepancy/{found[0].id}/change/')}",
        ],
        figures={"count": len(found), "absolute": f"{absolute:.2f}", "net": f"{net:.2f}"},
    )


def _by_cause(found: Sequence[_Opened]) -> list[str]:
    counts = Counter((each.kind, each.code) for each in found)
    sums: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: NOTHING)
    for each in found:
        sums[each.kind, each.code] += abs(each.difference)
    return [
        f"- {kind}, {code.replace('_', ' ')}: {number:,}, {sums[kind, code]:,.2f} USD absolute"
        for (kind, code), number in counts.most_common(MOST_LINES)
    ]


# --- Files -----------------------------------------------------------------------------------------


def files(*, now: Moment, terms: Terms) -> Draft | None:
    """Days of lanes whose file became late, or came and was set aside; late days of bank accounts.

    A bank's statement that was set aside is told as the discrepancy it is.
    """
    del now
    states = (ExpectationState.LATE, ExpectationState.QUARANTINED)
    lanes = StatementExpectation.objects.filter(state__in=states).order_by("day", "lane")
    banks = BankExpectation.objects.filter(state=ExpectationState.LATE).order_by("day", "account")
    days: dict[str, StatementExpectation | BankExpectation] = {
        f"file:{day.lane}:{day.day}:{day.state}:{day.statement_id or ''}": day for day in lanes
    }
    for each in banks:
        days[f"file:bank:{each.account}:{each.day}:late:"] = each
    fresh = untold(list(days))[:MOST_SUBJECTS]
    if not fresh:
        return None
    late = sum(days[subject].state == ExpectationState.LATE for subject in fresh)
    return Draft(
        kind=NoticeKind.FILES,
        subjects=fresh,
        title=f"Statement files: {late:,} days late, {len(fresh) - late:,} days set aside",
        lines=[
            *_shortened([_file_line(days[subject], terms) for subject in fresh]),
            f"All files that are owed: {terms.link(FILES)}",
        ],
        figures={"late": late, "set_aside": len(fresh) - late},
    )


def _file_line(day: StatementExpectation | BankExpectation, terms: Terms) -> str:
    whose = f"bank, {day.account}" if isinstance(day, BankExpectation) else day.lane
    if day.state == ExpectationState.LATE:
        return f"- {whose} for {day.day}: late, it was due {instant(day.due_at, terms.zone)}"
    return f"- {whose} for {day.day}: came and was set aside"


# --- Approvals -------------------------------------------------------------------------------------


def approvals(*, now: Moment, terms: Terms) -> Draft | None:
    """What waits for another person: proposals, verdicts, bill runs, closes, bulk requeues."""
    del now
    waiting = {**_proposals(terms), **_cases(terms), **_closes(), **_requeues(terms)}
    fresh = untold(list(waiting))
    if not fresh:
        return None
    usd = sum((waiting[subject][0] for subject in fresh), NOTHING)
    noun = _count(len(fresh), "decision waits", "decisions wait")
    return Draft(
        kind=NoticeKind.APPROVALS,
        subjects=fresh,
        title=f"{noun} for an approval: {usd:,.2f} USD",
        lines=[
            *_shortened([waiting[subject][1] for subject in fresh]),
            f"All that waits for you: {terms.link(HOME)}",
        ],
        figures={"count": len(fresh), "usd": f"{usd:.2f}"},
    )


def _proposals(terms: Terms) -> dict[str, tuple[Decimal, str]]:
    return {
        f"proposal:{row.pk}": (
            row.absolute,
            f"- proposal {row.pk}, {row.way}: {_rows(row)},"
            f" {row.absolute:,.2f} USD absolute, {row.net:+,.2f} net:"
            f" {terms.link(f'{PROPOSALS}{row.pk}/change/')}",
        )
        for row in Proposal.objects.filter(decision=Decision.OPEN).order_by("id")[:MOST_SUBJECTS]
    }


def _rows(proposal: Proposal) -> str:
    if proposal.way == Way.MATCHED:
        return f"{proposal.count} lines and attempts"
    return _count(proposal.count, "discrepancy", "discrepancies")


def _requeues(terms: Terms) -> dict[str, tuple[Decimal, str]]:
    return {
        f"requeue:{row.pk}": (
            row.usd,
            f"- bulk requeue {row.pk}: {_count(row.count, 'charge', 'charges')},"
            f" {row.usd:,.2f} USD: {terms.link(f'{REQUEUES}{row.pk}/change/')}",
        )
        for row in waiting_requeues().order_by("id")[:MOST_SUBJECTS]
    }


def _cases(terms: Terms) -> dict[str, tuple[Decimal, str]]:
    """Cases with a proposal; one that is proposed anew, otherwise, is told anew."""
    rows = waiting_cases().order_by("id")[:MOST_SUBJECTS]
    return {
        f"case:{row.pk}:{row.proposal[:60]}": (
            row.amount or NOTHING,
            f"- {row.get_kind_display().lower()}: {row.amount or NOTHING:,.2f} USD:"
            f" {terms.link(f'{CASES}{row.pk}/change/')}",
        )
        for row in rows
    }


def _closes() -> dict[str, tuple[Decimal, str]]:
    return {
        f"close:{row.pk}": (
            row.carried_usd,
            f"- {row}: {row.debit:,.2f} USD on each side of the journal,"
            f" {row.carried_count:,} carried over, {row.carried_usd:,.2f} USD",
        )
        for row in waiting_closes().order_by("id")
    }


def waiting_closes() -> Any:
    """Days and months that one person proposed to close."""
    return BooksClose.objects.filter(decision=Decision.OPEN)


def waiting_requeues() -> Any:
    """Bulk requeues above one person's limit that nobody decided."""
    return BulkRequeue.objects.filter(REQUEUE_WAITS)


def waiting_cases() -> Any:
    """Verdicts and bill runs that one person proposed and nobody approved."""
    return Case.objects.filter(CASE_WAITS)


# --- What pages ------------------------------------------------------------------------------------


def pages(*, now: Moment, terms: Terms) -> Draft | None:
    """What rings the pager is told to finance too, each reason once a day of the finance zone."""
    found = standing(now=now.real)
    day = now.real.astimezone(terms.zone).date()
    above = sorted(found.above(terms.limits), key=lambda reason: reason.value)
    fresh = untold([f"page:{reason.value}:{day}" for reason in above])
    if not fresh:
        return None
    said = [_page_line(r, found, terms.limits) for r in above if f"page:{r.value}:{day}" in fresh]
    return Draft(
        kind=NoticeKind.PAGE,
        subjects=fresh,
        title=f"Above what pages: {said[0]}",
        lines=[
            *(f"- {line}" for line in said),
            f"What stands: {terms.link(DESK)}",
            f"Passes: {terms.link(PASSES)}",
        ],
        figures={"count": found.count, "absolute": f"{found.usd:.2f}"},
    )


def _page_line(reason: Reason, found: Standing, limits: Limits) -> str:
    return {
        Reason.COUNT: f"{found.count:,} discrepancies stand (limit {limits.count:,})",
        Reason.USD: f"{found.usd:,.2f} USD absolute stand apart (limit {limits.usd:,.2f})",
        Reason.STOPPED: f"the last pass of reconciliation began {_ago(found.pass_age)}",
        Reason.TOPIC: f"the topic was last read {_ago(found.topic_age)}",
    }[reason]


def _ago(age: float | None) -> str:
    return "never" if age is None else f"{int(age) // 60:,} min ago"


# --- The morning digest ----------------------------------------------------------------------------


def digest_subject(*, now: Moment, terms: Terms) -> str | None:
    """The day whose digest is due, by the real clock in the finance zone; None before its time.

    A day has one digest whatever the clocks did that night: it is due from `digest_at` to the end of
    its local day, so a time that a spring skips comes an instant later, and an hour that an autumn
    repeats finds the day told.
    """
    local = now.real.astimezone(terms.zone)
    return f"digest:{local.date()}" if local.time() >= terms.digest_at else None


def digest(*, subject: str, now: Moment, terms: Terms) -> Draft:
    """The morning in one message: what is proved, awaited, discrepant; what is in doubt, dead, waiting."""
    days = days_to_prove(now=now.business)
    doubt, dead = readings.in_doubt(), readings.dead_letters(readings.open_cases())
    proposals = Proposal.objects.filter(decision=Decision.OPEN)
    piles = (waiting_cases(), proposals, waiting_closes(), waiting_requeues())
    waits = sum(pile.count() for pile in piles)
    line = headline(days, now=now.business)
    return Draft(
        kind=NoticeKind.DIGEST,
        subjects=[subject],
        title=f"{days.first} to {days.last}: {_short_headline(days)}",
        lines=[
            line,
            f"In doubt: {_count(doubt.count, 'charge', 'charges')}, {doubt.usd:,.2f} USD.",
            f"Dead letters: {dead.count:,}, {dead.usd:,.2f} USD.",
            f"Waiting for an approval: {waits:,}.",
            f"As of {instant(now.real, terms.zone)}: {terms.link(HOME)}",
        ],
        figures=_digest_figures(days, doubt, dead, waits),
    )


def headline(days: Days, *, now: datetime) -> str:
    """`38,412 proved, 1,588 await the file of cis for 2026-01-31, 1 h late, 3 discrepant (…)`."""
    waiting = [
        f"{each.captures.count:,} await the file of {each.lane} for {each.day}{_lateness(each, now)}"
        for each in days.awaiting
    ]
    more = len(waiting) - MOST_LINES
    beyond = [f"and {more:,} more days of lanes await theirs"] if more > 0 else []
    return (
        ", ".join(
            [f"{days.proved.count:,} proved", *waiting[:MOST_LINES], *beyond, _differing(days)]
        )
        + "."
    )


def _short_headline(days: Days) -> str:
    awaiting = sum(each.captures.count for each in days.awaiting)
    return f"{days.proved.count:,} proved, {awaiting:,} await a file, {_differing(days)}"


def _differing(days: Days) -> str:
    found = days.differing
    return f"{found.count:,} discrepant ({found.absolute:,.2f} absolute, {found.net:+,.2f} net)"


def _lateness(each: Awaited, now: datetime) -> str:
    late = each.late(now)
    if each.state == ExpectationState.QUARANTINED:
        return ", set aside"
    if late is None:
        return ""
    hours = int(late.total_seconds()) // 3600
    return f", {hours:,} h late" if hours else f", {int(late.total_seconds()) // 60} min late"


def _digest_figures(
    days: Days, doubt: readings.Pile, dead: readings.Pile, waits: int
) -> dict[str, object]:
    return {
        "proved": days.proved.count,
        "awaiting": sum(each.captures.count for each in days.awaiting),
        "discrepant": days.differing.count,
        "absolute": f"{days.differing.absolute:.2f}",
        "net": f"{days.differing.net:.2f}",
        "in_doubt": doubt.count,
        "in_doubt_usd": f"{doubt.usd:.2f}",
        "dead_letters": dead.count,
        "dead_letters_usd": f"{dead.usd:.2f}",
        "waiting": waits,
    }


# --- Words and what was told -----------------------------------------------------------------------


def untold(subjects: Sequence[str]) -> list[str]:
    """Those that no notice told of yet, in their order."""
    told = set(NoticeItem.objects.filter(subject__in=subjects).values_list("subject", flat=True))
    return [subject for subject in subjects if subject not in told]


def instant(moment: datetime, zone: ZoneInfo) -> str:
    """A time in the finance zone, and in UTC where that is another one."""
    there = moment.astimezone(zone)
    if not there.utcoffset():
        return f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"{there:%Y-%m-%d %H:%M} {zone.key} ({moment:%Y-%m-%d %H:%M} UTC)"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _shortened(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"- and {more:,} more"] if more > 0 else [])]
