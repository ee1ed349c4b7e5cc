"""What a person must look at or decide."""

from typing import Final

from django.db import models
from django.db.models import F, Q


class CaseKind(models.TextChoices):
    DEAD_LETTER = "dead_letter"
    UNREADABLE_MESSAGE = "unreadable_message"
    UNAPPLIED_RECEIPT = "unapplied_receipt"
    REFUND_AFTER_CANCEL = "refund_after_cancel"
    REPAIRED_CHARGE = "repaired_charge"
    IN_DOUBT = "in_doubt"
    PARKED_MESSAGE = "parked_message"
    BILL_RUN = "bill_run"
    LANE_REFUSED = "lane_refused"


# Waits for another person: proposed by one, and nobody approved it yet (R43).
CASE_WAITS: Final = Q(
    kind__in=[CaseKind.IN_DOUBT, CaseKind.BILL_RUN], closed_at__isnull=True, approved_by=""
) & ~Q(proposed_by="")


class Case(models.Model):
    """One thing to decide: opened once by (kind, subject), closed with a reason, never deleted."""

    kind = models.CharField(max_length=20, choices=CaseKind.choices)
    subject = models.CharField(max_length=200)
    charge = models.ForeignKey(
        "Charge", on_delete=models.PROTECT, null=True, blank=True, related_name="cases"
    )
    creator = models.ForeignKey(
        "Creator", on_delete=models.PROTECT, null=True, blank=True, related_name="cases"
    )
    amount = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    reason = models.CharField(max_length=500)
    detail = models.JSONField(default=dict, blank=True)
    opened_at = models.DateTimeField()
    proposal = models.CharField(max_length=500, blank=True, default="")
    proposed_by = models.CharField(max_length=150, blank=True, default="")
    approved_by = models.CharField(max_length=150, blank=True, default="")
    approved_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_because = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        permissions = [("approve_case", "Can approve case")]
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], name="case_once"),
            # Four eyes: who proposes does not approve (R43).
            models.CheckConstraint(
                condition=Q(approved_by="") | ~Q(approved_by=F("proposed_by")),
                name="case_four_eyes",
            ),
            models.CheckConstraint(
                condition=Q(approved_by="", approved_at__isnull=True)
                | (~Q(approved_by="") & ~Q(proposed_by="") & Q(approved_at__isnull=False)),
                name="case_approved",
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True, closed_because="")
                | (Q(closed_at__isnull=False) & ~Q(closed_because="")),
                name="case_closed",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="case_newest"),
            models.Index(fields=["kind", "-opened_at", "-id"], name="case_kind_newest"),
            models.Index(
                fields=["kind", "opened_at"], condition=Q(closed_at__isnull=True), name="case_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @property
    def proposed(self) -> str:
        """What another person decides about, as his page shows it; nothing while nobody proposed."""
        if not self.proposed_by:
            return ""
        return (
            f"{self.proposed_by} proposes: {self.proposal}, because {' '.join(self.reason.split())}"
        )
