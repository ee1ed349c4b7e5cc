"""What two people matched by hand: statement lines, and the attempts whose captures they tell of.

A match is a proposal (settlements/models/desk.py) with rows of its own instead of discrepancies: lines on
one side, attempts on the other, one of them alone on its side. The triggers of migration 0033 hold
what is said here, for raw SQL too.
"""

from typing import Final

from django.db import models
from django.db.models import F, Func, Q

from checkout.models import Attempt, Creator, LedgerEntry
from checkout.money import CENT
from settlements.models.desk import Decision, Proposal
from settlements.models.statements import StatementLine

# Rows of approved matches of which every row still reads as two people approved it (migration 0033).
BELIEVED: Final = Q(in_force=True, proposal__decision=Decision.APPROVED) & Q(
    Func(
        F("proposal_id"),
        F("proposal__count"),
        F("proposal__absolute"),
        F("proposal__net"),
        function="settlements_match_holds",
        output_field=models.BooleanField(),
    )
)


class MatchedLine(models.Model):
    """A statement line of a match, as it read when it was proposed; in one match in force at most.

    The key is what the line itself names: a line that named another attempt is looked at by it.
    """

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="matched_lines")
    line = models.ForeignKey(StatementLine, on_delete=models.PROTECT, related_name="matched")
    key = models.UUIDField()
    gross = models.DecimalField(max_digits=14, decimal_places=2)
    # Until it is refused, withdrawn or taken apart.
    in_force = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["line"], condition=Q(in_force=True), name="matched_line_once"
            ),
        ]
        indexes = [models.Index(fields=["key"], name="matched_line_key")]

    def __str__(self) -> str:
        return f"{self.proposal_id}: line {self.line_id}"


class MatchedAttempt(models.Model):
    """An attempt of a match: what it held when it was proposed, and what it holds once approved, USD.

    `amount` is what was captured or, in doubt, what was asked for; `correction` is its part of the
    match's difference. In doubt it is captured with both; captured already, the books alone move.
    """

    proposal = models.ForeignKey(
        Proposal, on_delete=models.PROTECT, related_name="matched_attempts"
    )
    attempt = models.ForeignKey(Attempt, on_delete=models.PROTECT, related_name="matched")
    creator = models.ForeignKey(Creator, on_delete=models.PROTECT, related_name="+")
    was_open = models.BooleanField()
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    correction = models.DecimalField(max_digits=14, decimal_places=2)
    captured = models.DecimalField(max_digits=14, decimal_places=2)
    in_force = models.BooleanField(default=True)
    # What the approval posted for the correction, and what taking apart posted back.
    entry = models.OneToOneField(
        LedgerEntry, on_delete=models.PROTECT, null=True, blank=True, related_name="matched"
    )
    reversal = models.OneToOneField(
        LedgerEntry, on_delete=models.PROTECT, null=True, blank=True, related_name="unmatched"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(in_force=True), name="matched_attempt_once"
            ),
            models.CheckConstraint(
                condition=Q(captured__gte=CENT)
                & (
                    Q(was_open=True, captured=F("amount") + F("correction"))
                    | Q(was_open=False, captured=F("amount"))
                ),
                name="matched_attempt_amounts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.proposal_id}: attempt {self.attempt_id}"
