"""Charges in every state and what may meet them, each made by the real use cases.

A situation brings a new charge somewhere; an event does one thing to it; `described` says in the
words of docs/states.md what became of it. So a row of a test reads like a cell of the table.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeVar

import pytest
from django.db import connection, transaction

from checkout import failpoints, rescue, subscriptions, topics
from checkout.failpoints import Crash
from checkout.gateways import (
    Answer,
    Approved,
    DeclineClass,
    Declined,
    Expired,
    InDoubt,
    NotFound,
    NotSent,
    Outcome,
    Pending,
)
from checkout.messages import DeadLetter, Receive
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    Charge,
    ChargeState,
    Door,
    Instrument,
    LedgerAccount,
    LedgerPosting,
    OutboxMessage,
)
from checkout.outcomes import Fate
from tests.factories import World, attempts, dispatches, fresh, publish

SOFT: Final = Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")
TECHNICAL: Final = Declined(DeclineClass.TECHNICAL, "issuer_unavailable")
FUNDS: Final = Declined(DeclineClass.FUNDS, "insufficient_funds")
NEVER: Final = Declined(DeclineClass.NEVER, "stolen_card")
CUSTOMER_ACTION: Final = Declined(DeclineClass.CUSTOMER_ACTION, "expired_card")
TIMED_OUT: Final = InDoubt("no answer within 30 s")
REFUSED: Final = NotSent("connection refused")
WHOLE: Final = Approved(Decimal("19.99"), "USD", "found by query")

# Seconds after the commit of a send: 60 until its first byte, 30 more, and the processor's 600 (R22).
BELIEVED_AFTER: Final = 690

# How docs/states.md writes the outcome of an attempt.
LETTERS: Final = {
    AttemptOutcome.OPEN: "?",
    AttemptOutcome.CAPTURED: "A",
    AttemptOutcome.UNAPPLIED: "U",
    AttemptOutcome.NOT_CHARGED: "0",
}
REFUSED_BY: Final = (
    rescue.NotRequeueable,
    rescue.NotWritable,
    subscriptions.DeadInstrument,
)

Situation = Callable[[World], Charge]
Event = Callable[[World, Charge], object]
S = TypeVar("S", bound=Callable[..., object])

SITUATIONS: dict[str, Situation] = {}
EVENTS: dict[str, Event] = {}


def situation(name: str) -> Callable[[Situation], Situation]:
    def named(make: Situation) -> Situation:
        SITUATIONS[name] = make
        return make

    return named


def event(name: str) -> Callable[[Event], Event]:
    def named(act: Event) -> Event:
        EVENTS[name] = act
        return act

    return named


# --- What happened ---------------------------------------------------------------------------------


def described(world: World, charge: Charge, act: Callable[[], object]) -> str:
    """Do it, and say what became of the charge, its attempts, its cases and the message in hand."""
    before, letters, cases = fresh(charge), letters_of(charge), case_ids(charge)
    sent, asked = len(world.gateway.sent), len(world.gateway.asked)
    try:
        fate = act()
    except REFUSED_BY:
        fate = "refused"
    parts = changes(before, fresh(charge))
    if letters_of(charge) != letters:
        parts.append(letters_of(charge))
    opened = Case.objects.filter(charge=charge).exclude(pk__in=cases).order_by("pk")
    parts += [f"{case.kind} case{' closed' if case.closed_at else ''}" for case in opened]
    if isinstance(fate, Fate):
        parts += called(world, sent, asked)
        parts.append("ack" if fate == Fate.ACKNOWLEDGE else "leave")
    if fate == "refused":
        parts.append("refused")
    return ", ".join(parts) or "—"


def changes(before: Charge, after: Charge) -> list[str]:
    """The columns that say where a charge is, and only what changed of them."""
    parts = []
    if after.state != before.state:
        parts.append(str(after.state))
    for name in ("round", "step"):
        grown = getattr(after, name) - getattr(before, name)
        if grown:
            parts.append(f"{name} + {grown}")
    if after.dispatch != before.dispatch:
        grown = after.dispatch - before.dispatch
        parts.append("disp" if grown == 1 else f"disp + {grown}")
    if after.void_requested != before.void_requested:
        parts.append("void_requested")
    if after.awaits != before.awaits and after.awaits:
        parts.append(f"awaits {after.awaits}")
    return parts


def called(world: World, sent: int, asked: int) -> list[str]:
    calls = []
    if len(world.gateway.sent) > sent:
        calls.append("sent")
    if len(world.gateway.asked) > asked:
        calls.append("asked")
    return calls


def letters_of(charge: Charge) -> str:
    """The attempts as docs/states.md writes them: `S` a retryable decline, `N` one for good."""
    return "".join(letter_of(attempt) for attempt in attempts(charge))


def letter_of(attempt: Attempt) -> str:
    if attempt.outcome == AttemptOutcome.DECLINED:
        never = {DeclineClass.NEVER, DeclineClass.CUSTOMER_ACTION}
        return "N" if attempt.decline_class in never else "S"
    return LETTERS[AttemptOutcome(attempt.outcome)]


def case_ids(charge: Charge) -> list[int]:
    return list(Case.objects.filter(charge=charge).values_list("pk", flat=True))


def unsound(charge: Charge) -> list[str]:
    """What must hold of a charge whatever happened, and does not (I3 to I5, R34, R36, R44, R46)."""
    rows = OutboxMessage.objects.filter(key=charge.creator_id, door=Door.KAFKA).order_by("id")
    sequence = [row.event_seq for row in rows]
    for row in rows:
        # Raises InvalidEvent (R46): what no consumer could read must not wait for the relay to find.
        topics.validate_payload(row.type, row.payload)
    sent = [json.loads(row.payload)["dispatch"] for row in dispatches(charge)]
    postings = LedgerPosting.objects.filter(charge=charge)
    captured = sum(a.captured_amount or 0 for a in attempts(charge))
    cleared = sum(p.amount for p in postings if p.account == LedgerAccount.CLEARING)
    claims = {
        "the sequence has no gap, in the order of the ids": sequence
        == list(range(1, len(sequence) + 1)),
        "every dispatch up to the present one left a message": sent
        == list(range(1, len(sent) + 1)),
        "the books sum to zero": sum(p.amount for p in postings) == 0,
        "the books hold what was captured": cleared == captured,
        "one capture is applied at most": letters_of(charge).count("A") <= 1,
    }
    return [claim for claim, holds in claims.items() if not holds]


# --- Small steps -----------------------------------------------------------------------------------


@contextmanager
def crashing_at(name: str) -> Iterator[None]:
    """A worker reaches the failpoint and dies there, as far as one process can show it."""

    def crash() -> None:
        raise Crash(name)

    failpoints.enable(name, crash)
    try:
        with pytest.raises(Crash):
            yield
    finally:
        failpoints.disable(name)


def dies(
    world: World, charge: Charge, *, at: str = "charging.intent_committed", **how: int
) -> None:
    with crashing_at(at):
        world.receive(charge, **how)


def open_attempt(charge: Charge) -> Attempt:
    return Attempt.objects.get(charge=charge, outcome=AttemptOutcome.OPEN)


def ask(world: World, attempt: Attempt, *answers: Answer) -> None:
    """The resolver asks about this attempt, as often as there are answers, a minute apart."""
    for answer in answers:
        world.gateway.query_answers = [answer]
        rescue.resolve_attempt(
            attempt_id=attempt.pk, clock=world.clock, gateways=world.gateways, ages=world.ages
        )
        world.clock.forward(seconds=60)


def not_found_for_good(world: World, attempt: Attempt) -> None:
    """Old enough, three times: it counts as not charged (R22)."""
    world.clock.forward(seconds=BELIEVED_AFTER)
    ask(world, attempt, NotFound(), NotFound(), NotFound())


def cancel(world: World, charge: Charge) -> None:
    with transaction.atomic():
        subscriptions.cancel(
            subscription_id=charge.subscription_id,
            by="platform",
            reason="asked for",
            now=world.clock.now(),
        )


def add_instrument(world: World, charge: Charge, token: str = "tok_other") -> Instrument:
    world.clock.forward(seconds=1)
    with transaction.atomic():
        return subscriptions.add_instrument(
            creator_id=charge.creator_id, token=token, now=world.clock.now()
        )


def requeue(world: World, charge: Charge) -> None:
    with transaction.atomic():
        rescue.requeue(
            charge_id=charge.pk, by="operator", reason="asked for", now=world.clock.now()
        )


def write_off(world: World, charge: Charge) -> None:
    with transaction.atomic():
        rescue.write_off(charge_id=charge.pk, by="finance", reason="gone", now=world.clock.now())


def published(charge: Charge) -> None:
    """The relay sent everything of this charge, long ago."""
    waiting = OutboxMessage.objects.filter(subject=charge.pk, door=Door.SQS)
    for message in waiting.filter(pending__isnull=False):
        publish(message, at=message.created_at)


def letter(charge: Charge, *, name: str = "letter-1", **older: int) -> DeadLetter:
    """The charge's present dispatch as a dead letter, or an older one."""
    now = fresh(charge)
    receive = Receive(
        charge_id=charge.pk,
        round=older.get("round", now.round),
        dispatch=older.get("dispatch", now.dispatch),
        count=3,
    )
    return DeadLetter(message_id=name, receipt=f"receipt-{name}", body="{}", receive=receive)


def drain(world: World, *letters: DeadLetter) -> list[DeadLetter]:
    """Drain these letters; returns what was deleted."""
    deleted: list[DeadLetter] = []
    rescue.drain_dead_letters(
        letters=letters, delete=deleted.append, clock=world.clock, ages=world.ages
    )
    return deleted


def rewrite(charge: Charge, **columns: object) -> None:
    """A hand, or the chaos night, rewrites a row behind the triggers (F27)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        Charge.objects.filter(pk=charge.pk).update(**columns)
        cursor.execute("SET LOCAL session_replication_role = origin")


# --- Situations ------------------------------------------------------------------------------------


@situation("due")
def due(world: World) -> Charge:
    return world.due_charge()


@situation("due again, round 2")
def due_again(world: World) -> Charge:
    charge = exhausted_on_a_date(world)
    world.clock.move_business(days=3)
    rescue.open_next_rounds(clock=world.clock, ages=world.ages)
    return fresh(charge)


@situation("attempting")
def attempting(world: World) -> Charge:
    """Its worker died before the first byte left."""
    charge = world.due_charge()
    dies(world, charge)
    return fresh(charge)


@situation("attempting, its third")
def attempting_its_third(world: World) -> Charge:
    charge = declined_twice(world)
    dies(world, charge, count=3)
    return fresh(charge)


@situation("attempting, void_requested")
def attempting_void_requested(world: World) -> Charge:
    charge = attempting(world)
    cancel(world, charge)
    return fresh(charge)


@situation("attempting, a newer instrument there")
def attempting_with_a_newer_instrument(world: World) -> Charge:
    charge = attempting(world)
    add_instrument(world, charge)
    return fresh(charge)


@situation("failed_then_retry")
def failed_then_retry(world: World) -> Charge:
    world.gateway.answers = [SOFT]
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("failed_then_retry, not charged")
def failed_then_retry_not_charged(world: World) -> Charge:
    """In doubt, then not found for good: `0`."""
    charge = in_doubt(world)
    not_found_for_good(world, open_attempt(charge))
    return fresh(charge)


@situation("failed_then_retry by hand, its attempt open")
def failed_then_retry_with_open_attempt(world: World) -> Charge:
    charge = attempting(world)
    rewrite(charge, state=ChargeState.FAILED_THEN_RETRY)
    return fresh(charge)


def declined_twice(world: World) -> Charge:
    world.gateway.answers = [SOFT, SOFT]
    charge = world.due_charge()
    for count in (1, 2):
        world.receive(charge, count=count)
        world.clock.forward(seconds=301)
    return fresh(charge)


@situation("in_doubt")
def in_doubt(world: World) -> Charge:
    world.gateway.answers = [TIMED_OUT]
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("in_doubt, its third")
def in_doubt_its_third(world: World) -> Charge:
    charge = declined_twice(world)
    world.gateway.answers = [TIMED_OUT]
    world.receive(charge, count=3)
    return fresh(charge)


@situation("in_doubt, void_requested")
def in_doubt_void_requested(world: World) -> Charge:
    charge = in_doubt(world)
    cancel(world, charge)
    return fresh(charge)


@situation("in_doubt, a newer instrument there")
def in_doubt_with_a_newer_instrument(world: World) -> Charge:
    charge = in_doubt(world)
    add_instrument(world, charge)
    return fresh(charge)


@situation("pending")
def pending(world: World) -> Charge:
    world.gateway.answers = [Pending(world.clock.real_now() + timedelta(hours=1))]
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("pending, its third")
def pending_its_third(world: World) -> Charge:
    charge = declined_twice(world)
    world.gateway.answers = [Pending(world.clock.real_now() + timedelta(hours=1))]
    world.receive(charge, count=3)
    return fresh(charge)


@situation("pending, void_requested")
def pending_void_requested(world: World) -> Charge:
    charge = pending(world)
    cancel(world, charge)
    return fresh(charge)


@situation("pending, a newer instrument there")
def pending_with_a_newer_instrument(world: World) -> Charge:
    charge = pending(world)
    add_instrument(world, charge)
    return fresh(charge)


@situation("exhausted, waits for a date")
def exhausted_on_a_date(world: World) -> Charge:
    world.gateway.answers = [FUNDS]
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("exhausted, awaits an instrument")
def exhausted_awaits_an_instrument(world: World) -> Charge:
    world.gateway.answers = [NEVER]
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("exhausted, a person decides")
def exhausted_for_a_person(world: World) -> Charge:
    """The plan has no step left."""
    world.ages = replace(world.ages, dunning_days=())
    return exhausted_on_a_date(world)


@situation("exhausted, an attempt not found before")
def exhausted_after_not_found(world: World) -> Charge:
    charge = failed_then_retry_not_charged(world)
    world.gateway.answers = [FUNDS]
    world.receive(charge)
    return fresh(charge)


@situation("exhausted, three attempts")
def exhausted_by_three(world: World) -> Charge:
    charge = declined_twice(world)
    world.gateway.answers = [SOFT]
    world.receive(charge, count=3)
    return fresh(charge)


@situation("succeeded")
def succeeded(world: World) -> Charge:
    charge = world.due_charge()
    world.receive(charge)
    return fresh(charge)


@situation("succeeded, an attempt not found before")
def succeeded_after_not_found(world: World) -> Charge:
    charge = failed_then_retry_not_charged(world)
    world.receive(charge)
    return fresh(charge)


@situation("succeeded, an attempt open")
def succeeded_with_open_attempt(world: World) -> Charge:
    """The first attempt was found after all, while the second was under way."""
    charge = failed_then_retry_not_charged(world)
    first = attempts(charge)[0]
    dies(world, charge)
    ask(world, first, WHOLE)
    return fresh(charge)


@situation("voided")
def voided(world: World) -> Charge:
    charge = world.due_charge()
    cancel(world, charge)
    return fresh(charge)


@situation("voided, an attempt not found before")
def voided_after_not_found(world: World) -> Charge:
    charge = failed_then_retry_not_charged(world)
    cancel(world, charge)
    return fresh(charge)


@situation("voided and rewritten, an attempt not found before")
def voided_and_rewritten(world: World) -> Charge:
    """The chaos night, after a cancel: nothing is receivable any more."""
    charge = voided_after_not_found(world)
    rewrite(charge, state=ChargeState.FAILED_THEN_RETRY)
    return fresh(charge)


@situation("voided by hand, an attempt open")
def voided_with_open_attempt(world: World) -> Charge:
    """No way of ours leads here; a row that was rewritten is in the table too."""
    charge = attempting(world)
    rewrite(charge, state=ChargeState.VOIDED)
    return fresh(charge)


@situation("written_off")
def written_off(world: World) -> Charge:
    charge = exhausted_on_a_date(world)
    write_off(world, charge)
    return fresh(charge)


@situation("written_off, an attempt not found before")
def written_off_after_not_found(world: World) -> Charge:
    charge = exhausted_after_not_found(world)
    write_off(world, charge)
    return fresh(charge)


# --- Events ----------------------------------------------------------------------------------------


def worker_hears(outcome: Outcome) -> Event:
    """The message comes again, the worker carries on and the processor answers."""

    def act(world: World, charge: Charge) -> Fate:
        world.gateway.answers = [outcome]
        return world.receive(charge, count=2)

    return act


def resolver_hears(*answers: Answer) -> Event:
    def act(world: World, charge: Charge) -> None:
        ask(world, open_attempt(charge), *answers)

    return act


def first_attempt_is(answer: Answer) -> Event:
    """Asked again, what was final is found to be something else."""

    def act(world: World, charge: Charge) -> None:
        ask(world, attempts(charge)[0], answer)

    return act


EVENTS |= {
    "tx 2: captured": worker_hears(WHOLE),
    "tx 2: declined, retryable": worker_hears(SOFT),
    "tx 2: never": worker_hears(NEVER),
    "tx 2: not sent": worker_hears(REFUSED),
    "tx 2: in doubt": worker_hears(TIMED_OUT),
    "query: captured": resolver_hears(WHOLE),
    "query: declined, retryable": resolver_hears(SOFT),
    "query: never": resolver_hears(NEVER),
    "query: expired": resolver_hears(Expired()),
    "query: in doubt": resolver_hears(TIMED_OUT),
    "late capture": first_attempt_is(WHOLE),
    "late decline": first_attempt_is(SOFT),
    "late not found": first_attempt_is(NotFound()),
    "late doubt": first_attempt_is(TIMED_OUT),
    "cancel": cancel,
    "new instrument": add_instrument,
    "requeue": requeue,
    "write off": write_off,
}


@event("query: not found for good")
def not_found_event(world: World, charge: Charge) -> None:
    not_found_for_good(world, open_attempt(charge))


@event("dunning date")
def dunning_date(world: World, charge: Charge) -> None:
    world.clock.move_business(days=3)
    rescue.open_next_rounds(clock=world.clock, ages=world.ages)


@event("expires_at")
def expires(world: World, charge: Charge) -> None:
    """The resolver comes after the expiry: expire(), confirmed."""
    world.clock.forward(seconds=3601)
    rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)


@event("sweep")
def sweep(world: World, charge: Charge) -> None:
    published(charge)
    world.clock.forward(seconds=1201)
    rescue.sweep(clock=world.clock, ages=world.ages)


@event("drain of its dead letter")
def drain_event(world: World, charge: Charge) -> None:
    drain(world, letter(charge))


@event("drain of an older letter")
def drain_older(world: World, charge: Charge) -> None:
    drain(world, letter(charge, dispatch=fresh(charge).dispatch - 1))
