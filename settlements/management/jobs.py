"""The timetable: which job runs how often. Each row is a use case of one of the two apps."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings

from checkout import billing, requeues, rescue, subscriptions, tallies, wiring
from checkout.clock import DAY, Ages, Clock
from checkout.commit import committed
from checkout.gateways import Gateway
from checkout.models import IdempotencyRecord, UnitKey
from settlements import closing, payouts, reconciliation, telling
from settlements.arrivals import look_at_folder
from settlements.drafts import Terms
from settlements.expectations import mark_late_expectations
from settlements.formats.source import Bounds
from settlements.management.timetable import Job
from settlements.paging import Limits
from settlements.settling import store_default_schedules
from settlements.uploads import forget_uploads
from settlements.ways import Mail, Webhook

logger = logging.getLogger(__name__)

FORGOTTEN_AT_ONCE: Final = 5000
# Of the jobs that nothing waits for, in turns of the others.
SELDOM: Final = 12


def all_jobs(*, clock: Clock, ages: Ages) -> list[Job]:
    """Every job with its interval in seconds, in the order `--once` runs them."""
    often, seldom = ages.timetable_every, ages.timetable_every * SELDOM
    gateways = wiring.gateways()
    return [
        Job("bill_due", often, lambda: bill_due(clock=clock, ages=ages)),
        Job("open_next_rounds", often, lambda: rescue.open_next_rounds(clock=clock, ages=ages)),
        Job(
            "resolve",
            often,
            lambda: rescue.resolve(clock=clock, gateways=gateways, ages=ages),
        ),
        Job(
            "apply_webhooks",
            often,
            lambda: rescue.apply_webhooks(clock=clock, gateways=gateways, ages=ages),
        ),
        Job("drain_dead_letters", often, lambda: drain_dead_letters(clock=clock, ages=ages)),
        Job("carry_out_requeues", often, lambda: requeues.carry_out_all(clock=clock, ages=ages)),
        Job("sweep", often, lambda: rescue.sweep(clock=clock, ages=ages)),
        Job("review", often, lambda: subscriptions.review(clock=clock, ages=ages)),
        Job(
            "reconcile",
            ages.reconcile_every,
            lambda: reconcile_incremental(clock=clock, ages=ages, gateways=gateways),
        ),
        Job(
            "reconcile_full",
            seldom,
            lambda: reconcile_full(clock=clock, ages=ages, gateways=gateways),
        ),
        Job("store_schedules", often, lambda: store_default_schedules(now=clock.now())),
        Job("close_settlements", seldom, lambda: closing.close_periods(clock=clock, ages=ages)),
        Job("prove_settlements", seldom, lambda: payouts.prove(clock=clock, ages=ages)),
        Job("late_statements", often, lambda: mark_late_expectations(now=clock.now())),
        Job("watch_statements", seldom, lambda: watch_statements(clock=clock, ages=ages)),
        Job("tell_finance", seldom, lambda: tell_finance(clock=clock, ages=ages)),
        Job("forget_uploads", seldom, lambda: forget_uploads(now=clock.now())),
        Job("fold_tallies", seldom, tallies.fold),
        Job("forget_answers", seldom, lambda: forget_answers(clock=clock, ages=ages)),
    ]


def bill_due(*, clock: Clock, ages: Ages) -> str:
    """Bill what is due; charges that are not the calendar's own wait for a person's approval.

    Raises billing.OffCalendar then, each turn until it is approved, so that the job shows as failed.
    """
    try:
        billed = billing.bill_due(clock=clock, ages=ages)
    except billing.OffCalendar as off:
        committed(
            partial(billing.hold_bill_run, off=off, now=clock.now()),
            deadline=ages.database_wait_before_call,
            clock=clock,
        )
        raise
    return f"{billed.charges} charges of {billed.amount} USD"


def reconcile_incremental(*, clock: Clock, ages: Ages, gateways: Mapping[str, Gateway]) -> str:
    """Compare what changed since the last pass, the topic included; what the pass found (R55)."""
    run = reconciliation.reconcile_incremental(
        clock=clock,
        ages=ages,
        topic=wiring.topic_reader(),
        resolve=partial(_resolve, clock=clock, gateways=gateways, ages=ages),
    )
    return f"{run.marks} marks, {run.opened} opened, {run.cleared} cleared, {run.standing} stand"


def reconcile_full(*, clock: Clock, ages: Ages, gateways: Mapping[str, Gateway]) -> str:
    """Compare everything once a night, topic and statements included; what the pass found.

    It commits slice by slice and takes turns with the incremental passes, so nothing waits for it.
    """
    due_at, zone = settings.RECONCILE_FULL_AT, ZoneInfo(settings.FINANCE_ZONE)
    if not reconciliation.is_full_due(at=due_at, zone=zone, now=clock.now()):
        return f"not due before {due_at:%H:%M} {zone}"
    run = reconciliation.reconcile(
        clock=clock,
        ages=ages,
        topic=wiring.topic_reader(),
        resolve=partial(_resolve, clock=clock, gateways=gateways, ages=ages),
    )
    return (
        f"{run.creators} creators, {run.opened} opened, {run.cleared} cleared, {run.standing} stand"
    )


def _resolve(
    attempt_id: UUID, *, clock: Clock, gateways: Mapping[str, Gateway], ages: Ages
) -> None:
    rescue.resolve_attempt(attempt_id=attempt_id, clock=clock, gateways=gateways, ages=ages)


def drain_dead_letters(*, clock: Clock, ages: Ages) -> int:
    """Turn what lies in the dead-letter queue into cases; how many."""
    queue = wiring.queue()
    return rescue.drain_dead_letters(
        letters=queue.dead_letters(), delete=queue.delete, clock=clock, ages=ages
    )


def watch_statements(*, clock: Clock, ages: Ages) -> str:
    """Take in what is new in the watched folder, if one is set; what was found there.

    Raises OSError while the folder cannot be read, so that the job shows as failed.
    """
    if not settings.STATEMENTS_PREFIX:
        return "no folder is set (STATEMENTS_PREFIX)"
    return str(
        look_at_folder(
            folder=Path(settings.STATEMENTS_PREFIX),
            processors={lane: facts["processor"] for lane, facts in settings.LANES.items()},
            now=clock.now(),
            ages=ages,
            bounds=Bounds(**settings.STATEMENT_BOUNDS),
        )
    )


def tell_finance(*, clock: Clock, ages: Ages) -> str:
    """Write down what finance must hear, and send what waits; what became of it.

    With no way set the notices wait, which the log says once a process, and triage and metrics always.
    """
    noted = telling.note(clock=clock, ages=ages, terms=finance_terms())
    ways = finance_ways()
    if not ways:
        say_that_nobody_is_told()
        return f"{noted} noted; no way is set (FINANCE_MAIL_TO, FINANCE_WEBHOOK_URL)"
    return f"{noted} noted, {telling.tell(clock=clock, ages=ages, ways=ways)}"


@cache
def say_that_nobody_is_told() -> None:
    logger.warning("finance is told nothing: set FINANCE_MAIL_TO or FINANCE_WEBHOOK_URL")


def finance_terms() -> Terms:
    """How finance wants to be told, from the settings."""
    return Terms(
        zone=ZoneInfo(settings.FINANCE_ZONE),
        digest_at=settings.FINANCE_DIGEST_AT,
        every=settings.FINANCE_TELL_EVERY,
        limits=Limits(**settings.FINANCE_PAGE),
        pages=settings.FINANCE_PAGES_URL,
    )


def finance_ways() -> list[telling.Way]:
    """The ways that are set."""
    ways: list[telling.Way] = []
    if settings.FINANCE_MAIL_TO:
        ways.append(Mail(to=settings.FINANCE_MAIL_TO, sender=settings.DEFAULT_FROM_EMAIL))
    if settings.FINANCE_WEBHOOK_URL:
        ways.append(
            Webhook(url=settings.FINANCE_WEBHOOK_URL, secret=settings.FINANCE_WEBHOOK_SECRET)
        )
    return ways


def forget_answers(*, clock: Clock, ages: Ages) -> int:
    """Delete idempotency records older than `idempotency_kept`, some at a time; how many (R49).

    With them what is a day old of the keys of units, which are asked for within a minute.
    """
    UnitKey.objects.filter(at__lt=clock.real_now() - DAY).delete()
    before = clock.real_now() - timedelta(seconds=ages.idempotency_kept)
    old = IdempotencyRecord.objects.filter(created_at__lt=before).order_by("created_at")
    ids = list(old.values_list("id", flat=True)[:FORGOTTEN_AT_ONCE])
    deleted, _ = IdempotencyRecord.objects.filter(id__in=ids).delete()
    return deleted
