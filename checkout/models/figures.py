"""Rows that only exist to be read as figures: the retry counter and signs of life."""

from uuid import UUID

from django.db import connection, models
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

    @staticmethod
    def increment(creator_id: UUID) -> None:
        """Count one attempt numbered above 1, in the transaction that begins it."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO checkout_retrycounter AS c (slot, count) VALUES (%s, 1)"
                " ON CONFLICT (slot) DO UPDATE SET count = c.count + 1",
                [creator_id.int % RETRY_SLOTS],
            )


class UnreplicatedCommits(models.Model):
    """Commits that PostgreSQL acknowledged without the standby it was to wait for: one row, ever.

    Written by checkout/commit.py, which takes none of them for committed.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    count = models.BigIntegerField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "unreplicated commits"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="unreplicated_commits_one_row"),
        ]

    def __str__(self) -> str:
        return str(self.count)


class UnitKey(models.Model):
    """A unit of work that committed, of those that nothing else would find again (checkout/commit.py).

    It is asked for within the unit's deadline, and forgotten by the timetable a day later. Real clock.
    """

    key = models.CharField(max_length=32, primary_key=True)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class Heartbeat(models.Model):
    """The last sign of life of a worker, a relay or a timetable job."""

    name = models.CharField(max_length=60, primary_key=True)
    beat_at = models.DateTimeField()
    detail = models.CharField(max_length=300, blank=True, default="")

    def __str__(self) -> str:
        return self.name


class ChargeTally(models.Model):
    """How many charges of a billing date and lane are in a state, and their USD: rows to add up.

    Triggers add a row for each change (checkout/tallies.py); a row may be negative, their sum is exact.
    """

    id = models.BigAutoField(primary_key=True)
    # The billing date, in the subscription's own zone: the charge's period_start.
    day = models.DateField()
    lane = models.CharField(max_length=40)
    state = models.CharField(max_length=17)
    count = models.IntegerField()
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    is_folded = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "charge tallies"
        indexes = [
            models.Index(fields=["day", "lane", "state"], name="charge_tally_key"),
            models.Index(fields=["day"], condition=Q(is_folded=False), name="charge_tally_to_fold"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.lane} {self.state}: {self.count:+}"


class AttemptTally(models.Model):
    """How many attempts ended how in a quarter of an hour (business clock), and their USD.

    Quarters, since the day they make up begins elsewhere in every lane's statements.
    """

    id = models.BigAutoField(primary_key=True)
    slot = models.DateTimeField()
    lane = models.CharField(max_length=40)
    outcome = models.CharField(max_length=11)
    decline_class = models.CharField(max_length=15, blank=True, default="")
    count = models.IntegerField()
    # What was captured, else what was asked for.
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    is_folded = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "attempt tallies"
        indexes = [
            models.Index(fields=["slot", "lane", "outcome"], name="attempt_tally_key"),
            models.Index(
                fields=["slot"], condition=Q(is_folded=False), name="attempt_tally_to_fold"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slot:%Y-%m-%d %H:%M} {self.lane} {self.outcome}: {self.count:+}"
