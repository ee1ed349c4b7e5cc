"""Celery's transport over SQS, and what it asks of the message it received.

It mends what kombu 5.7 does to a FIFO queue (MEASURED): it would ask for several messages of one creator
at once, stop polling for ever after one failed poll, and lose what it cannot decode.
"""

import logging
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

import pycurl
from botocore.exceptions import BotoCoreError, ClientError
from celery import Task
from kombu.asynchronous.http import curl
from kombu.transport import SQS, virtual

from checkout.clock import Clock
from checkout.messages import Unreadable
from checkout.queue.envelope import check, keeping

logger = logging.getLogger(__name__)

# The stubs know kombu's outside only; we extend its inside.
_SQS: Any = SQS
_CURL: Any = curl

# Named one by one: kombu spells 'All' as 'ALL', which brings none, and a worker without counts dies.
ATTRIBUTES: Final = (
    "ApproximateReceiveCount",
    "MessageGroupId",
    "MessageDeduplicationId",
    "SentTimestamp",
)
OUTAGE_SECONDS: Final = 1.0
# Acknowledgements block the worker's loop, so they give up soon; the message then comes again.
CLIENT_CONFIG: Final = {
    "connect_timeout": 2,
    "read_timeout": 25,
    "retries": {"total_max_attempts": 2},
}


# --- What the worker's parent and its children tell each other ------------------------------------
class DatabaseFlag:
    """Raised by whoever finds the database away; shared by the processes forked after its creation.

    One byte of shared memory: no lock that a killed child could take with it.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    @property
    def is_up(self) -> bool:
        return self._byte[0] == 1

    def hoist(self) -> None:
        self._byte[0] = 1

    def lower(self) -> None:
        self._byte[0] = 0


@dataclass
class LastPoll:
    """When the loop last turned (monotonic seconds) and what it found; written by the parent alone."""

    at: float = -math.inf
    found: str = "nothing yet"


DATABASE_AWAY: Final = DatabaseFlag()
LAST_POLL: Final = LastPoll()
_clock: Final = Clock()


# --- Celery's transport ---------------------------------------------------------------------------
class QoS(_SQS.QoS):  # type: ignore[misc]
    """A message that is left waits for the backoff of its receive, whatever it is and why it was left."""

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        # Put back "at the beginning", as kombu would, a lost child's message could burn its receives
        # in seconds; so a requeue is a leave too.
        virtual.QoS.reject(self, delivery_tag, requeue=False)
        message = self._delivered.get(delivery_tag)
        if message is not None:
            self._back_off(delivery_tag, message.delivery_info)

    def is_backoff_task(self, delivery_tag: str) -> bool:  # noqa: ARG002
        """Nothing that is left is ever deleted: SQS moves it to the dead-letter queue."""
        return True

    def _back_off(self, receipt: str, info: Mapping[str, Any]) -> None:
        if "sqs_message" not in info:
            return
        # By its URL: a foreign message need not say by which key it was routed.
        queue = info["sqs_queue"].rpartition("/")[2]
        policy = self.channel.predefined_queues[queue]["backoff_policy"]
        count = int(info["sqs_message"].get("Attributes", {}).get("ApproximateReceiveCount", 1))
        try:
            self.channel.sqs(queue).change_message_visibility(
                QueueUrl=info["sqs_queue"],
                ReceiptHandle=receipt,
                VisibilityTimeout=policy[min(count, max(policy))],
            )
        except (ClientError, BotoCoreError) as error:
            # It stays invisible for the queue's whole visibility instead; the worker goes on.
            logger.warning("backoff not applied: %s", error)


def _curl() -> Any:
    """A handle that looks a name up at every connect: libcurl would go to the old address for a minute."""
    handle = pycurl.Curl()
    handle.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
    return handle


class HttpClient(_CURL.CurlClient):  # type: ignore[misc]
    """What the worker's loop polls with."""

    Curl = staticmethod(_curl)


class Channel(_SQS.Channel):  # type: ignore[misc]
    """Receives one message a call, survives an outage, rests while the database is away.

    SQS hands over no second message of a group that has one in flight; asked for one message a call it
    thereby keeps each creator in order at any concurrency.
    """

    QoS = QoS
    is_refused = False

    @cached_property
    def predefined_queues(self) -> dict[str, dict[str, Any]]:
        """The queues of the settings with their URLs, which only the server knows."""
        named = self.transport_options.get("predefined_queues", {})
        return {name: {"url": self._find_url(name)} | options for name, options in named.items()}

    def _find_url(self, name: str) -> str:
        client = self.new_sqs_client(self.region, self.conninfo.userid, self.conninfo.password)
        return str(client.get_queue_url(QueueName=name)["QueueUrl"])

    def asynsqs(self, queue: str | None = None) -> Any:
        """The connection that is polled; the loop has one HTTP client, which must be ours."""
        if not hasattr(self.hub, "_current_http_client"):
            self.hub._current_http_client = HttpClient(self.hub)
        return super().asynsqs(queue)

    def _get_message_estimate(self, max_if_unlimited: int = 1) -> int:
        if DATABASE_AWAY.is_up:
            return 0
        return min(int(super()._get_message_estimate(max_if_unlimited)), 1)

    def _schedule_queue(self, queue: str) -> None:
        if DATABASE_AWAY.is_up:
            self._note("database away")
        elif not self.qos.can_consume():
            self._note("all busy")
        super()._schedule_queue(queue)

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> Any:
        """kombu hands over [] after a refused, timed-out or 5xx poll, and would fail on it for ever."""
        if messages or isinstance(messages, dict):
            self._answered()
        else:
            self._refused()
        return super()._on_messages_ready(queue, qname, messages or {})

    def _loop1(self, queue: str, messages_fetched: Any = None) -> None:
        if self.is_refused or DATABASE_AWAY.is_up:
            self.hub.call_later(OUTAGE_SECONDS, self._schedule_queue, queue)
        else:
            super()._loop1(queue, messages_fetched)

    def _message_to_python(self, message: dict[str, Any], queue_name: str, q_url: str) -> Any:
        """An unreadable message becomes a task that keeps it; kombu would acknowledge and lose it."""
        try:
            check(message["Body"])
        except Unreadable as fault:
            message = message | {"Body": keeping(message, reason=str(fault), queue=queue_name)}
        return super()._message_to_python(message, queue_name, q_url)

    def _answered(self) -> None:
        if self.is_refused:
            logger.info("SQS answers again")
        self.is_refused = False
        self._note("polled")

    def _refused(self) -> None:
        if not self.is_refused:
            logger.warning("SQS does not answer; polling once a second")
        self.is_refused = True

    def _note(self, found: str) -> None:
        LAST_POLL.at, LAST_POLL.found = _clock.monotonic(), found


class Transport(_SQS.Transport):  # type: ignore[misc]
    """`broker_transport = "checkout.queue:Transport"`."""

    Channel = Channel


def broker_url(*, endpoint_url: str, access_key: str, secret: str) -> str:
    """Celery's address of SQS; without an endpoint it is AWS, with credentials from the environment."""
    place = endpoint_url.partition("://")[2].rstrip("/")
    return (
        f"sqs://{quote(access_key, safe='')}:{quote(secret, safe='')}@{place}"
        if place
        else "sqs://"
    )


def queue_options(*, backoff: Sequence[float]) -> dict[str, Any]:
    """The options of a predefined queue: seconds a message left at receive 1, 2, 3 waits (whole ones)."""
    return {"backoff_policy": {n: math.ceil(s) for n, s in enumerate(backoff, start=1)}}


def receive_count(task: Task[..., Any]) -> int:
    """SQS's own count of the deliveries of the message a task runs for: 1, 2, 3."""
    info = (task.request.properties or {}).get("delivery_info") or {}
    attributes = (info.get("sqs_message") or {}).get("Attributes") or {}
    return int(attributes.get("ApproximateReceiveCount", 1))
