"""What must leave the service: dispatches for SQS, events for Kafka. One table, two doors."""

from django.db import models
from django.db.models import Q


class Door(models.TextChoices):
    SQS = "sqs"
    KAFKA = "kafka"


class OutboxMessage(models.Model):
    """A committed message; `payload` holds the exact characters that are sent."""

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
    published_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True, default="")
    parked_at = models.DateTimeField(null=True, blank=True)
    kafka_partition = models.IntegerField(null=True, blank=True)
    kafka_offset = models.BigIntegerField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)

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
            # One a door and by id alone: so the planner knows that they follow the table's own order,
            # and a claim never walks past what is published or waits at the other door.
            models.Index(
                fields=["id"],
                condition=Q(door="sqs", published_at__isnull=True, parked_at__isnull=True),
                name="outbox_unpublished_sqs",
            ),
            models.Index(
                fields=["id"],
                condition=Q(door="kafka", published_at__isnull=True, parked_at__isnull=True),
                name="outbox_unpublished_kafka",
            ),
            # A parked message holds back its key, so each claim looks for them.
            models.Index(
                fields=["door", "key", "id"],
                condition=Q(published_at__isnull=True, parked_at__isnull=False),
                name="outbox_parked",
            ),
            models.Index(fields=["subject", "door"], name="outbox_subject"),
            models.Index(fields=["-created_at", "-id"], name="outbox_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"
