"""What was asked of the processors about attempts, and what they answered."""

from datetime import datetime
from typing import Final

from django.db import connection, models
from django.db.models import Q

from checkout.models.charges import Attempt

# Questions of an attempt that are kept, the newest; the trigger of migration 0018 keeps as many.
QUERIES_KEPT: Final = 100
LONGEST_ANSWER: Final = 300


class Ask(models.TextChoices):
    """What a processor can be asked about an attempt."""

    OUTCOME = "outcome", "what became of it"
    # The answer is that to the ending; it was pending when asked what became of it.
    END = "end", "to end it, since it was pending"


class AttemptQuery(models.Model):
    """One question by our reference, and the answer in the gateway's words; never changed.

    An attempt's hundred newest are kept: the next one takes the oldest with it. Real clock.
    """

    id = models.BigAutoField(primary_key=True)
    attempt = models.ForeignKey(
        Attempt, on_delete=models.PROTECT, related_name="asked", db_index=False
    )
    # Of the attempt's questions, from 1.
    number = models.PositiveIntegerField()
    asked = models.CharField(max_length=7, choices=Ask.choices)
    asked_at = models.DateTimeField()
    answered_at = models.DateTimeField()
    answer = models.CharField(max_length=LONGEST_ANSWER)

    class Meta:
        verbose_name_plural = "attempt queries"
        constraints = [
            models.CheckConstraint(
                condition=Q(asked__in=Ask.values, number__gte=1) & ~Q(answer=""),
                name="attempt_query_whole",
            ),
        ]
        indexes = [models.Index(fields=["attempt", "-number"], name="attempt_query_newest")]

    def __str__(self) -> str:
        return f"{self.number}: {self.answer}"

    @staticmethod
    def record(
        attempt: Attempt, *, asked: Ask, asked_at: datetime, answered_at: datetime, answer: str
    ) -> None:
        """Count a question of this attempt and keep it, in one statement; the creator's lock is held."""
        with connection.cursor() as cursor:
            cursor.execute(
                _RECORD,
                {
                    "attempt": attempt.pk,
                    "kept": QUERIES_KEPT,
                    "asked": asked.value,
                    "asked_at": asked_at,
                    "answered_at": answered_at,
                    "answer": answer[:LONGEST_ANSWER],
                },
            )
        attempt.queries += 1


# One round trip, as the count alone would be.
_RECORD: Final = """
    WITH counted AS (
      UPDATE checkout_attempt SET queries = queries + 1 WHERE id = %(attempt)s
      RETURNING id, queries
    ), forgotten AS (
      DELETE FROM checkout_attemptquery q USING counted c
      WHERE q.attempt_id = c.id AND q.number <= c.queries - %(kept)s
    )
    INSERT INTO checkout_attemptquery (attempt_id, number, asked, asked_at, answered_at, answer)
    SELECT id, queries, %(asked)s, %(asked_at)s, %(answered_at)s, %(answer)s FROM counted
"""
