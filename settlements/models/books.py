"""The close of the books: a UTC day or month that one person proposed and another locked, with its figures.

Settlements have periods of their own, by creator (settlements/models/settlements.py); these are the
ledger's. The triggers of migrations 0026 and 0037 hold what is said here, for raw SQL too.
"""

import hashlib
import json
from typing import Any

from django.db import models
from django.db.models import F, Q

from settlements.models.desk import Decision


class Span(models.TextChoices):
    DAY = "day"
    MONTH = "month"


class BooksClose(models.Model):
    """A day or a month as it was proposed to be closed, and what another person decided (R43).

    An approved day is locked: no ledger entry is dated into it or before it. Days close in order,
    without a gap; a month when all its days are. Amounts are USD; days are the business clock's, UTC.
    """

    span = models.CharField(max_length=5, choices=Span.choices)
    first_day = models.DateField()
    # Of the journal's lines: how many, both sums, and the SHA-256 of their bytes.
    line_count = models.PositiveIntegerField()
    debit = models.DecimalField(max_digits=14, decimal_places=2)
    credit = models.DecimalField(max_digits=14, decimal_places=2)
    journal_sha256 = models.CharField(max_length=64)
    # What the approver finds again, or refuses: proof, suspense, files, incidents.
    figures = models.JSONField()
    # Charges billed that day, by state, as they stood when it was proposed; they are collected on.
    charges = models.JSONField(default=dict, blank=True)
    carried_count = models.PositiveIntegerField()
    carried_usd = models.DecimalField(max_digits=14, decimal_places=2)
    # Of all that, and of each thing carried over with its reason.
    sha256 = models.CharField(max_length=64)
    # Business clock: the span was over then.
    as_of = models.DateTimeField()
    proposed_by = models.CharField(max_length=150)
    # Real clock, as is `decided_at`.
    proposed_at = models.DateTimeField()
    decision = models.CharField(
        max_length=9, choices=Decision.choices, blank=True, default=Decision.OPEN
    )
    decided_by = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_because = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        verbose_name = "close of the books"
        verbose_name_plural = "closes of the books"
        permissions = [("approve_booksclose", "Can approve close of the books")]
        constraints = [
            # One that waits or stands.
            models.UniqueConstraint(
                fields=["span", "first_day"],
                condition=Q(decision__in=["", "approved"]),
                name="books_close_once",
            ),
            models.CheckConstraint(
                condition=Q(span__in=Span.values, debit=F("credit"), debit__gte=0)
                & ~Q(proposed_by=""),
                name="books_close_whole",
            ),
            models.CheckConstraint(
                condition=Q(span="day") | Q(first_day__day=1), name="books_close_month"
            ),
            # Four eyes (R43).
            models.CheckConstraint(
                condition=~Q(decision__in=["approved", "refused"])
                | ~Q(decided_by=F("proposed_by")),
                name="books_close_four_eyes",
            ),
            models.CheckConstraint(
                condition=Q(decision="", decided_by="", decided_because="", decided_at__isnull=True)
                | (
                    Q(decision__in=["approved", "refused", "withdrawn"], decided_at__isnull=False)
                    & ~Q(decided_by="")
                    & ~Q(decided_because="")
                ),
                name="books_close_decided",
            ),
        ]
        indexes = [models.Index(fields=["-first_day", "-id"], name="books_close_newest")]

    def __str__(self) -> str:
        return f"close of {self.name}"

    @property
    def name(self) -> str:
        """2026-11-23 or 2026-11."""
        return f"{self.first_day:%Y-%m-%d}" if self.span == Span.DAY else f"{self.first_day:%Y-%m}"


class CarriedOver(models.Model):
    """One thing that was open when its day was closed: its name, its USD at stake, and why it may wait."""

    close = models.ForeignKey(BooksClose, on_delete=models.PROTECT, related_name="carried")
    # attempt:<id>, discrepancy:<id>, file:<lane>:<day>, case:<id>
    name = models.CharField(max_length=120)
    what = models.CharField(max_length=300)
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    reason = models.CharField(max_length=300)

    class Meta:
        verbose_name_plural = "carried over"
        constraints = [
            models.UniqueConstraint(fields=["close", "name"], name="carried_once"),
            models.CheckConstraint(
                condition=~Q(name="") & ~Q(reason=""), name="carried_with_reason"
            ),
        ]

    def __str__(self) -> str:
        return self.name


def books_digest(content: dict[str, Any]) -> str:
    """SHA-256 of what is closed, in one spelling: two equal digests, the same figures and reasons."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
