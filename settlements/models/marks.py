"""What reconciliation has still to look at, and how far it has read the topic."""

from django.db import models
from django.db.models.functions import Now


class DirtyKind(models.TextChoices):
    """What a mark of `reconcile_dirty` names."""

    CREATOR = "creator"
    CHARGE = "charge"
    LINE = "line"
    STATEMENT = "statement"
    DAYS = "days"
    REWRITTEN = "rewritten"


class ReconcileDirty(models.Model):
    """A mark that something changed, written by triggers in the change's own transaction.

    A mark of a creator is of all it has, unless the detail's `only` is "calendar" (periods, terms and
    settlements) or "events": a version that does not know it looks at more, never at less. A pass
    consumes exactly the rows it read. A late commit's mark appears with the commit, so no watermark can
    step over it; the triggers fire with session_replication_role = replica too.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=9, choices=DirtyKind.choices)
    subject = models.UUIDField(null=True)
    detail = models.JSONField(null=True)
    marked_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "reconcile_dirty"

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class Rewriting(models.Model):
    """What a fact said before somebody first rewrote it behind the service; empty was nothing.

    Kept until it says so again: a cent that was put back is cleared by evidence (R54).
    """

    source = models.CharField(max_length=63)
    row = models.CharField(max_length=63)
    # A column of the table; empty for a row that was deleted.
    field = models.CharField(max_length=63, blank=True, default="")
    was = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "row", "field"], name="rewriting_once"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.row} {self.field}"


class TopicRecord(models.Model):
    """What the topic holds at one offset: identity and hash, not the payload (R45)."""

    id = models.BigAutoField(primary_key=True)
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    event_id = models.UUIDField()
    key = models.UUIDField()
    sequence = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    read_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["partition", "offset"], name="topic_offset_once"),
        ]
        indexes = [
            models.Index(fields=["event_id"], name="topic_event"),
            models.Index(fields=["key", "sequence"], name="topic_key_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class TopicProgress(models.Model):
    """How far a partition has been read: every offset from first up to, not including, next."""

    partition = models.IntegerField(primary_key=True)
    first_offset = models.BigIntegerField()
    next_offset = models.BigIntegerField()
    # Real clock: everything acknowledged before this moment stands below next_offset.
    read_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.partition}: {self.first_offset} to {self.next_offset}"
