"""The comparisons: what must agree to the cent, and what does not (DESIGN section 6).

A pass is full or incremental, and both run the same SQL of `comparisons/` over what they look at:

1. The topic is read on from where the last reading stopped (settlements/topic.py), and lines of
   attempts that are not known to be captured go to the resolver (R53). No transaction is open.
2. In one transaction, one pass at a time: the marks of `reconcile_dirty` are consumed, and what they
   name, with what only the passing of time makes due, becomes the scope (R55). A full pass then
   takes everything, slice by slice, so that an incremental one may run between two slices.
3. Each comparison finds what does not agree. What is found is recorded under its fingerprint; what
   was looked at and no longer found is cleared by evidence (R54).

One row that PostgreSQL cannot compute with stops the comparisons that read it and no other. Such a pass
clears nothing of them, gives its marks back and has no end: so nothing takes it for a whole one.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import DataError, connection, transaction
from django.db.models import Q

from checkout.clock import Ages, Clock, Moment
from checkout.failpoints import failpoint
from settlements.models import STANDING, Discrepancy, Kind, ReconciliationRun, RunMode
from settlements.topic import Topic, read_topic, topic_read_at
from settlements.unresolved import ALL_LINES, MARKED_LINES, Resolve, resolve_first

logger = logging.getLogger(__name__)

KINDS: Final = (
    Kind.BILLING,
    Kind.CAPTURED,
    Kind.PERIODS,
    Kind.STATEMENT,
    Kind.LEDGER,
    Kind.EVENTS,
    Kind.PAYOUT,
)
# As many times more where lines are compared, which takes less memory: fewer slices read less twice.
LINES_TIMES: Final = 4
# Those that ask the calendar what was owed.
BY_CALENDAR: Final = frozenset({Kind.BILLING, Kind.CAPTURED, Kind.PERIODS, Kind.LEDGER})
# Any number that nothing else in this database locks.
LOCK: Final = 7_204_115
# How long after its start a full pass that did not end is begun anew.
FULL_AGAIN: Final = timedelta(hours=1)
# Charges a slice of a full pass looks at: some seconds, in which no other pass can run, and the memory
# that sums and sorts take, however long the history of a creator is.
SLICE: Final = 75_000
# How long before the topic was last read a message may have been published and not been judged yet: the
# two minutes that comparisons/events.sql gives it, and a day for a relay that commits late or is slow.
UNJUDGED: Final = timedelta(days=1, hours=1)
# One in so many charges, or fewer, are looked up one by one.
FEW: Final = 20
# An incremental run without a finding is kept this long.
RUNS_KEPT: Final = timedelta(days=2)

Progress: TypeAlias = Callable[[int], None]


def _sql(name: str) -> str:
    return (Path(__file__).parent / "comparisons" / f"{name}.sql").read_text("utf-8")


_TABLES, _MARKED, _OWED = map(_sql, ("scope", "scope_marked", "owed"))
_ALL, _ALL_LINES, _ALL_EVENTS = map(_sql, ("scope_all", "scope_lines", "scope_events"))
_EXPECTATIONS, _FIND, _SEEN = map(_sql, ("expectations", "find", "seen"))
_REWRITING, _REWRITTEN, _RECORD, _CLEAR = map(_sql, ("rewriting", "rewritten", "record", "clear"))
_COMPARISONS: Final = {kind: _sql(kind.value) for kind in KINDS}
# The rows that a pass looks at: all that its creators have, or those that are named.
_OF_CREATORS: Final = {
    "{charges}": "reconcile_creator k JOIN checkout_charge c ON c.creator_id = k.id",
    "{attempts}": "reconcile_creator k JOIN checkout_attempt a ON a.creator_id = k.id",
}
_OF_CHARGES: Final = {
    "{charges}": "reconcile_charge k JOIN checkout_charge c ON c.id = k.id",
    "{attempts}": "reconcile_charge k JOIN checkout_attempt a ON a.charge_id = k.id",
}
_SCOPE: Final = (
    "reconcile_creator, reconcile_charge, reconcile_topic, reconcile_line, reconcile_mark"
)
_LOOKED_AT: Final = """
    SELECT count(*) FROM (
      SELECT id FROM reconcile_creator UNION SELECT key FROM reconcile_topic
      UNION SELECT c.creator_id FROM reconcile_charge k JOIN checkout_charge c ON c.id = k.id
    ) creators
"""


class NotCompared(Exception):
    """Not all of these kinds can be compared: a row holds what PostgreSQL cannot compute with."""

    def __init__(self, kinds: Collection[Kind]) -> None:
        super().__init__(
            f"not all of {', '.join(kinds)} can be compared: a row holds a date or an amount that"
            " cannot be computed with; the log says which kind, and what PostgreSQL says of it"
        )


@dataclass(frozen=True)
class Finding:
    """One disagreement; amounts are USD, 0.00 where it is not about money."""

    fingerprint: str
    kind: str
    code: str
    charge_id: UUID | None
    creator_id: UUID | None
    expected: Decimal
    actual: Decimal
    explanation: str


def reconcile(
    *,
    kinds: Collection[Kind] = KINDS,
    clock: Clock,
    ages: Ages,
    topic: Topic | None = None,
    resolve: Resolve | None = None,
    at_once: int = SLICE,
    progress: Progress = lambda _: None,
) -> ReconciliationRun:
    """Compare everything of these kinds and record what does not agree, `at_once` charges a time.

    With `topic` it is read whole and anew; with `resolve` the attempts whose line has come are asked
    about first. `progress` is told how many more creators were looked at. Raises what the topic's
    reader raises; nothing is compared then.
    """
    if topic is not None and Kind.EVENTS in kinds:
        read_topic(topic=topic, now=clock.now(), anew=True)
    if resolve is not None and Kind.STATEMENT in kinds:
        resolve_first(ALL_LINES, resolve)
    if set(kinds) == set(KINDS):
        _marked_pass(now=clock.now(), ages=ages)
    return _full_pass(kinds=kinds, clock=clock, ages=ages, at_once=at_once, progress=progress)


def reconcile_incremental(
    *, clock: Clock, ages: Ages, topic: Topic | None = None, resolve: Resolve | None = None
) -> ReconciliationRun:
    """Compare what changed, or came due, since the last pass; it finds what a full one finds (R55).

    It may run twice or beside another: passes take turns, and each consumes the marks it read; a
    mark that commits later is there for the next. Raises what the topic's reader raises, but only
    after the pass: Kafka away never keeps a cent from being named.
    """
    try:
        if topic is not None:
            read_topic(topic=topic, now=clock.now())
    finally:
        if resolve is not None:
            resolve_first(MARKED_LINES, resolve)
        run = _marked_pass(now=clock.now(), ages=ages)
    return run


def is_full_due(*, at: time, zone: ZoneInfo, now: Moment) -> bool:
    """Whether no full pass of all kinds has ended since `at` o'clock was last passed in this zone.

    One that was cut short is begun anew, an hour after it began: what cuts it short may do so again.
    """
    here = now.real.astimezone(zone)
    tonight = datetime.combine(here.date(), at, zone)
    if here < tonight:
        tonight = datetime.combine(here.date() - timedelta(days=1), at, zone)
    whole = ReconciliationRun.objects.filter(mode=RunMode.FULL, kinds=" ".join(KINDS))
    ended = Q(started_at__gte=tonight, ended_at__isnull=False)
    lately = Q(started_at__gt=now.real - FULL_AGAIN)
    return not whole.filter(ended | lately).exists()


def look(
    *,
    kinds: Collection[Kind] = KINDS,
    as_of: datetime,
    now: Moment,
    progress: Progress = lambda _: None,
) -> list[Finding]:
    """What does not agree when periods and files are judged as of this business time.

    It records nothing and consumes no mark. `progress` is told of each kind that was compared.
    Raises NotCompared.
    """
    moments = _moments(as_of=as_of, business=as_of, now=now)
    with transaction.atomic(), connection.cursor() as cursor:
        _look_at_all(kinds, UUID(int=0), None)
        compared = _compare(kinds, moments, rows=_OF_CREATORS, progress=progress)
        if missing := [kind for kind in kinds if kind not in compared]:
            raise NotCompared(missing)
        cursor.execute(
            "SELECT fingerprint, kind, code, charge_id, creator_id, expected, actual, explanation"
            " FROM reconcile_found ORDER BY kind, code, fingerprint"
        )
        return [Finding(*row) for row in cursor.fetchall()]


def standing(*, kinds: Collection[Kind] = KINDS) -> list[Finding]:
    """Every discrepancy of these kinds that is open now, the oldest first."""
    columns = ("charge_id", "creator_id", "expected", "actual", "explanation")
    open_now = Discrepancy.objects.filter(STANDING, kind__in=kinds)
    rows = open_now.order_by("opened_at", "id").values_list("fingerprint", "kind", "code", *columns)
    return [Finding(*row) for row in rows]


def judged_as_of(*, now: Moment, ages: Ages) -> datetime:
    """Up to which business time a period must have been billed by now.

    Billing is given `bill_within` real seconds. The business clock may have been moved meanwhile, so
    its reading is that of the newest pass which is older than this, else a little before the first.
    """
    patience = timedelta(seconds=ages.bill_within)
    readings = ReconciliationRun.objects.values_list("business_at", flat=True)
    older = readings.filter(started_at__lte=now.real - patience).order_by("-started_at", "-id")
    reading = older.first() or readings.order_by("started_at", "id").first()
    if reading is None or not older:
        reading = (reading or now.business) - patience
    return min(reading, now.business)


# --- One pass ------------------------------------------------------------------------------------


def _marked_pass(*, now: Moment, ages: Ages) -> ReconciliationRun:
    """Look at what is marked or came due, and consume the marks, in one transaction."""
    with transaction.atomic():
        _take_turn()
        moments = _moments(as_of=judged_as_of(now=now, ages=ages), business=now.business, now=now)
        _execute(_TABLES)
        marks = _consume_marks()
        failpoint("reconcile.marks_consumed")
        _execute(_MARKED, {**moments, "unjudged_since": _unjudged_since()})
        _look_up_each(when=_are_few())
        is_whole = _expect_files(_OF_CHARGES["{attempts}"], moments, ages=ages)
        run = _begin_run(RunMode.INCREMENTAL, KINDS, now=now, moments=moments)
        is_whole &= _compare_and_record(run, KINDS, moments)
        if not is_whole:
            _execute(_GIVE_MARKS_BACK)
        _end_run(run, is_whole=is_whole, marks=marks, now=now, moments=moments)
        _look_up_each(when=False)
    return run


def _full_pass(
    *, kinds: Collection[Kind], clock: Clock, ages: Ages, at_once: int, progress: Progress
) -> ReconciliationRun:
    """Look at every creator, slice by slice; marks are left to the passes between the slices.

    Captures and lines come first and in larger slices; `progress` tells of the others then.
    """
    now = clock.now()
    judged = _moments(as_of=judged_as_of(now=now, ages=ages), business=now.business, now=now)
    run = _begin_run(RunMode.FULL, kinds, now=now, moments=judged)
    is_whole = True
    if Kind.STATEMENT in kinds:
        with transaction.atomic():
            _take_turn()
            is_whole = _expect_files("checkout_attempt a", judged, ages=ages)
    groups = _groups(kinds, at_once)
    for group, rows in groups:
        run.creators = 0  # counted once, with the last
        for low, high in _slices(rows):
            now = clock.now()
            read = _moments(as_of=run.as_of, business=now.business, now=now)
            moments = {**read, "low": low, "high": high}
            with transaction.atomic():
                _take_turn()
                _look_at_all(group, low, high)
                before = run.creators
                is_whole &= _compare_and_record(run, group, moments)
            failpoint("reconcile.slice_committed")
            if group == groups[-1][0]:
                progress(run.creators - before)
    _end_run(run, is_whole=is_whole, marks=0, now=clock.now(), moments=judged)
    return run


def _groups(kinds: Collection[Kind], at_once: int) -> list[tuple[list[Kind], int]]:
    """The kinds that are compared together, with the charges of their slices."""
    lines: list[Kind] = [kind for kind in kinds if kind == Kind.STATEMENT]
    others: list[Kind] = [kind for kind in kinds if kind != Kind.STATEMENT]
    return [each for each in ((lines, LINES_TIMES * at_once), (others, at_once)) if each[0]]


def _take_turn() -> None:
    """One pass at a time: two would clear each other's findings between a look and its record."""
    _execute("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})


def _look_at_all(kinds: Collection[Kind], low: UUID, high: UUID | None) -> None:
    """Make a slice the scope: identifiers from `low` up to, not including, `high` (None: the end)."""
    _execute(_TABLES)
    _execute(_ALL, {"low": low, "high": high})
    for kind, scope in ((Kind.STATEMENT, _ALL_LINES), (Kind.EVENTS, _ALL_EVENTS)):
        if kind in kinds:
            _execute(scope, {"low": low, "high": high})


def _expect_files(attempts: str, moments: Mapping[str, Any], *, ages: Ages) -> bool:
    """Files are expected of every day of a lane with a capture among these, and of our banks' days.

    Returns whether all these days could be computed.
    """
    sql = _EXPECTATIONS.replace("{attempts}", attempts)
    values = {**moments, "statement_due": ages.statement_due}
    return _computed(sql, values, what=[Kind.STATEMENT])


def _slices(at_once: int) -> list[tuple[UUID, UUID | None]]:
    """Ranges of creators' identifiers, from a first one up to, not including, a second."""
    rows = _count(
        "SELECT greatest((SELECT count(*) FROM checkout_charge),"
        " (SELECT count(*) FROM checkout_creator))"
    )
    count = max(1, -(-rows // at_once))
    edges = [UUID(int=(1 << 128) * n // count) for n in range(count)]
    return list(zip(edges, [*edges[1:], None], strict=True))


def _begin_run(
    mode: RunMode, kinds: Collection[Kind], *, now: Moment, moments: Mapping[str, Any]
) -> ReconciliationRun:
    return ReconciliationRun.objects.create(
        mode=mode,
        kinds=" ".join(kinds),
        started_at=now.real,
        business_at=now.business,
        as_of=moments["as_of"],
        creators=0,
        marks=0,
        opened=0,
        cleared=0,
        standing=0,
    )


def _compare_and_record(
    run: ReconciliationRun, kinds: Collection[Kind], moments: Mapping[str, Any]
) -> bool:
    """Compare what the scope holds, and add to the run's counts what that opened and cleared.

    Returns whether all of it could be compared; nothing of any other kind is cleared.
    """
    full = run.mode == RunMode.FULL
    run.creators += _count(_LOOKED_AT)
    compared = _compare(kinds, moments, rows=_OF_CREATORS if full else _OF_CHARGES)
    _execute(_REWRITING)
    run.opened += _count_new()
    # What a pass writes of discrepancies marks nothing; what anybody else does is looked at again.
    _execute("SET LOCAL settlements.is_pass = 'yes'")
    _execute(_RECORD, {**moments, "run": run.pk})
    # A rewriting that was healed before it was seen is on record by now, and is gone as well.
    _execute(_REWRITTEN)
    values = [kind.value for kind in compared]
    looked_at = {"kinds": values, "full": full, "low": None, "high": None}
    run.cleared += _execute(_CLEAR, {**looked_at, **moments})
    _execute("SET LOCAL settlements.is_pass = 'no'")
    if Kind.EVENTS in compared:
        _execute(_SEEN, moments)
    return len(compared) == len(kinds)


def _end_run(
    run: ReconciliationRun, *, is_whole: bool, marks: int, now: Moment, moments: Mapping[str, Any]
) -> None:
    run.marks, run.ended_at = marks, now.real if is_whole else None
    if is_whole and Kind.EVENTS in run.kinds.split():
        run.topic_read_at = moments["topic_read_at"]
    run.standing = Discrepancy.objects.filter(STANDING).count()
    counted = ["creators", "marks", "opened", "cleared", "standing"]
    run.save(update_fields=[*counted, "ended_at", "topic_read_at"])
    _forget_runs(now=now)
    counts = {name: getattr(run, name) for name in ("marks", "creators", "opened", "cleared")}
    # A pass that had nothing to look at comes every few seconds; its row and its age say enough.
    level = logging.INFO if any(counts.values()) else logging.DEBUG
    logger.log(level, "reconciled", extra={"run": run.pk, "mode": str(run.mode), **counts})


def _moments(*, as_of: datetime, business: datetime, now: Moment) -> Mapping[str, Any]:
    return {
        "as_of": as_of,
        "business": business,
        "now": now.real,
        "topic_read_at": topic_read_at(),
    }


def _are_few() -> bool:
    """Whether fewer than a part of all charges, as the planner last counted them, are looked at."""
    known = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'checkout_charge'::regclass"
    return _count("SELECT count(*) FROM reconcile_charge") * FEW < _count(known)


def _look_up_each(*, when: bool) -> None:
    """Read no table whole: for a hundredth of the charges the planner would, and take twice as long."""
    _execute(f"SET LOCAL enable_seqscan = {'off' if when else 'on'}")


def _unjudged_since() -> datetime:
    """What was published before has been judged by a pass; real clock, the first ever if none was."""
    passes = ReconciliationRun.objects.filter(topic_read_at__isnull=False)
    newest = passes.order_by("-started_at", "-id").values_list("topic_read_at", flat=True).first()
    return newest - UNJUDGED if newest else datetime.min.replace(tzinfo=UTC)


def _consume_marks() -> int:
    """Take exactly the marks that are visible now; a later commit's stays for the next pass."""
    return _execute(
        "WITH taken AS (DELETE FROM reconcile_dirty RETURNING id, kind, subject, detail)"
        " INSERT INTO reconcile_mark SELECT min(id), max(id), kind, subject, detail"
        " FROM taken GROUP BY kind, subject, detail"
    )


# For the next pass, which looks at the same again, until the row that stopped this one is put right.
_GIVE_MARKS_BACK: Final = """
    INSERT INTO reconcile_dirty (kind, subject, detail)
    SELECT kind, subject, detail FROM reconcile_mark WHERE kind <> 'rewritten'
    UNION ALL
    -- What was rewritten is on record by now: whose it is has to be looked at again.
    SELECT DISTINCT 'creator', subject, NULL::jsonb FROM reconcile_mark
    WHERE kind = 'rewritten' AND subject IS NOT NULL
"""


def _compare(
    kinds: Collection[Kind],
    moments: Mapping[str, Any],
    *,
    rows: Mapping[str, str],
    progress: Progress = lambda _: None,
) -> list[Kind]:
    """Find what does not agree; returns the kinds that could be compared."""
    # Without statistics the planner would take a creator for a thousand, and a million for one.
    _execute(f"ANALYZE {_SCOPE}")
    has_calendar = True
    if by_calendar := BY_CALENDAR.intersection(kinds):
        has_calendar = _computed(_filled(_OWED, rows), moments, what=by_calendar)
        _execute("ANALYZE reconcile_owed")
    compared = list[Kind]()
    for kind in kinds:
        find = _FIND.replace("{comparison}", _filled(_COMPARISONS[kind], rows))
        is_possible = has_calendar or kind not in BY_CALENDAR
        values = {**moments, "kind": kind.value, "has_lines": Kind.STATEMENT in compared}
        if is_possible and _computed(find, values, what=[kind]):
            compared.append(kind)
        progress(1)
    return compared


def _computed(sql: str, values: Mapping[str, Any], *, what: Collection[Kind]) -> bool:
    """Run a statement of a comparison; False, with no trace of it, for a row that stops it."""
    try:
        with transaction.atomic():
            _execute(sql, values)
    except DataError:
        logger.exception("cannot be compared", extra={"kinds": sorted(what)})
        return False
    return True


def _filled(sql: str, rows: Mapping[str, str]) -> str:
    for place, joined in rows.items():
        sql = sql.replace(place, joined)
    return sql


def _count_new() -> int:
    return _count(
        "SELECT count(*) FROM reconcile_found f WHERE NOT EXISTS (SELECT 1"
        " FROM settlements_discrepancy d"
        " WHERE d.fingerprint = f.fingerprint AND d.cleared_at IS NULL"
        " AND (d.resolved_at IS NULL OR (d.expected, d.actual) = (f.expected, f.actual)))"
    )


def _forget_runs(*, now: Moment) -> None:
    """Forget old runs without a finding, a few a pass, but the newest: `judged_as_of` may read it."""
    past = ReconciliationRun.objects.filter(started_at__lt=now.real - RUNS_KEPT)
    newest = past.order_by("-started_at", "-id").values_list("pk", flat=True).first() or 0
    empty = past.filter(mode=RunMode.INCREMENTAL, opened=0, cleared=0, found__isnull=True)
    forgotten = list(empty.exclude(pk=newest).values_list("pk", flat=True)[:100])
    ReconciliationRun.objects.filter(pk__in=forgotten).delete()


# --- SQL -----------------------------------------------------------------------------------------


def _execute(sql: str, values: Mapping[str, Any] | None = None) -> int:
    """Run a statement, or several; returns how many rows the (last) one touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)


def _count(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (count,) = cursor.fetchone()
    return int(count)
