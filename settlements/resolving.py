"""What people do about discrepancies that no evidence clears: assign, note, propose, approve, reopen.

Each runs in the caller's transaction, takes the creators' locks before the desk's rows, both in id
order, and writes a line of the trail for every discrepancy it is about.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from django.db import connection
from django.db.models import QuerySet

from checkout import ledger
from checkout.clock import Moment
from checkout.ledger import AT_ONCE
from checkout.models import Creator, LedgerAccount
from settlements.causes import Cause, free_of
from settlements.models import (
    NOTHING,
    ActionKind,
    Decision,
    DeskAction,
    Discrepancy,
    Kind,
    Payout,
    Proposal,
    ProposalItem,
    Way,
    digest_of,
    payout_at_the_bank,
    ways_of_each,
)

logger = logging.getLogger(__name__)

# What the ids of corrections are derived in that are about no charge.
OF_NOBODY: Final = UUID("5a1f3f2c-7d0e-5f52-9a60-6f2d0c1b9e44")


class NotProposable(Exception):
    """This discrepancy cannot be resolved so; the message says why."""


class NotDecidable(Exception):
    """This person cannot decide this proposal now; the message says why."""


class NotReopenable(Exception):
    """No resolution by hand to take back."""


def assign(*, discrepancy_ids: Collection[int], to: str, by: str, reason: str, now: Moment) -> int:
    """Let this person look into these; an empty name frees them. Returns how many."""
    rows = lock_discrepancies(discrepancy_ids)
    Discrepancy.objects.filter(pk__in=[row.pk for row in rows]).update(assigned_to=to)
    record_actions(rows, ActionKind.ASSIGNED, by=by, reason=reason, now=now, assigned_to=to)
    return len(rows)


def note(*, discrepancy_ids: Collection[int], by: str, text: str, now: Moment) -> int:
    """Write something down about these; returns how many."""
    rows = lock_discrepancies(discrepancy_ids)
    record_actions(rows, ActionKind.NOTED, by=by, reason=text, now=now)
    return len(rows)


def propose(
    *, discrepancy_ids: Collection[int], way: Way, by: str, reason: str, now: Moment
) -> Proposal:
    """Propose to resolve these, as they stand now, in one way; another person decides (R43).

    Raises NotProposable, naming the first that stands no more, is proposed already, or whose kind does
    not allow the way.
    """
    return _propose(lock_discrepancies(discrepancy_ids), way=way, by=by, reason=reason, now=now)


def propose_together(
    *, cause: Cause, seen: str, way: Way, by: str, reason: str, now: Moment
) -> Proposal:
    """Propose all of one cause that stands and waits in no proposal; `seen` is the page's digest.

    Raises NotProposable, also when it is not what the page showed any more.
    """
    shown = free_of(cause)
    rows = lock_discrepancies([pk for pk, _, _ in shown.rows])
    present = [(row.pk, row.expected, row.actual) for row in rows]
    if seen != digest_of("", present):
        raise NotProposable("what stands of this cause has changed: look at it again")
    return _propose(rows, way=way, by=by, reason=reason, now=now)


def _propose(
    rows: Sequence[Discrepancy], *, way: Way, by: str, reason: str, now: Moment
) -> Proposal:
    if not rows:
        raise NotProposable("choose at least one discrepancy")
    for row, allowed in zip(rows, ways_of_each(rows), strict=True):
        _require_proposable(row, way, allowed)
    proposal = Proposal.objects.create(
        way=way,
        reason=reason,
        count=len(rows),
        net=sum((row.difference for row in rows), NOTHING),
        absolute=sum((abs(row.difference) for row in rows), NOTHING),
        sha256=digest_of(way, ((row.pk, row.expected, row.actual) for row in rows)),
        proposed_by=by,
        proposed_at=now.real,
    )
    ProposalItem.objects.bulk_create(
        (
            ProposalItem(
                proposal=proposal, discrepancy=row, expected=row.expected, actual=row.actual
            )
            for row in rows
        ),
        batch_size=AT_ONCE,
    )
    Discrepancy.objects.filter(pk__in=[row.pk for row in rows]).update(proposal=proposal)
    record_actions(rows, ActionKind.PROPOSED, by=by, reason=reason, now=now, proposal=proposal)
    return proposal


def _require_proposable(row: Discrepancy, way: Way, allowed: Sequence[Way]) -> None:
    if not row.is_standing:
        raise NotProposable(f"discrepancy {row.pk} stands no more")
    if row.proposal_id:
        raise NotProposable(f"discrepancy {row.pk} waits in proposal {row.proposal_id}")
    if way not in allowed:
        instead = f"it may be {allowed[0]}" if allowed else "evidence alone clears it"
        raise NotProposable(f"discrepancy {row.pk} ({row.kind}, {row.code}): {instead}")


def approve(*, proposal_id: int, seen: str, by: str, reason: str, now: Moment) -> Proposal:
    """Resolve what another person proposed, exactly as this one saw it; `seen` is the page's digest.

    Posts the corrections. Raises NotDecidable if it was decided, if the same person proposed it, or
    if anything of it has changed since it was proposed or since the page was shown.
    """
    _lock_creators(proposal_id)
    proposal = lock_undecided(proposal_id)
    if proposal.proposed_by == by:
        raise NotDecidable("who proposed it does not approve it")
    rows = lock_discrepancies(proposal.items.values_list("discrepancy_id", flat=True))
    now_digest = digest_of(proposal.way, ((row.pk, row.expected, row.actual) for row in rows))
    standing = all(row.is_standing and row.proposal_id == proposal.pk for row in rows)
    if not standing or now_digest != proposal.sha256:
        raise NotDecidable("what it is about has changed: withdraw it and propose anew")
    if seen != proposal.sha256:
        raise NotDecidable("the page showed something else: look at it again")
    if proposal.way == Way.CORRECTED:
        _post_corrections(proposal, now=now)
    record_decision(proposal, Decision.APPROVED, by=by, reason=reason, now=now)
    Discrepancy.objects.filter(proposal=proposal).update(resolved_at=now.real)
    record_actions(rows, ActionKind.APPROVED, by=by, reason=reason, now=now, proposal=proposal)
    return proposal


def refuse(*, proposal_id: int, by: str, reason: str, now: Moment) -> Proposal:
    """Send a proposal or a match back: what it is about is free for another. Raises NotDecidable."""
    proposal = lock_undecided(proposal_id)
    if proposal.proposed_by == by:
        raise NotDecidable("who proposed it withdraws it")
    return _give_back(proposal, Decision.REFUSED, ActionKind.REFUSED, by=by, reason=reason, now=now)


def withdraw(*, proposal_id: int, by: str, reason: str, now: Moment) -> Proposal:
    """Take one's own or a colleague's proposal back before it is decided. Raises NotDecidable."""
    proposal = lock_undecided(proposal_id)
    return _give_back(
        proposal, Decision.WITHDRAWN, ActionKind.WITHDRAWN, by=by, reason=reason, now=now
    )


def reopen(*, discrepancy_ids: Collection[int], by: str, reason: str, now: Moment) -> int:
    """Let these stand again; what was posted for them is posted back. Returns how many.

    Also what evidence has cleared since, or found with other amounts: its entry is in the books still.
    Raises NotReopenable, naming the first that no person resolved, or a payout that has landed with it.
    """
    resolved = Discrepancy.objects.filter(pk__in=discrepancy_ids)
    _lock_in_order(resolved.values_list("creator_id", flat=True))
    rows = lock_discrepancies(discrepancy_ids)
    for row in rows:
        _require_not_landed(row)
        posted_by = _post_back(row, now=now)
        proposal = row.proposal if row.resolved_at else posted_by
        if proposal is None:
            raise NotReopenable(f"discrepancy {row.pk} was not resolved by hand")
        record_actions([row], ActionKind.REOPENED, by=by, reason=reason, now=now, proposal=proposal)
    # Of one that stands already, a proposal that waits stays.
    Discrepancy.objects.filter(pk__in=[row.pk for row in rows], resolved_at__isnull=False).update(
        resolved_at=None, proposal=None
    )
    return len(rows)


def _post_back(row: Discrepancy, *, now: Moment) -> Proposal | None:
    """Post back the correction that is in the books for it; returns the proposal that had posted it."""
    item = in_the_books([row.pk]).select_related("entry__charge", "proposal").first()
    if item is None or item.entry is None:
        return None
    item.reversal = ledger.reverse(entry=item.entry, now=now)
    item.save(update_fields=["reversal"])
    return item.proposal


def _require_not_landed(row: Discrepancy) -> None:
    """What a bank kept of a payout is part of how it landed, and what has landed stays landed."""
    payout_id = payout_at_the_bank(row)
    if payout_id and Payout.objects.filter(pk=payout_id, landed_on__isnull=False).exists():
        raise NotReopenable(f"discrepancy {row.pk}: the payout has landed with it")


# --- The books -------------------------------------------------------------------------------------


def in_the_books(discrepancy_ids: Collection[int]) -> QuerySet[ProposalItem]:
    """What was posted for these and not posted back."""
    return ProposalItem.objects.filter(
        discrepancy__in=discrepancy_ids, entry__isnull=False, reversal__isnull=True
    )


def _post_corrections(proposal: Proposal, *, now: Moment) -> None:
    """An entry for each, in a few statements: a group of one cause may hold thousands."""
    rows = proposal.items.select_related("discrepancy__charge").order_by("discrepancy_id")
    items = list(rows)
    _require_nothing_posted(items)
    charges = [each.discrepancy.charge_id for each in items if each.discrepancy.charge_id]
    books, seen = ledger.receivables(charge_ids=charges), set[UUID]()
    corrections = []
    for item in items:
        correction = _correction(item)
        if correction.account == LedgerAccount.RECEIVABLE:
            _require_receivable(correction, books, seen)
        corrections.append(correction)
    entries = ledger.correct_each(corrections=corrections, now=now)
    with connection.cursor() as cursor:
        cursor.execute(_POSTED, [[item.pk for item in items], [entry.pk for entry in entries]])


_POSTED: Final = """
    UPDATE settlements_proposalitem i SET entry_id = posted.entry
    FROM unnest(%s::bigint[], %s::uuid[]) AS posted (item, entry)
    WHERE i.id = posted.item
"""


def corrected_against(difference: Decimal) -> LedgerAccount:
    """A cent short is written off; a cent too much is owed back to the creator."""
    short = difference < 0
    return LedgerAccount.WRITE_OFF if short else LedgerAccount.UNAPPLIED_RECEIPTS


def corrected_account(kind: str) -> LedgerAccount:
    """What a correction moves: what the lane holds, if a statement says otherwise; else what is owed."""
    return LedgerAccount.CLEARING if kind == Kind.STATEMENT else LedgerAccount.RECEIVABLE


def _correction(item: ProposalItem) -> ledger.Correction:
    found, difference = item.discrepancy, item.actual - item.expected
    # One that is about no charge is a line of nobody.
    within = found.charge_id or OF_NOBODY
    return ledger.Correction(
        charge=found.charge,
        account=corrected_account(found.kind),
        amount=difference,
        against=corrected_against(difference),
        subject=uuid5(within, f"correction:{item.proposal_id}:{found.fingerprint}"),
        lane=found.lane,
    )


def _require_nothing_posted(items: Sequence[ProposalItem]) -> None:
    """Found with other amounts, or cleared and found again, it stands; its entry was not posted back."""
    posted = in_the_books([each.discrepancy_id for each in items]).order_by("discrepancy_id")
    if earlier := posted.first():
        raise NotDecidable(
            f"discrepancy {earlier.discrepancy_id} was corrected in proposal {earlier.proposal_id}, "
            "and that entry is in the books: open it again first"
        )


def _require_receivable(
    correction: ledger.Correction, books: Mapping[UUID, Decimal], seen: set[UUID]
) -> None:
    """Exactly this is receivable of the charge, by the books; `seen` learns which charge."""
    charge = correction.charge
    if charge is None:
        raise NotDecidable("a correction of what is owed is about no charge")
    # The second of a charge finds nothing receivable any more, as if they were posted one by one.
    if charge.pk in seen:
        raise NotDecidable(f"two of charge {charge.pk}: resolve one after the other")
    seen.add(charge.pk)
    owed = books.get(charge.pk, NOTHING)
    if owed != -correction.amount:
        raise NotDecidable(
            f"by the books {owed:,.2f} USD is receivable of charge {charge.pk}, not "
            f"{-correction.amount:,.2f}: another entry has been posted, look at its proof"
        )


# --- Rows and locks --------------------------------------------------------------------------------


def _lock_creators(proposal_id: int) -> None:
    """Who posts to a charge's books first holds its creator's lock, as every use case does."""
    items = ProposalItem.objects.filter(proposal_id=proposal_id)
    _lock_in_order(items.values_list("discrepancy__creator_id", flat=True))


def _lock_in_order(creator_ids: Iterable[UUID | None]) -> None:
    wanted = {each for each in creator_ids if each is not None}
    rows = Creator.objects.select_for_update(no_key=True).filter(pk__in=wanted)
    list(rows.order_by("pk").values_list("pk", flat=True))


def lock_discrepancies(ids: Iterable[int]) -> list[Discrepancy]:
    """These discrepancies in id order, locked until the transaction ends."""
    rows: QuerySet[Discrepancy] = Discrepancy.objects.select_for_update(no_key=True)
    return list(rows.filter(pk__in=list(ids)).order_by("pk"))


def lock_undecided(proposal_id: int) -> Proposal:
    """The proposal, locked. Raises NotDecidable if it was decided."""
    proposal = Proposal.objects.select_for_update(no_key=True).get(pk=proposal_id)
    if proposal.decision != Decision.OPEN:
        raise NotDecidable(f"it was {proposal.decision} by {proposal.decided_by}")
    return proposal


def record_decision(
    proposal: Proposal, decision: Decision, *, by: str, reason: str, now: Moment
) -> None:
    """Write what was decided; from here on nothing of the proposal changes."""
    proposal.decision, proposal.decided_by = decision, by
    proposal.decided_at, proposal.decided_because = now.real, reason
    proposal.save(update_fields=["decision", "decided_by", "decided_at", "decided_because"])
    facts = {"proposal": proposal.pk, "decision": str(decision), "by": by}
    logger.info("proposal decided", extra=facts)


def _give_back(
    proposal: Proposal, decision: Decision, kind: ActionKind, *, by: str, reason: str, now: Moment
) -> Proposal:
    rows = lock_discrepancies(proposal.discrepancies.values_list("pk", flat=True))
    record_decision(proposal, decision, by=by, reason=reason, now=now)
    Discrepancy.objects.filter(proposal=proposal).update(proposal=None)
    about: list[Discrepancy | None] = [*rows, *([None] if proposal.way == Way.MATCHED else [])]
    record_actions(about, kind, by=by, reason=reason, now=now, proposal=proposal)
    return proposal


def record_actions(
    rows: Iterable[Discrepancy | None],
    kind: ActionKind,
    *,
    by: str,
    reason: str,
    now: Moment,
    proposal: Proposal | None = None,
    assigned_to: str = "",
) -> None:
    """A line of the trail for each; None is the match itself."""
    DeskAction.objects.bulk_create(
        (
            DeskAction(
                discrepancy=row,
                proposal=proposal,
                kind=kind,
                by=by,
                at=now.real,
                reason=reason[:300],
                assigned_to=assigned_to,
            )
            for row in rows
        ),
        batch_size=AT_ONCE,
    )
