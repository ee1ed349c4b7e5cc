"""Rows that only exist to be read as figures: the retry counter and signs of life."""

from django.db import models
from django.db.models import Q

RETRY_SLOTS = 16


class RetryCounter(models.Model):
    """Attempts numbered above 1 in their round, in 16 slots by creator (R56); never falls."""

    slot = models.PositiveSmallIntegerField(primary_key=True)
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(slot__lt=RETRY_SLOTS), name="retry_counter_slot"),
        ]

    def __str__(self) -> str:
        return f"{self.slot}: {self.count}"


class Heartbeat(models.Model):
    """The last sign of life of a worker, a relay or a timetable job."""

    name = models.CharField(max_length=60, primary_key=True)
    beat_at = models.DateTimeField()
    detail = models.CharField(max_length=300, blank=True, default="")

    def __str__(self) -> str:
        return self.name
