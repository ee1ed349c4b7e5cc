"""In which periods a creator's charges are grouped, and with which delay their money must land."""

from django.db import models
from django.db.models import F, Q

from checkout.models import Creator


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
