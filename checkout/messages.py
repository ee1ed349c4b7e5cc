"""What leaves the service and what comes back from the queue, as values; knows no broker and no Django.

A dispatch travels as a Celery message (protocol 2): base64 of an envelope whose `body` is base64 of
`[args, kwargs, embed]`. Only `decode` reads that, for the worker and for dead letters alike.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID


@dataclass(frozen=True)
class Receive:
    """One delivery of a dispatch. `count` is SQS's own: 1, 2, 3, then the dead-letter queue."""

    charge_id: UUID
    round: int
    dispatch: int
    count: int


@dataclass(frozen=True)
class DeadLetter:
    """A message that was received three times in vain; `receive` is None if it cannot be read.

    `body` is the text a person can read, `receipt` what deletes the message.
    """

    message_id: str
    receipt: str
    body: str
    receive: Receive | None


# Tuples, not dataclasses: the relay makes a thousand of each a batch.
class Outgoing(NamedTuple):
    """One committed outbox row on its way out; `payload` holds the exact characters to send."""

    id: int
    event_id: UUID
    key: UUID
    event_seq: int | None
    type: str
    subject: UUID
    payload: str
    created_at: datetime


class Acknowledged(NamedTuple):
    """The broker has the message; `partition` and `offset` are Kafka's."""

    id: int
    partition: int | None = None
    offset: int | None = None


class Refused(NamedTuple):
    """The broker has not, or may not have, the message. `permanent`: it will never take it."""

    id: int
    reason: str
    permanent: bool = False


Answer = Acknowledged | Refused


class Unreadable(Exception):
    """The message is not a Celery message of ours; the text says what is wrong with it."""


@dataclass(frozen=True)
class Envelope:
    """A Celery message taken apart."""

    task: str
    kwargs: Mapping[str, Any]


def decode(body: str) -> Envelope:
    """Read a whole SQS body; raises Unreadable, and nothing else, on any text."""
    try:
        envelope = json.loads(readable(body))
        inner = _inner(envelope)
        task, (_, kwargs, _) = envelope["headers"]["task"], json.loads(inner)
    except (ValueError, TypeError, KeyError, RecursionError) as fault:
        raise Unreadable(f"not a Celery message: {type(fault).__name__}: {fault}"[:200]) from None
    if not isinstance(task, str) or not isinstance(kwargs, dict):
        raise Unreadable("not a Celery message: its task or its keywords are of a wrong type")
    return Envelope(task=task, kwargs=kwargs)


def read_receive(kwargs: Mapping[str, Any], *, count: int) -> Receive:
    """The body of a dispatch as a Receive; unknown keys are for newer workers. Raises Unreadable."""
    try:
        charge_id, round_, dispatch = UUID(kwargs["charge_id"]), kwargs["round"], kwargs["dispatch"]
    except (KeyError, ValueError, TypeError, AttributeError) as fault:
        raise Unreadable(f"charge_id, round or dispatch is missing or not ours: {fault}") from None
    if not all(type(number) is int and number > 0 for number in (round_, dispatch)):
        raise Unreadable(f"round {round_!r} and dispatch {dispatch!r} must be positive numbers")
    return Receive(charge_id=charge_id, round=round_, dispatch=dispatch, count=count)


def readable(body: str) -> str:
    """The text inside a base64 body, or the body itself; loses nothing."""
    try:
        return base64.b64decode(body, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return body


def _inner(envelope: Any) -> str:
    if envelope["content-type"] != "application/json":
        raise ValueError(f"content type {envelope['content-type']!r}")
    body = envelope["body"]
    if envelope["properties"].get("body_encoding") == "base64":
        return base64.b64decode(body, validate=True).decode("utf-8")
    return str(body)
