"""Processors' statement files: read whole or not at all, then accepted or set aside.

A file with one row that cannot be read (settlements/formats) is refused as a whole, with the line
numbers of all of them (R39). A file that can be read but does not add up, does not follow the former
one, or holds a line type nobody agreed on is set aside with the reason (R40); it is taken up by
itself once the file before it has come. Balances that a person told of it, for want of the file's own,
may be told again as long as it is set aside.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID, uuid5

from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, Sum

from checkout import rescue
from checkout.clock import Ages, Moment
from checkout.failpoints import failpoint
from checkout.models import Attempt, Verdict
from checkout.money import CURRENCY
from settlements.expectations import day_start, note_days, statement_zone
from settlements.formats import FORMATS, Format, recognise
from settlements.formats.lines import (
    DAY,
    TYPES,
    BadRow,
    Item,
    Line,
    Refused,
    Summary,
    Told,
    summarise,
    why_not_these_days,
)
from settlements.formats.source import Bounds, Source, Torn, opened
from settlements.models import (
    NOTHING,
    ExpectationState,
    FeeTerms,
    ImportState,
    LineType,
    StatementExpectation,
    StatementImport,
    StatementLine,
)
from settlements.spool import Progress, Spool

_VERDICT: Final = ("state", "reason", "accepted_at")
_BALANCES: Final = ("opening", "closing", "balances_stated")
# A line that names no attempt of ours still needs a key to be looked at again by.
LINES: Final = UUID("b3a3f1de-6a39-5a0e-8a4c-2f2b8a6f9b70")
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
NOTHING_TOLD: Final = Told()
# Writes the audit trail's line about a file that was stored, or what was corrected of it; in the same
# transaction.
KeepTrail: TypeAlias = Callable[[StatementImport, str], object]
DEFAULT_BOUNDS: Final = Bounds()


class FeesDiffer(Exception):
    """The lane has other fee terms from that day on."""


@dataclass(frozen=True)
class Imported:
    """What became of a file; `again` when it had been imported before."""

    statement: StatementImport
    again: bool
    # Files set aside earlier that this one made acceptable.
    released: Sequence[StatementImport] = ()


@dataclass(frozen=True)
class Preview:
    """What would become of a file, were it imported now; nothing is stored."""

    sha256: str
    format: Format
    summary: Summary
    # With its balances, and `reason` if it would be set aside; not stored.
    statement: StatementImport
    # The same file, if it was imported before: importing it adds nothing.
    known: StatementImport | None
    # What it would correct of that one, in words; nothing if it may not, or says the same.
    correction: str = ""


def import_statement(
    *,
    path: Path,
    processor: str,
    lane: str,
    by: str,
    now: Moment,
    ages: Ages,
    format_name: str = "",
    told: Told = NOTHING_TOLD,
    bounds: Bounds = DEFAULT_BOUNDS,
    progress: Progress = lambda _: None,
    keep_trail: KeepTrail | None = None,
) -> Imported:
    """Store a processor's file for one of its accounts (a lane), in the format named or recognised.

    The same file again adds nothing; two equal lines in a file are two (R39, R41). A file that does
    not add up or follow is stored and set aside (R40); then it takes other balances when somebody who
    answers for it in the trail (`keep_trail`) tells them with the same file. Raises Refused, with
    nothing stored, when a row cannot be read or told balances do not add up, Torn when the file changes
    meanwhile, and OSError. `progress` is told how many more lines are read.
    """
    with opened(path, bounds) as source, Spool(progress) as spool:
        known = _known(lane, source)
        if known and keep_trail and known.state == ImportState.QUARANTINED:
            told = replace(told, file_name=told.file_name or source.name)
            return _tell_again(known, told=told, now=now, ages=ages, keep_trail=keep_trail)
        if known:
            return Imported(known, again=True)
        # Before the transaction: it must not stand idle while a million lines are read.
        reading = _read(source, lane=lane, format_name=format_name, told=told, now=now, spool=spool)
        with transaction.atomic():
            _lock(lane)
            known = _known(lane, source)
            if known:
                return Imported(known, again=True)
            statement = _statement(reading, processor=processor, lane=lane, by=by, now=now)
            statement.save(force_insert=True)
            if keep_trail:
                keep_trail(statement, "")
            _copy(statement, spool)
            source.must_be_unchanged()
            failpoint("statement.copied")
            if statement.state == ImportState.QUARANTINED:
                note_days(statement=statement, state=ExpectationState.QUARANTINED, ages=ages)
                return Imported(statement, again=False)
            _cover(statement, now=now, ages=ages)
            return Imported(statement, again=False, released=_release(lane, now=now, ages=ages))


def preview_statement(
    *,
    path: Path,
    processor: str,
    lane: str,
    by: str,
    now: Moment,
    format_name: str = "",
    told: Told = NOTHING_TOLD,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Preview:
    """Read a file as `import_statement` would, and say what would become of it. Raises the same."""
    with opened(path, bounds) as source:
        reading = _read(source, lane=lane, format_name=format_name, told=told, now=now)
        known, correction = _known(lane, source), ""
        if known and known.state == ImportState.QUARANTINED:
            correction = _correct(known, told=reading.told, now=now)
        if known and correction:
            statement = known
        else:
            statement = _statement(reading, processor=processor, lane=lane, by=by, now=now)
        return Preview(
            sha256=source.sha256,
            format=reading.format,
            summary=reading.summary,
            statement=statement,
            known=known,
            correction=correction,
        )


def _tell_again(
    statement: StatementImport, *, told: Told, now: Moment, ages: Ages, keep_trail: KeepTrail
) -> Imported:
    """Take other balances of a file that is set aside, and accept it if it may be accepted now.

    Of its lines nothing is read or stored again. Where nothing else is told it is known. Raises Refused.
    """
    with transaction.atomic():
        _lock(statement.lane)
        statement.refresh_from_db()
        if statement.state == ImportState.ACCEPTED:
            return Imported(statement, again=True)
        correction = _correct(statement, told=told, now=now)
        if not correction:
            return Imported(statement, again=True)
        statement.save(update_fields=[*_BALANCES, *_VERDICT])
        keep_trail(statement, correction)
        if statement.state == ImportState.QUARANTINED:
            return Imported(statement, again=False)
        _cover(statement, now=now, ages=ages)
        released = _release(statement.lane, now=now, ages=ages)
        return Imported(statement, again=False, released=released)


def _correct(statement: StatementImport, *, told: Told, now: Moment) -> str:
    """Give a row that is set aside the balances that are told now, not stored yet; what changed, in words.

    Nothing if none are told, or the same. Raises Refused for days other than those it was stored with,
    which cannot be told again, and for balances that do not fit.
    """
    opening, closing = FORMATS[statement.format].told_balances(told)
    before = _balances_of(statement)
    if closing is None or (opening, closing) == before:
        return ""
    days = statement.first_day, statement.last_day
    if told.first_day and (told.first_day, told.last_day) != days:
        raise Refused([BadRow(1, f"it was told to cover {days[0]} to {days[1]}, which stays so")])
    statement.closing, statement.balances_stated = closing, opening is not None
    statement.opening = NOTHING if opening is None else opening
    _judge(statement, unknown=_unknown_line(statement), is_told=True, now=now)
    was, becomes = map(_in_words, (before, (opening, closing)))
    return f"Told again: {becomes}, not {was}"


def _balances_of(statement: StatementImport) -> tuple[Decimal | None, Decimal]:
    return statement.opening if statement.balances_stated else None, statement.closing


def _in_words(balances: tuple[Decimal | None, Decimal]) -> str:
    opening, closing = balances
    return f"closing {closing}" if opening is None else f"opening {opening}, closing {closing}"


def _unknown_line(statement: StatementImport) -> tuple[int, str] | None:
    """The first line of a stored file whose type nobody agreed on."""
    foreign = statement.lines.exclude(type__in=TYPES).order_by("number")
    return foreign.values_list("number", "type").first()


@dataclass(frozen=True)
class _Reading:
    """A file that was read through once: by which format, and what it adds up to."""

    source: Source
    format: Format
    told: Told
    summary: Summary


def _read(
    source: Source,
    *,
    lane: str,
    format_name: str,
    told: Told,
    now: Moment,
    spool: Spool | None = None,
) -> _Reading:
    """Read a file through, and keep its lines in the spool if there is one. Raises Refused."""
    name = told.file_name or source.name
    told = replace(told, file_name=name, zone=statement_zone(lane))
    chosen = FORMATS[format_name] if format_name else recognise(source.head())
    items = chosen.read(source.chunks(), told)
    summary = summarise(items if spool is None else _spooled(items, spool, lane=lane))
    if summary.zone not in {None, told.zone.key}:
        reason = f"its days are {summary.zone}'s, those of {lane} are {told.zone.key}'s"
        raise Refused([BadRow(1, f"{reason}; see the statement terms of {lane}")])
    days = summary.first_day, summary.last_day
    reason = why_not_these_days(*days, today=now.business.date())
    reason = reason or _why_not_yet(lane, summary.last_day, now=now)
    if reason:
        raise Refused([BadRow(1, reason)])
    return _Reading(source, chosen, told, summary)


def _why_not_yet(lane: str, last_day: date, *, now: Moment) -> str:
    """Of a day that goes on, later captures would be missing from a file that is said to cover it."""
    ends = day_start(lane=lane, day=last_day + timedelta(days=1))
    if now.business >= ends:
        return ""
    return f"{last_day} is not over before {ends:%Y-%m-%d %H:%M} UTC; ask for the file of it then"


def _spooled(items: Iterable[Item], spool: Spool, *, lane: str) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Line):
            spool.add(0, _columns(lane, item))
        yield item


def agree_fees(*, lane: str, valid_from: date, rate: Decimal, fixed: Decimal) -> bool:
    """Record what a lane's processor may keep of a capture from a day on: rate × gross + `fixed` USD.

    Lines booked from that day on are held against it. False when the same terms are there already.
    Raises FeesDiffer when that day has other terms: what was agreed is never rewritten.
    """
    terms, added = FeeTerms.objects.get_or_create(
        lane=lane, valid_from=valid_from, defaults={"rate": rate, "fixed": fixed}
    )
    if (terms.rate, terms.fixed) != (rate, fixed):
        raise FeesDiffer(f"{terms}; agree on another day for {rate} + {fixed}")
    return added


def _known(lane: str, source: Source) -> StatementImport | None:
    return StatementImport.objects.filter(lane=lane, sha256=source.sha256).first()


def _statement(
    reading: _Reading, *, processor: str, lane: str, by: str, now: Moment
) -> StatementImport:
    """The file's row, not stored yet: what it says, and whether it may be accepted now. Raises Refused."""
    summary = reading.summary
    statement = StatementImport(
        processor=processor,
        lane=lane,
        format=reading.format.name,
        file_name=reading.told.file_name[:255],
        sha256=reading.source.sha256,
        first_day=summary.first_day,
        last_day=summary.last_day,
        opening=NOTHING if summary.opening is None else summary.opening,
        closing=NOTHING if summary.closing is None else summary.closing,
        balances_stated=summary.opening is not None and summary.closing is not None,
        movement=summary.movement,
        line_count=summary.line_count,
        imported_by=by,
        imported_at=now.real,
    )
    _judge(statement, unknown=summary.unknown, is_told=summary.is_told, now=now)
    return statement


def _judge(
    statement: StatementImport, *, unknown: tuple[int, str] | None, is_told: bool, now: Moment
) -> None:
    """Decide whether the row may be accepted now.

    Raises Refused for balances that were told and do not add up with the lines: a mistyped one, or a
    report that was cut short, leaves nothing behind.
    """
    _state_opening(statement)
    if is_told and not _waits(statement) and (odd := _does_not_add_up(statement)):
        raise Refused([BadRow(1, f"{odd}; is the report whole, and are these its balances?")])
    reason = _unknown_type(unknown) or _why_set_aside(statement)
    statement.reason = reason[:300]
    statement.state = ImportState.QUARANTINED if reason else ImportState.ACCEPTED
    statement.accepted_at = None if reason else now.real


def _state_opening(statement: StatementImport) -> None:
    """Of a file that names none, the former closing."""
    if statement.balances_stated:
        return
    before = _before(statement)
    statement.opening = before.closing if before else NOTHING


def _unknown_type(unknown: tuple[int, str] | None) -> str:
    if unknown is None:
        return ""
    return f"line {unknown[0]} is of the type {unknown[1]!r}, which is not on the closed list"


def _why_set_aside(statement: StatementImport) -> str:
    """Why a file may not be accepted now, in a sentence; nothing if it may (R40)."""
    checks = (_does_not_add_up, _is_covered, _does_not_follow)
    if _waits(statement):
        # It has no opening before the file that it follows is there.
        checks = (_is_covered, _does_not_follow, _does_not_add_up)
    return next(filter(None, (check(statement) for check in checks)), "")


def _waits(statement: StatementImport) -> bool:
    """Whether its opening is to be the closing of a file that has not been accepted yet."""
    before = _before(statement)
    follows = before is None or before.last_day + DAY == statement.first_day
    return not statement.balances_stated and not follows


def _does_not_add_up(statement: StatementImport) -> str:
    total = statement.opening + statement.movement
    if total == statement.closing:
        return ""
    return (
        f"opening {statement.opening} and lines of {statement.movement} make {total}, but the"
        f" closing is {statement.closing}"
    )


def _is_covered(statement: StatementImport) -> str:
    days = Q(day__gte=statement.first_day, day__lte=statement.last_day)
    covered = StatementExpectation.objects.filter(
        days, lane=statement.lane, state=ExpectationState.ARRIVED
    )
    taken = covered.order_by("day").first()
    return f"{taken.day} is covered by another file already" if taken else ""


def _before(statement: StatementImport) -> StatementImport | None:
    """The accepted file of the days before."""
    return (
        StatementImport.objects.filter(
            lane=statement.lane, state=ImportState.ACCEPTED, last_day__lt=statement.first_day
        )
        .order_by("-last_day")
        .first()
    )


def _does_not_follow(statement: StatementImport) -> str:
    accepted = StatementImport.objects.filter(lane=statement.lane, state=ImportState.ACCEPTED)
    before = _before(statement)
    after = accepted.filter(first_day__gt=statement.last_day).order_by("first_day").first()
    if before and before.last_day + DAY != statement.first_day:
        return f"the days from {before.last_day + DAY} have no accepted file yet"
    if before and before.closing != statement.opening:
        return f"opening {statement.opening} is not the former closing {before.closing}"
    if after and statement.last_day + DAY != after.first_day:
        return f"the days from {statement.last_day + DAY} have no accepted file yet"
    if after and after.opening != statement.closing:
        return f"closing {statement.closing} is not the opening {after.opening} that follows"
    return ""


def _release(lane: str, *, now: Moment, ages: Ages) -> list[StatementImport]:
    """Accept the files that only waited for this one, one after the other."""
    released: list[StatementImport] = []
    while True:
        aside = StatementImport.objects.filter(lane=lane, state=ImportState.QUARANTINED)
        foreign = StatementLine.objects.filter(statement=OuterRef("pk")).exclude(type__in=TYPES)
        known = aside.exclude(Exists(foreign)).order_by("first_day", "id")
        follower = next((file for file in known if _follows_now(file)), None)
        if follower is None:
            _say_why_now(known)
            return released
        follower.state, follower.reason, follower.accepted_at = ImportState.ACCEPTED, "", now.real
        follower.save(update_fields=[*_VERDICT, "opening"])
        _cover(follower, now=now, ages=ages)
        released.append(follower)


def _say_why_now(aside: Iterable[StatementImport]) -> None:
    """Of what stays set aside the reason moves on: a file waits no more, but does not add up, say."""
    for file in aside:
        _state_opening(file)
        reason = _why_set_aside(file)[:300]
        if reason != file.reason:
            file.reason = reason
            file.save(update_fields=["reason", "opening"])


def _follows_now(statement: StatementImport) -> bool:
    _state_opening(statement)
    return not _why_set_aside(statement)


def _cover(statement: StatementImport, *, now: Moment, ages: Ages) -> None:
    """Mark the file's days as covered, and stop asking for what it proves was not captured (R22)."""
    covered = note_days(statement=statement, state=ExpectationState.ARRIVED, ages=ages)
    if covered != (statement.last_day - statement.first_day).days + 1:
        raise Torn(f"{statement} covers a day that another accepted file covers")
    listed = StatementLine.objects.filter(
        key=OuterRef("pk"), type=LineType.CHARGE, statement__state=ImportState.ACCEPTED
    )
    not_listed = Attempt.objects.filter(
        ~Exists(listed),
        lane=statement.lane,
        verdict=Verdict.NOT_FOUND,
        next_query_at__isnull=False,
        booked_at__gte=day_start(lane=statement.lane, day=statement.first_day),
        booked_at__lt=day_start(lane=statement.lane, day=statement.last_day + DAY),
    )
    rescue.stop_asking(attempt_ids=list(not_listed.values_list("pk", flat=True)), now=now)


def _copy(statement: StatementImport, spool: Spool) -> None:
    """Send the movements into the table, and see that they are those that were added up."""
    spool.send(copy=_COPY, ids={0: statement.pk})
    stored = statement.lines.aggregate(count=Count("id"), movement=Sum("net"))
    if (stored["count"], stored["movement"] or NOTHING) != (
        statement.line_count,
        statement.movement,
    ):
        raise Torn(f"{statement.file_name}: what was stored is not what was read; import it again")


def _columns(lane: str, line: Line) -> tuple[object, ...]:
    return (
        line.number,
        _key(lane, line),
        line.line_id,
        line.type,
        line.reference,
        line.processor_reference,
        line.booked_at,
        line.gross,
        line.fee,
        line.net,
        CURRENCY,
        line.payout,
    )


def _key(lane: str, line: Line) -> str:
    """The attempt that a charge line names by our own reference; any other line has a key of its own."""
    reference = line.reference.lower()
    if line.type == LineType.CHARGE and _ID.fullmatch(reference):
        return reference
    return str(uuid5(LINES, f"{lane}:{line.line_id}"))


def _lock(lane: str) -> None:
    """One import a lane at a time: two would both follow the same former file."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"statement:{lane}"])


_COPY: Final = """
    COPY settlements_statementline (
      statement_id, number, key, line_id, type, reference, processor_reference, booked_at, gross,
      fee, net, currency, payout) FROM STDIN
"""
