"""The processors' batches: what statement lines add up to, what left, what landed, and what was booked."""

from typing import Final

from django.db import models
from django.db.models import F, Q

from checkout.models import LedgerAccount, LedgerEntry
from settlements.models.banking import BankEntry
from settlements.models.settlements import Settlement
from settlements.models.statements import StatementImport

# The sums of a payout, in the order of its table; all but `paid` make up the net.
SUMS: Final = ("gross", "refunds", "disputes", "adjustments", "reserve", "fees", "net", "paid")
NET: Final = F("gross") + F("refunds") + F("disputes") + F("adjustments") + F("reserve") + F("fees")


# What a booking may move; each is a field of it, named as the account.
BOOKED: Final = (
    LedgerAccount.CLEARING,
    LedgerAccount.CASH,
    LedgerAccount.FEES,
    LedgerAccount.REFUNDS,
    LedgerAccount.DISPUTES,
    LedgerAccount.ADJUSTMENTS,
    LedgerAccount.UNAPPLIED_RECEIPTS,
)
_NOTHING_BOOKED: Final = Q(**{account.value: 0 for account in BOOKED})
_OF_A_FILE: Final = Q(statement__isnull=False, payout__isnull=True, credit__isnull=True, cash=0)
# Of a credit, of what a bank kept of a payout, or of both at once, as they were booked before.
_OF_A_BANK: Final = (
    Q(statement__isnull=True, refunds=0, disputes=0, adjustments=0, unapplied_receipts=0)
    & (Q(credit__isnull=False) | Q(payout__isnull=False, cash=0))
    & (Q(payout__isnull=False) | Q(fees=0))
)
# A file's own booking, or what is known since of its refunds.
_CORRECTION: Final = Q(correction=0) | Q(
    statement__isnull=False, clearing=0, fees=0, disputes=0, adjustments=0
)


# Due: it has left the processor, and no bank's credit has landed it. An index is of what may be.
LEFT: Final = Q(value_on__isnull=False, landed_on__isnull=True)


class Payout(models.Model):
    """A processor's batch, as the lines of accepted statements name it, over one or more files.

    Amounts are USD and signed: what adds to the batch is positive, so fees are below zero. `net` is what
    its lines come to, `paid` what its payout line says has left; each is the sum of its parts (trigger).
    """

    processor = models.CharField(max_length=40)
    lane = models.CharField(max_length=40)
    # The processor's own id of it.
    reference = models.CharField(max_length=128)
    # Of the payout line: the day it left. None until that line has come.
    value_on = models.DateField(null=True, blank=True)
    gross = models.DecimalField(max_digits=14, decimal_places=2)
    refunds = models.DecimalField(max_digits=14, decimal_places=2)
    disputes = models.DecimalField(max_digits=14, decimal_places=2)
    adjustments = models.DecimalField(max_digits=14, decimal_places=2)
    reserve = models.DecimalField(max_digits=14, decimal_places=2)
    fees = models.DecimalField(max_digits=14, decimal_places=2)
    net = models.DecimalField(max_digits=14, decimal_places=2)
    paid = models.DecimalField(max_digits=14, decimal_places=2)
    line_count = models.PositiveIntegerField()
    # The bank's value date of the credit; set once, and only for a credit of the same net (trigger), less
    # what the bank kept of it, which two people accepted before; never changed after that either.
    landed_on = models.DateField(null=True, blank=True)
    kept = models.DecimalField(max_digits=14, decimal_places=2, default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "reference"], name="payout_once"),
            models.CheckConstraint(condition=~Q(reference=""), name="payout_reference"),
            models.CheckConstraint(condition=Q(net=NET), name="payout_net"),
            models.CheckConstraint(
                condition=Q(landed_on__isnull=True) | Q(value_on__isnull=False),
                name="payout_landed_after_it_left",
            ),
            models.CheckConstraint(
                # Less than what left, by the trigger, when it lands: what left may be reversed later.
                condition=Q(kept=0) | Q(kept__gt=0, landed_on__isnull=False),
                name="payout_kept",
            ),
        ]
        indexes = [
            models.Index(fields=["-value_on", "-id"], name="payout_newest"),
            models.Index(
                fields=["value_on"], condition=Q(landed_on__isnull=True), name="payout_under_way"
            ),
            models.Index(fields=["landed_on"], name="payout_landed"),
        ]

    def __str__(self) -> str:
        return f"{self.lane} {self.reference}"


class PayoutPart(models.Model):
    """What one accepted file adds to a payout. None ever changes."""

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="parts")
    statement = models.ForeignKey(
        StatementImport, on_delete=models.PROTECT, related_name="payout_parts"
    )
    gross = models.DecimalField(max_digits=14, decimal_places=2)
    refunds = models.DecimalField(max_digits=14, decimal_places=2)
    disputes = models.DecimalField(max_digits=14, decimal_places=2)
    adjustments = models.DecimalField(max_digits=14, decimal_places=2)
    reserve = models.DecimalField(max_digits=14, decimal_places=2)
    fees = models.DecimalField(max_digits=14, decimal_places=2)
    net = models.DecimalField(max_digits=14, decimal_places=2)
    paid = models.DecimalField(max_digits=14, decimal_places=2)
    line_count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["payout", "statement"], name="payout_part_once"),
            models.CheckConstraint(condition=Q(net=NET), name="payout_part_net"),
        ]

    def __str__(self) -> str:
        return f"{self.payout_id} of file {self.statement_id}"


class GatheredStatement(models.Model):
    """An accepted file whose lines were gathered into payouts; never twice."""

    statement = models.OneToOneField(
        StatementImport, primary_key=True, on_delete=models.PROTECT, related_name="gathered"
    )

    def __str__(self) -> str:
        return str(self.statement_id)


class PayoutCredit(models.Model):
    """A bank's entry that names a payout, whatever its amount; an entry names one payout at most."""

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="credits")
    entry = models.OneToOneField(BankEntry, on_delete=models.PROTECT, related_name="payout_credit")

    def __str__(self) -> str:
        return f"{self.payout_id} by entry {self.entry_id}"


class Booking(models.Model):
    """What a file moved in the books beside captures, a bank's credit, or a bank's fee. None ever changes.

    USD as the ledger posts it: a debit is positive. What moved nothing has no entry: many a file, and a
    payout of which the bank kept nothing. Of a credit it is the cash, of a payout what the bank kept;
    both were one booking, of the first credit, before credits were booked each by itself.
    """

    statement = models.ForeignKey(
        StatementImport, on_delete=models.PROTECT, null=True, related_name="bookings"
    )
    # 0: the file's own. From 1: refunds of it that are known since to give back unapplied receipts.
    correction = models.PositiveSmallIntegerField(default=0, db_default=0)
    payout = models.OneToOneField(
        Payout, on_delete=models.PROTECT, null=True, related_name="booking"
    )
    credit = models.OneToOneField(
        PayoutCredit, on_delete=models.PROTECT, null=True, related_name="booking"
    )
    entry = models.OneToOneField(
        LedgerEntry, on_delete=models.PROTECT, null=True, related_name="booking"
    )
    clearing = models.DecimalField(max_digits=14, decimal_places=2)
    cash = models.DecimalField(max_digits=14, decimal_places=2)
    fees = models.DecimalField(max_digits=14, decimal_places=2)
    refunds = models.DecimalField(max_digits=14, decimal_places=2)
    disputes = models.DecimalField(max_digits=14, decimal_places=2)
    adjustments = models.DecimalField(max_digits=14, decimal_places=2)
    unapplied_receipts = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["statement", "correction"], name="booking_file_once"),
            models.CheckConstraint(condition=_OF_A_FILE | _OF_A_BANK, name="booking_of_one_thing"),
            models.CheckConstraint(condition=_CORRECTION, name="booking_correction"),
            models.CheckConstraint(
                condition=Q(
                    clearing=-(
                        F("cash")
                        + F("fees")
                        + F("refunds")
                        + F("disputes")
                        + F("adjustments")
                        + F("unapplied_receipts")
                    )
                ),
                name="booking_balances",
            ),
            models.CheckConstraint(
                condition=(_NOTHING_BOOKED & Q(entry__isnull=True))
                | (~_NOTHING_BOOKED & Q(entry__isnull=False)),
                name="booking_entry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.clearing} of clearing"


class ProofMark(models.Model):
    """A word that a settlement may be proved now: it was closed, or a payout of its lines landed.

    Append-only, and consumed by the rows that were read, so that no word is lost between two runs.
    """

    id = models.BigAutoField(primary_key=True)
    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return str(self.settlement_id)
