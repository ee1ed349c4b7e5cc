"""The SQS adapter: Celery's transport, the queues' attributes, sending, dead letters, redrive.

`transport` receives for the worker, `sqs` sends for the relay and administers, `envelope` is the body
that both must agree on. Import the names from here.
"""

from checkout.queue.envelope import KEEP_TASK, TASK, check, encode
from checkout.queue.sqs import (
    RECEIVES,
    REFUSALS,
    RETENTION_SECONDS,
    Queue,
    QueueMismatch,
    Waiting,
    client,
    entry,
)
from checkout.queue.transport import (
    ATTRIBUTES,
    CLIENT_CONFIG,
    DATABASE_AWAY,
    LAST_POLL,
    Transport,
    broker_url,
    queue_options,
    receive_count,
)

__all__ = [
    "ATTRIBUTES",
    "CLIENT_CONFIG",
    "DATABASE_AWAY",
    "KEEP_TASK",
    "LAST_POLL",
    "RECEIVES",
    "REFUSALS",
    "RETENTION_SECONDS",
    "TASK",
    "Queue",
    "QueueMismatch",
    "Transport",
    "Waiting",
    "broker_url",
    "check",
    "client",
    "encode",
    "entry",
    "queue_options",
    "receive_count",
]
