"""What two people decide about an attempt whose processor will not say what became of it (R21, R43).

One proposes, another approves; only then is the outcome written, in the way that every other one is.
What was called not charged is asked about daily until a statement covers its day, as a "not found" is.
"""

import logging
from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from checkout.clock import Ages, Moment
from checkout.gateways import Approved, Gateway
from checkout.models import Attempt, Case, CaseKind, Charge, Verdict
from checkout.money import CENT, CURRENCY, usd
from checkout.moves import locked_attempt, open_case
from checkout.outcomes import not_charged, record_outcome, silence

logger = logging.getLogger(__name__)


class NotInDoubt(Exception):
    """The attempt's outcome is known, or it may still be under way; the message says which."""


class NotApprovable(Exception):
    """No verdict that waits for this person's approval; the message says why."""


def propose_verdict(
    *,
    attempt_id: UUID,
    captured: Decimal | None,
    by: str,
    reason: str,
    now: Moment,
    gateways: Mapping[str, Gateway],
    ages: Ages,
) -> Case:
    """Propose that an open attempt captured so many USD, or nothing at all.

    Proposed again, it takes the place of what was not approved yet. Runs in the caller's transaction.
    Raises NotInDoubt, money.NotAnAmount.
    """
    amount = usd(captured) if captured is not None else None
    if amount is not None and amount < CENT:
        raise NotInDoubt("nothing was captured: propose that it was not charged")
    charge, attempt = locked_attempt(attempt_id)
    require_silence(attempt, now=now, gateways=gateways, ages=ages)
    case = open_case(
        CaseKind.IN_DOUBT, charge, subject=str(attempt.pk), reason=reason[:500], now=now
    )
    case.reason, case.amount = reason[:500], amount or attempt.amount
    case.proposal = f"captured {amount} USD" if amount else "not charged"
    case.proposed_by = by
    case.detail = {"captured": str(amount) if amount else None, "sends": attempt.sends}
    case.save(update_fields=["reason", "amount", "proposal", "proposed_by", "detail"])
    return case


def require_silence(
    attempt: Attempt, *, now: Moment, gateways: Mapping[str, Gateway], ages: Ages
) -> None:
    """No verdict while its request may still be on its way, or while the resolver has not asked."""
    if not attempt.is_open:
        raise NotInDoubt(f"its outcome is known: {attempt.outcome}")
    # A lane that is configured no more leaves nobody else to ask.
    gateway = gateways.get(attempt.lane)
    quiet = silence(gateway.minimum_age if gateway else None, ages=ages)
    if now.real < attempt.last_sent_at + quiet:
        raise NotInDoubt(
            f"it was sent less than {quiet.total_seconds():g} s ago: let the resolver ask"
        )


def approve_verdict(
    *,
    case_id: int,
    seen: str,
    by: str,
    reason: str,
    now: Moment,
    gateways: Mapping[str, Gateway],
    ages: Ages,
) -> Charge:
    """Write the outcome that another person proposed, and do what follows from it.

    `seen` is the proposal in the words of the page: proposed anew meanwhile it is another decision.

    Two run here: whoever answers, the processor or these people, is first under the creator's lock;
    the other changes nothing. Runs in the caller's transaction. Raises NotApprovable, NotInDoubt.
    """
    subject = Case.objects.filter(pk=case_id, kind=CaseKind.IN_DOUBT).values_list(
        "subject", flat=True
    )
    if not subject:
        raise NotApprovable("it proposes no verdict about an attempt")
    charge, attempt = locked_attempt(UUID(subject[0]))
    case = Case.objects.get(pk=case_id)
    if case.closed_at:
        raise NotApprovable(f"it is closed: {case.closed_because}")
    if case.proposed_by == by:
        raise NotApprovable("who proposed it does not approve it")
    if seen != case.proposed:
        raise NotApprovable("the page showed another proposal: look at it again")
    require_silence(attempt, now=now, gateways=gateways, ages=ages)
    if case.detail["sends"] != attempt.sends:
        raise NotInDoubt("it was sent again since the proposal: propose anew")
    case.approved_by, case.approved_at = by, now.real
    case.closed_at, case.closed_because = now.real, f"{case.proposal}: {reason}"[:500]
    case.save(update_fields=["approved_by", "approved_at", "closed_at", "closed_because"])
    logger.info("verdict approved", extra={"attempt_id": attempt.pk, "by": by, "case": case.pk})
    _write(charge, attempt, case, now=now, ages=ages)
    return charge


def _write(charge: Charge, attempt: Attempt, case: Case, *, now: Moment, ages: Ages) -> None:
    captured = case.detail["captured"]
    if captured is None:
        not_charged(charge, attempt, verdict=Verdict.NOT_FOUND, now=now, ages=ages)
        return
    record_outcome(
        attempt_id=attempt.pk,
        answer=Approved(usd(captured), CURRENCY, f"two people, case {case.pk}"),
        sends=attempt.sends,
        receive=None,
        now=now,
        ages=ages,
    )
