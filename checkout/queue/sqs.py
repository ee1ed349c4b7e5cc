"""The two queues themselves: their attributes, sending, dead letters, redrive, and how full they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final
from uuid import UUID

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

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
from checkout.queue.envelope import TASK, encode

if TYPE_CHECKING:  # the stubs are not in the image
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchRequestEntryTypeDef

    Attributes = Mapping[QueueAttributeNameType, str]

RECEIVES: Final = 3
RETENTION_SECONDS: Final = 1_209_600  # 14 days, the longest there is
LARGEST_BATCH: Final = 10
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
