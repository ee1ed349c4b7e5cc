"""The only door out: messages committed with the change they tell of.

`record_event` and `record_dispatch` write in the caller's transaction, after the creator's row was
locked; the relay reads what is unpublished, sends it, and marks what was acknowledged.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID, uuid5

from django.db import connection

from checkout.clock import Moment
from checkout.models import Charge, Creator, Door, OutboxMessage

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
    The schema of `type` is closed (R46); the relay's topic module validates against it.
    """
    _require_transaction()
    sequence = _next_sequence(creator_id)
    payload = encode(data)
    OutboxMessage.objects.create(
        event_id=event_id(subject=subject, type=type, round=round, number=number, key=key),
        door=Door.KAFKA,
        key=creator_id,
        event_seq=sequence,
        type=type,
        subject=subject,
        payload=payload,
        payload_sha256=digest(payload),
        created_at=now.real,
        available_at=now.real,
    )


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


def _next_sequence(creator_id: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checkout_creator SET event_seq = event_seq + 1 WHERE id = %s"
            " RETURNING event_seq",
            [creator_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise Creator.DoesNotExist(f"creator {creator_id}")
    return int(row[0])
