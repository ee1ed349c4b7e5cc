"""Many exhausted charges that a person opens again at once, and what became of each.

What a bulk requeue is about never changes once it is written down; above its limit another person
approves it (R43). The triggers of migration 0017 hold both, for raw SQL too.
"""

from typing import Final

from django.db import models
from django.db.models import F, Q

from checkout.gateways import DeclineClass
from checkout.models.charges import Awaits, Charge


class RequeueDecision(models.TextChoices):
    OPEN = "", "not decided"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


_DECIDED: Final = ["approved", "refused", "withdrawn"]


# Waits for another person: above one's limit, and nobody decided it yet (R43).
REQUEUE_WAITS: Final = Q(needs_approval=True, decision="", finished_at__isnull=True)


class BulkRequeue(models.Model):
    """Which charges one person requeues and why; what another decided, if it is above the limit.

    An empty filter means any; `since` and `until` bound when the last round ended (real clock, UTC).
    """

    lane = models.CharField(max_length=40, blank=True, default="")
    decline_class = models.CharField(
        max_length=15, blank=True, default="", choices=[(c.value, c.value) for c in DeclineClass]
    )
    awaits = models.CharField(max_length=10, choices=Awaits.choices, blank=True, default="")
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300)
    count = models.PositiveIntegerField()
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    # Over each charge's id, round and amount: what an approver must have seen.
    sha256 = models.CharField(max_length=64)
    # What was left of the limit to this person that day: above it another approves.
    limit_count = models.PositiveIntegerField()
    limit_usd = models.DecimalField(max_digits=14, decimal_places=2)
    needs_approval = models.BooleanField()
    proposed_by = models.CharField(max_length=150)
    proposed_at = models.DateTimeField()
    decision = models.CharField(
        max_length=9, choices=RequeueDecision.choices, blank=True, default=RequeueDecision.OPEN
    )
    decided_by = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_because = models.CharField(max_length=300, blank=True, default="")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        permissions = [("approve_bulkrequeue", "Can approve bulk requeue")]
        constraints = [
            models.CheckConstraint(
                condition=Q(count__gte=1) & ~Q(proposed_by="") & ~Q(reason=""),
                name="bulk_requeue_whole",
            ),
            models.CheckConstraint(
                condition=Q(needs_approval=True)
                | Q(count__lte=F("limit_count"), usd__lte=F("limit_usd")),
                name="bulk_requeue_limit",
            ),
            # Four eyes: who proposes does not approve; he may withdraw (R43).
            models.CheckConstraint(
                condition=~Q(decision__in=["approved", "refused"])
                | ~Q(decided_by=F("proposed_by")),
                name="bulk_requeue_four_eyes",
            ),
            models.CheckConstraint(
                condition=Q(decision="", decided_by="", decided_because="", decided_at__isnull=True)
                | (
                    Q(decision__in=_DECIDED, decided_at__isnull=False, needs_approval=True)
                    & ~Q(decided_by="")
                    & ~Q(decided_because="")
                ),
                name="bulk_requeue_decided",
            ),
        ]
        indexes = [
            models.Index(fields=["-proposed_at", "-id"], name="bulk_requeue_newest"),
            models.Index(
                fields=["proposed_at"],
                condition=Q(finished_at__isnull=True),
                name="bulk_requeue_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return f"bulk requeue {self.pk}"

    @property
    def is_waiting(self) -> bool:
        """Whether another person has to decide it first."""
        return self.needs_approval and self.decision == RequeueDecision.OPEN

    @property
    def is_allowed(self) -> bool:
        """Whether it may be carried out."""
        return not self.needs_approval or self.decision == RequeueDecision.APPROVED


class RequeueOutcome(models.TextChoices):
    WAITS = "", "not yet"
    REQUEUED = "requeued"
    LEFT = "left"


class BulkRequeueItem(models.Model):
    """One charge of a bulk requeue, with the round and the USD it was chosen with."""

    requeue = models.ForeignKey(BulkRequeue, on_delete=models.PROTECT, related_name="items")
    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="bulk_requeues")
    round = models.PositiveSmallIntegerField()
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    outcome = models.CharField(
        max_length=8, choices=RequeueOutcome.choices, blank=True, default=RequeueOutcome.WAITS
    )
    left_because = models.CharField(max_length=300, blank=True, default="")
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["requeue", "charge"], name="bulk_requeue_item_once"),
            # A charge waits in one of them at a time.
            models.UniqueConstraint(
                fields=["charge"], condition=Q(outcome=""), name="bulk_requeue_item_waits_once"
            ),
            models.CheckConstraint(
                condition=Q(outcome="", done_at__isnull=True, left_because="")
                | Q(outcome="requeued", done_at__isnull=False, left_because="")
                | (Q(outcome="left", done_at__isnull=False) & ~Q(left_because="")),
                name="bulk_requeue_item_outcome",
            ),
        ]
        indexes = [
            models.Index(
                fields=["requeue", "id"], condition=Q(outcome=""), name="bulk_requeue_item_waiting"
            ),
        ]

    def __str__(self) -> str:
        return str(self.charge_id)
