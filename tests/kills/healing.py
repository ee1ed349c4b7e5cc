"""Everybody carries on until nothing is left to be done: the last part of each world."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.db import connection

from checkout.models import Door

if TYPE_CHECKING:
    from tests.kills.yard import Yard

ROUNDS = 300


class Restless(Exception):
    """The world did not come to rest (I6)."""


def heal(yard: "Yard") -> None:
    """Clients ask again, jobs and workers run, and time passes; raises Restless."""
    for key in sorted(set(yard.outside.orders) - yard.outside.accepted):
        if yard.post(key).status_code != 201:
            yard.outside.complaints.append(f"the client's retry of {key} was refused")
    yard.catch_up()
    yard.billed_at = yard.clock.business_now()
    yard.bill(batch=1000)
    for _ in range(ROUNDS):
        _all_there_is_to_do(yard)
        if not _to_next_moment(yard):
            return
    raise Restless(f"not at rest after {ROUNDS} rounds: {_moments(yard)}")


def _all_there_is_to_do(yard: "Yard") -> None:
    while yard.outside.announced:
        yard.tell(yard.outside.announced.pop())
    yard.apply_webhooks()
    yard.resolve()
    yard.drain()
    yard.open_next_rounds()
    yard.work_off()
    yard.relay(Door.KAFKA)


def _to_next_moment(yard: "Yard") -> bool:
    """Go to the next thing that happens by itself; False if nothing ever will."""
    moments = _moments(yard)
    coming = [moment for name, moment in moments.items() if moment and name != "silent"]
    if not coming and moments["silent"]:
        # Nothing but the sweep would bring it back.
        yard.wait(yard.ages.sweep_most)
        yard.swept += yard.sweep()
        return True
    if coming:
        left = (min(coming) - yard.clock.real_now()).total_seconds()
        yard.wait(max(left, 0) + 1)
    return bool(coming)


def _moments(yard: "Yard") -> dict[str, datetime | None]:
    with connection.cursor() as cursor:
        cursor.execute(_MOMENTS)
        unsent, asked, webhook, dunning, silent = cursor.fetchone()
    return {
        "queue": yard.outside.queue.next_visible(),
        "unsent": unsent,
        "asked": asked,
        "webhook": webhook,
        "dunning": dunning and dunning - yard.clock.business_offset(),
        "silent": silent,
    }


_MOMENTS: Final = """
    SELECT
      (SELECT min(available_at) FROM checkout_pendingmessage),
      (SELECT min(next_query_at) FROM checkout_attempt WHERE outcome = 'open'),
      (SELECT min(next_try_at) FROM checkout_webhookdelivery WHERE applied_at IS NULL),
      (SELECT min(next_round_at) FROM checkout_charge WHERE awaits = 'date'),
      (SELECT min(last_seen_at) FROM checkout_charge
       WHERE state IN ('due', 'failed_then_retry', 'attempting'))
"""
