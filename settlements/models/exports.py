"""Exports that people asked for on a page: which rows, in which form, and the file that was made of them."""

from typing import Final

from django.db import models
from django.db.models import Q

LONGEST_QUERY: Final = 1000


class ExportWhat(models.TextChoices):
    """The lists of settlements/exports/lists.py, and what is a file of its own."""

    CHARGES = "charges"
    ATTEMPTS = "attempts"
    CAPTURES = "captures"
    LEDGER_ENTRIES = "ledger-entries", "ledger entries"
    STATEMENTS = "statements", "statement imports"
    STATEMENT_LINES = "statement-lines", "statement lines"
    PAYOUTS = "payouts"
    BANK_STATEMENTS = "bank-statements", "bank statements"
    BANK_ENTRIES = "bank-entries", "bank entries"
    SETTLEMENTS = "settlements"
    DISCREPANCIES = "discrepancies"
    PROPOSALS = "proposals"
    DESK_ACTIONS = "desk-actions", "desk actions"
    CASES = "cases"
    HOLDS = "holds"
    BULK_REQUEUES = "bulk-requeues", "bulk requeues"
    CLOSES = "closes", "closes of the books"
    AUDIT_TRAIL = "audit-trail", "audit trail"
    JOURNAL = "journal", "journal of a month"
    EVIDENCE = "evidence", "evidence pack of a charge"


# Their rows carry no money, or none that may be added up: their files have no total.
_WITHOUT_TOTAL: Final = (
    ExportWhat.DESK_ACTIONS,
    ExportWhat.HOLDS,
    ExportWhat.CLOSES,
    ExportWhat.AUDIT_TRAIL,
)


class ExportForm(models.TextChoices):
    CSV = "csv", "CSV"
    CSV_EXCEL = "csv-excel", "CSV for Excel with decimal commas (byte order mark, semicolons)"
    XLSX = "xlsx", "workbook (XLSX)"
    ZIP = "zip", "ZIP"


class ExportState(models.TextChoices):
    ASKED = "asked", "waits to be made"
    MADE = "made"
    FAILED = "failed"


class ExportRun(models.Model):
    """One export: asked for by a person, then made or failed, and never changed after that (trigger).

    A worker makes it (settlements/exports/runs.py). `tries` numbers the claims: whoever was given a
    lower one than the row's has lost it, and writes nothing. Amounts are USD, times the real clock's.
    """

    what = models.CharField(max_length=15, choices=ExportWhat.choices)
    form = models.CharField(max_length=9, choices=ExportForm.choices)
    # The list page's own query string, so that the file holds what the page shows.
    query = models.CharField(max_length=LONGEST_QUERY, blank=True, default="")
    # The same in words, as the page printed it.
    words = models.CharField(max_length=500)
    asked_by = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    state = models.CharField(max_length=6, choices=ExportState.choices, default=ExportState.ASKED)
    tries = models.PositiveSmallIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # The moment of the snapshot that was read.
    as_of = models.DateTimeField(null=True, blank=True)
    rows = models.PositiveBigIntegerField(null=True, blank=True)
    total = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    size = models.PositiveBigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    # Its name in the folder of exports.
    file = models.CharField(max_length=60, blank=True, default="")
    failed_because = models.CharField(max_length=500, blank=True, default="")
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "export"
        permissions = [("download_exportrun", "Can download export")]
        constraints = [
            models.CheckConstraint(condition=Q(what__in=ExportWhat.values), name="export_what"),
            models.CheckConstraint(condition=Q(form__in=ExportForm.values), name="export_form"),
            models.CheckConstraint(
                condition=~Q(asked_by="") & ~Q(reason="") & ~Q(words=""), name="export_whole"
            ),
            models.CheckConstraint(
                condition=Q(state="made", ended_at__isnull=False, as_of__isnull=False)
                & Q(rows__isnull=False, size__isnull=False)
                & (Q(total__isnull=False) | Q(what__in=_WITHOUT_TOTAL))
                & Q(failed_because="")
                & ~Q(sha256="")
                & ~Q(file="")
                | Q(state__in=["asked", "failed"], as_of__isnull=True, rows__isnull=True)
                & Q(total__isnull=True, size__isnull=True, sha256="", file="")
                & Q(removed_at__isnull=True),
                name="export_made",
            ),
            models.CheckConstraint(
                condition=Q(state="asked", ended_at__isnull=True, failed_because="")
                | Q(state="made")
                | Q(state="failed", ended_at__isnull=False) & ~Q(failed_because=""),
                name="export_ended",
            ),
            # Asked twice by one person before it is made, it is one.
            models.UniqueConstraint(
                fields=["asked_by", "what", "form", "query"],
                condition=Q(state="asked"),
                name="export_asked_once",
            ),
        ]
        indexes = [
            models.Index(fields=["-asked_at", "-id"], name="export_newest"),
            models.Index(
                fields=["asked_at", "id"], condition=Q(state="asked"), name="export_waiting"
            ),
            models.Index(
                fields=["ended_at"],
                condition=Q(state="made", removed_at__isnull=True),
                name="export_kept",
            ),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}"

    @property
    def is_there(self) -> bool:
        """Whether its file was made and not removed yet."""
        return self.state == ExportState.MADE and self.removed_at is None

    @property
    def download_name(self) -> str:
        """Which list and as of when: charges-2026-11-23T100501Z.csv. A pack says of what, too."""
        ending = "csv" if self.form == ExportForm.CSV_EXCEL else self.form
        # The query of a pack is one name and its value.
        of = f"-{self.query.partition('=')[2]}" if self.form == ExportForm.ZIP else ""
        return f"{self.what}{of}-{self.as_of:%Y-%m-%dT%H%M%SZ}.{ending}"
