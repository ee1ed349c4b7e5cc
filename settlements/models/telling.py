"""What finance was told: notices, what each of them told of, and which way each went out when."""

from typing import Final

from django.db import models
from django.db.models import Q

TITLE_LENGTH: Final = 200


class NoticeKind(models.TextChoices):
    DISCREPANCIES = "discrepancies", "discrepancies opened"
    FILES = "files", "files late or set aside"
    APPROVALS = "approvals", "waits for an approval"
    DIGEST = "digest", "morning digest"
    PAGE = "page", "above what pages"


class Notice(models.Model):
    """One message to finance, as it was written; append-only (trigger), so every try sends the same.

    Its id is derived from the first thing it tells of, and goes out with it: whoever hears the same
    id twice heard one notice. It holds figures and links, never a person's data or a card's.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=13, choices=NoticeKind.choices)
    # Real clock.
    noticed_at = models.DateTimeField()
    title = models.CharField(max_length=TITLE_LENGTH)
    text = models.TextField()
    # Amounts are strings of USD.
    figures = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=NoticeKind.values), name="notice_kind"),
            models.CheckConstraint(condition=~Q(title="") & ~Q(text=""), name="notice_whole"),
        ]
        indexes = [
            models.Index(fields=["-noticed_at", "-id"], name="notice_newest"),
            models.Index(fields=["kind", "-noticed_at"], name="notice_kind_newest"),
        ]

    def __str__(self) -> str:
        return self.title


class NoticeItem(models.Model):
    """One thing that a notice told of; the same thing is told of once, by any notice."""

    notice = models.ForeignKey(Notice, on_delete=models.PROTECT, related_name="items")
    # What it is and which moment of it: `file:cis:2026-01-31:late`, `digest:2026-01-31`.
    subject = models.CharField(max_length=120, unique=True)

    def __str__(self) -> str:
        return self.subject


class WayName(models.TextChoices):
    MAIL = "mail"
    WEBHOOK = "webhook"


class NoticeDelivery(models.Model):
    """A notice on one way: how often it was tried, when next, when it was taken. Told is told (trigger)."""

    notice = models.ForeignKey(Notice, on_delete=models.PROTECT, related_name="deliveries")
    way = models.CharField(max_length=7, choices=WayName.choices)
    tries = models.PositiveIntegerField(default=0)
    # Real clock, both.
    next_try_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)
    # Why the last try failed; never an address or a secret.
    why = models.CharField(max_length=100, blank=True, default="")

    class Meta:
        verbose_name_plural = "notice deliveries"
        constraints = [
            models.UniqueConstraint(fields=["notice", "way"], name="delivery_once_a_way"),
            models.CheckConstraint(condition=Q(way__in=WayName.values), name="delivery_way"),
            models.CheckConstraint(
                condition=Q(told_at__isnull=True) | Q(tries__gte=1, why=""), name="delivery_told"
            ),
        ]
        indexes = [
            models.Index(
                fields=["way", "next_try_at"],
                condition=Q(told_at__isnull=True),
                name="delivery_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.notice_id} by {self.way}"
