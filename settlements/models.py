"""The tables of settlements: what proves each cent, and what does not agree."""

from decimal import Decimal
from typing import Final

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from checkout.models import Charge, Creator

NOTHING: Final = Decimal("0.00")


class ScheduleInterval(models.TextChoices):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class HolidayRule(models.TextChoices):
    FOLLOWING = "following"
    PRECEDING = "preceding"


class RouteSchedule(models.Model):
    """The settlement schedule a lane's new creators get from one day on; an empty lane is any."""

    lane = models.CharField(max_length=40, blank=True, default="")
    valid_from = models.DateField()
    interval = models.CharField(max_length=5, choices=ScheduleInterval.choices)
    # Day of the month (1-28) or of the week (1 Monday - 7 Sunday) a period begins; 1 for days.
    anchor_day = models.PositiveSmallIntegerField(default=1)
    delay_days = models.PositiveSmallIntegerField()
    holiday_rule = models.CharField(max_length=9, choices=HolidayRule.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "valid_from"], name="route_schedule_once"),
            models.CheckConstraint(
                condition=Q(interval__in=ScheduleInterval.values), name="route_schedule_interval"
            ),
            models.CheckConstraint(
                condition=Q(holiday_rule__in=HolidayRule.values), name="route_schedule_holiday"
            ),
            models.CheckConstraint(
                condition=Q(anchor_day__gte=1, anchor_day__lte=28), name="route_schedule_anchor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lane or 'any lane'} from {self.valid_from}"


class SettlementSchedule(models.Model):
    """In which periods a creator's charges are grouped; one active version, never deleted.

    It keeps what the route's default was on its day: a later default does not rewrite it.
    """

    creator = models.ForeignKey(
        Creator, on_delete=models.PROTECT, related_name="settlement_schedules"
    )
    version = models.PositiveIntegerField()
    lane = models.CharField(max_length=40, blank=True, default="")
    interval = models.CharField(max_length=5, choices=ScheduleInterval.choices)
    anchor_day = models.PositiveSmallIntegerField()
    delay_days = models.PositiveSmallIntegerField()
    holiday_rule = models.CharField(max_length=9, choices=HolidayRule.choices)
    source = models.CharField(max_length=60)
    active_from = models.DateField()
    # None is the active version; a change closes it and opens the next.
    active_to = models.DateField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "version"], name="schedule_version_once"),
            models.UniqueConstraint(
                fields=["creator"], condition=Q(active_to__isnull=True), name="schedule_one_active"
            ),
            models.CheckConstraint(
                condition=Q(active_to__isnull=True) | Q(active_to__gte=F("active_from")),
                name="schedule_span",
            ),
            models.CheckConstraint(
                condition=Q(interval__in=ScheduleInterval.values), name="schedule_interval"
            ),
            models.CheckConstraint(
                condition=Q(holiday_rule__in=HolidayRule.values), name="schedule_holiday"
            ),
            models.CheckConstraint(
                condition=Q(anchor_day__gte=1, anchor_day__lte=28), name="schedule_anchor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.creator_id} version {self.version}"


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
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    # UTC days of the business clock, both included.
    first_day = models.DateField()
    last_day = models.DateField()
    opening = models.DecimalField(max_digits=14, decimal_places=2)
    closing = models.DecimalField(max_digits=14, decimal_places=2)
    # The movements' own sum: opening + this = closing, or the file is set aside.
    movement = models.DecimalField(max_digits=14, decimal_places=2)
    line_count = models.PositiveIntegerField()
    state = models.CharField(max_length=11, choices=ImportState.choices)
    reason = models.CharField(max_length=300, blank=True, default="")
    imported_by = models.CharField(max_length=150)
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
    booked_at = models.DateTimeField()
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
        indexes = [models.Index(fields=["key"], name="line_key")]

    def __str__(self) -> str:
        return self.line_id


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


class Kind(models.TextChoices):
    """The comparisons (DESIGN section 6)."""

    BILLING = "billing"
    CAPTURED = "captured"
    PERIODS = "periods"
    STATEMENT = "statement"
    LEDGER = "ledger"
    EVENTS = "events"
    PAYOUT = "payout"


class RunMode(models.TextChoices):
    FULL = "full"
    INCREMENTAL = "incremental"


class ReconciliationRun(models.Model):
    """One pass: when it read both clocks, what it looked at, and what it found."""

    mode = models.CharField(max_length=11, choices=RunMode.choices)
    kinds = models.CharField(max_length=100)
    started_at = models.DateTimeField()
    # The business clock at the start; periods are owed as of an older run's reading.
    business_at = models.DateTimeField()
    as_of = models.DateTimeField()
    creators = models.PositiveIntegerField()
    marks = models.PositiveIntegerField()
    opened = models.PositiveIntegerField()
    cleared = models.PositiveIntegerField()
    standing = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(mode__in=RunMode.values), name="run_mode"),
        ]
        indexes = [models.Index(fields=["-started_at", "-id"], name="run_newest")]

    def __str__(self) -> str:
        return f"{self.mode} {self.started_at:%Y-%m-%d %H:%M:%S}"


class Code(models.TextChoices):
    """What does not agree, within a kind."""

    UNDER_CHARGE = "under_charge"
    SURPLUS = "surplus"
    EXPECTATION = "expectation"
    PERIOD = "period"
    CREATOR = "creator"
    CURRENCY = "currency"
    STATE = "state"
    UNAPPLIED = "unapplied"
    MISSING = "missing"
    EXTRA = "extra"
    NEXT_BILLING = "next_billing"
    AMOUNT = "amount"
    FEE = "fee"
    LANE = "lane"
    DUPLICATE = "duplicate"
    UNMATCHED = "unmatched"
    NOT_CAPTURED = "not_captured"
    LATE_FILE = "late_file"
    QUARANTINED_FILE = "quarantined_file"
    UNBALANCED = "unbalanced"
    RECEIVABLE = "receivable"
    GAP = "gap"
    CHANGED = "changed"
    ORDER = "order"
    REWRITTEN = "rewritten"


class Discrepancy(models.Model):
    """Two records of one fact that do not agree, to the cent (R38); never deleted.

    Found again it is the same row, by its fingerprint; gone it is cleared by evidence (R54).
    Amounts are USD; they are 0.00 where the disagreement is not about money.
    """

    fingerprint = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    code = models.CharField(max_length=16, choices=Code.choices)
    # What a pass re-examines it by: the creator, or the key of a statement line.
    key = models.UUIDField(null=True, blank=True)
    charge = models.ForeignKey(
        Charge, on_delete=models.PROTECT, null=True, blank=True, related_name="discrepancies"
    )
    creator = models.ForeignKey(
        Creator, on_delete=models.PROTECT, null=True, blank=True, related_name="discrepancies"
    )
    lane = models.CharField(max_length=40, blank=True, default="")
    expected = models.DecimalField(max_digits=14, decimal_places=2)
    actual = models.DecimalField(max_digits=14, decimal_places=2)
    difference = models.DecimalField(max_digits=14, decimal_places=2)
    explanation = models.CharField(max_length=500)
    # Of a rewritten row: table, id, column, was, now.
    detail = models.JSONField(default=dict, blank=True)
    # Real clock.
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True, blank=True)
    cleared_because = models.CharField(max_length=20, blank=True, default="")
    first_run = models.ForeignKey(ReconciliationRun, on_delete=models.PROTECT, related_name="found")

    class Meta:
        verbose_name_plural = "discrepancies"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="discrepancy_kind"),
            models.CheckConstraint(
                condition=Q(difference=F("actual") - F("expected")), name="discrepancy_difference"
            ),
            models.CheckConstraint(
                condition=Q(cleared_at__isnull=True, cleared_because="")
                | Q(cleared_at__isnull=False, cleared_because="evidence"),
                name="discrepancy_cleared",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="discrepancy_newest"),
            models.Index(fields=["kind", "-opened_at", "-id"], name="discrepancy_kind_newest"),
            models.Index(
                fields=["kind", "key"],
                condition=Q(cleared_at__isnull=True),
                name="discrepancy_open",
            ),
        ]

    def __str__(self) -> str:
        return self.fingerprint


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

    A pass consumes exactly the rows it read. A late commit's mark appears with the commit, so no
    watermark can step over it; the triggers fire with session_replication_role = replica too.
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
