"""The timetable: which job runs how often. Each row is a use case of one of the two apps."""

from datetime import timedelta
from functools import partial
from typing import Final

from checkout import billing, rescue, subscriptions, wiring
from checkout.clock import Ages, Clock
from checkout.models import IdempotencyRecord
from settlements.management.timetable import Job

FORGOTTEN_AT_ONCE: Final = 5000
# Of the jobs that nothing waits for, in turns of the others.
SELDOM: Final = 12


def all_jobs(*, clock: Clock, ages: Ages) -> list[Job]:
    """Every job with its interval in seconds, in the order `--once` runs them."""
    often, seldom = ages.timetable_every, ages.timetable_every * SELDOM
    owed = {"clock": clock, "ages": ages}
    asked = owed | {"gateways": wiring.gateways()}
    return [
        Job("bill_due", often, partial(billing.bill_due, **owed)),
        Job("open_next_rounds", often, partial(rescue.open_next_rounds, **owed)),
        Job("resolve", often, partial(rescue.resolve, **asked)),
        Job("apply_webhooks", often, partial(rescue.apply_webhooks, **asked)),
        Job("drain_dead_letters", often, partial(drain_dead_letters, **owed)),
        Job("sweep", often, partial(rescue.sweep, **owed)),
        Job("review", often, partial(subscriptions.review, **owed)),
        Job("forget_answers", seldom, partial(forget_answers, **owed)),
    ]


def drain_dead_letters(*, clock: Clock, ages: Ages) -> int:
    """Turn what lies in the dead-letter queue into cases; how many."""
    queue = wiring.queue()
    return rescue.drain_dead_letters(
        letters=queue.dead_letters(), delete=queue.delete, clock=clock, ages=ages
    )


def forget_answers(*, clock: Clock, ages: Ages) -> int:
    """Delete idempotency records older than `idempotency_kept`, some at a time; how many (R49)."""
    before = clock.real_now() - timedelta(seconds=ages.idempotency_kept)
    old = IdempotencyRecord.objects.filter(created_at__lt=before).order_by("created_at")
    ids = list(old.values_list("id", flat=True)[:FORGOTTEN_AT_ONCE])
    deleted, _ = IdempotencyRecord.objects.filter(id__in=ids).delete()
    return deleted
