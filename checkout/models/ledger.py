"""The books: entries that sum to zero, never updated, never deleted."""

from typing import Final
from uuid import UUID, uuid5

from django.db import models
from django.db.models import Q

from checkout.models.charges import Attempt, Charge
from checkout.models.creators import Creator


class LedgerAccount(models.TextChoices):
    RECEIVABLE = "receivable"
    CLEARING = "clearing"
    REVENUE = "revenue"
    FEES = "fees"
    REFUNDS = "refunds"
    DISPUTES = "disputes"
    ADJUSTMENTS = "adjustments"
    WRITE_OFF = "write_off"
    UNAPPLIED_RECEIPTS = "unapplied_receipts"
    CASH = "cash"


class EntryKind(models.TextChoices):
    BILLED = "billed"
    CAPTURED = "captured"
    UNAPPLIED = "unapplied"
    VOIDED = "voided"
    WRITTEN_OFF = "written_off"
    # What two people decided about a cent that no evidence can clear, and its reversal; of no charge, if
    # it is about a statement line that is nobody's.
    CORRECTED = "corrected"
    # Of a whole file of a processor, beside its captures; of a bank's credit of a payout, or its fee.
    STATED = "stated"
    LANDED = "landed"


# Of no single charge, so of no creator either.
_OF_A_LANE: Final = (EntryKind.STATED, EntryKind.LANDED)


class LedgerEntry(models.Model):
    """A balanced set of postings for one fact; its id is derived, so no fact is booked twice.

    Its fact is a charge's, or of a whole lane: what a file states, what a bank credited or kept, a line of
    nobody.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=11, choices=EntryKind.choices)
    charge = models.ForeignKey(
        Charge, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger_entries"
    )
    attempt = models.ForeignKey(
        Attempt, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger_entries"
    )
    posted_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(attempt__isnull=False), name="entry_attempt_once"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["captured", "unapplied"], attempt__isnull=False)
                | (~Q(kind__in=["captured", "unapplied"]) & Q(attempt__isnull=True)),
                name="entry_attempt",
            ),
            models.CheckConstraint(condition=Q(kind__in=EntryKind.values), name="entry_kind"),
            models.CheckConstraint(
                condition=Q(kind=EntryKind.CORRECTED)
                | Q(kind__in=_OF_A_LANE, charge__isnull=True)
                | (~Q(kind__in=_OF_A_LANE) & Q(charge__isnull=False)),
                name="entry_charge",
            ),
        ]
        indexes = [models.Index(fields=["-posted_at", "-id"], name="entry_newest")]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @staticmethod
    def derive_id(*, subject: UUID, kind: EntryKind) -> UUID:
        return uuid5(subject, f"ledger:{kind.value}")


class LedgerPosting(models.Model):
    """One line of an entry: a debit is positive, a credit negative, in USD."""

    id = models.BigAutoField(primary_key=True)
    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="postings")
    account = models.CharField(max_length=18, choices=LedgerAccount.choices)
    lane = models.CharField(max_length=40, blank=True, default="")
    creator = models.ForeignKey(
        Creator, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    charge = models.ForeignKey(
        Charge, on_delete=models.PROTECT, null=True, blank=True, related_name="postings"
    )
    amount = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["entry", "account"], name="posting_account_once"),
            models.CheckConstraint(condition=~Q(amount=0), name="posting_not_zero"),
            models.CheckConstraint(
                condition=Q(account__in=LedgerAccount.values), name="posting_account"
            ),
            models.CheckConstraint(
                condition=(Q(account="clearing") & ~Q(lane=""))
                | (~Q(account="clearing") & Q(lane="")),
                name="posting_lane",
            ),
            models.CheckConstraint(
                condition=Q(charge__isnull=True, creator__isnull=True)
                | Q(charge__isnull=False, creator__isnull=False),
                name="posting_charge",
            ),
        ]
        indexes = [
            models.Index(fields=["charge", "account"], name="posting_charge_account"),
            models.Index(
                fields=["entry"], condition=Q(charge__isnull=True), name="posting_of_a_lane"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"
