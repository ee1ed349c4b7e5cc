"""Who owes, what they subscribed to, what pays for it, and which lane may charge them."""

from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID, uuid5

from django.db import models
from django.db.models import Q

from checkout.money import CENT


class NotLocked(Exception):
    """A creator to be locked does not exist."""


class Creator(models.Model):
    """A customer of an account, in one country. Its row is the lock of all its charges."""

    id = models.UUIDField(primary_key=True, editable=False)
    account = models.ForeignKey("Account", on_delete=models.PROTECT, related_name="creators")
    external_id = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    email = models.EmailField()
    country = models.CharField(max_length=2)
    time_zone = models.CharField(max_length=64, default="UTC")
    event_seq = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id"], name="creator_external_id"),
            models.CheckConstraint(
                condition=Q(country__regex="^[A-Z]{2}$"), name="creator_country"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id

    @staticmethod
    def derive_id(*, account_id: UUID, external_id: str) -> UUID:
        """The same creator gets the same id in a restored database (R51)."""
        return uuid5(account_id, external_id)

    @staticmethod
    def lock(ids: Iterable[UUID]) -> dict[UUID, "Creator"]:
        """Lock creators until the transaction ends, in id order so that two lockers never deadlock.

        FOR NO KEY UPDATE: rows that merely point at the creator may still be inserted.
        """
        wanted = sorted(set(ids))
        rows = Creator.objects.filter(id__in=wanted).order_by("id").select_for_update(no_key=True)
        locked = {row.id: row for row in rows}
        if len(locked) != len(wanted):
            raise NotLocked(f"{len(wanted) - len(locked)} of {len(wanted)} creators do not exist")
        return locked


class Interval(models.TextChoices):
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Plan(models.Model):
    """What can be subscribed to. A new price is a new plan: terms keep what was agreed (R7)."""

    code = models.SlugField(max_length=40, primary_key=True)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=14, decimal_places=2)
    currency = models.CharField(max_length=3, default="USD")
    interval = models.CharField(max_length=5, choices=Interval.choices)
    interval_count = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=CENT), name="plan_price_positive"),
            models.CheckConstraint(condition=Q(currency="USD"), name="plan_usd"),
            models.CheckConstraint(condition=Q(interval__in=Interval.values), name="plan_interval"),
            models.CheckConstraint(condition=Q(interval_count__gte=1), name="plan_interval_count"),
        ]

    def __str__(self) -> str:
        return self.code


class SubscriptionState(models.TextChoices):
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELLED = "cancelled"
    ENDED = "ended"


class Subscription(models.Model):
    """A creator's standing promise to pay a plan's price at each period's start."""

    id = models.UUIDField(primary_key=True, editable=False)
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="subscriptions")
    state = models.CharField(
        max_length=9, choices=SubscriptionState.choices, default=SubscriptionState.ACTIVE
    )
    # Dates are local to this one zone (R12); next_billing_at is the instant next_period_start begins.
    time_zone = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    next_period_start = models.DateField()
    next_billing_at = models.DateTimeField()
    past_due_since = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=SubscriptionState.values), name="subscription_state"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_billing_at", "id"],
                condition=Q(state__in=["active", "past_due"]),
                name="subscription_due",
            ),
            models.Index(fields=["-started_at", "-id"], name="subscription_started"),
            models.Index(fields=["state", "-started_at", "-id"], name="subscription_state_started"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def derive_id(*, account_id: UUID, idempotency_key: str) -> UUID:
        """The same request makes the same subscription, even after a restore (R51)."""
        return uuid5(account_id, idempotency_key)


class SubscriptionTerms(models.Model):
    """What was agreed from one period on; a charge keeps the row it was computed from (R7)."""

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="terms")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    price = models.DecimalField(max_digits=14, decimal_places=2)
    currency = models.CharField(max_length=3, default="USD")
    interval = models.CharField(max_length=5, choices=Interval.choices)
    interval_count = models.PositiveSmallIntegerField()
    # Period k of these terms begins at anchor + k intervals, always counted from the anchor (R11).
    anchor = models.DateField()
    starts_on = models.DateField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subscription", "starts_on"], name="terms_once"),
            models.CheckConstraint(condition=Q(price__gte=CENT), name="terms_price_positive"),
            models.CheckConstraint(condition=Q(currency="USD"), name="terms_usd"),
            models.CheckConstraint(
                condition=Q(interval__in=Interval.values), name="terms_interval"
            ),
            models.CheckConstraint(
                condition=Q(anchor__lte=models.F("starts_on")), name="terms_anchor_first"
            ),
            # PostgreSQL knows days that nothing else can read, and cannot compute with all of them.
            models.CheckConstraint(
                condition=Q(anchor__gte=date.min, starts_on__lte=date.max), name="terms_readable"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id} from {self.starts_on}"


class Instrument(models.Model):
    """A processor's token for a card. The newest of a creator is the one that is charged."""

    id = models.UUIDField(primary_key=True, editable=False)
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="instruments")
    token = models.CharField(max_length=128)
    created_at = models.DateTimeField()
    # Set by a NEVER or CUSTOMER_ACTION decline: no further attempt on it, ever (R29).
    dead_at = models.DateTimeField(null=True, blank=True)
    dead_reason = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["creator", "token"], name="instrument_token_once"),
        ]
        indexes = [
            models.Index(fields=["creator", "-created_at", "-id"], name="instrument_newest"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def derive_id(*, creator_id: UUID, token: str) -> UUID:
        return uuid5(creator_id, token)

    @classmethod
    def newest_of(cls, creator_id: UUID) -> "Instrument | None":
        """The instrument a new attempt would use; it may be dead, then the creator must add one."""
        return cls.objects.filter(creator_id=creator_id).order_by("-created_at", "-id").first()


class RoutingRule(models.Model):
    """Which lane may charge a country in a span of dates, and why; an empty lane refuses it."""

    country = models.CharField(max_length=2)
    lane = models.CharField(max_length=40, blank=True)
    valid_from = models.DateField()
    valid_to = models.DateField(null=True, blank=True)
    reason = models.CharField(max_length=300)
    source = models.CharField(max_length=300)
    source_date = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["country", "valid_from"], name="rule_once_a_day"),
            models.CheckConstraint(
                condition=Q(valid_to__isnull=True) | Q(valid_to__gt=models.F("valid_from")),
                name="rule_span",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.country} → {self.lane or 'refused'} from {self.valid_from}"


class HoldKind(models.TextChoices):
    HOLD = "hold"
    PAUSE = "pause"
    BREAKER = "breaker"


class HoldScope(models.TextChoices):
    ALL = "all"
    LANE = "lane"
    PLAN = "plan"
    CREATOR = "creator"


class HoldQuerySet(models.QuerySet["Hold"]):
    def in_force(self, now: datetime) -> "HoldQuerySet":
        """Holds neither lifted nor run out at this real time."""
        return self.filter(Q(until__isnull=True) | Q(until__gt=now), lifted_at__isnull=True)


class Hold(models.Model):
    """Collection stopped for all, a lane, a plan or a creator; spends no attempt or round (R52)."""

    kind = models.CharField(max_length=7, choices=HoldKind.choices)
    scope = models.CharField(max_length=7, choices=HoldScope.choices)
    subject = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=300)
    placed_by = models.CharField(max_length=150)
    placed_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.CharField(max_length=150, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(scope="all", subject="") | (~Q(scope="all") & ~Q(subject="")),
                name="hold_subject",
            ),
        ]
        indexes = [
            models.Index(
                fields=["scope", "subject"],
                condition=Q(lifted_at__isnull=True),
                name="hold_in_force",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.scope} {self.subject}".strip()
