"""What the worker runs for a message, and the worker's sign of life. One use-case call a task.

Both tasks may run twice for one message. The charge's row decides what a second receive does; a kept
message is one case by its id.
"""

import logging
import math
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from typing import Any, Final

from celery import Task, bootsteps, shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from checkout import charging, queue, rescue, wiring
from checkout.commit import DatabaseAway, committed
from checkout.failpoints import failpoint
from checkout.link import patience
from checkout.messages import read_receive
from checkout.outcomes import Fate

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 1.0
PROBE_PATIENCE: Final = 5.0
# Several workers share the row; the youngest poll counts.
_BEAT: Final = """
    INSERT INTO checkout_heartbeat (name, beat_at, detail) VALUES ('worker', %s, %s)
    ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at, detail = excluded.detail
    WHERE checkout_heartbeat.beat_at <= excluded.beat_at
"""


@shared_task(name=queue.TASK, bind=True, typing=False)
def attempt_charge(
    task: Task[..., Any],
    *,
    charge_id: str,
    round: int,
    dispatch: int,
    creator_id: str,
    **_: object,
) -> None:
    """Receive a dispatch: acknowledge by returning, leave by Reject.

    A message that is left comes again after the backoff of its receive, and is a dead letter after the
    third. Safe twice: the charge's row, under its creator's lock, decides what a receive does.
    """
    kwargs = {"charge_id": charge_id, "round": round, "dispatch": dispatch}
    receive = read_receive(kwargs, count=queue.receive_count(task))
    # Said first, so that the receive of a worker that is killed now is counted too.
    logger.info("received", extra=kwargs | {"creator_id": creator_id, "count": receive.count})
    close_old_connections()  # checks a kept connection before it carries a charge
    try:
        fate = charging.attempt_charge(
            receive=receive, clock=wiring.clock(), gateways=wiring.gateways(), ages=wiring.ages()
        )
    except DatabaseAway as away:
        raise _left_for_want_of_a_database(away) from away
    except SoftTimeLimitExceeded as late:
        # After the send the attempt is open, and the resolver's or the next receive's (R32).
        raise Reject("soft time limit", requeue=False) from late
    if fate is Fate.LEAVE:
        raise Reject("left for its next receive", requeue=False)


@shared_task(name=queue.KEEP_TASK, typing=False)
def keep_unreadable(*, message_id: str, body: str, reason: str, **_: object) -> None:
    """Keep a message nobody can read as a case, then acknowledge it (F22); its creator goes on."""
    clock, ages = wiring.clock(), wiring.ages()
    keep = partial(rescue.keep_unreadable, subject=message_id, body=body, reason=reason)
    close_old_connections()
    try:
        committed(
            lambda: keep(now=clock.now()), deadline=ages.database_wait_before_call, clock=clock
        )
    except DatabaseAway as away:
        raise _left_for_want_of_a_database(away) from away
    failpoint("unreadable.case_committed")


def _left_for_want_of_a_database(away: DatabaseAway) -> Reject:
    """The worker stops polling, so that the outage spends no more receives (F18)."""
    queue.DATABASE_AWAY.hoist()
    return Reject(str(away), requeue=False)


class Pulse(bootsteps.StartStopStep):
    """The parent's thread that writes the worker's sign of life and probes the database.

    Beside the loop that polls, never in it. A beat that cannot be written means that the database is
    away; one that can, that it is back. The row ages when the loop hangs or SQS does not answer.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stop = Event()
        self._clock = wiring.clock()
        self._last_beat = -wiring.ages().worker_heartbeat

    def start(self, parent: Any) -> None:  # noqa: ARG002
        # Before the first poll: a worker started without its database must not receive anything.
        self._turn()
        Thread(target=self._beat_until_stopped, name="pulse", daemon=True).start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        self._stop.set()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)

    def _beat_until_stopped(self) -> None:
        while not self._stop.wait(PROBE_SECONDS):
            try:
                self._turn()
            except Exception:
                logger.exception("no sign of life written")

    def _turn(self) -> None:
        now = self._clock.monotonic()
        due = now - self._last_beat >= wiring.ages().worker_heartbeat
        if not due and not queue.DATABASE_AWAY.is_up:
            return
        try:
            # A database that is silent is away: the loop would go on polling for it.
            with patience(PROBE_PATIENCE):
                self._beat(silent_seconds=now - queue.LAST_POLL.at)
        except (DatabaseError, InterfaceError) as error:
            if not queue.DATABASE_AWAY.is_up:
                logger.warning("database away, polling stops: %s", error)
            queue.DATABASE_AWAY.hoist()
        else:
            if queue.DATABASE_AWAY.is_up:
                logger.info("database is back, polling goes on")
            queue.DATABASE_AWAY.lower()
            self._last_beat = now
        finally:
            # A child forked while it was open would share its socket.
            connection.close()

    def _beat(self, *, silent_seconds: float) -> None:
        """Write when the worker last polled. Raises DatabaseError, InterfaceError."""
        with connection.cursor() as cursor:
            if math.isinf(silent_seconds):
                cursor.execute("SELECT 1")
            else:
                polled_at = self._clock.real_now() - timedelta(seconds=silent_seconds)
                cursor.execute(_BEAT, [polled_at, queue.LAST_POLL.found])
