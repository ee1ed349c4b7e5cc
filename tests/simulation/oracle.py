"""What must be true after healing, to the cent: I1 to I7 of docs/reliability.md."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Sum

from checkout.messages import readable
from checkout.models import (
    TERMINAL,
    Attempt,
    AttemptOutcome,
    Awaits,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Creator,
    Door,
    Instrument,
    LedgerAccount,
    LedgerEntry,
    LedgerPosting,
    OutboxMessage,
    PendingMessage,
    Subscription,
    Verdict,
    WebhookDelivery,
)
from checkout.outbox import event_id
from processor.journal import Line
from tests.relays import astray
from tests.simulation.actions import PRICES
from tests.simulation.clients import CHECKOUTS, CREATORS
from tests.simulation.rules import broken_rules
from tests.simulation.world import World, captures

S = ChargeState
O = AttemptOutcome  # noqa: E741
ZERO = Decimal("0.00")
KEPT = (CaseKind.UNREADABLE_MESSAGE, CaseKind.DEAD_LETTER)


def violations(world: World) -> list[str]:
    """Every sentence says what is wrong; none is what a test wants."""
    found = [*world.broken]
    if not found:
        for look in (
            requests,
            shown,
            processor,
            attempts,
            charges,
            prices,
            books,
            events,
            rest,
            cases,
            poison,
            calm,
            broken_rules,
        ):
            found += [f"{look.__name__}: {sentence}" for sentence in look(world)]
    return found


def _all_attempts(world: World) -> list[Attempt]:
    """Read once a world: nothing changes any more while the oracle looks."""
    if world.attempts is None:
        found = Attempt.objects.select_related("charge", "instrument")
        world.attempts = list(found.order_by("started_at", "id"))
    return world.attempts


def requests(world: World) -> Iterator[str]:
    """I1: what was accepted is one subscription, contiguous periods, each one charge; no other is."""
    checkouts = [asked for asked in world.clients.asked.values() if asked.path == CHECKOUTS]
    ids = {asked.subscription_id(world.account_id): asked for asked in checkouts}
    there = {s.pk: s for s in Subscription.objects.all()}
    for pk, asked in ids.items():
        if asked.is_accepted != (pk in there):
            yield f"{asked.key} was answered {asked.status}, and it is there: {pk in there}"
    for pk, subscription in there.items():
        if pk not in ids:
            yield f"nobody asked for subscription {pk}"
        yield from _periods(subscription)
    if len(world.clients.accepted(CREATORS)) != Creator.objects.count():
        yield f"{Creator.objects.count()} creators, not as many as were accepted"


def shown(world: World) -> Iterator[str]:
    """What a client sees at the end is what the processor's journal says, to the cent."""
    lines = world.processor.lines()
    captured = {line.charge for line in captures(lines)}
    for asked in world.clients.accepted(CHECKOUTS):
        state = world.clients.look(asked)
        pk = asked.subscription_id(world.account_id)
        charge = Charge.objects.filter(subscription_id=pk).earliest("period_start")
        written_off = charge.state in (S.WRITTEN_OFF, S.VOIDED) and world.plan.last_defence
        if (state == "succeeded") != (str(charge.pk) in captured) and not written_off:
            yield f"{asked.key} is shown as {state}, captured: {str(charge.pk) in captured}"
    yield from world.broken
    for event in WebhookDelivery.objects.filter(event_id__in=world.clients.forged):
        yield f"the forged webhook {event.event_id} was stored"


def _periods(subscription: Subscription) -> Iterator[str]:
    periods = list(subscription.charges.order_by("period_start"))
    if not periods:
        yield f"subscription {subscription} has no charge"
        return
    for before, after in pairwise(periods):
        if before.period_end != after.period_start:
            yield f"gap after {before.period_end} in {subscription}"
    if periods[-1].period_end != subscription.next_period_start:
        yield f"next period of {subscription} is {subscription.next_period_start}"


def processor(world: World) -> Iterator[str]:
    """I2: at most one capture a charge in the journal; no reference decided twice."""
    lines = world.processor.lines()
    if world.plan.last_defence:
        return
    for charge, count in Counter(line.charge for line in captures(lines)).items():
        if count > 1:
            yield f"{world.name(charge)} was captured {count} times"
    decided = Counter(line.reference for line in lines if line.kind == "decision")
    for reference, count in decided.items():
        if count > 1:
            yield f"reference {reference} was decided {count} times"


def attempts(world: World) -> Iterator[str]:
    """I3: what the journal says and what the attempts say are the same."""
    lines = captures(world.processor.lines())
    captured = {line.reference: line for line in lines}
    answered = {(line.reference, line.processor_reference): line for line in lines}
    refused = [line for line in world.processor.lines() if line.status == "declined"]
    declined = {line.reference for line in refused}
    told = {(line.reference, line.processor_reference) for line in refused}
    for attempt in _all_attempts(world):
        reference = str(attempt.pk)
        # Believed not to be charged, then the request arrived after all, and was declined: R27 keeps
        # the word, since nothing was taken.
        came_late = world.plan.last_defence and attempt.verdict == Verdict.NOT_FOUND
        was_declined = reference in declined and not came_late
        # A copy that comes when its key is forgotten captures again; we were told of one of the two.
        capture = captured.pop(reference, None)
        heard = (reference, attempt.processor_reference)
        capture = answered.get(heard, capture)
        if world.plan.last_defence and attempt.outcome == O.DECLINED and heard in told:
            capture = None  # the copy's capture is for the statement to tell (proof.py)
        yield from _agrees(attempt, capture, was_declined)
        if attempt.outcome == O.UNAPPLIED and not world.plan.last_defence:
            yield f"attempt {attempt} is an unapplied receipt"
        dead = attempt.instrument.dead_at
        if dead and attempt.started_at > dead:
            yield f"attempt {attempt} began on a dead instrument"
    for reference in captured:
        yield f"the journal's capture {reference} is no attempt of ours"


def _agrees(attempt: Attempt, capture: Line | None, was_declined: bool) -> Iterator[str]:
    if attempt.is_open:
        yield f"attempt {attempt} is open"
    if attempt.has_capture != (capture is not None):
        yield f"attempt {attempt} is {attempt.outcome}, the journal says {capture}"
    elif capture and attempt.captured_amount != Decimal(capture.captured_amount):
        yield f"attempt {attempt}: {attempt.captured_amount}, journal {capture.captured_amount}"
    if not attempt.has_capture and (attempt.outcome == O.DECLINED) != was_declined:
        yield f"attempt {attempt} is {attempt.outcome}, declined in the journal: {was_declined}"


def charges(world: World) -> Iterator[str]:
    """Succeeded with one applied capture, three counted attempts a round at most, all at rest."""
    for charge in Charge.objects.prefetch_related("attempts").order_by("created_at", "id"):
        name = world.name(charge.pk)
        applied = [a for a in charge.attempts.all() if a.outcome == O.CAPTURED]
        if (charge.state == S.SUCCEEDED) != (len(applied) == 1):
            yield f"{name} is {charge.state} with {len(applied)} applied captures"
        counted = Counter(a.round for a in charge.attempts.all() if a.outcome != O.NOT_CHARGED)
        # A capture that arrives after all was counted in nothing when the fourth attempt began.
        if any(count > 3 for count in counted.values()) and not world.plan.last_defence:
            yield f"{name} has {counted} attempts"
        waits = charge.state == S.EXHAUSTED and charge.awaits in (Awaits.INSTRUMENT, Awaits.PERSON)
        if charge.state not in TERMINAL and not waits:
            yield f"{name} rests as {charge.state} {charge.awaits}"
        if charge.awaits == Awaits.INSTRUMENT and _has_a_card(charge):
            yield f"{name} awaits a card, and there is one"
        if charge.void_requested and charge.state not in (S.SUCCEEDED, S.VOIDED):
            yield f"{name} was cancelled and is {charge.state}"
        if charge.state not in TERMINAL and charge.subscription.state == "cancelled":
            yield f"{name} is {charge.state} in a cancelled subscription"


def prices(world: World) -> Iterator[str]:
    """I3: what is owed and asked for is the price of the plan that was asked for, as only this side knows it.

    Charges, terms, books and events may all agree on three cents too few.
    """
    asked_for = {
        asked.subscription_id(world.account_id): json.loads(asked.body)["plan"]
        for asked in world.clients.accepted(CHECKOUTS)
    }
    owed = {}
    for charge in Charge.objects.select_related("terms__plan").order_by("period_start", "id"):
        plan = charge.terms.plan.code
        owed[str(charge.pk)] = Decimal(PRICES[plan])
        if charge.amount != owed[str(charge.pk)]:
            yield f"{world.name(charge.pk)} of {plan} is {charge.amount}"
        if plan != (first := asked_for.pop(charge.subscription_id, plan)):
            yield f"{world.name(charge.pk)} is of {plan}, {first} was asked for"
    for line in world.processor.lines():
        if line.kind == "decision" and Decimal(line.amount) != owed.get(line.charge):
            yield f"{line.amount} was asked for {line.charge}, owed {owed.get(line.charge)}"


def _has_a_card(charge: Charge) -> bool:
    newest = Instrument.newest_of(charge.creator_id)
    return newest is not None and not newest.dead_at


def books(world: World) -> Iterator[str]:
    """I3: each capture one entry of its amount; what is receivable follows from the state."""
    if total := sum(LedgerPosting.objects.values_list("amount", flat=True), ZERO):
        yield f"the books sum to {total}"
    entries = defaultdict(list)
    for entry in LedgerEntry.objects.prefetch_related("postings"):
        entries[entry.attempt_id].append(entry)
        if sum((p.amount for p in entry.postings.all()), ZERO):
            yield f"entry {entry} does not balance"
    for attempt in _all_attempts(world):
        cleared = [_cleared(entry) for entry in entries[attempt.pk]]
        if cleared != ([attempt.captured_amount] if attempt.has_capture else []):
            yield f"attempt {attempt}: {attempt.captured_amount} captured, {cleared} booked"
    receivable = LedgerPosting.objects.filter(account=LedgerAccount.RECEIVABLE)
    sums = dict(receivable.values_list("charge_id").annotate(Sum("amount")).order_by())
    for charge in Charge.objects.prefetch_related("attempts").order_by("created_at", "id"):
        owed, expected = sums.get(charge.pk, ZERO), _owed(charge)
        if owed != expected:
            yield f"{world.name(charge.pk)} is {charge.state}, receivable {owed}, not {expected}"


def _owed(charge: Charge) -> Decimal:
    """What is receivable in this state; what was captured short stays so, for a person to see."""
    if charge.state not in TERMINAL:
        return charge.amount
    applied = next((a for a in charge.attempts.all() if a.outcome == O.CAPTURED), None)
    return charge.amount - (applied.captured_amount or ZERO) if applied else ZERO


def _cleared(entry: LedgerEntry) -> Decimal:
    clearing = [p.amount for p in entry.postings.all() if p.account == LedgerAccount.CLEARING]
    return sum(clearing, ZERO)


def events(world: World) -> Iterator[str]:
    """I4, I5: records and committed rows are the same, in order; each final outcome told once."""
    rows = OutboxMessage.objects.filter(door=Door.KAFKA)
    yield from astray(world.topic.records, committed=rows)
    yield from _told(world, {(row.type, row.event_id) for row in rows})


def _told(world: World, told: set[tuple[str, object]]) -> Iterator[str]:
    expected = set(_finals(world))
    types = {type for type, _ in expected} | {
        "charge.succeeded",
        "charge.voided",
        "charge.written_off",
        "charge.declined",
        "charge.not_charged",
        "receipt.unapplied",
    }
    final = {each for each in told if each[0] in types}
    for type, _ in expected - told:
        yield f"a final outcome was never told: {type}"
    for type, _ in final - expected - _taken_back(world):
        if not world.rewritten:
            yield f"an outcome was told that is not: {type}"


def _taken_back(world: World) -> set[tuple[str, object]]:
    """What was told of an attempt before its capture was found after all; rightly so, at the time.

    Only of a request that was under way for longer than "not found" waits for, or left too late.
    """
    if not world.plan.last_defence:
        return set()
    return {
        (type, event_id(subject=a.charge_id, type=type, round=a.round, number=a.number))
        for a in _all_attempts(world)
        if a.has_capture and a.queries
        for type in ("charge.not_charged", "charge.declined")
    }


def _finals(world: World) -> Iterator[tuple[str, object]]:
    for attempt in _all_attempts(world):
        of: dict[str, Any] = {
            "subject": attempt.charge_id,
            "round": attempt.round,
            "number": attempt.number,
        }
        if attempt.outcome == O.CAPTURED:
            yield "charge.succeeded", event_id(type="charge.succeeded", **of)
        elif attempt.outcome == O.UNAPPLIED:
            yield "receipt.unapplied", event_id(type="receipt.unapplied", **of)
        elif attempt.outcome == O.DECLINED:
            yield "charge.declined", event_id(type="charge.declined", **of)
        elif attempt.outcome == O.NOT_CHARGED:
            yield "charge.not_charged", event_id(type="charge.not_charged", **of)
    ended = {S.VOIDED: "charge.voided", S.WRITTEN_OFF: "charge.written_off"}
    for charge in Charge.objects.filter(state__in=ended):
        type = ended[ChargeState(charge.state)]
        yield type, event_id(subject=charge.pk, type=type, round=charge.round)


def rest(world: World) -> Iterator[str]:
    """I6: nothing is under way."""
    unsent = PendingMessage.objects.count()
    for what, count in (
        ("unpublished messages", unsent),
        ("messages on the queue", len(world.queue.messages)),
        ("dead letters", len(world.queue.dead)),
    ):
        if count:
            yield f"{count} {what}"
    if world.plan.alone == {"F31"} and world.queue.died:
        yield f"a processor that was away made {len(world.queue.died)} dead letters"
    if world.swept and not (world.plan.queue or world.plan.chaos or world.queue.has_lost):
        yield f"{world.swept} charges went silent although no message was lost"


def cases(world: World) -> Iterator[str]:
    """Dead letters are cases, one each; money that cannot be kept has a case that proposes its refund.

    A worker may have kept a message that it could not read before it died of it.
    """
    subjects = _subjects(*KEPT)
    for died in sorted(set(world.queue.died) - subjects):
        yield f"dead letter {died} is no case"
    refunds = _subjects(CaseKind.REFUND_AFTER_CANCEL)
    for attempt in Attempt.objects.filter(outcome=O.CAPTURED, charge__void_requested=True):
        if str(attempt.pk) not in refunds:
            yield f"attempt {attempt} was captured after a cancel, without a case"
    unapplied = _subjects(CaseKind.UNAPPLIED_RECEIPT)
    for attempt in Attempt.objects.filter(outcome=O.UNAPPLIED):
        if str(attempt.pk) not in unapplied:
            yield f"attempt {attempt} is an unapplied receipt without a case"
    if world.rewritten:
        return
    for case in Case.objects.filter(kind=CaseKind.REPAIRED_CHARGE):
        yield f"a charge was repaired that nobody rewrote: {case.reason}"


def poison(world: World) -> Iterator[str]:
    """F22: what nobody could read, or names nothing of ours, is one case each.

    A queue that loses or repeats messages may lose or repeat these as well.
    """
    if world.plan.queue or world.queue.has_lost:
        return
    kept = [str(case.detail.get("body")) for case in Case.objects.filter(kind__in=KEPT)]
    for body in map(readable, world.poison):
        if kept.count(body) != 1:
            yield f"the poison {body[:60]} is {kept.count(body)} cases"


def _subjects(*kinds: CaseKind) -> set[str]:
    return set(Case.objects.filter(kind__in=kinds).values_list("subject", flat=True))


def calm(world: World) -> Iterable[str]:
    """I7: where nothing failed, nothing had to be rescued."""
    return world.rescued if world.plan.calm else ()
