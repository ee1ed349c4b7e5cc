"""Billing: what is owed on a billing date becomes a charge, its books and its messages.

A date is computed from the anchor each time, in the subscription's one time zone (R11, R12). A batch
locks its creators, computes dates and derived identifiers, and writes everything in one statement.
The expected amount comes from an SQL function that knows terms and calendar alone; where the two
differ nothing is billed and a case waits for a person.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta
from django.db import connection

from checkout import outbox, routing
from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.failpoints import failpoint
from checkout.models import Case, CaseKind, Charge, Creator, EntryKind, Interval, LedgerEntry
from checkout.money import CURRENCY
from checkout.moves import open_case

logger = logging.getLogger(__name__)

BATCH: Final = 1000  # the most creators one transaction may lock


@dataclass(frozen=True)
class Off:
    """A charge that the calendar knows otherwise; amounts in USD, None where no period begins."""

    subscription_id: UUID
    start: date
    planned: Decimal
    expected: Decimal | None

    def __str__(self) -> str:
        return (
            f"{self.subscription_id} for {self.start}: {self.planned} USD, the calendar says"
            f" {'no charge' if self.expected is None else f'{self.expected} USD'}"
        )


class OffCalendar(Exception):
    """Charges of a bill run are not the calendar's own: they wait for another person's approval."""

    def __init__(self, off: Sequence[Off], *, of: int) -> None:
        self.off = off
        self.planned = sum((each.planned for each in off), Decimal("0.00"))
        expected = sum((each.expected or Decimal("0.00") for each in off), Decimal("0.00"))
        super().__init__(
            f"{len(off)} of {of} charges, {self.planned} USD as planned, differ from the calendar,"
            f" by whose count they are {expected} USD; the first: {off[0]}"
        )

    def subject(self, day: date) -> str:
        """The day and exactly these charges: an approval is of no others."""
        said = "\n".join(sorted(map(str, self.off)))
        return f"{day.isoformat()}:{hashlib.sha256(said.encode()).hexdigest()[:16]}"


class NotApprovable(Exception):
    """The case is not a bill run that this person may approve."""


@dataclass(frozen=True)
class Billed:
    """What a bill run wrote: number of charges and their sum in USD."""

    charges: int
    amount: Decimal


@dataclass(frozen=True)
class Period:
    """One period of a subscription under its terms, still to be billed."""

    subscription_id: UUID
    creator_id: UUID
    terms_id: int
    plan: str
    price: Decimal
    start: date
    end: date
    next_at: datetime
    country: str


@dataclass(frozen=True)
class _Row:
    """The columns that the billing statement unnests, in its order."""

    charge_id: UUID
    subscription_id: UUID
    creator_id: UUID
    terms_id: int
    period_start: date
    period_end: date
    amount: Decimal
    lane: str
    next_at: datetime
    entry_id: UUID
    event_id: UUID
    event_payload: str
    event_sha256: str
    due_id: UUID
    due_payload: str
    due_sha256: str


# Not dataclasses.astuple: it copies every value, which took a third of a bill run.
_in_order: Final = attrgetter(*(field.name for field in fields(_Row)))


def period_date(*, anchor: date, interval: str, count: int, k: int) -> date:
    """Where period k begins: anchor + k intervals, so that Jan 31 → Feb 28 → Mar 31 (R11)."""
    match Interval(interval):
        case Interval.WEEK:
            return anchor + relativedelta(weeks=count * k)
        case Interval.MONTH:
            return anchor + relativedelta(months=count * k)
        case Interval.YEAR:
            return anchor + relativedelta(years=count * k)


def period_end(*, anchor: date, interval: str, count: int, start: date) -> date:
    """Where the period that begins at `start` ends: half-open, no sliver (R14)."""
    months = (start.year - anchor.year) * 12 + start.month - anchor.month
    passed = {
        Interval.WEEK: (start - anchor).days // 7,
        Interval.MONTH: months,
        Interval.YEAR: start.year - anchor.year,
    }[Interval(interval)]
    return period_date(anchor=anchor, interval=interval, count=count, k=passed // count + 1)


def begins_at(day: date, time_zone: str) -> datetime:
    """The instant (UTC) at which a local day begins; in a spring gap, the instant of the gap."""
    return datetime.combine(day, time(0), ZoneInfo(time_zone)).astimezone(UTC)


def bill_due(*, clock: Clock, ages: Ages, batch: int = BATCH) -> Billed:
    """Bill every period whose billing date has come, oldest first, batch by batch.

    Each batch is a transaction: a run killed in the middle and started again adds nothing twice
    (unique subscription and period start, derived identifiers), and days of downtime are caught up
    period by period (R15, R16). Raises OffCalendar after the batches that were right, and
    commit.DatabaseAway.
    """
    charges, amount = 0, Decimal("0.00")
    while True:
        billed = committed(
            partial(_bill_batch, now=clock.now(), batch=batch),
            deadline=ages.database_wait_before_call,
            clock=clock,
        )
        failpoint("bill.batch_committed")
        if billed is None:
            return Billed(charges, amount)
        charges, amount = charges + billed.charges, amount + billed.amount


def _bill_batch(*, now: Moment, batch: int) -> Billed | None:
    """Bill the oldest due periods, one a subscription; None when no period is due any more."""
    due = _due_subscriptions(now=now, batch=batch)
    Creator.lock(creator_id for _, creator_id in due)
    # Read again under the lock: a cancel or another run may have come first.
    periods = _periods([subscription_id for subscription_id, _ in due], now=now)
    return bill(periods, now=now) if periods else None


def bill(periods: Sequence[Period], *, now: Moment) -> Billed:
    """Write charges, postings, events and dispatches of these periods; their creators are locked.

    Raises OffCalendar, with nothing written, unless SQL's own calendar and prices agree or a person
    approved today exactly those that differ.
    """
    _agree_with_calendar(periods, now=now)
    lanes = routing.lanes_on(now.business.date())
    rows = [_row(period, lane=lanes.get(period.country, ""), now=now) for period in periods]
    columns = [list(column) for column in zip(*map(_in_order, rows), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(_BILL, [*columns, now.business, now.real])
        charges, amount = cursor.fetchone()
    return Billed(charges, amount)


def _agree_with_calendar(periods: Sequence[Period], *, now: Moment) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.subscription, p.starts, p.price, expected"
            " FROM unnest(%s::uuid[], %s::date[], %s::numeric[]) AS p (subscription, starts, price)"
            " CROSS JOIN LATERAL checkout_expected_amount(p.subscription, p.starts) AS expected"
            " WHERE expected IS DISTINCT FROM p.price ORDER BY p.subscription, p.starts",
            [
                [p.subscription_id for p in periods],
                [p.start for p in periods],
                [p.price for p in periods],
            ],
        )
        off = [Off(*row) for row in cursor.fetchall()]
    if not off:
        return
    approved = _approved(now.business.date())
    if waiting := [each for each in off if str(each) not in approved]:
        raise OffCalendar(waiting, of=len(periods))


def _approved(day: date) -> set[str]:
    """Every charge that another person let be billed this day as planned."""
    runs = Case.objects.filter(kind=CaseKind.BILL_RUN, subject__startswith=f"{day}:")
    details = runs.exclude(approved_by="").values_list("detail", flat=True)
    return {each for detail in details for each in detail["off"]}


def hold_bill_run(*, off: OffCalendar, now: Moment) -> Case:
    """Open a case for these charges, today; a second person approves exactly them, or nobody does."""
    return open_case(
        CaseKind.BILL_RUN,
        None,
        subject=off.subject(now.business.date()),
        amount=off.planned,
        reason=str(off)[:500],
        detail={"off": [str(each) for each in off.off]},
        proposal="bill as planned",
        proposed_by="bill_due",
        now=now,
    )


def approve_bill_run(*, case_id: int, by: str, reason: str, now: Moment) -> Case:
    """Let these charges be billed today as planned: prices of the terms, dates of our own calendar.

    Runs in the caller's transaction. Raises NotApprovable for another case, one that was decided, and
    for its proposer (R43).
    """
    mine = Case.objects.filter(pk=case_id, kind=CaseKind.BILL_RUN, closed_at__isnull=True)
    approved = mine.exclude(proposed_by=by).update(
        approved_by=by, approved_at=now.real, closed_at=now.real, closed_because=reason
    )
    if approved != 1:
        raise NotApprovable("it is no bill run that waits for another person's approval")
    logger.info("bill run approved", extra={"case": case_id, "by": by, "reason": reason})
    return Case.objects.get(pk=case_id)


def _due_subscriptions(*, now: Moment, batch: int) -> list[tuple[UUID, UUID]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, creator_id FROM checkout_subscription"
            " WHERE state IN ('active', 'past_due') AND next_billing_at <= %s"
            " ORDER BY next_billing_at, id LIMIT %s",
            [now.business, batch],
        )
        return list(cursor.fetchall())


def _periods(subscription_ids: Sequence[UUID], *, now: Moment) -> list[Period]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE_TERMS, [list(subscription_ids), now.business])
        found = cursor.fetchall()
    return [_period(*columns) for columns in found]


def _period(
    subscription_id: UUID,
    creator_id: UUID,
    start: date,
    time_zone: str,
    country: str,
    terms_id: int,
    plan: str,
    price: Decimal,
    interval: str,
    count: int,
    anchor: date,
) -> Period:
    end = period_end(anchor=anchor, interval=interval, count=count, start=start)
    return Period(
        subscription_id=subscription_id,
        creator_id=creator_id,
        terms_id=terms_id,
        plan=plan,
        price=price,
        start=start,
        end=end,
        next_at=begins_at(end, time_zone),
        country=country,
    )


def _row(period: Period, *, lane: str, now: Moment) -> _Row:
    charge_id = Charge.derive_id(subscription_id=period.subscription_id, period_start=period.start)
    event = outbox.encode(_billed_event(period, charge_id, now=now))
    due = outbox.encode(
        outbox.dispatch_body(charge_id=charge_id, creator_id=period.creator_id, round=1, dispatch=1)
    )
    return _Row(
        charge_id=charge_id,
        subscription_id=period.subscription_id,
        creator_id=period.creator_id,
        terms_id=period.terms_id,
        period_start=period.start,
        period_end=period.end,
        amount=period.price,
        lane=lane,
        next_at=period.next_at,
        entry_id=LedgerEntry.derive_id(subject=charge_id, kind=EntryKind.BILLED),
        event_id=outbox.event_id(subject=charge_id, type="charge.billed", round=1),
        event_payload=event,
        event_sha256=outbox.digest(event),
        due_id=outbox.event_id(subject=charge_id, type=outbox.DISPATCH_TYPE, round=1, number=1),
        due_payload=due,
        due_sha256=outbox.digest(due),
    )


def _billed_event(period: Period, charge_id: UUID, *, now: Moment) -> dict[str, object]:
    return {
        "charge_id": str(charge_id),
        "creator_id": str(period.creator_id),
        "subscription_id": str(period.subscription_id),
        "plan": period.plan,
        "period_start": period.start.isoformat(),
        "period_end": period.end.isoformat(),
        "amount": str(period.price),
        "currency": CURRENCY,
        "state": "due",
        "round": 1,
        "number": None,
        "occurred_at": now.business.isoformat(),
    }


_DUE_TERMS: Final = """
    SELECT s.id, s.creator_id, s.next_period_start, s.time_zone, c.country,
           t.id, t.plan_id, t.price, t.interval, t.interval_count, t.anchor
    FROM checkout_subscription s
    JOIN checkout_creator c ON c.id = s.creator_id
    JOIN LATERAL (SELECT * FROM checkout_subscriptionterms
                  WHERE subscription_id = s.id AND starts_on <= s.next_period_start
                  ORDER BY starts_on DESC LIMIT 1) t ON true
    WHERE s.id = ANY (%s) AND s.state IN ('active', 'past_due') AND s.next_billing_at <= %s
    ORDER BY s.creator_id, s.next_period_start, s.id
"""

# Charge, books and messages of a batch. A period that has its charge already writes nothing but the
# subscription's next date. Foreign keys are deferred, so the order of the parts does not matter.
_BILL: Final = """
    WITH input AS (
      SELECT * FROM unnest(
        %s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::date[], %s::date[], %s::numeric[],
        %s::text[], %s::timestamptz[], %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::uuid[],
        %s::text[], %s::text[])
      AS i (charge_id, subscription_id, creator_id, terms_id, period_start, period_end, amount,
            lane, next_at, entry_id, event_id, event_payload, event_sha256, due_id, due_payload,
            due_sha256)
    ), moment AS (
      SELECT %s::timestamptz AS business, %s::timestamptz AS real
    ), advanced AS (
      UPDATE checkout_subscription s
      SET next_period_start = i.period_end, next_billing_at = i.next_at
      FROM input i WHERE s.id = i.subscription_id
    ), charged AS (
      INSERT INTO checkout_charge (
        id, creator_id, subscription_id, terms_id, period_start, period_end, amount,
        expected_amount, currency, billed_at, created_at, lane, state, round, step, dispatch,
        void_requested, awaits, last_seen_at, sweeps)
      SELECT i.charge_id, i.creator_id, i.subscription_id, i.terms_id, i.period_start,
        i.period_end, i.amount,
        coalesce(checkout_expected_amount(i.subscription_id, i.period_start), 0), 'USD',
        m.business, m.real, i.lane, 'due', 1, 0, 1, false, '', m.real, 0
      FROM input i, moment m
      ON CONFLICT (subscription_id, period_start) DO NOTHING
      RETURNING id, amount
    ), new AS (
      SELECT i.*, row_number() OVER (PARTITION BY i.creator_id ORDER BY i.period_start, i.charge_id)
        AS place
      FROM input i JOIN charged ON charged.id = i.charge_id
    ), entries AS (
      INSERT INTO checkout_ledgerentry (id, kind, charge_id, posted_at)
      SELECT n.entry_id, 'billed', n.charge_id, m.business FROM new n, moment m
    ), postings AS (
      INSERT INTO checkout_ledgerposting (entry_id, account, lane, creator_id, charge_id, amount)
      SELECT n.entry_id, side.account, '', n.creator_id, n.charge_id, side.sign * n.amount
      FROM new n CROSS JOIN (VALUES ('receivable', 1), ('revenue', -1)) AS side (account, sign)
    ), counted AS (
      SELECT creator_id, count(*) AS events FROM new GROUP BY creator_id
    ), sequenced AS (
      UPDATE checkout_creator c SET event_seq = c.event_seq + counted.events
      FROM counted WHERE c.id = counted.creator_id
      RETURNING c.id, c.event_seq - counted.events AS before
    ), messages AS (
      -- Ordered, so that within a creator the ids grow as the sequence does: the relay goes by id.
      INSERT INTO checkout_outboxmessage (
        event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at,
        available_at)
      SELECT n.event_id, 'kafka', n.creator_id, s.before + n.place, 'charge.billed', n.charge_id,
        n.event_payload, n.event_sha256, m.real, m.real
      FROM new n JOIN sequenced s ON s.id = n.creator_id CROSS JOIN moment m
      UNION ALL
      SELECT n.due_id, 'sqs', n.creator_id, NULL, 'charge.due', n.charge_id,
        n.due_payload, n.due_sha256, m.real, m.real
      FROM new n CROSS JOIN moment m
      ORDER BY 2, 3, 4
    )
    SELECT count(*), coalesce(sum(amount), 0.00) FROM charged
"""
