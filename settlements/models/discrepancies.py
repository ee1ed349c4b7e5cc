"""Passes of reconciliation and what they found."""

from typing import Final

from django.db import models
from django.db.models import F, Q

from checkout.models import Charge, Creator


class Kind(models.TextChoices):
    """The comparisons (DESIGN section 6)."""

    BILLING = "billing"
    CAPTURED = "captured"
    PERIODS = "periods"
    STATEMENT = "statement"
    LEDGER = "ledger"
    EVENTS = "events"
    PAYOUT = "payout"


class RunMode(models.TextChoices):
    FULL = "full"
    INCREMENTAL = "incremental"


class ReconciliationRun(models.Model):
    """One pass: when it read both clocks, what it looked at, and what it found.

    A full pass commits slice by slice: one without an end was cut short.
    """

    mode = models.CharField(max_length=11, choices=RunMode.choices)
    kinds = models.CharField(max_length=100)
    # Real clock.
    started_at = models.DateTimeField()
    # Business clock, both: its reading at the start; and that of an older run, up to which periods must
    # have been billed by now (reconciliation.judged_as_of).
    business_at = models.DateTimeField()
    as_of = models.DateTimeField()
    # Real clock; none while it runs.
    ended_at = models.DateTimeField(null=True)
    # Real clock: every message published two minutes before was held against the topic.
    topic_read_at = models.DateTimeField(null=True, blank=True)
    # Of which anything was looked at.
    creators = models.PositiveIntegerField()
    marks = models.PositiveIntegerField()
    opened = models.PositiveIntegerField()
    cleared = models.PositiveIntegerField()
    standing = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(mode__in=RunMode.values), name="run_mode"),
        ]
        indexes = [models.Index(fields=["-started_at", "-id"], name="run_newest")]

    def __str__(self) -> str:
        return f"{self.mode} {self.started_at:%Y-%m-%d %H:%M:%S}"


class Code(models.TextChoices):
    """What does not agree, within a kind."""

    UNDER_CHARGE = "under_charge"
    SURPLUS = "surplus"
    EXPECTATION = "expectation"
    PERIOD = "period"
    CREATOR = "creator"
    CURRENCY = "currency"
    STATE = "state"
    UNAPPLIED = "unapplied"
    MISSING = "missing"
    EXTRA = "extra"
    NEXT_BILLING = "next_billing"
    AMOUNT = "amount"
    FEE = "fee"
    LANE = "lane"
    DUPLICATE = "duplicate"
    UNMATCHED = "unmatched"
    NOT_CAPTURED = "not_captured"
    LATE_FILE = "late_file"
    QUARANTINED_FILE = "quarantined_file"
    UNREADABLE_FILE = "unreadable_file"
    UNBALANCED = "unbalanced"
    RECEIVABLE = "receivable"
    GAP = "gap"
    CHANGED = "changed"
    ORDER = "order"
    REWRITTEN = "rewritten"


# About files. Where the subject ends with a day, that day's file is told and carried over already; any
# other file that is set aside, a bank's or a second one of a covered day, is named by nothing else.
ABOUT_FILES: Final = (Code.LATE_FILE, Code.QUARANTINED_FILE)
OF_A_DAY: Final = ":[0-9]{4}-[0-9]{2}-[0-9]{2}$"
NAMED_AS_FILES: Final = Q(code__in=ABOUT_FILES, fingerprint__regex=OF_A_DAY)

# Neither cleared by evidence nor resolved by two people; in the words of the partial index.
STANDING: Final = Q(cleared_at__isnull=True, resolved_at__isnull=True)


class Discrepancy(models.Model):
    """Two records of one fact that do not agree, to the cent (R38); never deleted.

    Found again it is the same row, by its fingerprint; gone it is cleared by evidence (R54). What no
    evidence clears is resolved by an approved proposal, for the amounts it was approved with: found
    with others, it stands again. Amounts are USD; 0.00 where the disagreement is not about money.
    """

    fingerprint = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    code = models.CharField(max_length=16, choices=Code.choices)
    # What a pass re-examines it by: of a statement, the attempt that its lines name; of anything else
    # without a charge, the creator or a charge that was deleted.
    key = models.UUIDField(null=True, blank=True)
    charge = models.ForeignKey(
        Charge, on_delete=models.PROTECT, null=True, blank=True, related_name="discrepancies"
    )
    creator = models.ForeignKey(
        Creator, on_delete=models.PROTECT, null=True, blank=True, related_name="discrepancies"
    )
    lane = models.CharField(max_length=40, blank=True, default="")
    expected = models.DecimalField(max_digits=14, decimal_places=2)
    actual = models.DecimalField(max_digits=14, decimal_places=2)
    difference = models.DecimalField(max_digits=14, decimal_places=2)
    explanation = models.CharField(max_length=500)
    # Of a rewritten row: table, id, column, was, now.
    detail = models.JSONField(default=dict, blank=True)
    # Real clock.
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True, blank=True)
    cleared_because = models.CharField(max_length=20, blank=True, default="")
    first_run = models.ForeignKey(ReconciliationRun, on_delete=models.PROTECT, related_name="found")
    # The desk's (settlements/models/desk.py): who looks into it, the proposal that is open or was
    # approved, and when (real clock) that resolved it. db_default: the passes insert by SQL.
    assigned_to = models.CharField(max_length=150, blank=True, default="", db_default="")
    proposal = models.ForeignKey(
        "Proposal", on_delete=models.PROTECT, null=True, blank=True, related_name="discrepancies"
    )
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "discrepancies"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="discrepancy_kind"),
            models.CheckConstraint(
                condition=Q(difference=F("actual") - F("expected")), name="discrepancy_difference"
            ),
            models.CheckConstraint(
                condition=Q(cleared_at__isnull=True, cleared_because="")
                | Q(cleared_at__isnull=False, cleared_because="evidence"),
                name="discrepancy_cleared",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at__isnull=True) | Q(proposal__isnull=False),
                name="discrepancy_resolved",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="discrepancy_newest"),
            models.Index(fields=["kind", "-opened_at", "-id"], name="discrepancy_kind_newest"),
            models.Index(
                fields=["kind", "key"],
                condition=Q(cleared_at__isnull=True),
                name="discrepancy_open",
            ),
            models.Index(
                fields=["-opened_at", "-id"], condition=STANDING, name="discrepancy_standing"
            ),
        ]

    def __str__(self) -> str:
        return self.fingerprint

    @property
    def is_standing(self) -> bool:
        return self.cleared_at is None and self.resolved_at is None
