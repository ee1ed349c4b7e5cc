"""What a message for the queue says, and what a worker or the dead-letter queue hands over."""

import json
from dataclasses import dataclass
from uuid import UUID


class UnreadableBody(Exception):
    """The body is not what a relay of ours writes."""


@dataclass(frozen=True)
class Receive:
    """One delivery of one dispatch; `count` is SQS's own count of deliveries, from 1."""

    charge_id: UUID
    round: int
    dispatch: int
    count: int


@dataclass(frozen=True)
class DeadLetter:
    """A message that was received three times without an acknowledgement.

    `receive` is None when the body cannot be read; `receipt` deletes it from its queue.
    """

    message_id: str
    receipt: str
    body: str
    receive: Receive | None


def read_task(*, kwargs: object, count: int) -> Receive:
    """Read a task's arguments; raises UnreadableBody with the field that is wrong."""
    if not isinstance(kwargs, dict):
        raise UnreadableBody("the arguments are not an object")
    try:
        return Receive(
            charge_id=UUID(kwargs["charge_id"]),
            round=int(kwargs["round"]),
            dispatch=int(kwargs["dispatch"]),
            count=count,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableBody(f"{json.dumps(kwargs, default=str)[:200]}: {error!r}") from error
