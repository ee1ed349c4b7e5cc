"""What files and banks say of money that is no single charge's, in the books.

- An accepted file, once gathered: what the processor took or gave beside captures, clearing of its lane
  against fees, refunds, disputes and adjustments. A refund of a capture that no charge could take gives
  back what unapplied receipts hold. A reserve stays in clearing: it is ours, and the processor has it.
- Refunds of a file that are known since to be of such a capture: refunds against unapplied receipts.
- A bank's entry that names a payout: clearing against cash by its own net, whatever the payout's state.
  The money is there, or was taken back; what differs from what left stays in clearing.
- A payout, once it landed: clearing against fees by what the bank kept of it, mostly nothing.

An entry is dated by the business clock on which this is learned, so it never meets a closed day. Each
file, credit and payout is booked once: by its row of `Booking`, under one lock, and by an id derived
from it. Killed anywhere, the next run books what no row names; so does the first run after an upgrade.
One that cannot be booked keeps no other from it, and is named by the comparison `payout` until it is.

The version before books credit and fee of a payout that landed as one row of the payout. A trigger
(migration 0051) lets such a row name the credit too, so beside this version it loses and doubles nothing:
the lock lets the two take turns, of one credit the second row is refused with its entry, and of a payout
that has a row it writes none.
"""

from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from django.db import connection

from checkout import ledger
from checkout.clock import Moment
from checkout.models import EntryKind, LedgerAccount, LedgerEntry
from settlements.models import BOOKED, NOTHING, Booking

# Any number that nothing else in this database locks.
LOCK: Final = 7_204_117
# What the ids of these entries are derived in.
FACTS: Final = UUID("0b3b1c0e-5d0b-5c6c-9a56-3a0f0a6e7d21")


class _Moved(NamedTuple):
    """What a file, a credit or a payout moved, USD, a debit positive; clearing is the rest of it.

    `name` is the file's SHA-256, with the number of a correction; the payout's reference, with the place
    of the bank's entry of a credit: its own within the lane.
    """

    name: str
    lane: str
    statement_id: int | None
    payout_id: int | None
    credit_id: int | None
    cash: Decimal
    fees: Decimal
    refunds: Decimal
    disputes: Decimal
    adjustments: Decimal
    unapplied_receipts: Decimal
    correction: int = 0

    @property
    def postings(self) -> dict[LedgerAccount, Decimal]:
        """What is not 0.00, by account."""
        moved: dict[LedgerAccount, Decimal] = {
            account: getattr(self, account.value)
            for account in BOOKED
            if account != LedgerAccount.CLEARING
        }
        moved[LedgerAccount.CLEARING] = -sum(moved.values(), NOTHING)
        return {account: amount for account, amount in moved.items() if amount}


def unbooked_files() -> list[int]:
    """The gathered files that no booking names, by id, the oldest first."""
    return _ids(_UNBOOKED_FILES)


def misbooked_files() -> list[int]:
    """The booked files of which a refund was of a capture that turned out later to be unapplied, by id."""
    return _ids(_MISBOOKED_FILES)


def unbooked_credits() -> list[int]:
    """The banks' credits of payouts that no booking names, by id, the oldest first."""
    return _ids(_UNBOOKED_CREDITS)


def unbooked_payouts() -> list[int]:
    """The payouts that landed and no booking names, by id, the oldest first."""
    return _ids(_UNBOOKED_PAYOUTS)


def book_file(id: int, *, now: Moment) -> bool:
    """Book a gathered file, if no booking names it yet. Runs in the caller's transaction."""
    return _book(_FILE, id, EntryKind.STATED, now=now)


def correct_file(id: int, *, now: Moment) -> bool:
    """Book what is not booked yet of a file's refunds as given back. Runs in the caller's transaction.

    An outcome that is unapplied stays so, and what is booked of the file is subtracted under the lock: run
    twice, or beside another, it books the difference once.
    """
    return _book(_CORRECTION, id, EntryKind.STATED, now=now)


def book_credit(id: int, *, now: Moment) -> bool:
    """Book a bank's credit, if no booking names it yet. Runs in the caller's transaction."""
    return _book(_CREDIT, id, EntryKind.LANDED, now=now)


def book_payout(id: int, *, now: Moment) -> bool:
    """Book what the bank kept of a payout, if no booking names it. Runs in the caller's transaction."""
    return _book(_PAYOUT, id, EntryKind.LANDED, now=now)


def _ids(sql: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [id for (id,) in cursor.fetchall()]


def _book(sql: str, id: int, kind: EntryKind, *, now: Moment) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        cursor.execute(sql, {"id": id})
        moved = cursor.fetchone()
    if moved is not None:
        _booking(_Moved(*moved), kind, now=now).save(force_insert=True)
    return moved is not None


def _booking(moved: _Moved, kind: EntryKind, *, now: Moment) -> Booking:
    """Write the entry, if anything moved; the row that names it is the caller's to store."""
    postings = moved.postings
    amounts = {account.value: postings.get(account, NOTHING) for account in BOOKED}
    return Booking(
        statement_id=moved.statement_id,
        correction=moved.correction,
        payout_id=moved.payout_id,
        credit_id=moved.credit_id,
        entry=_entry(moved, kind, now=now) if postings else None,
        **amounts,
    )


def _entry(moved: _Moved, kind: EntryKind, *, now: Moment) -> LedgerEntry:
    """The entry of this fact: one that is there already, its row deleted by hand, is taken as it is."""
    subject = uuid5(uuid5(FACTS, moved.lane), moved.name)
    there = LedgerEntry.objects.filter(pk=LedgerEntry.derive_id(subject=subject, kind=kind)).first()
    return there or ledger.post_of_lane(
        kind=kind, subject=subject, lane=moved.lane, postings=moved.postings, now=now
    )


_UNBOOKED_FILES: Final = """
    SELECT g.statement_id FROM settlements_gatheredstatement g
    WHERE NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.statement_id = g.statement_id)
    ORDER BY 1
"""
# From the captures that no charge could take, which are few, to the refunds that name them.
_MISBOOKED_FILES: Final = """
    SELECT given.statement_id FROM (
      SELECT l.statement_id, -sum(l.gross) AS back
      FROM checkout_attempt a
      CROSS JOIN LATERAL (
        SELECT statement_id, gross FROM settlements_statementline
        WHERE settlements_named_attempt(reference) = a.id AND type = 'refund'
        -- Looked up one by one: the planner takes each for 500 lines, and would read every refund.
        OFFSET 0
      ) l
      WHERE a.outcome = 'unapplied'
      GROUP BY 1
    ) given
    WHERE given.back <> (SELECT sum(b.unapplied_receipts) FROM settlements_booking b
                         WHERE b.statement_id = given.statement_id)
    ORDER BY 1
"""
_UNBOOKED_CREDITS: Final = """
    SELECT c.id FROM settlements_payoutcredit c
    WHERE NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.credit_id = c.id)
    ORDER BY 1
"""
_UNBOOKED_PAYOUTS: Final = """
    SELECT p.id FROM settlements_payout p
    WHERE p.landed_on IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.payout_id = p.id)
    ORDER BY 1
"""
_FILE: Final = """
    SELECT f.sha256, f.lane, f.id, NULL::bigint, NULL::bigint, 0.00,
           charged.fees - beside.fees, -(beside.refunds - unapplied.refunds), -beside.disputes,
           -beside.adjustments, -unapplied.refunds
    FROM settlements_gatheredstatement g
    JOIN settlements_statementimport f ON f.id = g.statement_id
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(l.gross) FILTER (WHERE l.type IN ('fee', 'dispute_fee')), 0.00) AS fees,
             coalesce(sum(l.gross) FILTER (WHERE l.type = 'refund'), 0.00) AS refunds,
             coalesce(sum(l.gross) FILTER (WHERE l.type IN ('dispute', 'reversal')), 0.00) AS disputes,
             coalesce(sum(l.gross) FILTER (WHERE l.type = 'adjustment'), 0.00) AS adjustments
      FROM settlements_statementline l WHERE l.statement_id = f.id AND l.type <> 'charge'
    ) beside
    -- A fee is a line of its own, or a column of another. What a payout line takes has left with it.
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(l.fee), 0.00) AS fees
      FROM settlements_statementline l WHERE l.statement_id = f.id AND l.type <> 'payout'
    ) charged
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(l.gross), 0.00) AS refunds
      FROM settlements_statementline l
      JOIN checkout_attempt a
        ON a.outcome = 'unapplied' AND a.id = settlements_named_attempt(l.reference)
      WHERE l.statement_id = f.id AND l.type = 'refund'
    ) unapplied
    WHERE f.id = %(id)s
      AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.statement_id = f.id)
"""
_CORRECTION: Final = """
    SELECT concat_ws(' ', f.sha256, booked.next), f.lane, f.id, NULL::bigint, NULL::bigint, 0.00, 0.00,
           booked.back - given.back, 0.00, 0.00, given.back - booked.back, booked.next
    FROM settlements_statementimport f
    CROSS JOIN LATERAL (
      SELECT sum(unapplied_receipts) AS back, max(correction) + 1 AS next
      FROM settlements_booking WHERE statement_id = f.id
    ) booked
    CROSS JOIN LATERAL (
      SELECT -sum(l.gross) AS back
      FROM settlements_statementline l
      JOIN checkout_attempt a
        ON a.outcome = 'unapplied' AND a.id = settlements_named_attempt(l.reference)
      WHERE l.statement_id = f.id AND l.type = 'refund'
    ) given
    WHERE f.id = %(id)s AND given.back <> booked.back
"""
# By the place of the bank's entry in the file it came in, which is nobody else's.
_CREDIT: Final = """
    SELECT concat_ws(' ', p.reference, s.sha256, s.position, e.number), p.lane, NULL::bigint, NULL::bigint,
           c.id, e.net, 0.00, 0.00, 0.00, 0.00, 0.00
    FROM settlements_payoutcredit c
    JOIN settlements_payout p ON p.id = c.payout_id
    JOIN settlements_bankentry e ON e.id = c.entry_id
    JOIN settlements_bankstatement s ON s.id = e.statement_id
    WHERE c.id = %(id)s
      AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.credit_id = c.id)
"""
_PAYOUT: Final = """
    SELECT p.reference, p.lane, NULL::bigint, p.id, NULL::bigint, 0.00, p.kept, 0.00, 0.00, 0.00, 0.00
    FROM settlements_payout p
    WHERE p.id = %(id)s AND p.landed_on IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM settlements_booking b WHERE b.payout_id = p.id)
"""
