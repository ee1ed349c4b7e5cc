"""Payouts: what the lines of a processor's batch add up to, whether it landed, and what that proves.

1. `gather_payouts`: each accepted file is added, once, to the payouts that its lines name.
2. `land_payouts`: an entry of an accepted bank statement that names a payout is its credit. The payout
   landed when it has one credit, and lines, payout line and credit agree to the cent.
3. `book_movements`: what files state beside captures, and what banks credited, in the books.
4. `prove_settlements`: a settlement is proved when each of its lines sits in a payout that landed.

What names no payout, or several, stays unmatched (R42); what names one and differs is found by the
comparison `payout`. Every step may be killed and run again, or run twice at once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from django.db import DataError, IntegrityError, connection
from django.db.models import Count, Q, QuerySet, Sum

from checkout import outbox
from checkout.clock import Ages, Clock, Moment
from checkout.commit import committed
from checkout.models import Creator
from checkout.money import CURRENCY
from checkout.tallies import Tally
from settlements.booking import (
    book_credit,
    book_file,
    book_payout,
    correct_file,
    misbooked_files,
    unbooked_credits,
    unbooked_files,
    unbooked_payouts,
)
from settlements.models import (
    LEFT,
    NOTHING,
    SUMS,
    ImportState,
    Payout,
    ProofMark,
    Settlement,
    StatementImport,
)
from settlements.spool import Progress

logger = logging.getLogger(__name__)

BATCH: Final = 1000  # the most creators one transaction may lock
PROVED: Final = "settlement.proved"
# Any number that nothing else in this database locks.
LOCK: Final = 7_204_116

T = TypeVar("T")
# Opens a bar: what a part is called, and how to count it; gives what is told of each step.
Bar: TypeAlias = Callable[[str, Callable[[], int]], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Proved:
    """What a run found: files gathered, payouts landed, settlements proved and their net in USD.

    `booked` is how many files, credits and payouts came into the books.
    """

    files: int
    payouts: int
    settlements: int
    net: Decimal
    booked: int

    def __str__(self) -> str:
        return (
            f"{self.files} files, {self.payouts} payouts landed,"
            f" {self.settlements} settlements of {self.net} USD proved,"
            f" {self.booked} files, credits and payouts booked"
        )


@dataclass(frozen=True)
class Cash:
    """One day of one lane, in USD; a lane is one processor's account.

    `due` is what closed settlements that are not proved promise by that day; `announced` what is on
    the way: the processor said it has left, and the bank has not shown it; `landed` what the bank
    credited.
    """

    day: date
    lane: str
    due: Decimal
    announced: Decimal
    landed: Decimal


@contextmanager
def _unseen(_what: str, _count: Callable[[], int]) -> Iterator[Progress]:
    yield lambda _: None


def prove(*, clock: Clock, ages: Ages, bar: Bar = _unseen) -> Proved:
    """Gather, land, book and prove, in that order. Raises commit.DatabaseAway.

    `bar` is opened for each part that goes by many, with what it is called and how to count it.
    """
    with bar("Gathering files", count_ungathered) as progress:
        files = gather_payouts(clock=clock, ages=ages, progress=progress)
    payouts = land_payouts(clock=clock, ages=ages)
    with bar("Booking files, credits and payouts", count_unbooked) as progress:
        booked = book_movements(clock=clock, ages=ages, progress=progress)
    with bar("Proving settlements", count_marked) as progress:
        settlements, net = prove_settlements(clock=clock, ages=ages, progress=progress)
    return Proved(files, payouts, settlements, net, booked)


def count_ungathered() -> int:
    """How many accepted files were not added to their payouts yet."""
    return _ungathered().count()


def count_marked() -> int:
    """How many marks wait to be looked at; a settlement may have several."""
    return ProofMark.objects.count()


def _ungathered() -> QuerySet[StatementImport]:
    return StatementImport.objects.filter(state=ImportState.ACCEPTED, gathered__isnull=True)


def gather_payouts(*, clock: Clock, ages: Ages, progress: Progress = lambda _: None) -> int:
    """Add every accepted file that was not gathered yet to its payouts, a transaction each; how many."""
    gathered = 0
    for id in list(_ungathered().order_by("id").values_list("id", flat=True)):
        gathered += _commit(partial(_gather, id), clock=clock, ages=ages)
        progress(1)
    return gathered


def land_payouts(*, clock: Clock, ages: Ages) -> int:
    """Find the bank's credits of payouts, and note those that landed; how many did."""
    return _commit(_land, clock=clock, ages=ages)


def prove_settlements(
    *, clock: Clock, ages: Ages, batch: int = BATCH, progress: Progress = lambda _: None
) -> tuple[int, Decimal]:
    """Prove what is marked and can be proved; how many, and their net in USD. `progress`: of marks."""
    count, net = 0, Decimal("0.00")
    while True:
        done = _commit(partial(_prove_batch, now=clock.now(), batch=batch), clock=clock, ages=ages)
        if done is None:
            break
        marks, found = done
        progress(marks)
        count, net = count + len(found), net + sum((each.net for each in found), Decimal("0.00"))
    if count:
        logger.info("settlements proved", extra={"settlements": count})
    return count, net


def book_movements(*, clock: Clock, ages: Ages, progress: Progress = lambda _: None) -> int:
    """Book each gathered file, credit and landed payout that was not yet, a transaction each; how many.

    One that the database refuses keeps no other from its entry; it is told, and named by `payout`.
    """
    works: list[Callable[..., bool]] = [
        *(partial(book_file, id) for id in unbooked_files()),
        *(partial(correct_file, id) for id in misbooked_files()),
        *(partial(book_credit, id) for id in unbooked_credits()),
        *(partial(book_payout, id) for id in unbooked_payouts()),
    ]
    count = 0
    for work in works:
        try:
            count += _commit(partial(work, now=clock.now()), clock=clock, ages=ages)
        except (DataError, IntegrityError):
            logger.exception("not booked", extra={"what": str(work)})
        progress(1)
    return count


def count_unbooked() -> int:
    """How many gathered files, credits and landed payouts no booking names, or not with all of it."""
    unbooked = (unbooked_files, misbooked_files, unbooked_credits, unbooked_payouts)
    return sum(len(look()) for look in unbooked)


def payouts_due(*, today: date) -> tuple[Tally, Tally]:
    """Payouts that left and have not landed, in USD as they left; and those of them past their day."""
    over = Q(value_on__lt=today)
    found = Payout.objects.filter(LEFT).aggregate(
        count=Count("pk"),
        usd=Sum("paid"),
        late=Count("pk", filter=over),
        late_usd=Sum("paid", filter=over),
    )
    return (
        Tally(found["count"], found["usd"] or NOTHING),
        Tally(found["late"], found["late_usd"] or NOTHING),
    )


def cash_expected(*, first: date, last: date) -> list[Cash]:
    """What was promised, announced and landed between two days (both included), by day and lane."""
    with connection.cursor() as cursor:
        cursor.execute(_CASH, {"first": first, "last": last})
        return [Cash(*row) for row in cursor.fetchall()]


def _commit(work: Callable[[], T], *, clock: Clock, ages: Ages) -> T:
    return committed(work, deadline=ages.database_wait_before_call, clock=clock)


def _take_turn() -> None:
    """One gatherer and one lander at a time: two would meet at the same payouts in any order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _gather(statement_id: int) -> int:
    """Add one file to its payouts; 0 when another run was first."""
    _take_turn()
    gathered = _run(_GATHER, {"statement": statement_id})
    _run(_MARK_LATE, {"statement": statement_id})
    return gathered


def _land() -> int:
    _take_turn()
    _run(_CREDIT, {})
    return _run(_LAND, {})


def _prove_batch(*, now: Moment, batch: int) -> tuple[int, list[Settlement]] | None:
    """Look at the oldest marks, and prove what they allow; how many, and what; None without a mark."""
    marks = ProofMark.objects.order_by("id").values_list("id", "settlement_id")[:batch]
    read = list(marks)
    if not read:
        return None
    wanted = Settlement.objects.filter(pk__in={settlement for _, settlement in read})
    Creator.lock(wanted.filter(proved_at__isnull=True).values_list("creator_id", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(_PROVABLE, {"ids": list({settlement for _, settlement in read})})
        proved = list(wanted.filter(pk__in=[id for (id,) in cursor.fetchall()]))
    if proved:
        _store_proofs(proved, now=now)
    ProofMark.objects.filter(pk__in=[mark for mark, _ in read]).delete()
    return len(read), proved


def _store_proofs(proved: Sequence[Settlement], *, now: Moment) -> None:
    """Note them as proved and tell of it; a creator may have several, in the order of their periods."""
    ordered = sorted(proved, key=lambda each: (each.creator_id, each.period_start))
    payloads = [outbox.encode(_proved_event(each, now)) for each in ordered]
    values: dict[str, Any] = {
        "ids": [each.pk for each in ordered],
        "creators": [each.creator_id for each in ordered],
        "places": list(range(len(ordered))),
        "events": [outbox.event_id(subject=each.pk, type=PROVED) for each in ordered],
        "payloads": payloads,
        "digests": [outbox.digest(payload) for payload in payloads],
        "type": PROVED,
        "business": now.business,
        "real": now.real,
    }
    _run(_PROVE, values)


def _proved_event(settlement: Settlement, now: Moment) -> dict[str, object]:
    return {
        "settlement_id": str(settlement.pk),
        "creator_id": str(settlement.creator_id),
        "period_start": settlement.period_start.isoformat(),
        "period_end": settlement.period_end.isoformat(),
        "net": str(settlement.net),
        "currency": CURRENCY,
        "occurred_at": now.business.isoformat(),
    }


def _run(sql: str, values: Mapping[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)


_ADDED: Final = ", ".join(f"{name} = p.{name} + EXCLUDED.{name}" for name in SUMS)
_NAMES: Final = ", ".join(SUMS)

# Under the lock, so that of two runs the second finds the file gathered and writes nothing.
_GATHER: Final = f"""
    WITH file AS (
      INSERT INTO settlements_gatheredstatement (statement_id)
      SELECT id FROM settlements_statementimport WHERE id = %(statement)s AND state = 'accepted'
      ON CONFLICT DO NOTHING
      RETURNING statement_id
    ), sums AS (
      SELECT f.id AS statement_id, f.processor, f.lane, l.payout AS reference,
             coalesce(sum(l.gross) FILTER (WHERE l.type = 'charge'), 0.00) AS gross,
             coalesce(sum(l.gross) FILTER (WHERE l.type = 'refund'), 0.00) AS refunds,
             coalesce(sum(l.gross) FILTER (WHERE l.type IN ('dispute', 'reversal')), 0.00) AS disputes,
             coalesce(sum(l.gross) FILTER (WHERE l.type = 'adjustment'), 0.00) AS adjustments,
             coalesce(sum(l.gross) FILTER (WHERE l.type IN ('reserve_hold', 'reserve_release')), 0.00)
               AS reserve,
             coalesce(sum(l.gross) FILTER (WHERE l.type IN ('fee', 'dispute_fee')), 0.00)
               - coalesce(sum(l.fee) FILTER (WHERE l.type <> 'payout'), 0.00) AS fees,
             coalesce(sum(l.net) FILTER (WHERE l.type <> 'payout'), 0.00) AS net,
             coalesce(-sum(l.net) FILTER (WHERE l.type = 'payout'), 0.00) AS paid,
             count(*) FILTER (WHERE l.type <> 'payout') AS line_count,
             max((l.booked_at AT TIME ZONE settlements_statement_zone(f.lane))::date)
               FILTER (WHERE l.type = 'payout') AS value_on
      FROM file
      JOIN settlements_statementimport f ON f.id = file.statement_id
      JOIN settlements_statementline l ON l.statement_id = f.id
      WHERE l.payout <> ''
      GROUP BY f.id, l.payout
    ), payouts AS (
      INSERT INTO settlements_payout AS p (processor, lane, reference, value_on, {_NAMES}, line_count)
      SELECT processor, lane, reference, value_on, {_NAMES}, line_count FROM sums ORDER BY reference
      ON CONFLICT (lane, reference) DO UPDATE
        SET {_ADDED}, line_count = p.line_count + EXCLUDED.line_count,
            value_on = greatest(p.value_on, EXCLUDED.value_on)
      RETURNING p.id, p.reference
    ), parts AS (
      INSERT INTO settlements_payoutpart (payout_id, statement_id, {_NAMES}, line_count)
      SELECT p.id, s.statement_id, {", ".join(f"s.{name}" for name in SUMS)}, s.line_count
      FROM payouts p JOIN sums s USING (reference)
    )
    SELECT statement_id FROM file
"""  # noqa: S608  the names of our own columns

# Named whole, by a field of its own or by a word of what the payer wrote; po_1 is not in po_12.
_CREDIT: Final = r"""
    WITH named AS (
      SELECT e.id AS entry, min(p.id) AS payout, count(*) AS payouts
      FROM settlements_payout p
      JOIN settlements_bankentry e ON e.value_on BETWEEN p.value_on - 3 AND p.value_on + 31
        OR e.value_on IS NULL AND e.booked_on BETWEEN p.value_on - 3 AND p.value_on + 31
      JOIN settlements_bankstatement s ON s.id = e.statement_id AND s.state = 'accepted'
      LEFT JOIN settlements_payoutcredit c ON c.entry_id = e.id
      -- A credit that takes a debit back is none of a payout's; a debit that takes the credit back is.
      WHERE c.id IS NULL AND NOT (e.is_reversal AND e.side = 'CRDT')
        -- A second credit of one that has landed is wanted too, while it is young.
        AND (p.landed_on IS NULL
             OR p.value_on >= (SELECT max(value_on) - 62 FROM settlements_payout))
        AND (p.reference IN (e.end_to_end_id, e.reference, e.entry_reference)
             OR p.reference = ANY (regexp_split_to_array(e.remittance, '[\s,;:/()]+')))
      GROUP BY e.id
    )
    INSERT INTO settlements_payoutcredit (payout_id, entry_id)
    SELECT payout, entry FROM named WHERE payouts = 1 ORDER BY entry
    ON CONFLICT (entry_id) DO NOTHING
"""

# Lines that came after their payout had landed: it is looked at by none any more.
_MARK_LATE: Final = """
    WITH lines AS (
      SELECT l.id, l.key, l.type
      FROM settlements_statementimport f
      JOIN settlements_statementline l ON l.statement_id = f.id AND l.payout <> ''
      JOIN settlements_payout p
        ON p.lane = f.lane AND p.reference = l.payout AND p.landed_on IS NOT NULL
      WHERE f.id = %(statement)s
    )
    INSERT INTO settlements_proofmark (settlement_id)
    SELECT s.settlement_id FROM lines l
    JOIN settlements_settlementline s ON s.attempt_id = l.key AND s.statement_line_id IS NULL
    WHERE l.type = 'charge'
    UNION
    SELECT s.settlement_id FROM lines l JOIN settlements_settlementline s ON s.statement_line_id = l.id
"""

# A processor may name a payout on its own line alone: then there are no lines to agree with what left.
# Of a payout of 0.00 no bank shows anything; what a bank kept is accepted by two people first.
_LAND: Final = """
    WITH credited AS (
      UPDATE settlements_payout p
      SET landed_on = coalesce(e.value_on, e.booked_on), kept = p.paid - e.net
      FROM settlements_payoutcredit c JOIN settlements_bankentry e ON e.id = c.entry_id
      WHERE c.payout_id = p.id AND p.landed_on IS NULL AND p.value_on IS NOT NULL
        AND (p.line_count = 0 OR p.paid = p.net)
        AND (e.net = p.paid OR settlements_kept_by_bank(p.id, p.paid, e.net))
        AND (SELECT count(*) FROM settlements_payoutcredit o WHERE o.payout_id = p.id) = 1
      RETURNING p.id, p.reference
    ), nothing AS (
      UPDATE settlements_payout p SET landed_on = p.value_on
      WHERE p.landed_on IS NULL AND p.value_on IS NOT NULL
        AND p.line_count > 0 AND p.paid = 0 AND p.net = 0
        AND NOT EXISTS (SELECT 1 FROM settlements_payoutcredit o WHERE o.payout_id = p.id)
      RETURNING p.id, p.reference
    ), landed AS (
      SELECT * FROM credited UNION ALL SELECT * FROM nothing
    ), lines AS (
      SELECT l.id, l.key, l.type FROM landed p
      JOIN settlements_payoutpart part ON part.payout_id = p.id
      JOIN settlements_statementline l
        ON l.statement_id = part.statement_id AND l.payout = p.reference
    ), marked AS (
      INSERT INTO settlements_proofmark (settlement_id)
      SELECT s.settlement_id FROM lines l
      JOIN settlements_settlementline s ON s.attempt_id = l.key AND s.statement_line_id IS NULL
      WHERE l.type = 'charge'
      UNION
      -- A line that two people matched with the attempt by hand.
      SELECT s.settlement_id FROM lines l
      JOIN settlements_matchedline m ON m.line_id = l.id AND m.in_force
      JOIN settlements_matchedattempt t ON t.proposal_id = m.proposal_id
      JOIN settlements_settlementline s
        ON s.attempt_id = t.attempt_id AND s.statement_line_id IS NULL
      UNION
      SELECT s.settlement_id FROM lines l
      JOIN settlements_settlementline s ON s.statement_line_id = l.id
    )
    SELECT id FROM landed
"""

# A capture sits in the payout of its one statement line, if that says the same amount, or in those of
# the lines it was matched with by hand, while that match is believed; anything else in the payout of
# the line that told of it.
_PROVABLE: Final = """
    WITH own AS MATERIALIZED (
      SELECT settlement_id, statement_line_id, attempt_id, amount
      FROM settlements_settlementline WHERE settlement_id = ANY (%(ids)s::uuid[])
    ), looked_at AS (
      SELECT own.settlement_id,
             bool_and(seen.told = coalesce(match.lines, 1) AND seen.landed = seen.told) AS all_landed
      FROM own
      LEFT JOIN LATERAL (
        SELECT id, (SELECT count(*) FROM settlements_matchedline l
                    WHERE l.proposal_id = approved.id) AS lines
        FROM (
          SELECT p.* FROM settlements_matchedattempt m
          JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
          WHERE m.attempt_id = own.attempt_id AND m.in_force AND own.statement_line_id IS NULL
          OFFSET 0
        ) approved
        WHERE settlements_match_holds(id, count, absolute, net)
      ) match ON true
      CROSS JOIN LATERAL (
        SELECT count(*) AS told, count(*) FILTER (
          WHERE p.landed_on IS NOT NULL AND p.paid = p.net
            -- Credited twice, or taken back since: nobody knows what is there.
            AND (SELECT count(*) FROM settlements_payoutcredit c WHERE c.payout_id = p.id) <= 1
            AND (own.statement_line_id IS NOT NULL OR match.id IS NOT NULL
                 OR l.gross = own.amount)) AS landed
        FROM (
          SELECT * FROM settlements_statementline WHERE id = own.statement_line_id
          UNION ALL
          SELECT * FROM settlements_statementline o
          WHERE own.statement_line_id IS NULL AND o.key = own.attempt_id AND o.type = 'charge'
            AND NOT EXISTS (
              SELECT 1 FROM (
                SELECT p.* FROM settlements_matchedline m
                JOIN settlements_proposal p ON p.id = m.proposal_id AND p.decision = 'approved'
                WHERE m.line_id = o.id AND m.in_force
                OFFSET 0
              ) approved
              WHERE settlements_match_holds(id, count, absolute, net))
          UNION ALL
          SELECT o.* FROM settlements_matchedline m
          JOIN settlements_statementline o ON o.id = m.line_id
          WHERE m.proposal_id = match.id
        ) l
        JOIN settlements_statementimport f ON f.id = l.statement_id AND f.state = 'accepted'
        LEFT JOIN settlements_payout p ON p.lane = f.lane AND p.reference = l.payout
      ) seen
      GROUP BY own.settlement_id
    )
    SELECT s.id FROM looked_at l JOIN settlements_settlement s ON s.id = l.settlement_id
    WHERE l.all_landed AND s.proved_at IS NULL
"""

_PROVE: Final = """
    WITH proved AS (
      SELECT *, row_number() OVER (PARTITION BY creator ORDER BY place) AS nth
      FROM unnest(%(ids)s::uuid[], %(creators)s::uuid[], %(places)s::int[], %(events)s::uuid[],
                  %(payloads)s::text[], %(digests)s::text[])
        AS p (id, creator, place, event, payload, sha256)
    ), noted AS (
      UPDATE settlements_settlement s SET proved_at = %(business)s
      FROM proved p WHERE s.id = p.id
    ), counted AS (
      SELECT creator, count(*) AS events FROM proved GROUP BY creator
    ), sequenced AS (
      UPDATE checkout_creator c SET event_seq = c.event_seq + counted.events
      FROM counted WHERE c.id = counted.creator
      RETURNING c.id, c.event_seq - counted.events AS before
    )
    INSERT INTO checkout_outboxmessage (
      event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at,
      available_at)
    SELECT p.event, 'kafka', p.creator, s.before + p.nth, %(type)s, p.id, p.payload, p.sha256,
           %(real)s, %(real)s
    FROM proved p JOIN sequenced s ON s.id = p.creator
    ORDER BY p.place
"""

_CASH: Final = """
    SELECT day, lane, sum(due), sum(announced), sum(landed) FROM (
      SELECT s.lands_on AS day, l.lane, l.amount AS due, 0.00 AS announced, 0.00 AS landed
      FROM settlements_settlement s JOIN settlements_settlementline l ON l.settlement_id = s.id
      WHERE s.proved_at IS NULL AND s.lands_on BETWEEN %(first)s AND %(last)s
      UNION ALL
      SELECT value_on, lane, 0.00, paid, 0.00 FROM settlements_payout
      WHERE landed_on IS NULL AND value_on BETWEEN %(first)s AND %(last)s
      UNION ALL
      SELECT landed_on, lane, 0.00, 0.00, paid - kept FROM settlements_payout
      WHERE landed_on BETWEEN %(first)s AND %(last)s
    ) cash
    GROUP BY day, lane ORDER BY day, lane
"""
