"""What happens next by itself, so that a world which waits need not wait second by second."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.db import connection

if TYPE_CHECKING:
    from tests.simulation.world import World

_MOMENTS: Final = """
    SELECT
      (SELECT min(available_at) FROM checkout_pendingmessage),
      (SELECT min(next_query_at) FROM checkout_attempt WHERE outcome = 'open'),
      (SELECT min(next_try_at) FROM checkout_webhookdelivery WHERE applied_at IS NULL),
      (SELECT min(next_round_at) FROM checkout_charge WHERE awaits = 'date'),
      (SELECT min(until) FROM checkout_hold WHERE lifted_at IS NULL AND until > %(now)s),
      (SELECT min(
         greatest(c.last_seen_at, (SELECT max(p.published_at) FROM checkout_outboxmessage m
                                   JOIN checkout_publishedmessage p ON p.message_id = m.id
                                   WHERE m.subject = c.id AND m.door = 'sqs'))
         + make_interval(secs => least(%(most)s, %(after)s * 2 ^ least(c.sweeps, 20))))
       FROM checkout_charge c WHERE c.state IN ('due', 'failed_then_retry')),
      (SELECT count(*) FROM checkout_subscription s
       WHERE s.state = 'active'
         AND EXISTS (SELECT FROM checkout_charge c
                     WHERE c.subscription_id = s.id AND c.state = 'exhausted')
          OR s.state = 'past_due'
         AND NOT EXISTS (SELECT FROM checkout_charge c WHERE c.subscription_id = s.id
              AND (c.state = 'exhausted' OR c.round > 1
                   AND c.state NOT IN ('succeeded', 'voided', 'written_off'))))
"""


@dataclass(frozen=True)
class Moments:
    """Real times at which something comes due; `None` where nothing will."""

    now: datetime
    queue: datetime | None
    outbox: datetime | None
    attempt: datetime | None
    webhook: datetime | None
    dunning: datetime | None
    hold: datetime | None
    silent: datetime | None
    # Subscriptions whose state is to be changed by the next review.
    reviews: int

    @property
    def is_silent(self) -> bool:
        """Something is owed, and nothing is under way that would bring it back but the sweep."""
        return bool(self.silent) and not (self.queue or self.outbox or self.attempt)

    @property
    def first(self) -> float | None:
        """Seconds until the first of them, and one more; None if nothing ever happens by itself."""
        found = [self.queue, self.outbox, self.attempt, self.webhook, self.dunning, self.hold]
        moments = [moment for moment in found if moment is not None]
        if self.is_silent and self.silent is not None:
            moments.append(self.silent)
        if not moments:
            return None
        return max((min(moments) - self.now).total_seconds(), 0.0) + 1

    def is_due(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now


def ahead(world: "World") -> Moments:
    """What the tables and the queue say of the time to come."""
    now = world.clock.real_now()
    about: dict[str, Any] = {
        "now": now,
        "after": world.ages.sweep_after,
        "most": world.ages.sweep_most,
    }
    with connection.cursor() as cursor:
        cursor.execute(_MOMENTS, about)
        unsent, open_, webhook, dunning, hold, silent, reviews = cursor.fetchone()
    return Moments(
        now=now,
        queue=world.queue.next_visible(),
        outbox=unsent,
        attempt=open_,
        webhook=webhook,
        dunning=dunning and dunning - world.clock.business_offset(),
        hold=hold,
        silent=silent,
        reviews=reviews,
    )
