"""In which periods a creator's charges are grouped, and with which delay their money must land."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from checkout.models import Creator
from settlements.calendar import FEDERAL_RESERVE, Rule


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
    # Days a period begins on: of the month (1-31) or the week (1 Monday - 7 Sunday), in order; 1 for
    # days. The CHECK is migration 0010's. A version without 0010 knows the column anchor_day alone, which
    # a trigger fills beside this one: it may go with the second release that has 0010 (decision 0008).
    anchor_days = ArrayField(models.SmallIntegerField())
    delay_days = models.PositiveSmallIntegerField()
    holiday_rule = models.CharField(max_length=9, choices=HolidayRule.choices)
    calendar = models.CharField(max_length=40, default=FEDERAL_RESERVE)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "valid_from"], name="route_schedule_once"),
            models.CheckConstraint(
                condition=Q(interval__in=ScheduleInterval.values), name="route_schedule_interval"
            ),
            models.CheckConstraint(
                condition=Q(holiday_rule__in=HolidayRule.values), name="route_schedule_holiday"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lane or 'any lane'} from {self.valid_from}"

    @property
    def in_words(self) -> str:
        """What it says, for the audit trail and for people."""
        days = ", ".join(map(str, self.anchor_days))
        begins = "" if self.interval == ScheduleInterval.DAY else f" from {days}"
        return (
            f"each {self.interval}{begins}, landing {self.delay_days} days later,"
            f" {self.holiday_rule} in {self.calendar}"
        )

    @property
    def rule(self) -> Rule:
        """The default as the calendar reads it."""
        return _rule_of(self)


class SettlementSchedule(models.Model):
    """In which periods a creator's charges are grouped; one active version, never deleted.

    It keeps what the route's default was on its day: a later default does not rewrite it. A change is a
    new version from the next period on; nothing but `active_to` is ever written again (trigger).
    """

    creator = models.ForeignKey(
        Creator, on_delete=models.PROTECT, related_name="settlement_schedules"
    )
    version = models.PositiveIntegerField()
    lane = models.CharField(max_length=40, blank=True, default="")
    interval = models.CharField(max_length=5, choices=ScheduleInterval.choices)
    anchor_days = ArrayField(models.SmallIntegerField())
    delay_days = models.PositiveSmallIntegerField()
    holiday_rule = models.CharField(max_length=9, choices=HolidayRule.choices)
    calendar = models.CharField(max_length=40, default=FEDERAL_RESERVE)
    source = models.CharField(max_length=60)
    # Days of the business clock, UTC.
    active_from = models.DateField()
    # None is the active version; a change closes it and opens the next.
    active_to = models.DateField(null=True, blank=True)
    # Real clock.
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
        ]

    def __str__(self) -> str:
        return f"{self.creator_id} version {self.version}"

    @property
    def rule(self) -> Rule:
        """The version as the calendar reads it."""
        return _rule_of(self)


def _rule_of(row: RouteSchedule | SettlementSchedule) -> Rule:
    return Rule(
        interval=row.interval,
        anchor_days=tuple(row.anchor_days),
        delay_days=row.delay_days,
        holiday_rule=row.holiday_rule,
        calendar=row.calendar,
    )


class Holiday(models.Model):
    """A weekday on which no money moves, by the name of its calendar (R17)."""

    calendar = models.CharField(max_length=40)
    day = models.DateField()
    name = models.CharField(max_length=100)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["calendar", "day"], name="holiday_once"),
            models.CheckConstraint(condition=~Q(calendar=""), name="holiday_calendar"),
        ]

    def __str__(self) -> str:
        return f"{self.calendar} {self.day}"
