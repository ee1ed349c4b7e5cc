"""What is owed and collected once, and each try at collecting it."""

from datetime import date, datetime
from typing import Final
from uuid import UUID, uuid5

from django.db import models
from django.db.models import F, Q

from checkout.gateways import DeclineClass
from checkout.models.creators import Creator, Instrument, Subscription, SubscriptionTerms
from checkout.money import CENT


class ChargeState(models.TextChoices):
    DUE = "due"
    ATTEMPTING = "attempting"
    FAILED_THEN_RETRY = "failed_then_retry"
    IN_DOUBT = "in_doubt"
    PENDING = "pending"
    EXHAUSTED = "exhausted"
    SUCCEEDED = "succeeded"
    VOIDED = "voided"
    WRITTEN_OFF = "written_off"


S = ChargeState
TERMINAL: Final = frozenset({S.SUCCEEDED, S.VOIDED, S.WRITTEN_OFF})
OWED: Final = frozenset({S.DUE, S.FAILED_THEN_RETRY})
# Owed and not collected: these may still become money. In this order, since an index is of them.
UNCOLLECTED: Final = (
    S.DUE,
    S.ATTEMPTING,
    S.PENDING,
    S.IN_DOUBT,
    S.FAILED_THEN_RETRY,
    S.EXHAUSTED,
)
# The same table stands in the trigger of migration 0002; a test holds them against each other.
LEGAL_MOVES: Final[dict[ChargeState, frozenset[ChargeState]]] = {
    S.DUE: frozenset({S.ATTEMPTING, S.EXHAUSTED, S.VOIDED, S.SUCCEEDED}),
    S.ATTEMPTING: frozenset(
        {S.SUCCEEDED, S.FAILED_THEN_RETRY, S.IN_DOUBT, S.PENDING, S.EXHAUSTED, S.VOIDED}
    ),
    S.FAILED_THEN_RETRY: frozenset({S.ATTEMPTING, S.EXHAUSTED, S.VOIDED, S.SUCCEEDED}),
    S.IN_DOUBT: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED, S.VOIDED}),
    S.PENDING: frozenset({S.SUCCEEDED, S.FAILED_THEN_RETRY, S.EXHAUSTED, S.VOIDED}),
    S.EXHAUSTED: frozenset({S.DUE, S.VOIDED, S.WRITTEN_OFF, S.SUCCEEDED}),
    S.SUCCEEDED: frozenset(),
    S.VOIDED: frozenset(),
    S.WRITTEN_OFF: frozenset(),
}


class Awaits(models.TextChoices):
    """What opens the next round of an exhausted charge."""

    NOTHING = ""
    DATE = "date"
    INSTRUMENT = "instrument"
    PERSON = "person"


class IllegalTransition(Exception):
    """The charge is not in the state it was read in, or may not move there."""


class Charge(models.Model):
    """One period of one subscription, owed once. Its state changes by `move()` alone."""

    id = models.UUIDField(primary_key=True, editable=False)
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="charges")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="charges")
    terms = models.ForeignKey(SubscriptionTerms, on_delete=models.PROTECT, related_name="+")
    period_start = models.DateField()
    period_end = models.DateField()
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    # Computed by an SQL function from terms and calendar alone: a second opinion (DESIGN section 6).
    expected_amount = models.DecimalField(max_digits=14, decimal_places=2)
    currency = models.CharField(max_length=3, default="USD")
    billed_at = models.DateTimeField()
    created_at = models.DateTimeField()
    lane = models.CharField(max_length=40)
    state = models.CharField(max_length=17, choices=ChargeState.choices, default=ChargeState.DUE)
    round = models.PositiveSmallIntegerField(default=1)
    step = models.PositiveSmallIntegerField(default=0)
    dispatch = models.PositiveIntegerField(default=1)
    void_requested = models.BooleanField(default=False)
    awaits = models.CharField(max_length=10, choices=Awaits.choices, blank=True, default="")
    # Business clock: when an exhausted charge opens its next round by itself.
    next_round_at = models.DateTimeField(null=True, blank=True)
    # Real clock: when the backoff after the last decline has passed.
    retry_at = models.DateTimeField(null=True, blank=True)
    # Real clock: the last dispatch, receive or outcome; sweep measures silence from it.
    last_seen_at = models.DateTimeField()
    sweeps = models.PositiveSmallIntegerField(default=0)

    class Meta:
        permissions = [("write_off_charge", "Can write off charge")]
        constraints = [
            models.UniqueConstraint(fields=["subscription", "period_start"], name="charge_once"),
            models.UniqueConstraint(
                fields=["creator"], condition=Q(state="attempting"), name="charge_one_attempting"
            ),
            models.CheckConstraint(condition=Q(amount__gte=CENT), name="charge_amount_positive"),
            models.CheckConstraint(condition=Q(currency="USD"), name="charge_usd"),
            models.CheckConstraint(condition=Q(state__in=ChargeState.values), name="charge_state"),
            models.CheckConstraint(
                condition=Q(period_end__gt=F("period_start")), name="charge_period"
            ),
            # PostgreSQL knows days that nothing else can read, and cannot compute with all of them.
            models.CheckConstraint(
                condition=Q(period_start__gte=date.min, period_end__lte=date.max),
                name="charge_readable",
            ),
            models.CheckConstraint(
                condition=Q(awaits="", next_round_at__isnull=True)
                | Q(awaits="date", next_round_at__isnull=False, state="exhausted")
                | Q(
                    awaits__in=["instrument", "person"],
                    next_round_at__isnull=True,
                    state="exhausted",
                ),
                name="charge_awaits",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="charge_newest"),
            models.Index(fields=["state", "-created_at", "-id"], name="charge_state_newest"),
            models.Index(fields=["lane", "-created_at", "-id"], name="charge_lane_newest"),
            models.Index(fields=["creator", "-created_at", "-id"], name="charge_creator_newest"),
            # A month of billing dates, and what is still uncollected of any (R47).
            models.Index(fields=["-period_start", "-id"], name="charge_billed"),
            models.Index(
                fields=["-period_start", "-id"],
                condition=Q(state__in=UNCOLLECTED),
                name="charge_uncollected",
            ),
            # What a bulk requeue chooses from.
            models.Index(
                fields=["lane", "last_seen_at"],
                include=["id", "awaits"],
                condition=Q(state="exhausted"),
                name="charge_exhausted",
            ),
            models.Index(
                fields=["last_seen_at"],
                condition=Q(state__in=["due", "failed_then_retry"]),
                name="charge_owed_quiet",
            ),
            models.Index(
                fields=["next_round_at"], condition=Q(awaits="date"), name="charge_next_round"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def derive_id(*, subscription_id: UUID, period_start: date) -> UUID:
        """A database restored from yesterday makes the same charge again, not another (R51)."""
        return uuid5(subscription_id, period_start.isoformat())

    def move(self, to: ChargeState, **changes: object) -> None:
        """Move to another state, with other columns in the same UPDATE.

        Compare-and-set on the state this object was read in: zero rows means that somebody else
        moved it first, and raises IllegalTransition (R27), as does a move not in the table.
        """
        if to not in LEGAL_MOVES[ChargeState(self.state)]:
            raise IllegalTransition(f"charge {self.id}: {self.state} → {to} is not a legal move")
        moved = Charge.objects.filter(pk=self.pk, state=self.state).update(state=to, **changes)
        if moved != 1:
            raise IllegalTransition(f"charge {self.id} is no longer {self.state}")
        self.state = to
        for name, value in changes.items():
            setattr(self, name, value)

    def change(self, **changes: object) -> None:
        """Write columns other than the state; the creator's lock must be held."""
        Charge.objects.filter(pk=self.pk).update(**changes)
        for name, value in changes.items():
            setattr(self, name, value)

    # The four below read `attempts` as one set: prefetch it under the creator's lock.

    def open_attempt(self) -> "Attempt | None":
        """The attempt without a final outcome; the database allows one (R25)."""
        return next((a for a in self.attempts.all() if a.is_open), None)

    def applied_capture(self) -> "Attempt | None":
        """The attempt whose capture pays this charge: read here, never from the state (R26)."""
        captured = AttemptOutcome.CAPTURED
        return next((a for a in self.attempts.all() if a.outcome == captured), None)

    def round_attempts(self) -> "list[Attempt]":
        """The attempts of the present round, by number."""
        attempts = (a for a in self.attempts.all() if a.round == self.round)
        return sorted(attempts, key=lambda a: a.number)

    def counted_attempts(self) -> int:
        """Attempts of the present round that count among its three: all but not charged."""
        return sum(a.outcome != AttemptOutcome.NOT_CHARGED for a in self.round_attempts())


class AttemptKind(models.TextChoices):
    OFF_SESSION = "off_session"
    PAGE = "page"


class AttemptOutcome(models.TextChoices):
    """How an attempt ended; `open` is not yet final, `unapplied` a capture the charge cannot take."""

    OPEN = "open"
    CAPTURED = "captured"
    UNAPPLIED = "unapplied"
    DECLINED = "declined"
    NOT_CHARGED = "not_charged"


class Verdict(models.TextChoices):
    """Why an attempt counts as not charged."""

    NONE = ""
    NOT_SENT = "not_sent"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"


class AttemptQuerySet(models.QuerySet["Attempt"]):
    def to_ask_about(self, now: datetime) -> "AttemptQuerySet":
        """Attempts whose processor should be asked again by this real time, oldest first."""
        return self.filter(next_query_at__lte=now).order_by("next_query_at", "id")


class Attempt(models.Model):
    """One try at the processor with one key, over one or more sends.

    The id is the idempotency key and the merchant reference; the row is committed before the call
    (R19). Its final outcome is never overwritten, except not-charged or declined by a capture.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="attempts")
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="+")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="attempts")
    kind = models.CharField(
        max_length=11, choices=AttemptKind.choices, default=AttemptKind.OFF_SESSION
    )
    lane = models.CharField(max_length=40)
    round = models.PositiveSmallIntegerField()
    number = models.PositiveSmallIntegerField()
    sends = models.PositiveSmallIntegerField(default=1)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    currency = models.CharField(max_length=3, default="USD")
    outcome = models.CharField(
        max_length=11, choices=AttemptOutcome.choices, default=AttemptOutcome.OPEN
    )
    verdict = models.CharField(max_length=9, choices=Verdict.choices, blank=True, default="")
    decline_class = models.CharField(max_length=15, blank=True, default="")
    decline_code = models.CharField(max_length=64, blank=True, default="")
    # Why the outcome is not known, in the gateway's words; kept after it became known.
    doubt = models.CharField(max_length=200, blank=True, default="")
    captured_amount = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    captured_currency = models.CharField(max_length=3, blank=True, default="")
    processor_reference = models.CharField(max_length=128, blank=True, default="")
    started_at = models.DateTimeField()
    last_sent_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # The business clock's reading at the outcome: the day a statement must cover.
    booked_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    next_query_at = models.DateTimeField(null=True, blank=True)
    queries = models.PositiveIntegerField(default=0)
    not_found = models.PositiveIntegerField(default=0)
    # The last time the lane itself failed here (not sent, or 5xx): what the breaker counts.
    lane_failed_at = models.DateTimeField(null=True, blank=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["charge", "round", "number"], name="attempt_number"),
            models.UniqueConstraint(
                fields=["charge"], condition=Q(outcome="open"), name="attempt_one_open"
            ),
            # With the amount, so that a month adds up what was collected from the index alone.
            models.UniqueConstraint(
                fields=["charge"],
                condition=Q(outcome="captured"),
                include=["captured_amount"],
                name="attempt_one_captured",
            ),
            models.CheckConstraint(condition=Q(number__gte=1, round__gte=1), name="attempt_from_1"),
            models.CheckConstraint(condition=Q(amount__gte=CENT), name="attempt_amount_positive"),
            models.CheckConstraint(condition=Q(currency="USD"), name="attempt_usd"),
            models.CheckConstraint(
                condition=Q(outcome__in=AttemptOutcome.values), name="attempt_outcome"
            ),
            models.CheckConstraint(
                condition=Q(outcome__in=["captured", "unapplied"], captured_amount__gte=CENT)
                | (
                    ~Q(outcome__in=["captured", "unapplied"])
                    & Q(captured_amount__isnull=True, captured_currency="")
                ),
                name="attempt_captured_amount",
            ),
            models.CheckConstraint(
                condition=Q(captured_currency__in=["", "USD"]), name="attempt_captured_usd"
            ),
            models.CheckConstraint(
                condition=Q(decline_class="", decline_code="")
                | Q(decline_class__in=[c.value for c in DeclineClass]),
                name="attempt_decline_class",
            ),
            models.CheckConstraint(
                condition=Q(outcome="open", ended_at__isnull=True)
                | (~Q(outcome="open") & Q(ended_at__isnull=False)),
                name="attempt_ended",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_query_at"],
                condition=Q(next_query_at__isnull=False),
                name="attempt_to_ask_about",
            ),
            models.Index(fields=["instrument", "started_at"], name="attempt_instrument_started"),
            models.Index(
                fields=["lane", "lane_failed_at"],
                condition=Q(lane_failed_at__isnull=False),
                name="attempt_lane_failed",
            ),
            models.Index(fields=["started_at"], name="attempt_started"),
            models.Index(
                fields=["booked_at"], condition=Q(booked_at__isnull=False), name="attempt_booked"
            ),
            # The declined of a month by class, and which of them was its charge's first (R47).
            models.Index(
                fields=["decline_class", "-booked_at", "-id"],
                include=["charge", "round", "number", "amount"],
                condition=Q(outcome="declined"),
                name="attempt_declined",
            ),
            # Few: of which refunds are looked for whenever the books are.
            models.Index(fields=["id"], condition=Q(outcome="unapplied"), name="attempt_unapplied"),
        ]

    def __str__(self) -> str:
        return f"{self.round}.{self.number}"

    @staticmethod
    def derive_id(*, charge_id: UUID, round: int, number: int) -> UUID:
        return uuid5(charge_id, f"{round}:{number}")

    @property
    def is_open(self) -> bool:
        return self.outcome == AttemptOutcome.OPEN

    @property
    def has_capture(self) -> bool:
        return self.outcome in {AttemptOutcome.CAPTURED, AttemptOutcome.UNAPPLIED}

    def change(self, **changes: object) -> None:
        """Write columns; the creator's lock must be held."""
        Attempt.objects.filter(pk=self.pk).update(**changes)
        for name, value in changes.items():
            setattr(self, name, value)
