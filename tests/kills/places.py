"""Every failpoint: how a process comes there, who carries on after its death, and when it is healed.

Each `Place` is one row of the table. `before` brings the world there and says what the death is about;
`work` is what the child runs; `carriers` run in the parent, one after the other, until `healed`.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from checkout import outbox, tasks
from checkout.models import (
    Attempt,
    AttemptOutcome,
    Case,
    CaseKind,
    Charge,
    ChargeState,
    Door,
    PendingMessage,
    Subscription,
    WebhookDelivery,
)
from settlements import reconciliation
from settlements.models import Discrepancy, ImportState, Kind, StatementImport, TopicRecord
from settlements.statements import import_statement
from settlements.topic import read_topic
from tests.kills.outside import LANE
from tests.kills.yard import Yard

TEN, FOUR = 10, 4
TEMPORARY = Path(tempfile.gettempdir())
DOUBTFUL = ("timeout_after_charge", "500_after_charge", "garbled", "pending_30s")


@dataclass(frozen=True)
class Place:
    """One way to die, and what becomes of it."""

    name: str
    what: str
    before: Callable[[Yard], Any]
    work: Callable[[Yard, Any], object]
    carriers: Mapping[str, Callable[[Yard, Any], object]]
    healed: Callable[[Yard, Any], bool]
    # It dies the nth time it comes there; so many processes die of one thing, one after the other.
    nth: int = 1
    deaths: int = 3
    # Between two of them the visibility of what they held runs out.
    waits: bool = False
    # Kills in one world, before everything heals and the oracle looks.
    batch: int = 40
    plan: Mapping[str, Any] = field(default_factory=dict)


def alone(act: Callable[[Yard], object]) -> Callable[[Yard, Any], object]:
    """An act that needs to know nothing of the death."""
    return lambda yard, _: act(yard)


# --- The worker --------------------------------------------------------------------------------------


def _dispatched(yard: Yard) -> UUID:
    return yard.dispatched()


def _is_at_rest(yard: Yard, charge_id: UUID) -> bool:
    return yard.at_rest(charge_id)


AFTER_A_WORKER: Mapping[str, Callable[[Yard, Any], object]] = {
    "redelivery": alone(Yard.redeliver),
    "drain": alone(Yard.drain),
    "resolver": alone(Yard.resolve_later),
    "dispatched again": alone(Yard.work_off),
}


def worker(name: str, what: str = "a receive", **more: Any) -> Place:
    return Place(
        name,
        what,
        _dispatched,
        Yard.receive,
        AFTER_A_WORKER,
        _is_at_rest,
        waits=True,
        **more,
    )


# A message is received three times: after two deaths the third worker heals, after three the drain.
TWICE, THRICE = "two of three receives", "all three receives"
WORKERS = (
    *(
        worker(f"charging.{name}", what, deaths=deaths)
        for name in ("intent_committed", "before_send", "answered")
        for what, deaths in ((TWICE, 2), (THRICE, 3))
    ),
    worker("charging.outcome_committed", deaths=1),
    worker("commit.written", f"tx 1 of {TWICE}", deaths=2),
    worker("commit.written", f"tx 1 of {THRICE}"),
    worker("commit.written", f"tx 2 of {TWICE}", nth=2, deaths=2),
)


def _keep_unreadable(_: Yard, message_id: str) -> object:
    return tasks.keep_unreadable(message_id=message_id, body="{", reason="not a Celery message")


def _is_one_case(yard: Yard, message_id: str) -> bool:
    kept = Case.objects.filter(kind=CaseKind.UNREADABLE_MESSAGE, subject=message_id)
    return kept.count() == 1


UNREADABLE = Place(
    "unreadable.case_committed",
    "an unreadable message",
    lambda _: str(uuid4()),
    _keep_unreadable,
    {"redelivery": _keep_unreadable},
    _is_one_case,
)

# --- Relays ------------------------------------------------------------------------------------------


def relaying(door: Door, *, name: str, deaths: int = 3) -> Place:
    def is_empty(yard: Yard, subject: Any) -> bool:
        unsent = PendingMessage.objects.filter(door=door, available_at__lte=yard.clock.real_now())
        return not unsent.exists()

    def relay(yard: Yard, _: Any) -> object:
        return yard.relay(door)

    after = {"next relay": relay}
    return Place(name, f"to {door}", Yard.checkout, relay, after, is_empty, deaths=deaths)


def _twelve_to_send(yard: Yard) -> None:
    """More than one call of SQS takes; made once, then sent again by hand."""
    if not yard.outside.orders:
        for _ in range(TEN + 2):
            yard.checkout(token="approve")
        return
    yard.visibility_over()  # SQS knows an id for five minutes
    now = yard.clock.real_now()
    sum(outbox.republish(door=Door.SQS, since=now - timedelta(days=1), until=now))


RELAYS = (
    *(relaying(door, name="relay.before_send") for door in Door),
    *(relaying(door, name="relay.sent_unmarked") for door in Door),
    *(relaying(door, name="relay.marked", deaths=1) for door in Door),
    Place(
        "queue.ten_sent",
        "ten of twelve dispatches",
        _twelve_to_send,
        lambda yard, _: yard.relay(Door.SQS),
        {"next relay": alone(Yard.work_off)},
        relaying(Door.SQS, name="queue.ten_sent").healed,
        deaths=2,
    ),
)

# --- The API -----------------------------------------------------------------------------------------


def _is_accepted(yard: Yard, key: str) -> bool:
    pk = Subscription.derive_id(account_id=yard.account_id, idempotency_key=key)
    there = Subscription.objects.filter(pk=pk).count() == 1
    return there and key in yard.outside.accepted


def asking(name: str) -> Place:
    return Place(
        name,
        "POST /v1/checkouts",
        Yard.new_order,
        Yard.post,
        {"client asks again": Yard.post},
        _is_accepted,
    )


def _resolved_event(yard: Yard) -> dict[str, Any]:
    """The processor decided what was pending, and is about to tell us."""
    yard.dispatched(token="pending_30s")
    yard.work_off()
    yard.wait(40)
    return yard.outside.announced.pop()


def _tell(yard: Yard, event: dict[str, Any]) -> int:
    return yard.tell(event)


def _is_stored_once(yard: Yard, event: dict[str, Any]) -> bool:
    again = _tell(yard, event)
    stored = WebhookDelivery.objects.filter(event_id=event["id"])
    return again == 200 and stored.count() == 1


def _stored_event(yard: Yard) -> dict[str, Any]:
    event = _resolved_event(yard)
    _tell(yard, event)
    yard.catch_up()
    return event


def _is_applied(yard: Yard, event: dict[str, Any]) -> bool:
    applied = WebhookDelivery.objects.get(event_id=event["id"]).applied_at is not None
    attempt = Attempt.objects.get(pk=event["reference"])
    return applied and attempt.outcome == AttemptOutcome.CAPTURED


APIS = (
    asking("api.before_commit"),
    asking("api.after_commit"),
    asking("commit.written"),
    Place(
        "webhook.stored",
        "POST /v1/webhooks",
        _resolved_event,
        _tell,
        {"processor tells again": _tell},
        _is_stored_once,
    ),
    Place(
        "webhook.outcome_committed",
        "a webhook",
        _stored_event,
        alone(Yard.apply_webhooks),
        {"next turn": alone(Yard.apply_webhooks)},
        _is_applied,
    ),
)

# --- The timetable -----------------------------------------------------------------------------------


def _in_doubt(yard: Yard) -> UUID:
    charge_id = yard.dispatched(token=yard.rng.choice(DOUBTFUL))
    yard.work_off()
    yard.wait(1000)
    yard.outside.announced.clear()
    return charge_id


def _is_known(_: Yard, charge_id: UUID) -> bool:
    charge = Charge.objects.get(pk=charge_id)
    return charge.state == ChargeState.SUCCEEDED and charge.open_attempt() is None


def resolving(name: str) -> Place:
    after = {"next turn": alone(Yard.resolve), "later turn": alone(Yard.resolve_later)}
    return Place(name, "an attempt in doubt", _in_doubt, alone(Yard.resolve), after, _is_known)


def _four_silent(yard: Yard) -> list[UUID]:
    """Published, and lost with the queue; each sweep that dies dispatches one of them."""
    charges = [yard.checkout(token="approve").pk for _ in range(FOUR)]
    yard.relay(Door.SQS)
    yard.outside.queue.lose_everything()
    yard.wait(yard.ages.sweep_after + 1)
    return charges


def _are_dispatched_twice(_: Yard, charges: list[UUID]) -> bool:
    found = Charge.objects.filter(pk__in=charges).values_list("dispatch", flat=True)
    return list(found) == [2] * FOUR


def _dead_letter(yard: Yard) -> UUID:
    """Three workers died as soon as they had it."""
    charge_id = yard.dispatched(token="approve")
    for _ in range(3):
        yard.ask("receive", charge_id)
        yard.visibility_over()
    return charge_id


def _is_explained(yard: Yard, charge_id: UUID) -> bool:
    cases = Case.objects.filter(kind=CaseKind.DEAD_LETTER, charge=charge_id)
    return not yard.outside.queue.dead and cases.count() == 1


def _redrive_later(yard: Yard, _: Any) -> None:
    yard.visibility_over()
    yard.queue.redrive()
    yard.work_off()


def _is_collected(yard: Yard, charge_id: UUID) -> bool:
    return not yard.outside.queue.dead and yard.at_rest(charge_id)


def _four_due(yard: Yard) -> int:
    """Four subscriptions whose next month has come; how many charges there are so far."""
    if not yard.outside.orders:
        for _ in range(FOUR):
            yard.checkout(token="approve")
    yard.clock.move_business(days=31)
    yard.work_off()
    return Charge.objects.count()


def _are_billed(_: Yard, before: int) -> bool:
    return Charge.objects.count() >= before + FOUR


def _four_rounds_due(yard: Yard) -> list[UUID]:
    charges = [yard.checkout(token="funds_then_approve").pk for _ in range(FOUR)]
    yard.work_off()
    yard.clock.move_business(days=4)
    return charges


def _are_in_round_two(_: Yard, charges: list[UUID]) -> bool:
    return list(Charge.objects.filter(pk__in=charges).values_list("round", flat=True)) == [2] * FOUR


TIMETABLE = (
    resolving("resolve.answered"),
    resolving("commit.written"),
    Place(
        "sweep.dispatched",
        "three of four lost dispatches",
        _four_silent,
        alone(Yard.sweep),
        {"next sweep": alone(Yard.sweep)},
        _are_dispatched_twice,
        plan={"loses_messages": True},
    ),
    Place(
        "drain.case_committed",
        "a dead letter",
        _dead_letter,
        alone(Yard.drain),
        {"next drain": alone(Yard.drain_later)},
        _is_explained,
        waits=True,
    ),
    Place(
        "redrive.sent",
        "a dead letter sent back",
        _dead_letter,
        lambda yard, _: yard.queue.redrive(),
        {"redriven again": _redrive_later},
        _is_collected,
        waits=True,
    ),
    Place(
        "bill.batch_committed",
        "three of four batches",
        _four_due,
        alone(Yard.bill),
        {"next bill run": alone(Yard.bill)},
        _are_billed,
    ),
    Place(
        "dunning.round_opened",
        "three of four rounds",
        _four_rounds_due,
        alone(Yard.open_next_rounds),
        {"next turn": alone(Yard.open_next_rounds)},
        _are_in_round_two,
        batch=12,
    ),
)

# --- Settlements -------------------------------------------------------------------------------------


def _file_of_yesterday(yard: Yard) -> Path:
    yard.dispatched(token="approve")
    yard.work_off()
    day = yard.clock.business_now().date()
    yard.clock.move_business(days=1)
    text = yard.outside.processor.statement(account=LANE, first=day, last=day)
    path = TEMPORARY / f"kills-{yard.seed}-{day}.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _import(yard: Yard, path: Path) -> None:
    import_statement(
        path=path, processor="sandbox", lane=LANE, by="test", now=yard.clock.now(), ages=yard.ages
    )


def _is_accepted_once(_: Yard, path: Path) -> bool:
    files = StatementImport.objects.filter(file_name=path.name)
    rows = len(path.read_text("utf-8").splitlines()) - 3  # without names, opening and closing
    [file] = files
    path.unlink()
    return file.state == ImportState.ACCEPTED and file.lines.count() == rows


def _three_cents_short(yard: Yard) -> UUID:
    """The processor took three cents less than was owed, and said so."""
    charge = yard.checkout(token="approve")
    creator = str(charge.creator_id)
    yard.outside.processor.instruct({"short": {"creator": creator, "by": "0.03"}})
    yard.work_off()
    return charge.pk


def _is_named_once(_: Yard, charge_id: UUID) -> bool:
    named = Discrepancy.objects.filter(charge=charge_id, kind=Kind.CAPTURED)
    return [d.expected - d.actual for d in named] == [Decimal("0.03")]


def _full_pass(yard: Yard, _: Any) -> object:
    return reconciliation.reconcile(
        kinds=(Kind.CAPTURED, Kind.LEDGER), clock=yard.clock, ages=yard.ages, at_once=1
    )


def _told(yard: Yard) -> int:
    yard.checkout(token="approve")
    yard.relay(Door.KAFKA)
    return len(yard.outside.records)


def _read(yard: Yard, _: Any) -> object:
    return read_topic(topic=yard.reader, now=yard.clock.now())


def _is_read_once(yard: Yard, count: int) -> bool:
    return TopicRecord.objects.count() == count == len(yard.outside.records)


SETTLEMENTS = (
    Place(
        "statement.copied",
        "a file's lines",
        _file_of_yesterday,
        _import,
        {"imported again": _import},
        _is_accepted_once,
        batch=15,
    ),
    Place(
        "reconcile.marks_consumed",
        "three cents short",
        _three_cents_short,
        alone(Yard.reconcile),
        {"next pass": alone(Yard.reconcile)},
        _is_named_once,
        plan={"is_short": True},
    ),
    Place(
        "reconcile.slice_committed",
        "three cents short",
        _three_cents_short,
        _full_pass,
        {"next full pass": _full_pass},
        _is_named_once,
        plan={"is_short": True},
    ),
    Place(
        "topic.records_stored",
        "the topic",
        _told,
        _read,
        {"next reading": _read},
        _is_read_once,
    ),
)

PLACES = (*WORKERS, UNREADABLE, *RELAYS, *APIS, *TIMETABLE, *SETTLEMENTS)


def places(*, only: str = "") -> list[Place]:
    """The places whose name contains one of these words, parted by commas; all of them without any."""
    words = only.split(",")
    return [place for place in PLACES if any(word in place.name for word in words)]
