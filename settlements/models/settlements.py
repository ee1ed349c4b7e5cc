"""What was charged in each period of a schedule, to the cent, and what waits for the next close."""

from typing import Final
from uuid import UUID, uuid5

from django.db import models
from django.db.models import F, Q

from checkout.models import Attempt, Charge, Creator
from settlements.models.schedules import SettlementSchedule
from settlements.models.statements import StatementLine


class LineKind(models.TextChoices):
    """What a line of a settlement is; `unapplied` is a capture that its charge could not take."""

    CHARGE = "charge"
    UNAPPLIED = "unapplied"
    REFUND = "refund"
    DISPUTE = "dispute"
    REVERSAL = "reversal"
    FEE = "fee"
    ADJUSTMENT = "adjustment"


# Which total of its settlement a kind counts in.
TOTALS: Final = {
    "charged": (LineKind.CHARGE,),
    "unapplied": (LineKind.UNAPPLIED,),
    "refunded": (LineKind.REFUND,),
    "disputed": (LineKind.DISPUTE, LineKind.REVERSAL),
    "fees": (LineKind.FEE,),
    "adjusted": (LineKind.ADJUSTMENT,),
}


class OpenPeriod(models.Model):
    """The oldest period of a creator that is not closed yet; every creator with a schedule has one."""

    creator = models.OneToOneField(
        Creator, primary_key=True, on_delete=models.PROTECT, related_name="open_period"
    )
    schedule = models.ForeignKey(SettlementSchedule, on_delete=models.PROTECT, related_name="+")
    starts_on = models.DateField()
    # The first day after it: the cut is that day's midnight, UTC, by the business clock.
    ends_on = models.DateField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_on__gt=F("starts_on")), name="open_period_span"
            ),
        ]
        indexes = [models.Index(fields=["ends_on", "creator"], name="open_period_end")]

    def __str__(self) -> str:
        return f"{self.creator_id} {self.starts_on} to {self.ends_on}"


class Settlement(models.Model):
    """One closed period of a schedule with something in it. Only `proved_at` is ever written again.

    Amounts are USD and signed: what adds to the money that must land is positive. Each equals the sum
    of its lines, by constraint trigger.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="settlements")
    schedule = models.ForeignKey(
        SettlementSchedule, on_delete=models.PROTECT, related_name="settlements"
    )
    period_start = models.DateField()
    period_end = models.DateField()
    # The day by which the money must have landed.
    lands_on = models.DateField()
    charged = models.DecimalField(max_digits=14, decimal_places=2)
    unapplied = models.DecimalField(max_digits=14, decimal_places=2)
    refunded = models.DecimalField(max_digits=14, decimal_places=2)
    disputed = models.DecimalField(max_digits=14, decimal_places=2)
    fees = models.DecimalField(max_digits=14, decimal_places=2)
    adjusted = models.DecimalField(max_digits=14, decimal_places=2)
    net = models.DecimalField(max_digits=14, decimal_places=2)
    line_count = models.PositiveIntegerField()
    # Business clock, both.
    closed_at = models.DateTimeField()
    proved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "period_start"], name="settlement_once"),
            models.CheckConstraint(
                condition=Q(period_end__gt=F("period_start")), name="settlement_period"
            ),
            models.CheckConstraint(condition=Q(line_count__gte=1), name="settlement_not_empty"),
            models.CheckConstraint(
                condition=Q(
                    net=F("charged")
                    + F("unapplied")
                    + F("refunded")
                    + F("disputed")
                    + F("fees")
                    + F("adjusted")
                ),
                name="settlement_net",
            ),
        ]
        indexes = [
            models.Index(fields=["-closed_at", "-id"], name="settlement_newest"),
            models.Index(
                fields=["lands_on", "id"],
                condition=Q(proved_at__isnull=True),
                name="settlement_unproved",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.period_start} to {self.period_end}"

    @staticmethod
    def derive_id(*, creator_id: UUID, period_start: str) -> UUID:
        """The same period is the same settlement in a restored database (R51); the day as ISO text."""
        return uuid5(creator_id, f"settlement:{period_start}")


class SettlementLine(models.Model):
    """One fact of a settlement, with its own date; no fact is in two settlements. None ever changes.

    A capture is named by its attempt alone; what a statement told also by the statement's line.
    """

    id = models.BigAutoField(primary_key=True)
    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, related_name="lines")
    kind = models.CharField(max_length=10, choices=LineKind.choices)
    attempt = models.ForeignKey(Attempt, on_delete=models.PROTECT, related_name="+")
    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="settlement_lines")
    statement_line = models.ForeignKey(
        StatementLine, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    lane = models.CharField(max_length=40)
    # Of a capture, the business clock's reading at its outcome; of what a statement told, the line's
    # `booked_at`, the processor's clock.
    occurred_at = models.DateTimeField()
    # USD, signed as its settlement's totals are.
    amount = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt"],
                condition=Q(statement_line__isnull=True),
                name="settlement_line_capture_once",
            ),
            models.UniqueConstraint(
                fields=["statement_line", "kind"],
                condition=Q(statement_line__isnull=False),
                name="settlement_line_stated_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=["charge", "unapplied"], statement_line__isnull=True, amount__gt=0
                )
                | (
                    Q(
                        kind__in=["refund", "dispute", "reversal", "fee", "adjustment"],
                        statement_line__isnull=False,
                    )
                    & ~Q(amount=0)
                ),
                name="settlement_line_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"
