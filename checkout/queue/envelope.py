"""The body of a queue message: a Celery message, written as kombu writes it, and checked as a worker reads it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from celery import Celery
from kombu import Connection, serialization
from kombu.asynchronous.aws.sqs.message import AsyncMessage
from kombu.transport import memory
from kombu.utils.json import dumps

from checkout.messages import decode, read_receive, readable

# The stubs know kombu's outside only; we extend its inside.
_MEMORY: Any = memory

TASK: Final = "checkout.attempt_charge"
KEEP_TASK: Final = "checkout.keep_unreadable"
LARGEST_BODY: Final = 262_144


class _Written(_MEMORY.Channel):  # type: ignore[misc]
    """Keeps the message kombu would send, so that batches carry exactly kombu's own encoding."""

    message: dict[str, Any]

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
        self.message = message


class _Writing(_MEMORY.Transport):  # type: ignore[misc]
    Channel = _Written


@cache
def _encoder() -> tuple[Celery, _Written]:
    """An app of its own: what encodes must not depend on whose app is current."""
    app = Celery("checkout-encoder", set_as_current=False, fixups=[])
    channel: Any = Connection(transport=_Writing).channel()
    return app, channel


def encode(*, task: str, task_id: str, kwargs: Mapping[str, object], queue: str) -> str:
    """The whole SQS body of a task, as Celery's own `apply_async` would write it."""
    app, channel = _encoder()
    task_message = app.amqp.as_task_v2(
        task_id, task, kwargs=dict(kwargs), ignore_result=True, origin="checkout"
    )
    content_type, encoding, body = serialization.dumps(task_message.body, serializer="json")
    message = channel.prepare_message(
        body,
        content_type=content_type,
        content_encoding=encoding,
        headers=task_message.headers,
        properties=task_message.properties,
    )
    channel.basic_publish(message, exchange="", routing_key=queue)
    return str(AsyncMessage().encode(dumps(channel.message)))


def check(body: str) -> None:
    """Raise Unreadable unless a worker can run this body; a task of another name is not our affair."""
    envelope = decode(body)
    if envelope.task == TASK:
        read_receive(envelope.kwargs, count=1)


def keeping(message: Mapping[str, Any], *, reason: str, queue: str) -> str:
    """The body of the task that keeps an unreadable message as a case before it is acknowledged."""
    kwargs = {
        "message_id": message["MessageId"],
        "body": readable(message["Body"])[:LARGEST_BODY],
        "reason": reason,
    }
    return encode(task=KEEP_TASK, task_id=message["MessageId"], kwargs=kwargs, queue=queue)
