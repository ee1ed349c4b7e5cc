"""The SQS adapter: Celery's transport, the queues' attributes, sending, dead letters, redrive.

The transport mends what kombu 5.7 does to a FIFO queue (MEASURED): it would ask for several messages of
one creator at once, stop polling for ever after one failed poll, and lose what it cannot decode.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError
from celery import Celery, Task
from kombu import Connection, serialization
from kombu.asynchronous.aws.sqs.message import AsyncMessage
from kombu.transport import SQS, memory, virtual
from kombu.utils.json import dumps

from checkout.clock import Clock
from checkout.failpoints import failpoint
from checkout.messages import (
    Acknowledged,
    Answer,
    DeadLetter,
    Outgoing,
    Receive,
    Refused,
    Unreadable,
    decode,
    read_receive,
    readable,
)

if TYPE_CHECKING:  # the stubs are not in the image
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchRequestEntryTypeDef

    Attributes = Mapping[QueueAttributeNameType, str]

logger = logging.getLogger(__name__)

# The stubs know kombu's outside only; we extend its inside.
_SQS: Any = SQS
_MEMORY: Any = memory

TASK: Final = "checkout.attempt_charge"
KEEP_TASK: Final = "checkout.keep_unreadable"
RECEIVES: Final = 3
RETENTION_SECONDS: Final = 1_209_600  # 14 days, the longest there is
LARGEST_BATCH: Final = 10
LARGEST_BODY: Final = 262_144
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


# --- Celery's messages ----------------------------------------------------------------------------
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


# --- The queues -----------------------------------------------------------------------------------
# What boto3 raises when SQS refuses a call, or does not answer it.
REFUSALS: Final = (ClientError, BotoCoreError)


class QueueMismatch(Exception):
    """A queue's attributes are not the declared ones; the text lists each difference."""


def client(*, endpoint_url: str, region: str, access_key: str, secret: str) -> SQSClient:
    """A boto3 client; empty strings leave the endpoint and the credentials to AWS's own rules."""
    return boto3.client(
        "sqs",
        region_name=region,
        endpoint_url=endpoint_url or None,
        aws_access_key_id=access_key or None,
        aws_secret_access_key=secret or None,
        config=Config(connect_timeout=2, read_timeout=25, retries={"total_max_attempts": 2}),
    )


@dataclass(frozen=True)
class Waiting:
    """Messages that can be received, that a worker has, and that are dead letters."""

    visible: int
    in_flight: int
    dead: int


@dataclass(frozen=True)
class Queue:
    """The FIFO queue of dispatches and its dead-letter queue."""

    client: SQSClient
    name: str
    dead_letter_name: str

    @cached_property
    def url(self) -> str:
        return self.client.get_queue_url(QueueName=self.name)["QueueUrl"]

    @cached_property
    def dead_letter_url(self) -> str:
        return self.client.get_queue_url(QueueName=self.dead_letter_name)["QueueUrl"]

    # Declaring.
    def create(self, *, visibility: float) -> list[str]:
        """Create both queues or correct their attributes, then verify; `visibility` in seconds.

        Returns what was changed: nothing, the second time.
        """
        common: Attributes = {
            "FifoQueue": "true",
            "ContentBasedDeduplication": "false",
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "VisibilityTimeout": str(math.ceil(visibility)),
        }
        changed = self._declare(self.dead_letter_name, common)
        found = self._attributes(self.dead_letter_name, ["QueueArn"])
        policy = {"deadLetterTargetArn": found["QueueArn"], "maxReceiveCount": RECEIVES}
        live: Attributes = {**common, "RedrivePolicy": json.dumps(policy)}
        return changed + self._declare(self.name, live)

    def _declare(self, name: str, declared: Attributes) -> list[str]:
        changed = []
        try:
            differences = self._differences(name, declared)
        except self.client.exceptions.QueueDoesNotExist:
            self.client.create_queue(QueueName=name, Attributes=dict(declared))
            changed.append(f"created {name}")
            differences = self._differences(name, declared)
        if differences:
            correctable: Attributes = {
                key: value for key, value in declared.items() if key != "FifoQueue"
            }
            url = self.client.get_queue_url(QueueName=name)["QueueUrl"]
            self.client.set_queue_attributes(QueueUrl=url, Attributes=correctable)
            changed += [f"corrected {name}: {difference}" for difference in differences]
            differences = self._differences(name, declared)
        if differences:
            raise QueueMismatch(f"{name}: {'; '.join(differences)}")
        return changed

    def _differences(self, name: str, declared: Attributes) -> list[str]:
        found = self._attributes(name, ["All"])
        return [
            f"{key} is {found.get(key)}, declared {value}"
            for key, value in declared.items()
            if _comparable(key, found.get(key, "")) != _comparable(key, value)
        ]

    def _attributes(self, name: str, names: Sequence[QueueAttributeNameType]) -> Attributes:
        url = self.client.get_queue_url(QueueName=name)["QueueUrl"]
        answer = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return answer["Attributes"]

    # Sending.
    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Send dispatches in order, ten a call; one answer for each, in order.

        Safe to repeat: SQS drops a deduplication id it saw in the last five minutes. After a refused
        message the later ones of its creator are not sent, after an outage nothing more.
        """
        answers: dict[int, Answer] = {}
        held: set[UUID] = set()
        for start in range(0, len(messages), LARGEST_BATCH):
            batch = [
                each for each in messages[start : start + LARGEST_BATCH] if each.key not in held
            ]
            try:
                sent = self._send_batch(batch) if batch else []
            except (ClientError, BotoCoreError) as error:
                reason = f"{type(error).__name__}: {error}"[:500]
                return [answers.get(each.id, Refused(each.id, reason)) for each in messages]
            failpoint("queue.ten_sent")
            answers |= {answer.id: answer for answer in sent}
            held |= {each.key for each in batch if isinstance(answers[each.id], Refused)}
        earlier = "an earlier message of its creator failed"
        return [answers.get(each.id, Refused(each.id, earlier)) for each in messages]

    def _send_batch(self, batch: Sequence[Outgoing]) -> list[Answer]:
        refused: list[Answer] = []
        entries: list[SendMessageBatchRequestEntryTypeDef] = []
        for message in batch:
            try:
                entries.append(entry(message, queue=self.name))
            except Unreadable as fault:
                refused.append(Refused(message.id, str(fault), permanent=True))
        if not entries:
            return refused
        reply = self.client.send_message_batch(QueueUrl=self.url, Entries=entries)
        for failure in reply.get("Failed", []):
            reason = f"{failure['Code']}: {failure.get('Message', '')}"[:500]
            refused.append(Refused(int(failure["Id"]), reason, permanent=failure["SenderFault"]))
        return [Acknowledged(int(each["Id"])) for each in reply.get("Successful", [])] + refused

    # Dead letters.
    def dead_letters(self) -> Iterator[DeadLetter]:
        """Receive what lies in the dead-letter queue, each once; who yields none deletes none.

        A letter that is not deleted is there again after the visibility.
        """
        for message in self._receive_dead():
            yield DeadLetter(
                message_id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=readable(message["Body"]),
                receive=_receive_in(message["Body"]),
            )

    def delete(self, letter: DeadLetter) -> None:
        """Remove a letter from the dead-letter queue, after its case was committed (R33)."""
        self.client.delete_message(QueueUrl=self.dead_letter_url, ReceiptHandle=letter.receipt)

    def redrive(self) -> int:
        """Send every dead letter to the queue again, then delete it; returns how many.

        Safe by hand: a finished charge or an older dispatch is acknowledged without a call (F25). The
        new deduplication id follows from the message, so that a crash in between sends it once.
        """
        count = 0
        for message in self._receive_dead():
            attributes = message.get("Attributes", {})
            self.client.send_message(
                QueueUrl=self.url,
                MessageBody=message["Body"],
                MessageGroupId=attributes["MessageGroupId"],
                MessageDeduplicationId=f"redrive:{message['MessageId']}",
            )
            failpoint("redrive.sent")
            self.client.delete_message(
                QueueUrl=self.dead_letter_url, ReceiptHandle=message["ReceiptHandle"]
            )
            count += 1
        return count

    def _receive_dead(self) -> Iterator[MessageTypeDef]:
        while True:
            answer = self.client.receive_message(
                QueueUrl=self.dead_letter_url,
                MaxNumberOfMessages=LARGEST_BATCH,
                MessageSystemAttributeNames=["MessageGroupId", "MessageDeduplicationId"],
            )
            messages = answer.get("Messages", [])
            if not messages:
                return
            yield from messages

    def waiting(self) -> Waiting:
        """About how many messages there are; SQS counts roughly."""
        names: Sequence[QueueAttributeNameType] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ]
        live, dead = (self._attributes(name, names) for name in (self.name, self.dead_letter_name))
        visible, in_flight = (int(live[name]) for name in names)
        return Waiting(visible, in_flight, dead=sum(int(dead[name]) for name in names))


def entry(message: Outgoing, *, queue: str) -> SendMessageBatchRequestEntryTypeDef:
    """A dispatch as an entry of SendMessageBatch; raises Unreadable if no worker could read it.

    The group is the creator, never kombu's silent 'default'; the deduplication id names the dispatch.
    """
    try:
        kwargs = json.loads(message.payload)
        receive = read_receive(kwargs, count=1)
    except (ValueError, TypeError) as fault:
        raise Unreadable(f"the payload is no JSON object: {fault}") from None
    if kwargs.get("creator_id") != str(message.key):
        raise Unreadable(f"the payload's creator is not the row's key {message.key}")
    return {
        "Id": str(message.id),
        "MessageBody": encode(task=TASK, task_id=str(message.event_id), kwargs=kwargs, queue=queue),
        "MessageGroupId": str(message.key),
        "MessageDeduplicationId": f"{receive.charge_id}:{receive.round}:{receive.dispatch}",
    }


def _receive_in(body: str) -> Receive | None:
    try:
        return read_receive(decode(body).kwargs, count=RECEIVES)
    except Unreadable:
        return None


def _comparable(key: str, value: str) -> object:
    """AWS writes numbers inside a RedrivePolicy as text or not, as it likes."""
    if key != "RedrivePolicy" or not value:
        return value
    policy = json.loads(value)
    return policy.get("deadLetterTargetArn"), int(policy.get("maxReceiveCount", 0))
