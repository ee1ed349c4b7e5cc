"""What must be true once everybody has carried on: I1 to I6, to the cent, over a whole world at once."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import connection

from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Door,
    OutboxMessage,
    PendingMessage,
    Subscription,
)
from checkout.outbox import event_id
from settlements.models import Kind
from settlements.reconciliation import look
from tests.relays import astray

if TYPE_CHECKING:
    from tests.kills.yard import Yard

THREE_CENTS = Decimal("0.03")
OWN_COMPARISONS = (Kind.BILLING, Kind.CAPTURED, Kind.PERIODS, Kind.LEDGER)
TELLS: Final = {
    AttemptOutcome.CAPTURED: "charge.succeeded",
    AttemptOutcome.UNAPPLIED: "receipt.unapplied",
    AttemptOutcome.DECLINED: "charge.declined",
    AttemptOutcome.NOT_CHARGED: "charge.not_charged",
}


def violations(yard: "Yard") -> list[str]:
    """Every sentence says what is wrong; none is what a test wants."""
    found = []
    for look_at in (requests, processor, attempts, charges, books, events, rest, compared):
        found += [f"{look_at.__name__}: {sentence}" for sentence in look_at(yard)]
    return [*yard.outside.complaints, *found]


def requests(yard: "Yard") -> Iterator[str]:
    """I1: what was accepted is one subscription, its periods contiguous, each one charge."""
    ids = {
        Subscription.derive_id(account_id=yard.account_id, idempotency_key=key): key
        for key in yard.outside.orders
    }
    there = set(Subscription.objects.values_list("id", flat=True))
    for pk, key in ids.items():
        if key in yard.outside.accepted and pk not in there:
            yield f"accepted, and not there: {key}"
    for pk in there - set(ids):
        yield f"nobody asked for subscription {pk}"
    for (subscription,) in _rows(_TORN_PERIODS):
        yield f"the periods of {subscription} are not one after the other up to the next"


def processor(yard: "Yard") -> Iterator[str]:
    """I2: at most one capture a charge in the journal; no reference decided twice."""
    lines = yard.outside.processor.lines()
    captured = Counter(line.charge for line in lines if line.status == "approved")
    decided = Counter(line.reference for line in lines if line.kind == "decision")
    for charge, count in captured.items():
        if count > 1:
            yield f"charge {charge} was captured {count} times"
    for reference, count in decided.items():
        if count > 1:
            yield f"reference {reference} was decided {count} times"


def attempts(yard: "Yard") -> Iterator[str]:
    """I3: what the journal says and what the attempts say are the same, to the cent."""
    lines = yard.outside.processor.lines()
    journal = {
        UUID(line.reference): Decimal(line.captured_amount)
        for line in lines
        if line.status == "approved"
    }
    declined = {UUID(line.reference) for line in lines if line.status == "declined"}
    for attempt in Attempt.objects.all():
        captured = journal.pop(attempt.pk, None)
        if attempt.is_open:
            yield f"attempt {attempt.pk} is open"
        elif attempt.captured_amount != captured:
            yield f"attempt {attempt.pk}: {attempt.captured_amount}, journal {captured}"
        elif (attempt.outcome == AttemptOutcome.DECLINED) != (attempt.pk in declined):
            yield f"attempt {attempt.pk} is {attempt.outcome}, and not so in the journal"
    for reference, amount in journal.items():
        yield f"the journal's capture {reference} of {amount} is no attempt of ours"


def charges(yard: "Yard") -> Iterator[str]:
    """I3, I6: succeeded with one applied capture of the price, three counted attempts a round; all at rest."""
    for pk, state, awaits, amount, captured, captures, counted in _rows(_CHARGES):
        if amount != yard.price:
            yield f"charge {pk} is over {amount}, not {yard.price}"
        if captured not in (None, yard.price) and not yard.is_short:
            yield f"charge {pk} was captured with {captured}, not {yard.price}"
        if (state == "succeeded") != (captures == 1):
            yield f"charge {pk} is {state} with {captures} applied captures"
        if counted > 3:
            yield f"charge {pk} has {counted} counted attempts in a round"
        if state not in ("succeeded", "voided", "written_off", "exhausted"):
            yield f"charge {pk} rests as {state}"
        if state == "exhausted" and awaits == "date":
            yield f"charge {pk} waits for a date that has come"


def books(_: "Yard") -> Iterator[str]:
    """I3: each entry balances, each capture is one entry, what is receivable follows from the state."""
    for entry, amount in _rows(_UNBALANCED):
        yield f"entry {entry} sums to {amount}"
    for attempt, captured, booked in _rows(_BOOKED):
        yield f"attempt {attempt}: {captured} captured, {booked} booked"
    for charge, state, owed, expected in _rows(_RECEIVABLE):
        yield f"charge {charge} is {state}, receivable {owed}, not {expected}"


def events(yard: "Yard") -> Iterator[str]:
    """I4, I5: records and committed rows are the same, in order; each final outcome told once."""
    rows = OutboxMessage.objects.filter(door=Door.KAFKA)
    yield from astray(yard.outside.records, committed=rows)
    yield from _untold({row.event_id for row in rows})


def _untold(told: set[UUID]) -> Iterator[str]:
    for attempt in Attempt.objects.exclude(outcome=AttemptOutcome.OPEN):
        type = TELLS[AttemptOutcome(attempt.outcome)]
        told_as = event_id(
            subject=attempt.charge_id, type=type, round=attempt.round, number=attempt.number
        )
        if told_as not in told:
            yield f"{type} of {attempt.pk} was never told"


def rest(yard: "Yard") -> Iterator[str]:
    """I6: nothing is under way, dead letters are cases, and nothing needed the sweep for nothing."""
    kept = (CaseKind.DEAD_LETTER, CaseKind.UNREADABLE_MESSAGE)
    queue, subjects = yard.outside.queue, Case.objects.filter(kind__in=kept)
    unsent = PendingMessage.objects.count()
    unexplained = set(queue.died) - set(subjects.values_list("subject", flat=True))
    repaired = Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE).count()
    swept = 0 if yard.loses_messages else yard.swept
    for count, what in (
        (unsent, "unpublished messages"),
        (len(queue.messages), "messages on the queue"),
        (len(queue.dead), "dead letters"),
        (len(unexplained), "dead letters without a case"),
        (repaired, "charges were repaired that nobody rewrote"),
        (swept, "charges went silent although no message was lost"),
    ):
        if count:
            yield f"{count} {what}"


def compared(yard: "Yard") -> Iterator[str]:
    """The service's own comparisons find nothing but the three cents that were taken on purpose."""
    now = yard.clock.now()
    for found in look(kinds=OWN_COMPARISONS, as_of=yard.billed_at or now.business, now=now):
        if not (yard.is_short and found.expected - found.actual == THREE_CENTS):
            yield f"{found.kind} {found.code}: {found.explanation}"


def _rows(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


_TORN_PERIODS: Final = """
    SELECT s.id FROM checkout_subscription s
    LEFT JOIN (
      SELECT subscription_id, period_end,
             lead(period_start) OVER (PARTITION BY subscription_id ORDER BY period_start) AS follows
      FROM checkout_charge
    ) c ON c.subscription_id = s.id
    WHERE c.period_end IS DISTINCT FROM coalesce(c.follows, s.next_period_start)
    GROUP BY s.id
"""
_CHARGES: Final = """
    SELECT c.id, c.state, c.awaits, c.amount,
           (SELECT sum(a.captured_amount) FROM checkout_attempt a WHERE a.charge_id = c.id),
           (SELECT count(*) FROM checkout_attempt a
            WHERE a.charge_id = c.id AND a.outcome = 'captured'),
           (SELECT coalesce(max(n), 0) FROM (
              SELECT count(*) AS n FROM checkout_attempt a
              WHERE a.charge_id = c.id AND a.outcome <> 'not_charged' GROUP BY a.round) rounds)
    FROM checkout_charge c
"""
_UNBALANCED: Final = """
    SELECT entry_id, sum(amount) FROM checkout_ledgerposting
    GROUP BY entry_id HAVING sum(amount) <> 0
"""
_BOOKED: Final = """
    SELECT a.id, a.captured_amount, booked.amounts FROM checkout_attempt a
    LEFT JOIN LATERAL (
      SELECT array_agg(p.amount) AS amounts FROM checkout_ledgerentry e
      JOIN checkout_ledgerposting p ON p.entry_id = e.id AND p.account = 'clearing'
      WHERE e.attempt_id = a.id
    ) booked ON true
    WHERE booked.amounts IS DISTINCT FROM
      CASE WHEN a.captured_amount IS NULL THEN NULL ELSE ARRAY[a.captured_amount] END
"""
_RECEIVABLE: Final = """
    SELECT * FROM (
      SELECT c.id, c.state,
        (SELECT coalesce(sum(p.amount), 0) FROM checkout_ledgerposting p
         WHERE p.charge_id = c.id AND p.account = 'receivable') AS owed,
        CASE WHEN c.state IN ('voided', 'written_off') THEN 0
             WHEN c.state = 'succeeded' THEN c.amount - (
               SELECT coalesce(sum(a.captured_amount), 0) FROM checkout_attempt a
               WHERE a.charge_id = c.id AND a.outcome = 'captured')
             ELSE c.amount END AS expected
      FROM checkout_charge c) each
    WHERE owed <> expected
"""
