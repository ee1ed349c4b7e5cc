"""What the processors' files say, which files are owed, and what a lane may keep as fees."""

from django.db import models
from django.db.models import F, Q


class FeeTerms(models.Model):
    """What a lane's processor may keep of a capture from one day on: rate × gross + fixed, USD."""

    lane = models.CharField(max_length=40)
    valid_from = models.DateField()
    rate = models.DecimalField(max_digits=9, decimal_places=6)
    fixed = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        verbose_name_plural = "fee terms"
        constraints = [
            models.UniqueConstraint(fields=["lane", "valid_from"], name="fee_terms_once"),
            models.CheckConstraint(
                condition=Q(rate__gte=0, rate__lt=1, fixed__gte=0), name="fee_terms_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lane}: {self.rate} + {self.fixed} from {self.valid_from}"


class ImportState(models.TextChoices):
    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"


class StatementImport(models.Model):
    """One processor file that could be read: accepted, or set aside with the reason (R40)."""

    processor = models.CharField(max_length=40)
    lane = models.CharField(max_length=40)
    # Which of settlements/formats read it.
    format = models.CharField(max_length=20, default="processor-csv", db_default="processor-csv")
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    # Days of the business clock in the lane's zone, both included.
    first_day = models.DateField()
    last_day = models.DateField()
    # Balances at the processor in USD, before the first line and after the last.
    opening = models.DecimalField(max_digits=14, decimal_places=2)
    closing = models.DecimalField(max_digits=14, decimal_places=2)
    # False where the opening was neither in the file nor told: then it is the former closing.
    balances_stated = models.BooleanField(default=True, db_default=True)
    # The movements' own sum, USD: opening + this = closing, or the file is set aside.
    movement = models.DecimalField(max_digits=14, decimal_places=2)
    line_count = models.PositiveIntegerField()
    state = models.CharField(max_length=11, choices=ImportState.choices)
    reason = models.CharField(max_length=300, blank=True, default="")
    imported_by = models.CharField(max_length=150)
    # Real clock, both; settlements count what a line tells from its file's `accepted_at` on.
    imported_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "sha256"], name="import_file_once"),
            models.CheckConstraint(condition=Q(last_day__gte=F("first_day")), name="import_days"),
            models.CheckConstraint(
                condition=Q(
                    state="accepted",
                    accepted_at__isnull=False,
                    reason="",
                    closing=F("opening") + F("movement"),
                )
                | (Q(state="quarantined", accepted_at__isnull=True) & ~Q(reason="")),
                name="import_state",
            ),
        ]
        indexes = [
            models.Index(fields=["lane", "last_day"], name="import_lane_last_day"),
            models.Index(fields=["-imported_at", "-id"], name="import_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.lane} {self.first_day} to {self.last_day}"


class LineType(models.TextChoices):
    """What a statement line may be; any other type sets the file aside."""

    CHARGE = "charge"
    REFUND = "refund"
    DISPUTE = "dispute"
    DISPUTE_FEE = "dispute_fee"
    REVERSAL = "reversal"
    FEE = "fee"
    ADJUSTMENT = "adjustment"
    RESERVE_HOLD = "reserve_hold"
    RESERVE_RELEASE = "reserve_release"
    PAYOUT = "payout"


class StatementLine(models.Model):
    """One line as the processor wrote it. Two equal lines are two rows (R39); none ever changes."""

    id = models.BigAutoField(primary_key=True)
    statement = models.ForeignKey(StatementImport, on_delete=models.PROTECT, related_name="lines")
    # Line of the file, from 1; the header is 1.
    number = models.PositiveIntegerField()
    # The attempt that the line names, else an id derived from lane and line_id.
    key = models.UUIDField()
    line_id = models.CharField(max_length=128)
    # No CHECK on the type: a file with an unknown one is kept, set aside, for people to read.
    type = models.CharField(max_length=40)
    reference = models.CharField(max_length=128, blank=True, default="")
    processor_reference = models.CharField(max_length=128, blank=True, default="")
    # The processor's own clock, as the file says it; its day in the lane's zone picks the fee terms.
    booked_at = models.DateTimeField()
    # USD, signed as they move the processor's balance; the net is gross less fee.
    gross = models.DecimalField(max_digits=14, decimal_places=2)
    fee = models.DecimalField(max_digits=14, decimal_places=2)
    net = models.DecimalField(max_digits=14, decimal_places=2)
    currency = models.CharField(max_length=3)
    payout = models.CharField(max_length=128, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["statement", "number"], name="line_number_once"),
            models.CheckConstraint(condition=Q(currency="USD"), name="line_usd"),
            models.CheckConstraint(condition=Q(net=F("gross") - F("fee")), name="line_net"),
        ]
        indexes = [
            models.Index(fields=["key"], name="line_key"),
            # What is not a charge is few, and a month adds it up.
            models.Index(
                fields=["statement", "type"],
                condition=~Q(type="charge"),
                name="line_beside_charges",
            ),
            # Looked for on every pass, and hardly ever there.
            models.Index(
                fields=["statement"],
                condition=Q(type="payout", payout=""),
                name="line_unnamed_payout",
            ),
        ]

    def __str__(self) -> str:
        return self.line_id


class Covers(models.TextChoices):
    """How many days one file of a lane covers."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class StatementTerms(models.Model):
    """Which files a lane's processor owes us: the days of each, in whose zone, and when it is due.

    A lane without terms owes a file a UTC day, AGE_STATEMENT_DUE after that day. Terms that change
    concern the days that come; the zone stays once a file of the lane was accepted (trigger).
    """

    lane = models.CharField(max_length=40, unique=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    covers = models.CharField(max_length=5, choices=Covers.choices, default=Covers.DAY)
    # The file is due this many days after its last day, at this time of the lane's zone.
    due_days = models.PositiveSmallIntegerField(default=1)
    due_time = models.TimeField()

    class Meta:
        verbose_name_plural = "statement terms"
        constraints = [
            models.CheckConstraint(condition=Q(covers__in=Covers.values), name="terms_covers"),
            models.CheckConstraint(
                condition=Q(due_days__gte=1, due_days__lte=62), name="terms_due_days"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lane}: a file a {self.covers}"


class ExpectationState(models.TextChoices):
    EXPECTED = "expected"
    LATE = "late"
    ARRIVED = "arrived"
    QUARANTINED = "quarantined"


class StatementExpectation(models.Model):
    """One day of one lane that a file must cover; at most one accepted file does."""

    lane = models.CharField(max_length=40)
    day = models.DateField()
    time_zone = models.CharField(max_length=64, default="UTC")
    # Business clock: the file is late from here on.
    due_at = models.DateTimeField()
    state = models.CharField(
        max_length=11, choices=ExpectationState.choices, default=ExpectationState.EXPECTED
    )
    # The accepted file, or the newest one set aside.
    statement = models.ForeignKey(
        StatementImport, on_delete=models.PROTECT, null=True, blank=True, related_name="days"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "day"], name="expectation_once"),
            models.CheckConstraint(
                condition=Q(state__in=["expected", "late"], statement__isnull=True)
                | Q(state__in=["arrived", "quarantined"], statement__isnull=False),
                name="expectation_state",
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=~Q(state="arrived"),
                name="expectation_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lane} {self.day}"
