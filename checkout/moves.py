"""The moves of a charge that several events share, each in the caller's transaction.

Lock first, read after: `locked_charge` and `locked_attempt` are the only ways to get a charge that
may be moved. Everything a move implies (posting, event, next dispatch) is done here, so that no
caller can forget half of it.
"""

from datetime import datetime
from uuid import UUID

from checkout import dunning, ledger, outbox
from checkout.clock import Moment
from checkout.models import (
    Attempt,
    Awaits,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Creator,
    EntryKind,
    Instrument,
)

S = ChargeState


class UnknownCharge(Exception):
    """A message names a charge that does not exist; it is left, and ends as a dead letter."""


def locked_charge(charge_id: UUID) -> Charge:
    """Lock the charge's creator, then read the charge with its attempts: nothing read before counts."""
    creator_id = Charge.objects.values_list("creator_id", flat=True).filter(pk=charge_id).first()
    if creator_id is None:
        raise UnknownCharge(f"charge {charge_id} does not exist")
    Creator.lock([creator_id])
    rows = Charge.objects.select_related("terms", "creator").prefetch_related("attempts")
    return rows.get(pk=charge_id)


def locked_attempt(attempt_id: UUID) -> tuple[Charge, Attempt]:
    """Lock the creator and read the charge with this attempt, both as of the lock."""
    charge_id = Attempt.objects.values_list("charge_id", flat=True).get(pk=attempt_id)
    charge = locked_charge(charge_id)
    return charge, next(a for a in charge.attempts.all() if a.pk == attempt_id)


def dispatch(charge: Charge, *, now: Moment, available_at: datetime | None = None) -> None:
    """The next `charge.due`, in this transaction; every older message of the charge is now stale."""
    charge.change(dispatch=charge.dispatch + 1, last_seen_at=now.real)
    outbox.record_dispatch(charge=charge, now=now, available_at=available_at)


def open_round(charge: Charge, *, step: int, now: Moment) -> None:
    """An exhausted charge is due again; `step` is 1 for a dunning date, 0 for a person or a card."""
    charge.move(
        S.DUE,
        round=charge.round + 1,
        step=charge.step + step,
        awaits=Awaits.NOTHING,
        next_round_at=None,
        **seen(now),
    )
    record_charge_event(charge, "charge.round_opened", now=now)
    dispatch(charge, now=now)


def exhaust(
    charge: Charge,
    *,
    plan: dunning.NextRoundAt | dunning.AwaitInstrument | dunning.GiveUp,
    now: Moment,
) -> None:
    """The round is over unpaid; the next one opens by date, by a new instrument or by a person."""
    awaits, at = Awaits.PERSON, None
    if isinstance(plan, dunning.NextRoundAt):
        awaits, at = Awaits.DATE, plan.at
    elif isinstance(plan, dunning.AwaitInstrument):
        awaits = Awaits.INSTRUMENT
    charge.move(S.EXHAUSTED, awaits=awaits, next_round_at=at, **seen(now))
    record_charge_event(
        charge,
        "charge.exhausted",
        now=now,
        awaits=awaits.value,
        next_round_at=at.isoformat() if at else None,
    )
    newest = Instrument.newest_of(charge.creator_id)
    if awaits == Awaits.INSTRUMENT and newest and not newest.dead_at:
        # Another card came while this one was being tried: nobody will add it a second time.
        open_round(charge, step=0, now=now)


def void(charge: Charge, *, now: Moment) -> None:
    """Cancelled before anything was captured: close the receivable; terminal.

    What was written off is so again: its loss is booked, and a voided charge has none (R34, F27).
    """
    if ledger.is_written_off(charge_id=charge.pk):
        _write_off_again(charge, now=now)
        return
    ledger.close_receivable(charge=charge, kind=EntryKind.VOIDED, now=now)
    charge.move(S.VOIDED, awaits=Awaits.NOTHING, next_round_at=None, **seen(now))
    record_charge_event(charge, "charge.voided", now=now)


def seen(now: Moment) -> dict[str, object]:
    """Columns every move resets: no backoff runs, and the charge was heard of now."""
    return {"retry_at": None, "last_seen_at": now.real, "sweeps": 0}


def record_charge_event(
    charge: Charge, type: str, attempt: Attempt | None = None, *, now: Moment, **extra: object
) -> None:
    """Record an event about a charge; one an attempt and type, or one a round and type (R51)."""
    outbox.record_event(
        creator_id=charge.creator_id,
        type=type,
        subject=charge.pk,
        data=charge_facts(charge, attempt) | {"occurred_at": now.business.isoformat()} | extra,
        round=attempt.round if attempt else charge.round,
        number=attempt.number if attempt else 0,
        now=now,
    )


def charge_facts(charge: Charge, attempt: Attempt | None = None) -> dict[str, object]:
    """What every event about a charge says; nothing of the creator but the id (R46)."""
    return {
        "charge_id": str(charge.pk),
        "creator_id": str(charge.creator_id),
        "subscription_id": str(charge.subscription_id),
        "plan": charge.terms.plan_id,
        "period_start": charge.period_start.isoformat(),
        "period_end": charge.period_end.isoformat(),
        "amount": str(charge.amount),
        "currency": charge.currency,
        "state": str(charge.state),
        "round": attempt.round if attempt else charge.round,
        "number": attempt.number if attempt else None,
    }


def open_case(
    kind: CaseKind, charge: Charge | None, *, subject: str, reason: str, now: Moment, **more: object
) -> Case:
    """Open a case once by kind and subject; the same fact found again is the same case."""
    case, _ = Case.objects.get_or_create(
        kind=kind,
        subject=subject,
        defaults={
            "charge": charge,
            "creator_id": charge.creator_id if charge else None,
            "reason": reason,
            "opened_at": now.real,
            **more,
        },
    )
    return case


def repair_paid(charge: Charge, *, now: Moment) -> None:
    """The row says owed, an attempt holds the capture: the attempt is right (R26, F27)."""
    charge.move(S.SUCCEEDED, awaits=Awaits.NOTHING, next_round_at=None, **seen(now))
    open_repair_case(charge, reason="a paid charge had been rewritten; it succeeded", now=now)


def _write_off_again(charge: Charge, *, now: Moment) -> None:
    """The row says owed, the books hold the loss: the books are right. Exhausted is the way there."""
    if charge.state != S.EXHAUSTED:
        charge.move(S.EXHAUSTED, **seen(now))
    charge.move(S.WRITTEN_OFF, awaits=Awaits.NOTHING, next_round_at=None, **seen(now))
    open_repair_case(charge, reason="a charge had been rewritten; written off again", now=now)


def open_repair_case(charge: Charge, *, reason: str, now: Moment) -> None:
    """Somebody rewrote the row behind our back: the receive healed it, a person should know (F27)."""
    open_case(
        CaseKind.REPAIRED_CHARGE,
        charge,
        subject=f"{charge.pk}:{charge.round}:{charge.dispatch}",
        reason=reason,
        now=now,
    )
