"""The only door out: messages committed with the change they tell of.

`record_event` and `record_dispatch` write in the caller's transaction, after the creator's row was
locked; the relay reads what is unpublished, sends it, and marks what was acknowledged.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg
from django.db import connection
from django.db.models import QuerySet
from psycopg.types.json import Jsonb

from checkout.clock import Moment
from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.models import (
    CaseKind,
    Charge,
    Creator,
    Door,
    OutboxMessage,
    PendingMessage,
    PublishedMessage,
)

DISPATCH_TYPE = "charge.due"


class OutsideTransaction(Exception):
    """A message was recorded outside a transaction: it could outlive a change that never was."""


def encode(data: Mapping[str, object]) -> str:
    """The exact characters that are sent, the same for the same data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def digest(payload: str) -> str:
    """SHA-256 of a payload in hexadecimal; reconciliation compares it with the topic's."""
    return hashlib.sha256(payload.encode()).hexdigest()


def event_id(*, subject: UUID, type: str, round: int = 0, number: int = 0, key: str = "") -> UUID:
    """The same fact has the same event id, in a restored database too (R51).

    `key` tells apart facts of one type that have neither round nor number.
    """
    return uuid5(subject, f"{type}:{round}:{number}:{key}")


def dispatch_body(
    *, charge_id: UUID, creator_id: UUID, round: int, dispatch: int
) -> dict[str, object]:
    """What `charge.due` carries: the task's arguments."""
    return {
        "charge_id": str(charge_id),
        "creator_id": str(creator_id),
        "round": round,
        "dispatch": dispatch,
    }


def record_event(
    *,
    creator_id: UUID,
    type: str,
    subject: UUID,
    data: Mapping[str, object],
    round: int = 0,
    number: int = 0,
    key: str = "",
    now: Moment,
) -> None:
    """Record an event for Kafka with the creator's next `event_seq`.

    The creator must be locked: sequence, order of ids and order of commits are then the same (R44).
    The schema of `type` is closed (R46); the relay's topic module validates against it. A fact that
    was told before, as when a charge is repaired after its row was rewritten, is not told again.
    Raises Creator.DoesNotExist, OutsideTransaction.
    """
    _require_transaction()
    payload = encode(data)
    with connection.cursor() as cursor:
        cursor.execute(
            _RECORD_EVENT,
            {
                "event_id": event_id(
                    subject=subject, type=type, round=round, number=number, key=key
                ),
                "creator": creator_id,
                "type": type,
                "subject": subject,
                "payload": payload,
                "sha256": digest(payload),
                "now": now.real,
            },
        )
        recorded = cursor.rowcount == 1
    if not recorded and not Creator.objects.filter(pk=creator_id).exists():
        raise Creator.DoesNotExist(f"creator {creator_id}")


def record_dispatch(*, charge: Charge, now: Moment, available_at: datetime | None = None) -> None:
    """Record `charge.due` for the charge's present round and dispatch.

    It leaves at once, or at `available_at` (real time). The creator must be locked.
    """
    _require_transaction()
    payload = encode(
        dispatch_body(
            charge_id=charge.pk,
            creator_id=charge.creator_id,
            round=charge.round,
            dispatch=charge.dispatch,
        )
    )
    OutboxMessage.objects.create(
        event_id=event_id(
            subject=charge.pk, type=DISPATCH_TYPE, round=charge.round, number=charge.dispatch
        ),
        door=Door.SQS,
        key=charge.creator_id,
        type=DISPATCH_TYPE,
        subject=charge.pk,
        payload=payload,
        payload_sha256=digest(payload),
        created_at=now.real,
        available_at=available_at or now.real,
    )


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise OutsideTransaction("record messages inside the transaction that makes them true")


_RECORD_EVENT: Final = """
    WITH next AS (
      UPDATE checkout_creator SET event_seq = event_seq + 1
      WHERE id = %(creator)s
        AND NOT EXISTS (SELECT 1 FROM checkout_outboxmessage WHERE event_id = %(event_id)s)
      RETURNING event_seq
    )
    INSERT INTO checkout_outboxmessage (
      event_id, door, key, event_seq, type, subject, payload, payload_sha256, created_at,
      available_at)
    SELECT %(event_id)s, 'kafka', %(creator)s, next.event_seq, %(type)s, %(subject)s, %(payload)s,
      %(sha256)s, %(now)s, %(now)s
    FROM next
"""


# --- The relay's half: on the connection that holds its lock, so that a lost lock is a lost mark ----

# The batch is chosen first and each of its messages then looked up by id (OFFSET keeps it so): a join
# left to the planner walks all that was ever published, while that is of middling size.
_CLAIM: Final = """
    WITH waiting AS MATERIALIZED (
      SELECT p.message_id FROM checkout_pendingmessage p
      WHERE p.door = %(door)s AND p.parked_at IS NULL AND p.message_id > %(after)s
        -- An event is never delayed: one that a host wrote whose clock is ahead would be overtaken.
        AND (p.available_at <= %(now)s OR p.door = 'kafka')
        AND NOT EXISTS (
          SELECT FROM checkout_pendingmessage held
          WHERE held.door = %(door)s AND held.key = p.key AND held.parked_at IS NOT NULL
            AND held.message_id < p.message_id
        )
      ORDER BY p.message_id LIMIT %(limit)s
    )
    SELECT m.* FROM waiting CROSS JOIN LATERAL (
      SELECT id, event_id, key, event_seq, type, subject, payload, created_at
      FROM checkout_outboxmessage WHERE id = waiting.message_id OFFSET 0
    ) m
    ORDER BY waiting.message_id
"""
_HAS_PARKED: Final = """
    SELECT EXISTS (
      SELECT FROM checkout_pendingmessage WHERE door = %(door)s AND parked_at IS NOT NULL
    )
"""
# One statement, for the trigger that lets nothing leave unless it arrived looks at its end.
_MARK: Final = """
    WITH published AS (
      INSERT INTO checkout_publishedmessage (
        message_id, door, published_at, kafka_partition, kafka_offset)
      SELECT message_id, %(door)s, %(now)s, partition, "offset"
      FROM unnest(%(ids)s::bigint[], %(partitions)s::int[], %(offsets)s::bigint[])
        AS sent(message_id, partition, "offset")
    )
    DELETE FROM checkout_pendingmessage WHERE message_id = ANY(%(ids)s::bigint[])
"""
_NOTE: Final = """
    UPDATE checkout_pendingmessage p SET tries = tries + 1, last_error = failed.reason
    FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS failed(id, reason)
    WHERE p.message_id = failed.id
"""
_PARK: Final = """
    UPDATE checkout_pendingmessage p SET parked_at = %(now)s
    FROM checkout_outboxmessage m
    WHERE p.message_id = ANY(%(ids)s) AND m.id = p.message_id
    RETURNING m.event_id, m.key, m.door, m.type, m.subject, p.last_error
"""
_OPEN_CASE: Final = """
    INSERT INTO checkout_case (kind, subject, creator_id, reason, detail, opened_at,
      proposal, proposed_by, approved_by, closed_because)
    SELECT %(kind)s, %(subject)s, c.id, %(reason)s, %(detail)s, %(now)s, '', '', '', ''
    FROM (SELECT) one LEFT JOIN checkout_creator c ON c.id = %(key)s
    ON CONFLICT (kind, subject) DO NOTHING
"""


def claim(
    lock_connection: psycopg.Connection[Any],
    *,
    door: Door,
    now: datetime,
    limit: int,
    after: int = 0,
) -> list[Outgoing]:
    """The oldest unpublished messages of a door that are available (real time), in order of id.

    By state, not by "id > last": a transaction that commits late has an older id (MEASURED). A key
    behind a parked message waits; a message of a later date holds back nothing.

    `after` is for the batch behind one that is under way, while nothing is parked: an older id that
    commits meanwhile is another creator's, by the creator's lock, and comes with the next claim that
    has no `after`. Without it each claim would walk past all that was marked a moment ago.
    """
    with claiming(lock_connection, door=door, now=now, limit=limit, after=after) as cursor:
        return cursor.fetchall()


def claiming(
    lock_connection: psycopg.Connection[Any],
    *,
    door: Door,
    now: datetime,
    limit: int,
    after: int = 0,
) -> psycopg.Cursor[Outgoing]:
    """As `claim`, asked but not yet read: in a pipeline the database works while others are waited for."""
    cursor = lock_connection.cursor(binary=True, row_factory=_as_outgoing)
    return cursor.execute(_CLAIM, {"door": str(door), "now": now, "limit": limit, "after": after})


def _as_outgoing(_: object) -> Callable[[Sequence[Any]], Outgoing]:
    """Rows become messages without a Python call each."""
    return partial(tuple.__new__, Outgoing)


def has_parked(lock_connection: psycopg.Connection[Any], *, door: Door) -> bool:
    """Whether some key waits behind a parked message, and may be released any time."""
    row = lock_connection.execute(_HAS_PARKED, {"door": str(door)}).fetchone()
    return bool(row and row[0])


@dataclass(frozen=True)
class Settled:
    """What became of a batch: how many were marked, will be sent again, were parked."""

    marked: int = 0
    again: int = 0
    parked: int = 0

    def __add__(self, other: "Settled") -> "Settled":
        return Settled(
            self.marked + other.marked, self.again + other.again, self.parked + other.parked
        )


def settle(
    lock_connection: psycopg.Connection[Any],
    *,
    door: Door,
    messages: Sequence[Outgoing],
    answers: Sequence[Answer],
    now: datetime,
) -> Settled:
    """Mark what the broker acknowledged, and nothing else, in one transaction (R44).

    After a failed message the later ones of its key stay unmarked, though the broker may have them:
    they are sent again behind it, with the same ids. What is refused for good is parked with a case.
    """
    sent, failed = _split(messages, answers)
    parked = [each.id for each in failed if each.permanent]
    with lock_connection.transaction():
        if sent:
            mark_published(lock_connection, door=door, sent=sent, now=now)
        if failed:
            ids, reasons = [each.id for each in failed], [each.reason[:500] for each in failed]
            lock_connection.execute(_NOTE, {"ids": ids, "reasons": reasons})
        if parked:
            park(lock_connection, ids=parked, now=now)
    again = len(messages) - len(sent) - len(parked)
    return Settled(marked=len(sent), again=again, parked=len(parked))


def _split(
    messages: Sequence[Outgoing], answers: Sequence[Answer]
) -> tuple[list[Acknowledged], list[Refused]]:
    """What may be marked, and what failed; in order, so that a key stops at its first failure."""
    acknowledged = [answer for answer in answers if isinstance(answer, Acknowledged)]
    if len(acknowledged) == len(answers):
        return acknowledged, []  # nearly always
    sent: list[Acknowledged] = []
    failed: list[Refused] = []
    stopped: set[UUID] = set()
    for message, answer in zip(messages, answers, strict=True):
        if isinstance(answer, Refused):
            failed.append(answer)
            stopped.add(message.key)
        elif message.key not in stopped:
            sent.append(answer)
    return sent, failed


def mark_published(
    lock_connection: psycopg.Connection[Any],
    *,
    door: Door,
    sent: Sequence[Acknowledged],
    now: datetime,
) -> None:
    """Write when, and for Kafka where, the broker took these messages.

    Raises psycopg.errors.UniqueViolation if another leader has marked one of them: the lock was lost.
    """
    ids, partitions, offsets = map(_array, zip(*sent, strict=True))
    places = {"ids": ids, "partitions": partitions, "offsets": offsets}
    lock_connection.execute(_MARK, places | {"door": str(door), "now": now})


def _array(numbers: Iterable[int | None]) -> str:
    """An array as PostgreSQL reads it: the driver's own way takes ten times as long, each batch."""
    return "{" + ",".join("NULL" if number is None else str(number) for number in numbers) + "}"


def park(lock_connection: psycopg.Connection[Any], *, ids: Sequence[int], now: datetime) -> None:
    """Set aside messages that no broker will ever take, each with one case. Holds only their keys."""
    for event, key, door, type_, subject, error in lock_connection.execute(
        _PARK, {"ids": list(ids), "now": now}
    ).fetchall():
        detail = {"door": door, "type": type_, "subject": str(subject), "key": str(key)}
        lock_connection.execute(
            _OPEN_CASE,
            {
                "kind": CaseKind.PARKED_MESSAGE.value,
                "subject": str(event),
                "key": key,
                "reason": f"{type_} cannot be sent: {error}"[:500],
                "detail": Jsonb(detail),
                "now": now,
            },
        )


# --- Looking at it, and sending again by hand -------------------------------------------------------


@dataclass(frozen=True)
class Depth:
    """How much waits at a door. `oldest_seconds` counts from when the message became available."""

    waiting: int = 0
    oldest_seconds: float = 0.0
    delayed: int = 0
    parked: int = 0


# More than this is "a great many"; counting on would cost a scrape more than it tells.
MOST_COUNTED: Final = 100_000
_DEPTH: Final = """
    SELECT waiting.ready, waiting.oldest, waiting.delayed, held.parked
    FROM (
      SELECT count(*) FILTER (WHERE u.available_at <= %(now)s) AS ready,
             coalesce(extract(epoch FROM %(now)s - min(u.available_at)
               FILTER (WHERE u.available_at <= %(now)s)), 0)::float8 AS oldest,
             count(*) FILTER (WHERE u.available_at > %(now)s) AS delayed
      FROM (SELECT available_at FROM checkout_pendingmessage
            WHERE door = %(door)s AND parked_at IS NULL
            ORDER BY message_id LIMIT %(most)s) u
    ) waiting,
    (
      SELECT count(*) AS parked FROM checkout_pendingmessage
      WHERE door = %(door)s AND parked_at IS NOT NULL
    ) held
"""


def depth(*, now: datetime) -> dict[Door, Depth]:
    """What is not published, by door, at a real time; counted up to MOST_COUNTED a door."""
    found = {}
    with connection.cursor() as cursor:
        for door in Door:
            cursor.execute(_DEPTH, {"door": door.value, "now": now, "most": MOST_COUNTED})
            found[door] = Depth(*cursor.fetchone())
    return found


REPUBLISH_BATCH: Final = 1000
_REPUBLISH: Final = """
    WITH gone AS (
      DELETE FROM checkout_publishedmessage WHERE message_id = ANY(%(ids)s) RETURNING message_id
    )
    INSERT INTO checkout_pendingmessage (message_id, door, key, available_at, tries, last_error)
    SELECT m.id, m.door, m.key, m.available_at, 0, ''
    FROM gone JOIN checkout_outboxmessage m ON m.id = gone.message_id
"""


def count_published(*, door: Door, since: datetime, until: datetime) -> int:
    """How many messages `republish` would send again."""
    return _published(door, since, until).count()


def republish(*, door: Door, since: datetime, until: datetime) -> Iterator[int]:
    """Have the relay send again, in order and with the same ids, what it published in that time.

    Yields the size of each batch, committed, in order of id; so it may be cut short and run again.
    Consumers know the ids: for them a message sent again is nothing new.
    """
    published = _published(door, since, until).order_by("message_id")
    published_ids = published.values_list("message_id", flat=True)
    last = 0  # forwards alone: what a relay marks meanwhile does not come by a second time
    while ids := list(published_ids.filter(message_id__gt=last)[:REPUBLISH_BATCH]):
        with connection.cursor() as cursor:
            cursor.execute(_REPUBLISH, {"ids": ids})
            yield cursor.rowcount
        last = ids[-1]


def _published(door: Door, since: datetime, until: datetime) -> QuerySet[PublishedMessage]:
    return PublishedMessage.objects.filter(door=door, published_at__range=(since, until))


class NotParked(Exception):
    """No message with this event id is parked."""


def release(*, event_id: UUID) -> None:
    """Let a parked message, and the key behind it, be sent again; raises NotParked."""
    parked = PendingMessage.objects.filter(message__event_id=event_id, parked_at__isnull=False)
    if not parked.update(parked_at=None):
        raise NotParked(f"no message {event_id} is parked")
