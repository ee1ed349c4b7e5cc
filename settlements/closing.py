"""Closing settlement periods: what was recorded before the cut is settled, once and for ever.

The close of the books, a day or a month of the ledger, is settlements/books.py.

The cut of a period is the midnight (UTC, business clock) at which it ends. A settlement takes every fact
of its creator that has no line yet and was recorded before its cut; what is recorded, or committed,
later falls into the next one with its own date. A period without facts has no settlement.

A batch is one transaction, as in checkout/billing.py: creators locked in id order, then read again. So
a run killed anywhere, or two runs at once, close each period once.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db import connection

from checkout import outbox
from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.models import Creator
from checkout.money import CURRENCY
from settlements.calendar import Period, lands_on, period_from, period_of
from settlements.models import NOTHING, TOTALS, OpenPeriod, Settlement, SettlementSchedule
from settlements.settling import holidays_of

logger = logging.getLogger(__name__)

BATCH: Final = 1000  # the most creators one transaction may lock
CLOSED: Final = "settlement.closed"

Progress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class Closed:
    """What a run closed: periods looked at, settlements made of them, and their net in USD."""

    periods: int
    settlements: int
    net: Decimal

    def __add__(self, other: "Closed") -> "Closed":
        return Closed(
            self.periods + other.periods,
            self.settlements + other.settlements,
            self.net + other.net,
        )

    def __str__(self) -> str:
        return f"{self.periods} periods, {self.settlements} settlements of {self.net} USD"


@dataclass(frozen=True)
class _Due:
    """An open period that has ended, with what follows it."""

    settlement_id: UUID
    creator_id: UUID
    schedule_id: int
    period: Period
    lands_on: date
    next_schedule_id: int
    next_period: Period


@dataclass(frozen=True)
class _Sums:
    """The lines of one settlement, added up by total; USD."""

    line_count: int
    net: Decimal
    totals: Mapping[str, Decimal]


def close_periods(
    *, clock: Clock, ages: Ages, batch: int = BATCH, progress: Progress = lambda _: None
) -> Closed:
    """Close every period that has ended, the oldest first, batch by batch.

    `progress` is told how many periods each batch looked at, after its commit. Raises
    commit.DatabaseAway.
    """
    closed = Closed(0, 0, NOTHING)
    commit = partial(committed, deadline=ages.database_wait_before_call, clock=clock)
    while commit(partial(_open_batch, batch=batch)):
        pass
    while found := commit(partial(_close_batch, now=clock.now(), batch=batch)):
        progress(found.periods)
        closed += found
    if closed.settlements:
        counts = {"periods": closed.periods, "settlements": closed.settlements}
        logger.info("settlements closed", extra=counts)
    return closed


def count_due(*, today: date) -> int:
    """How many open periods have ended by this day (business clock, UTC)."""
    return OpenPeriod.objects.filter(ends_on__lte=today).count()


def _open_batch(*, batch: int) -> int:
    """Give creators with a first schedule and no open period their first one: the whole one of its day."""
    first = SettlementSchedule.objects.filter(version=1, creator__open_period__isnull=True)
    schedules = list(first.order_by("creator_id")[:batch])
    OpenPeriod.objects.bulk_create(
        [_first_period(schedule) for schedule in schedules], ignore_conflicts=True
    )
    return len(schedules)


def _first_period(schedule: SettlementSchedule) -> OpenPeriod:
    period = period_of(rule=schedule.rule, day=schedule.active_from)
    return OpenPeriod(
        creator_id=schedule.creator_id,
        schedule_id=schedule.pk,
        starts_on=period.start,
        ends_on=period.end,
    )


def _close_batch(*, now: Moment, batch: int) -> Closed | None:
    """Close the oldest ended periods, one a creator; None when there is none any more."""
    ended = OpenPeriod.objects.filter(ends_on__lte=now.business.date())
    oldest = ended.order_by("ends_on", "creator_id").values_list("creator_id", flat=True)
    creators = list(oldest[:batch])
    if not creators:
        return None
    Creator.lock(creators)
    # Read again under the lock: another run may have been first, and a schedule may have changed.
    mine = ended.filter(creator_id__in=creators).select_related("schedule")
    due = _due(list(mine.order_by("creator_id")))
    if not due:
        return Closed(0, 0, NOTHING)
    sums = _gather(due, now=now)
    closed = [each for each in due if each.settlement_id in sums]
    if closed:
        _store(closed, sums, now=now)
    _advance(due)
    return Closed(len(due), len(closed), sum((s.net for s in sums.values()), NOTHING))


def _due(periods: Sequence[OpenPeriod]) -> list[_Due]:
    """What is to be closed, in the order of the creators, and what follows it."""
    following = _following(periods)
    holidays = holidays_of({period.schedule.calendar for period in periods})
    due = [
        _Due(
            settlement_id=Settlement.derive_id(
                creator_id=period.creator_id, period_start=period.starts_on.isoformat()
            ),
            creator_id=period.creator_id,
            schedule_id=period.schedule_id,
            period=Period(period.starts_on, period.ends_on),
            lands_on=lands_on(
                rule=period.schedule.rule,
                end=period.ends_on,
                holidays=holidays[period.schedule.calendar],
            ),
            next_schedule_id=following[period.creator_id].pk,
            next_period=_next_period(period, following[period.creator_id]),
        )
        for period in periods
    ]
    years = {
        (p.schedule.calendar, each.lands_on.year) for p, each in zip(periods, due, strict=True)
    }
    _warn_of_unknown_years(years, holidays)
    return due


def _warn_of_unknown_years(
    years: Collection[tuple[str, int]], holidays: Mapping[str, Collection[date]]
) -> None:
    """Money was promised for days of which only the weekends are known."""
    for calendar, year in sorted(years):
        if not any(day.year == year for day in holidays[calendar]):
            extra = {"calendar": calendar, "year": year, "do": "manage.py load_holidays"}
            logger.warning("calendar without holidays", extra=extra)


def _following(periods: Sequence[OpenPeriod]) -> dict[UUID, SettlementSchedule]:
    """For each creator, the version that holds on the day after its open period."""
    ends = {period.creator_id: period.ends_on for period in periods}
    versions = SettlementSchedule.objects.filter(creator_id__in=ends)
    return {
        version.creator_id: version
        for version in versions
        if version.active_from <= ends[version.creator_id]
        and (version.active_to is None or version.active_to > ends[version.creator_id])
    }


def _next_period(period: OpenPeriod, version: SettlementSchedule) -> Period:
    return period_from(rule=version.rule, start=period.ends_on, until=version.active_to)


def _gather(due: Sequence[_Due], *, now: Moment) -> dict[UUID, _Sums]:
    """Write a line for every fact before each cut that has none, and add them up by settlement."""
    values: dict[str, Any] = {
        "settlements": [each.settlement_id for each in due],
        "creators": [each.creator_id for each in due],
        "ends": [each.period.end for each in due],
        "offset": now.business - now.real,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(_GATHER, values)
        return {row[0]: _sums(row[1:]) for row in cursor.fetchall()}


def _sums(row: Sequence[Any]) -> _Sums:
    return _Sums(row[0], row[1], dict(zip(TOTALS, row[2:], strict=True)))


def _store(closed: Sequence[_Due], sums: Mapping[UUID, _Sums], *, now: Moment) -> None:
    """Write the settlements and tell of them; their lines are there."""
    payloads = [
        outbox.encode(_closed_event(each, sums[each.settlement_id], now)) for each in closed
    ]
    ids = [each.settlement_id for each in closed]
    with connection.cursor() as cursor:
        cursor.execute(
            _STORE,
            {
                "ids": ids,
                "creators": [each.creator_id for each in closed],
                "schedules": [each.schedule_id for each in closed],
                "starts": [each.period.start for each in closed],
                "ends": [each.period.end for each in closed],
                "lands": [each.lands_on for each in closed],
                "counts": [sums[id].line_count for id in ids],
                "nets": [sums[id].net for id in ids],
                **{name: [sums[id].totals[name] for id in ids] for name in TOTALS},
                "event_ids": [outbox.event_id(subject=id, type=CLOSED) for id in ids],
                "payloads": payloads,
                "digests": [outbox.digest(payload) for payload in payloads],
                "type": CLOSED,
                "business": now.business,
                "real": now.real,
            },
        )


def _closed_event(due: _Due, sums: _Sums, now: Moment) -> dict[str, object]:
    return {
        "settlement_id": str(due.settlement_id),
        "creator_id": str(due.creator_id),
        "period_start": due.period.start.isoformat(),
        "period_end": due.period.end.isoformat(),
        "lands_on": due.lands_on.isoformat(),
        **{name: str(amount) for name, amount in sums.totals.items()},
        "net": str(sums.net),
        "currency": CURRENCY,
        "lines": sums.line_count,
        "occurred_at": now.business.isoformat(),
    }


def _advance(due: Sequence[_Due]) -> None:
    """Open each creator's next period."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE settlements_openperiod p"
            " SET schedule_id = n.schedule, starts_on = n.starts, ends_on = n.ends"
            " FROM unnest(%s::uuid[], %s::bigint[], %s::date[], %s::date[])"
            " AS n (creator, schedule, starts, ends) WHERE p.creator_id = n.creator",
            [
                [each.creator_id for each in due],
                [each.next_schedule_id for each in due],
                [each.next_period.start for each in due],
                [each.next_period.end for each in due],
            ],
        )


# A capture was recorded when it was booked: both are the business clock's reading at its outcome. What
# a statement tells was recorded when its file was accepted, a real time: %(offset)s makes it business.
# OFFSET 0 keeps the planner from joining what is looked up by creator or fact to whole tables.
_GATHER: Final = """
    WITH due AS (
      SELECT settlement, creator, ends::timestamp AT TIME ZONE 'UTC' AS cut
      FROM unnest(%(settlements)s::uuid[], %(creators)s::uuid[], %(ends)s::date[])
        AS d (settlement, creator, ends)
    ), captures AS MATERIALIZED (
      SELECT d.settlement, d.cut, a.id, a.charge_id, a.lane, a.captured_amount, a.outcome,
             coalesce(a.booked_at, a.ended_at) AS booked_at
      FROM due d CROSS JOIN LATERAL (
        SELECT * FROM checkout_attempt
        WHERE creator_id = d.creator AND outcome IN ('captured', 'unapplied') OFFSET 0
      ) a
    ), facts AS (
      SELECT c.settlement, CASE c.outcome WHEN 'captured' THEN 'charge' ELSE 'unapplied' END AS kind,
             c.id AS attempt, c.charge_id, NULL::bigint AS line, c.lane, c.booked_at,
             c.captured_amount AS amount
      FROM captures c
      WHERE c.booked_at < c.cut AND NOT EXISTS (
        SELECT FROM settlements_settlementline s
        WHERE s.attempt_id = c.id AND s.statement_line_id IS NULL OFFSET 0)
      UNION ALL
      SELECT c.settlement, x.kind, c.id, c.charge_id, l.id, f.lane, l.booked_at, x.amount
      FROM captures c
      CROSS JOIN LATERAL (
        SELECT * FROM settlements_statementline s
        WHERE s.key = c.id AND s.type = 'charge' AND NOT EXISTS (
          SELECT 1 FROM (
            SELECT p.* FROM settlements_matchedline m
            JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
            WHERE m.line_id = s.id AND m.in_force AND p.decided_at + %(offset)s < c.cut OFFSET 0
          ) approved
          WHERE settlements_match_holds(id, count, absolute, net))
        UNION ALL
        -- Lines matched by hand, while that match is believed; one that is not leaves a line to whom it
        -- names. Of one line and several attempts the largest bears the fee, too.
        SELECT s.* FROM (
          SELECT p.* FROM settlements_matchedattempt m
          JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
          WHERE m.attempt_id = c.id AND m.in_force AND p.decided_at + %(offset)s < c.cut AND NOT EXISTS (
            SELECT 1 FROM settlements_matchedattempt o WHERE o.proposal_id = m.proposal_id
              AND (-o.amount, o.attempt_id) < (-m.amount, m.attempt_id))
          OFFSET 0
        ) approved
        JOIN settlements_matchedline t ON t.proposal_id = approved.id
        JOIN settlements_statementline s ON s.id = t.line_id
        WHERE settlements_match_holds(approved.id, approved.count, approved.absolute, approved.net)
        UNION ALL
        SELECT * FROM settlements_statementline s
        WHERE settlements_named_attempt(s.reference) = c.id
          AND s.type IN ('refund', 'dispute', 'dispute_fee', 'reversal', 'fee', 'adjustment')
      ) l
      JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
        AND f.accepted_at + %(offset)s < c.cut
      CROSS JOIN LATERAL (VALUES
        ('fee', CASE WHEN l.type IN ('fee', 'dispute_fee') THEN l.net ELSE -l.fee END),
        (l.type, CASE WHEN l.type IN ('refund', 'dispute', 'reversal', 'adjustment')
                      THEN l.gross ELSE 0 END)
      ) AS x (kind, amount)
      WHERE x.amount <> 0 AND NOT EXISTS (
        SELECT FROM settlements_settlementline s
        WHERE s.statement_line_id = l.id AND s.kind = x.kind OFFSET 0)
    ), written AS (
      INSERT INTO settlements_settlementline
        (settlement_id, kind, attempt_id, charge_id, statement_line_id, lane, occurred_at, amount)
      SELECT settlement, kind, attempt, charge_id, line, lane, booked_at, amount FROM facts
      RETURNING settlement_id, kind, amount
    )
    SELECT settlement_id, count(*), sum(amount), {totals} FROM written GROUP BY settlement_id
""".replace(
    "{totals}",
    ", ".join(
        "coalesce(sum(amount) FILTER (WHERE kind IN ({})), 0.00)".format(
            ", ".join(f"'{kind.value}'" for kind in kinds)
        )
        for kinds in TOTALS.values()
    ),
)

_STORE: Final = """
    WITH closed AS (
      SELECT * FROM unnest(
        %(ids)s::uuid[], %(creators)s::uuid[], %(schedules)s::bigint[], %(starts)s::date[],
        %(ends)s::date[], %(lands)s::date[], %(counts)s::int[], %(nets)s::numeric[],
        %(charged)s::numeric[], %(unapplied)s::numeric[], %(refunded)s::numeric[],
        %(disputed)s::numeric[], %(fees)s::numeric[], %(adjusted)s::numeric[],
        %(event_ids)s::uuid[], %(payloads)s::text[], %(digests)s::text[])
      AS c (id, creator, schedule, starts, ends, lands, lines, net, charged, unapplied, refunded,
            disputed, fees, adjusted, event, payload, sha256)
    ), stored AS (
      INSERT INTO settlements_settlement
        (id, creator_id, schedule_id, period_start, period_end, lands_on, charged, unapplied,
         refunded, disputed, fees, adjusted, net, line_count, closed_at)
      SELECT id, creator, schedule, starts, ends, lands, charged, unapplied, refunded, disputed,
             fees, adjusted, net, lines, %(business)s FROM closed
    ), sequenced AS (
      UPDATE checkout_creator c SET event_seq = c.event_seq + 1
      FROM closed WHERE c.id = closed.creator
      RETURNING c.id, c.event_seq
    )
    INSERT INTO checkout_outboxmessage (
      event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at,
      available_at)
    SELECT c.event, 'kafka', c.creator, s.event_seq, %(type)s, c.id, c.payload, c.sha256, %(real)s,
           %(real)s
    FROM closed c JOIN sequenced s ON s.id = c.creator
    ORDER BY c.creator
"""
