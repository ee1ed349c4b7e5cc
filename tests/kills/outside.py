"""What stands outside the service and survives its processes: processor, queue, topic, clients.

It lives in the parent. A child asks through a pipe; the parent asks itself. Both use the product's own
adapters (gateway, queue) over `Ask`, so that what a child does up to its death is what the product does.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx

from checkout.clock import Ages
from checkout.gateways.sandbox import SandboxGateway
from checkout.messages import Acknowledged, Answer, Outgoing, Refused
from checkout.queue import Queue
from checkout.topics import InvalidEvent, validate_payload
from processor.journal import Journal
from processor.orders import read_order, read_reference
from processor.sandbox import Reply, Sandbox, event_of
from tests.fakes import FakeClock, ProcessorClock
from tests.simulation.queue import FifoQueue, Message

Ask = Callable[..., Any]

LANE = "cis"
QUEUE, DEAD_LETTERS = "kills.fifo", "kills-dead.fifo"
PENDING_EXPIRES_SECONDS = 2000
_LOST: Mapping[str, type[httpx.TransportError]] = {
    kind.__name__: kind for kind in (httpx.ReadTimeout, httpx.RemoteProtocolError)
}
_DELIVERED_AS = {"silence": "ReadTimeout", "hangup": "RemoteProtocolError"}


class Outside:
    """Answers what a process of the service asks; `answer(door, *question)`."""

    def __init__(self, clock: FakeClock, *, ages: Ages) -> None:
        self.clock = clock
        self.queue = Sqs(clock, visibility=ages.visibility)
        self.records: list[Outgoing] = []
        self.announced: list[dict[str, Any]] = []
        self.processor = Sandbox(
            journal=Journal.in_memory(),
            clock=ProcessorClock(clock),
            announce=lambda line: self.announced.append(event_of(line)),
        )
        self.processor.instruct(
            {"webhooks": "resolved", "pending_expires_seconds": PENDING_EXPIRES_SECONDS}
        )
        # What clients asked for, by key; and the keys that were answered.
        self.orders: dict[str, dict[str, str]] = {}
        self.accepted: set[str] = set()
        self.complaints: list[str] = []

    def answer(self, door: str, *question: Any) -> Any:
        return getattr(self, f"on_{door}")(*question)

    # --- The processor -----------------------------------------------------------------------------

    def on_http(self, method: str, path: str, key: str, body: bytes) -> tuple[int | str, bytes]:
        """Status and body, or the name of the error with which the connection ends."""
        reply = self._reply(method, path.split("/"), key, body)
        if reply.delivery in _DELIVERED_AS:
            return _DELIVERED_AS[reply.delivery], b""
        if reply.delivery == "server_error":
            return 500, b"{}"
        text = json.dumps(reply.body).encode()
        return reply.status, text[: len(text) // 2] if reply.delivery == "garbled" else text

    def _reply(self, method: str, parts: list[str], key: str, body: bytes) -> Reply:
        if method == "GET":
            return self.processor.query(read_reference(parts[3]))
        if parts[-1] == "expire":
            return self.processor.expire(read_reference(parts[3]))
        return self.processor.charge(read_order(body, key=key))

    # --- SQS -----------------------------------------------------------------------------------------

    def on_sqs(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return cast(dict[str, Any], getattr(self.queue, operation)(**parameters))

    def on_receive(self, charge_id: UUID | None = None) -> Message | None:
        """The first there is, or the first of a charge: SQS keeps no order among groups."""
        heads = self.queue.heads()
        mine = [head for head in heads if head.receive().charge_id == charge_id]
        return self.queue.receive((mine or heads)[0]) if heads else None

    def on_delete(self, message: Message) -> bool:
        return self.queue.delete(message)

    def on_leave(self, message: Message, seconds: float) -> bool:
        return self.queue.leave(message, seconds=seconds)

    # --- Kafka ---------------------------------------------------------------------------------------

    def on_produce(self, messages: Sequence[Outgoing]) -> list[Answer]:
        return [self._append(message) for message in messages]

    def _append(self, message: Outgoing) -> Answer:
        try:
            validate_payload(message.type, message.payload)
        except InvalidEvent as fault:
            return Refused(message.id, str(fault), permanent=True)
        self.records.append(message)
        return Acknowledged(message.id, 0, len(self.records) - 1)

    def on_read_back(self, first: int) -> list["Record"]:
        records = enumerate(self.records)
        return [record_of(offset, each) for offset, each in records if offset >= first]

    # --- Clients, and what a process logs --------------------------------------------------------------

    def on_asked(self, order: dict[str, str]) -> str:
        """Note what a client is about to ask for; its key."""
        key = f"key-{len(self.orders) + 1}"
        self.orders[key] = order
        return key

    def on_accepted(self, key: str) -> None:
        self.accepted.add(key)

    def on_complaint(self, text: str) -> None:
        self.complaints.append(text)


class Sqs(FifoQueue):
    """The simulated queue as SQS's own operations, as far as checkout/queue.py uses them."""

    def __init__(self, clock: FakeClock, *, visibility: float) -> None:
        super().__init__(clock, visibility=visibility)
        self._seen: dict[str, datetime] = {}

    def get_queue_url(self, QueueName: str) -> dict[str, Any]:  # noqa: N803  SQS's own names
        return {"QueueUrl": QueueName}

    def send_message_batch(self, QueueUrl: str, Entries: Any) -> dict[str, Any]:  # noqa: N803
        for each in Entries:
            self._add(each["MessageGroupId"], each["MessageBody"], each["MessageDeduplicationId"])
        return {"Successful": [{"Id": each["Id"]} for each in Entries]}

    def send_message(self, **message: str) -> dict[str, Any]:
        kind, _, redriven = message["MessageDeduplicationId"].partition(":")
        if kind == "redrive" and redriven in self.died:
            self.died.remove(redriven)
        group, deduplication = message["MessageGroupId"], message["MessageDeduplicationId"]
        self._add(group, message["MessageBody"], deduplication)
        return {}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        """Dead letters alone: they are invisible for a while to whoever asks again."""
        self.heads()
        now = self.clock.real_now()
        hidden = timedelta(seconds=self.visibility)
        letters = [m for m in self.dead if now - self._seen.get(m.id, now - hidden) >= hidden]
        self._seen |= {message.id: now for message in letters}
        return {"Messages": [_as_received(message) for message in letters[:10]]}

    def delete_message(self, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:  # noqa: N803
        self.dead = [message for message in self.dead if message.id != ReceiptHandle]
        return {}


def _as_received(message: Message) -> dict[str, Any]:
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.id,
        "Body": message.body,
        "Attributes": {"MessageGroupId": message.group},
    }


@dataclass(frozen=True)
class SqsClient:
    """Stands where a boto3 client does."""

    ask: Ask

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **parameters: self.ask("sqs", operation, parameters)


def queue(ask: Ask) -> Queue:
    """The product's own queue over `ask`."""
    return Queue(client=cast(Any, SqsClient(ask)), name=QUEUE, dead_letter_name=DEAD_LETTERS)


def gateway(ask: Ask, *, ages: Ages) -> SandboxGateway:
    """The product's own gateway over `ask`."""

    def carry(request: httpx.Request) -> httpx.Response:
        # The first byte leaves: from here on "not sent" is not believed.
        request.extensions["trace"]("http11.send_request_headers.started", {})
        key = request.headers.get("Idempotency-Key", "")
        status, body = ask("http", request.method, request.url.path, key, request.content)
        if isinstance(status, str):
            raise _LOST[status]("simulated", request=request)
        return httpx.Response(status, content=body)

    return SandboxGateway(
        url="http://processor.invalid",
        api_key="key",
        account=LANE,
        webhook_secret="none: webhooks come by the API",
        minimum_age=timedelta(seconds=ages.not_found_after),
        not_found_repeats=ages.not_found_repeats,
        idempotent_for=timedelta(seconds=ages.idempotent_for),
        transport=httpx.MockTransport(carry),
    )


@dataclass(frozen=True)
class Record:
    """A record of the topic, as settlements/topic.py reads it."""

    partition: int
    offset: int
    key: str
    event_id: UUID | None
    sequence: int | None
    sha256: str


def record_of(offset: int, message: Outgoing) -> Record:
    sha256 = hashlib.sha256(message.payload.encode()).hexdigest()
    return Record(0, offset, str(message.key), message.event_id, message.event_seq, sha256)


@dataclass(frozen=True)
class Reader:
    """The topic's reader over `ask`."""

    ask: Ask

    def read_back(self, *, offsets: Mapping[int, int]) -> Iterator[Record]:
        yield from self.ask("read_back", offsets.get(0, 0))
