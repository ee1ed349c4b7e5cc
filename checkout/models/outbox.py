"""What must leave the service: dispatches for SQS, events for Kafka. One table, two doors.

Three tables: what is said (never changed), what still waits (short), what a broker acknowledged
(narrow). A mark is then a DELETE and an INSERT of a few bytes, instead of a new version of the message.
"""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q


class Door(models.TextChoices):
    SQS = "sqs"
    KAFKA = "kafka"


class OutboxMessage(models.Model):
    """A committed message; `payload` holds the exact characters that are sent. Append-only by trigger.

    Each one waits (pending) or is published; triggers write the one and guard the way to the other.
    """

    id = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    door = models.CharField(max_length=5, choices=Door.choices)
    key = models.UUIDField()
    # Kafka only: the creator's own sequence, without a gap, so that a consumer sees a loss (R44).
    event_seq = models.BigIntegerField(null=True, blank=True)
    type = models.CharField(max_length=60)
    subject = models.UUIDField()
    payload = models.TextField()
    payload_sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    available_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key", "event_seq"], condition=Q(door="kafka"), name="outbox_sequence"
            ),
            models.CheckConstraint(condition=Q(door__in=Door.values), name="outbox_door"),
            models.CheckConstraint(
                condition=Q(door="kafka", event_seq__isnull=False)
                | Q(door="sqs", event_seq__isnull=True),
                name="outbox_sequence_on_kafka",
            ),
        ]
        indexes = [
            models.Index(fields=["subject", "door"], name="outbox_subject"),
            models.Index(fields=["-created_at", "-id"], name="outbox_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"

    @property
    def waiting(self) -> "PendingMessage | None":
        """How it waits; None once a broker acknowledged it."""
        return getattr(self, "pending", None)

    @property
    def acknowledged(self) -> "PublishedMessage | None":
        """When and where a broker took it; None while it waits."""
        return getattr(self, "published", None)


class PendingMessage(models.Model):
    """A message that no broker has acknowledged. Written by the trigger on the outbox, deleted by a mark.

    `available_at` may come forward when a hold is lifted; the message keeps its own.
    """

    # No foreign key in the database: a trigger writes these rows, and messages are never deleted.
    message = models.OneToOneField(
        OutboxMessage,
        primary_key=True,
        on_delete=models.PROTECT,
        related_name="pending",
        db_constraint=False,
    )
    door = models.CharField(max_length=5, choices=Door.choices)
    key = models.UUIDField()
    available_at = models.DateTimeField()
    tries = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True, default="")
    parked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # One door's backlog never lies in the way of the other's claim.
            models.Index(fields=["door", "message"], name="pending_door"),
            # A parked message holds back its key, so each claim looks for them.
            models.Index(
                fields=["door", "key", "message"],
                condition=Q(parked_at__isnull=False),
                name="pending_parked",
            ),
        ]

    def __str__(self) -> str:
        return f"message {self.message_id} waits at {self.door}"


class PublishedMessage(models.Model):
    """A message that a broker acknowledged: when, where, and when the topic was read to hold it (R45)."""

    message = models.OneToOneField(
        OutboxMessage,
        primary_key=True,
        on_delete=models.PROTECT,
        related_name="published",
        db_constraint=False,
    )
    door = models.CharField(max_length=5, choices=Door.choices)
    published_at = models.DateTimeField()
    kafka_partition = models.IntegerField(null=True, blank=True)
    kafka_offset = models.BigIntegerField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # Rows lie in the order of time, so a few bytes for each range of pages find any hour.
            BrinIndex(fields=["published_at"], name="published_time", pages_per_range=16),
        ]

    def __str__(self) -> str:
        return f"message {self.message_id} published by {self.door}"
