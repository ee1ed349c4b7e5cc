"""What people do about discrepancies: proposals that another person approves, and the trail of it all.

A discrepancy that evidence cleared needs none of this and is touched by none of it (R54). What no
evidence can clear is resolved by two people: one proposes, another approves exactly that (R43). The
triggers of migrations 0020 and 0033 hold both, for raw SQL too.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from django.db import models
from django.db.models import F, Q

from checkout.models import LedgerEntry
from settlements.models.discrepancies import Code, Discrepancy, Kind
from settlements.models.statements import LineType, StatementLine

# Id, expected, actual: what an approver must have seen of a discrepancy.
Seen: TypeAlias = tuple[int, Decimal, Decimal]


class Way(models.TextChoices):
    """What two people do by hand; the first two resolve discrepancies.

    A match never resolves one: the next pass believes it, and clears both sides by evidence.
    """

    ACCEPTED = "accepted", "accepted as it is; nothing is posted"
    CORRECTED = "corrected", "corrected in the books by an entry of its own"
    # Its rows are lines and attempts (settlements/models/matches.py), not discrepancies.
    MATCHED = "matched", "matched by hand: these lines tell of these attempts"


class Decision(models.TextChoices):
    OPEN = "", "waits for another person"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


_OF_RECEIVABLE: Final = (Code.UNDER_CHARGE, Code.SURPLUS)
# A statement that says other than we captured: as much as they differ, clearing is off once all has
# landed. Fees are booked as the file says them; a file of another lane moves nothing in sum.
_OF_CLEARING: Final = (Code.MISSING, Code.DUPLICATE, Code.AMOUNT, Code.NOT_CAPTURED)


def ways_of(found: Discrepancy) -> list[Way]:
    """How people may resolve it, the surest first; none where evidence alone can.

    A cent between what was owed and what was captured is corrected in the books, never waved through.
    Money that a processor's file says otherwise is corrected in clearing, or accepted where something
    else will put it right. What is not about money, what a hand rewrote, a payout line without a name,
    and what a bank kept of a payout (a fee of its own) may be accepted with a reason.
    """
    (ways,) = ways_of_each([found])
    return ways


def ways_of_each(rows: Sequence[Discrepancy]) -> list[list[Way]]:
    """As `ways_of`, for thousands, in one query."""
    of_nobody = _captures_of_nobody(rows)
    return [_ways(row, is_of_nobody=row.pk in of_nobody) for row in rows]


def _ways(found: Discrepancy, *, is_of_nobody: bool) -> list[Way]:
    kind, code = Kind(found.kind), Code(found.code)
    if kind == Kind.CAPTURED and code in _OF_RECEIVABLE:
        return [Way.CORRECTED] if found.charge_id else []
    if kind == Kind.STATEMENT:
        is_off = is_of_nobody or (code in _OF_CLEARING and found.charge_id is not None)
        return [Way.CORRECTED, Way.ACCEPTED] if is_off and found.difference else [Way.ACCEPTED]
    was_kept = found.difference < 0 and payout_at_the_bank(found) is not None
    is_unnamed = (kind, code) == (Kind.PAYOUT, Code.UNMATCHED)
    is_free = found.difference == 0 or was_kept or is_unnamed or code == Code.REWRITTEN
    return [Way.ACCEPTED] if is_free else []


def _captures_of_nobody(rows: Sequence[Discrepancy]) -> set[int]:
    """Those about a line that tells of a capture which is not ours. What else a file tells is booked by it."""
    about = {
        int(row.fingerprint.rpartition(":")[2]): row.pk
        for row in rows
        if (row.kind, row.code) == (Kind.STATEMENT, Code.UNMATCHED)
    }
    lines = StatementLine.objects.filter(pk__in=list(about), type=LineType.CHARGE)
    return {about[pk] for pk in lines.values_list("pk", flat=True)}


def payout_at_the_bank(found: Discrepancy) -> int | None:
    """The payout whose one credit is of another amount than what left; none of any other discrepancy."""
    named = re.fullmatch(r"payout:amount:(\d+):bank", found.fingerprint)
    return int(named[1]) if named else None


def digest_of(way: str, seen: Iterable[Seen]) -> str:
    """SHA-256 over the way and each row's id and amounts: two equal digests, the same decision."""
    lines = [f"{way}"] + [
        f"{pk}:{expected:.2f}:{actual:.2f}" for pk, expected, actual in sorted(seen)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Proposal(models.Model):
    """What one person proposes about one or more discrepancies, and what another decided.

    What is proposed never changes; a decided proposal never changes at all. Amounts are USD. Of a
    match: lines and attempts together, the lines' sum less the attempts', and the lines' sum.
    """

    way = models.CharField(max_length=9, choices=Way.choices)
    reason = models.CharField(max_length=300)
    count = models.PositiveIntegerField()
    net = models.DecimalField(max_digits=14, decimal_places=2)
    absolute = models.DecimalField(max_digits=14, decimal_places=2)
    sha256 = models.CharField(max_length=64)
    proposed_by = models.CharField(max_length=150)
    # Real clock, as is `decided_at`.
    proposed_at = models.DateTimeField()
    decision = models.CharField(
        max_length=9, choices=Decision.choices, blank=True, default=Decision.OPEN
    )
    decided_by = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_because = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        permissions = [("approve_proposal", "Can approve proposal")]
        constraints = [
            models.CheckConstraint(condition=Q(way__in=Way.values), name="proposal_way"),
            models.CheckConstraint(
                condition=Q(count__gte=1) & ~Q(proposed_by="") & ~Q(reason=""),
                name="proposal_whole",
            ),
            # Four eyes: who proposes does not approve; he may withdraw (R43).
            models.CheckConstraint(
                condition=~Q(decision__in=["approved", "refused"])
                | ~Q(decided_by=F("proposed_by")),
                name="proposal_four_eyes",
            ),
            models.CheckConstraint(
                condition=Q(decision="", decided_by="", decided_because="", decided_at__isnull=True)
                | (
                    Q(decision__in=["approved", "refused", "withdrawn"], decided_at__isnull=False)
                    & ~Q(decided_by="")
                    & ~Q(decided_because="")
                ),
                name="proposal_decided",
            ),
        ]
        indexes = [
            models.Index(fields=["-proposed_at", "-id"], name="proposal_newest"),
            models.Index(fields=["proposed_at"], condition=Q(decision=""), name="proposal_open"),
        ]

    def __str__(self) -> str:
        return f"proposal {self.pk}"


class ProposalItem(models.Model):
    """A discrepancy of a proposal with the amounts that were proposed about, in USD."""

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="items")
    discrepancy = models.ForeignKey(Discrepancy, on_delete=models.PROTECT, related_name="proposed")
    expected = models.DecimalField(max_digits=14, decimal_places=2)
    actual = models.DecimalField(max_digits=14, decimal_places=2)
    # What the approval posted, and what a reopening posted back.
    entry = models.OneToOneField(
        LedgerEntry, on_delete=models.PROTECT, null=True, blank=True, related_name="correction"
    )
    reversal = models.OneToOneField(
        LedgerEntry, on_delete=models.PROTECT, null=True, blank=True, related_name="reversal"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["proposal", "discrepancy"], name="item_once"),
        ]

    def __str__(self) -> str:
        return f"{self.proposal_id}: {self.discrepancy_id}"


class ActionKind(models.TextChoices):
    ASSIGNED = "assigned"
    NOTED = "noted"
    PROPOSED = "proposed"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REOPENED = "reopened"


class DeskAction(models.Model):
    """One line of the trail: who did what about a discrepancy, when (real clock) and why; append-only.

    A match is acted on as such, too: its line of the trail names no discrepancy.
    """

    discrepancy = models.ForeignKey(
        Discrepancy, on_delete=models.PROTECT, null=True, blank=True, related_name="trail"
    )
    proposal = models.ForeignKey(
        Proposal, on_delete=models.PROTECT, null=True, blank=True, related_name="trail"
    )
    kind = models.CharField(max_length=9, choices=ActionKind.choices)
    by = models.CharField(max_length=150)
    at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    assigned_to = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=ActionKind.values)
                & ~Q(by="")
                & ~Q(reason="")
                & (Q(discrepancy__isnull=False) | Q(proposal__isnull=False)),
                name="desk_action_whole",
            ),
        ]
        indexes = [models.Index(fields=["-at", "-id"], name="desk_action_newest")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.by}"
