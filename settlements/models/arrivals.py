"""Files on their way in: seen in the watched folder, or uploaded and not confirmed yet."""

from django.db import models
from django.db.models import Q

from settlements.models.banking import BankStatement
from settlements.models.statements import StatementImport


class FileState(models.TextChoices):
    """What became of a file of the watched folder."""

    # Seen, and perhaps still being written; taken in once it stopped growing.
    ARRIVING = "arriving"
    IMPORTED = "imported"
    # Readable, and nothing new: its content had been imported before.
    KNOWN = "known"
    QUARANTINED = "quarantined"
    # It cannot be read, and nothing of it was stored; looked at again only if it changes.
    REFUSED = "refused"
    # A refused file that was taken away or replaced.
    GONE = "gone"


class StatementFile(models.Model):
    """A file of the watched folder, as it was when it was last looked at."""

    # Below the watched folder: LANE/name, or bank/name.
    path = models.CharField(max_length=400, unique=True)
    size = models.BigIntegerField()
    # Nanoseconds, the file system's own; only ever compared for being the same.
    modified = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=11, choices=FileState.choices)
    reason = models.TextField(blank=True, default="")
    # Real clock, both.
    seen_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    statement = models.ForeignKey(
        StatementImport, on_delete=models.PROTECT, null=True, blank=True, related_name="files"
    )
    bank_statement = models.ForeignKey(
        BankStatement, on_delete=models.PROTECT, null=True, blank=True, related_name="files"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="arriving", decided_at__isnull=True)
                | (~Q(state="arriving") & Q(decided_at__isnull=False)),
                name="statement_file_decided",
            ),
            models.CheckConstraint(
                condition=~Q(state="refused") | ~Q(reason=""), name="statement_file_reason"
            ),
        ]
        indexes = [models.Index(fields=["-seen_at", "-id"], name="statement_file_newest")]

    def __str__(self) -> str:
        return self.path


class StatementUpload(models.Model):
    """A file somebody uploaded and looks at; confirmed by its SHA-256, or forgotten after a day."""

    sha256 = models.CharField(max_length=64)
    uploaded_by = models.CharField(max_length=150)
    uploaded_at = models.DateTimeField()
    file_name = models.CharField(max_length=255)
    content = models.BinaryField()
    # Empty for a bank's statement.
    lane = models.CharField(max_length=40, blank=True, default="")
    # What the file itself does not say, as the person told it: days and balances, as text.
    told = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            # One file under review a person: the next one takes its place.
            models.UniqueConstraint(fields=["uploaded_by"], name="upload_one_a_person"),
        ]

    def __str__(self) -> str:
        return self.file_name
