"""The books: which entry each fact posts, and what the accounts hold.

A debit is positive, a credit negative. Billing: receivable against revenue. A capture: clearing of
its lane against receivable, in the amount that was captured, not in the amount that was asked for.
A capture the charge cannot take: clearing against unapplied receipts. Void and write-off close what
is still receivable. A correction moves what captures left receivable to the write-off account, or
what they took too much to unapplied receipts; that of a match, or of what a statement says otherwise,
moves what a lane holds. What a processor's file says it took or gave beside captures leaves or enters
clearing, against fees, refunds, disputes and adjustments; a bank's credit of a payout moves clearing to
cash (settlements/booking.py). So clearing is what a lane holds for us: captures that await their file,
its balance and reserve with the processor, what is on its way to the bank, and by what the bank's credits
differ.

Each entry's id is derived from its fact, so a fact posted twice is refused by the primary key (R36),
and the deferred trigger refuses what does not sum to zero (R34).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.db.models import QuerySet, Sum

from checkout.clock import Moment
from checkout.models import (
    Attempt,
    Charge,
    EntryKind,
    LedgerAccount,
    LedgerEntry,
    LedgerPosting,
)
from checkout.money import usd

A = LedgerAccount
# Rows a statement.
AT_ONCE: Final = 1000


class Unbalanced(Exception):
    """The postings of an entry do not sum to zero."""


def post(
    *,
    kind: EntryKind,
    charge: Charge,
    attempt: Attempt | None = None,
    postings: Mapping[LedgerAccount, Decimal],
    now: Moment,
    subject: UUID | None = None,
    lane: str = "",
) -> LedgerEntry:
    """Write one balanced entry of a charge, in USD, dated by the business clock.

    Its id is derived from `subject`, the fact it books: the attempt or the charge if none is given.
    So is the lane of what it posts to clearing, if none is given.
    """
    subject = subject or (attempt.pk if attempt else charge.pk)
    lane = lane or (attempt.lane if attempt else charge.lane)
    return _write(kind, subject, lane, postings, charge=charge, attempt=attempt, now=now)


def post_of_lane(
    *,
    kind: EntryKind,
    subject: UUID,
    lane: str,
    postings: Mapping[LedgerAccount, Decimal],
    now: Moment,
) -> LedgerEntry:
    """Write one balanced entry that is no single charge's: what a file states, what has landed."""
    return _write(kind, subject, lane, postings, charge=None, attempt=None, now=now)


def _write(
    kind: EntryKind,
    subject: UUID,
    lane: str,
    postings: Mapping[LedgerAccount, Decimal],
    *,
    charge: Charge | None,
    attempt: Attempt | None,
    now: Moment,
) -> LedgerEntry:
    if sum(postings.values()) != 0:
        raise Unbalanced(f"{kind} of {subject}: {dict(postings)}")
    entry = LedgerEntry.objects.create(
        id=LedgerEntry.derive_id(subject=subject, kind=kind),
        kind=kind,
        charge=charge,
        attempt=attempt,
        posted_at=now.business,
    )
    LedgerPosting.objects.bulk_create(
        _posting(entry, account, amount, charge=charge, lane=lane)
        for account, amount in postings.items()
    )
    return entry


def post_capture(*, charge: Charge, attempt: Attempt, amount: Decimal, now: Moment) -> LedgerEntry:
    """Post what the processor captured for a charge that can take it."""
    return post(
        kind=EntryKind.CAPTURED,
        charge=charge,
        attempt=attempt,
        postings={A.CLEARING: amount, A.RECEIVABLE: -amount},
        now=now,
    )


def post_unapplied(
    *, charge: Charge, attempt: Attempt, amount: Decimal, now: Moment
) -> LedgerEntry:
    """Post a capture its charge cannot take: a known capture is never thrown away (R27)."""
    return post(
        kind=EntryKind.UNAPPLIED,
        charge=charge,
        attempt=attempt,
        postings={A.CLEARING: amount, A.UNAPPLIED_RECEIPTS: -amount},
        now=now,
    )


def close_receivable(*, charge: Charge, kind: EntryKind, now: Moment) -> LedgerEntry | None:
    """Post what is still owed against revenue (voided) or the write-off account.

    None when nothing is owed any more: a repaired charge is not closed twice.
    """
    owed = receivable(charge_id=charge.pk)
    if owed == 0:
        return None
    against = A.REVENUE if kind == EntryKind.VOIDED else A.WRITE_OFF
    return post(kind=kind, charge=charge, postings={against: owed, A.RECEIVABLE: -owed}, now=now)


def correct(
    *, charge: Charge, receivable: Decimal, against: LedgerAccount, subject: UUID, now: Moment
) -> LedgerEntry:
    """Move a charge's receivable by this much, against another account, as two people decided."""
    return post(
        kind=EntryKind.CORRECTED,
        charge=charge,
        postings={A.RECEIVABLE: receivable, against: -receivable},
        subject=subject,
        now=now,
    )


@dataclass(frozen=True)
class Correction:
    """One account moved by this much (USD) against another, for a reason of its own.

    Receivable is moved of a charge; clearing of a lane, for a charge or for none.
    """

    charge: Charge | None
    account: LedgerAccount
    amount: Decimal
    against: LedgerAccount
    subject: UUID
    lane: str = ""

    @property
    def postings(self) -> Mapping[LedgerAccount, Decimal]:
        return {self.account: self.amount, self.against: -self.amount}


def correct_each(*, corrections: Sequence[Correction], now: Moment) -> list[LedgerEntry]:
    """As `correct`, for thousands, in two statements; the entries in the order of the corrections."""
    entries = [
        LedgerEntry(
            id=LedgerEntry.derive_id(subject=each.subject, kind=EntryKind.CORRECTED),
            kind=EntryKind.CORRECTED,
            charge=each.charge,
            posted_at=now.business,
        )
        for each in corrections
    ]
    LedgerEntry.objects.bulk_create(entries, batch_size=AT_ONCE)
    postings = (
        _posting(entry, account, amount, charge=each.charge, lane=each.lane)
        for entry, each in zip(entries, corrections, strict=True)
        for account, amount in each.postings.items()
    )
    LedgerPosting.objects.bulk_create(postings, batch_size=AT_ONCE)
    return entries


def _posting(
    entry: LedgerEntry, account: LedgerAccount, amount: Decimal, *, charge: Charge | None, lane: str
) -> LedgerPosting:
    return LedgerPosting(
        entry=entry,
        account=account,
        lane=lane if account == A.CLEARING else "",
        creator_id=charge.creator_id if charge else None,
        charge=charge,
        amount=usd(amount),
    )


def correct_clearing(
    *,
    charge: Charge,
    attempt: Attempt,
    amount: Decimal,
    against: LedgerAccount,
    subject: UUID,
    now: Moment,
) -> LedgerEntry:
    """Move what the attempt's lane holds of a capture by this much, as two people decided."""
    return post(
        kind=EntryKind.CORRECTED,
        charge=charge,
        postings={A.CLEARING: amount, against: -amount},
        subject=subject,
        lane=attempt.lane,
        now=now,
    )


def reverse(*, entry: LedgerEntry, now: Moment) -> LedgerEntry:
    """A correction's accounts, the other way round: entries are never changed (R35).

    Raises Unbalanced if someone did change it, or took its postings away.
    """
    postings = list(entry.postings.order_by("id"))
    if not postings:
        raise Unbalanced(f"{entry.kind} {entry.pk} has no postings")
    return _write(
        EntryKind.CORRECTED,
        uuid5(entry.pk, "reversal"),
        next((each.lane for each in postings if each.lane), ""),
        {LedgerAccount(each.account): -each.amount for each in postings},
        charge=entry.charge,
        attempt=None,
        now=now,
    )


def receivable(*, charge_id: UUID) -> Decimal:
    """What is still owed of a charge, in USD, by the books and by nothing else (R26)."""
    return _sum(LedgerPosting.objects.filter(charge_id=charge_id, account=A.RECEIVABLE))


def receivables(*, charge_ids: Collection[UUID]) -> dict[UUID, Decimal]:
    """As `receivable`, of many; a charge without a posting is not among them."""
    postings = LedgerPosting.objects.filter(charge_id__in=charge_ids, account=A.RECEIVABLE)
    sums = postings.order_by().values_list("charge_id").annotate(total=Sum("amount"))
    return {charge_id: total for charge_id, total in sums if charge_id}


def is_written_off(*, charge_id: UUID) -> bool:
    """Whether the books hold this charge's loss, whatever its row says."""
    return LedgerEntry.objects.filter(charge_id=charge_id, kind=EntryKind.WRITTEN_OFF).exists()


def balance(*, account: LedgerAccount) -> Decimal:
    """What an account holds, in USD; a debit balance is positive."""
    return _sum(LedgerPosting.objects.filter(account=account))


def _sum(postings: QuerySet[LedgerPosting]) -> Decimal:
    return postings.aggregate(total=Sum("amount"))["total"] or Decimal("0.00")
