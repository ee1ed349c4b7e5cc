"""The SQS adapter against a real FIFO server: attributes, sending, dead letters, redrive."""

import json
from base64 import b64decode
from io import StringIO
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from kombu.transport import memory
from kombu.utils.url import parse_url

from checkout.messages import Acknowledged, Outgoing, Refused, decode, read_receive
from checkout.queue import RETENTION_SECONDS, TASK, Queue, broker_url, client, encode, entry
from devstack.ports import free_port
from devstack.sqs import Sqs
from tests.queues import creator_id, dispatch, new_queue


@pytest.fixture
def queue(sqs: Sqs | None) -> Queue:
    return new_queue()


def receive(queue: Queue, most: int = 10, **more: Any) -> list[Any]:
    answer = queue.client.receive_message(
        QueueUrl=queue.url,
        MaxNumberOfMessages=most,
        MessageSystemAttributeNames=["All"],
        **more,
    )
    return list(answer.get("Messages", []))


# --- Attributes ------------------------------------------------------------------------------------


def test_queues_have_the_declared_attributes(queue: Queue) -> None:
    live = queue._attributes(queue.name, ["All"])
    dead = queue._attributes(queue.dead_letter_name, ["All"])

    for found in (live, dead):
        assert found["FifoQueue"] == "true"
        assert found["MessageRetentionPeriod"] == str(RETENTION_SECONDS)
        assert found["VisibilityTimeout"] == "5"
    policy = json.loads(live["RedrivePolicy"])
    assert int(policy["maxReceiveCount"]) == 3
    assert policy["deadLetterTargetArn"] == dead["QueueArn"]


def test_declaring_twice_changes_nothing_and_a_wrong_attribute_is_corrected(queue: Queue) -> None:
    again = queue.create(visibility=5)
    queue.client.set_queue_attributes(
        QueueUrl=queue.url,
        Attributes={"VisibilityTimeout": "30", "MessageRetentionPeriod": "60"},
    )
    corrected = queue.create(visibility=5)

    assert again == []
    assert len(corrected) == 2
    assert queue.create(visibility=5) == []


def test_visibility_of_a_fraction_is_rounded_up(sqs: Sqs | None) -> None:
    queue = new_queue(visibility=1.2)

    assert queue._attributes(queue.name, ["All"])["VisibilityTimeout"] == "2"


def test_create_queues_command_says_what_it_did(sqs: Sqs | None, settings: Any) -> None:
    settings.SQS_QUEUE, settings.SQS_DEAD_LETTER_QUEUE = "command.fifo", "command-dlq.fifo"
    answers = []
    for _ in range(2):
        out = StringIO()
        call_command("create_queues", "--json", stdout=out)
        answers.append(json.loads(out.getvalue())["changed"])

    assert answers == [["created command-dlq.fifo", "created command.fifo"], []]


# --- Sending ---------------------------------------------------------------------------------------


def test_a_batch_keeps_group_order_and_count(queue: Queue) -> None:
    messages = [dispatch(who, number) for number in range(1, 13) for who in ("aigerim", "timur")]

    answers = queue.send(messages)

    assert answers == [Acknowledged(message.id) for message in messages]
    received = receive(queue)
    groups = {message["Attributes"]["MessageGroupId"] for message in received}
    assert groups <= {str(creator_id("aigerim")), str(creator_id("timur"))}
    first = decode(received[0]["Body"])
    assert first.task == TASK
    assert read_receive(first.kwargs, count=1).dispatch == 1


def test_the_same_dispatch_again_is_dropped_by_the_queue(queue: Queue) -> None:
    """F5: sent but not marked, so sent again."""
    message = dispatch("aigerim", 1)

    queue.send([message])
    answers = queue.send([message])

    assert answers == [Acknowledged(message.id)]
    assert queue.waiting().visible == 1


def test_a_message_that_no_worker_could_read_is_refused_for_good(queue: Queue) -> None:
    good, other = dispatch("aigerim", 2), dispatch("timur", 1)
    bad = with_payload(dispatch("aigerim", 1), '{"round": 1}')

    first, behind, beside = queue.send([bad, good, other])

    assert isinstance(first, Refused)
    assert first.permanent
    assert beside == Acknowledged(other.id)
    # In the same call of ten it may have left already; the relay sends it again, SQS drops it.
    assert behind.id == good.id


def with_payload(message: Outgoing, payload: str) -> Outgoing:
    return message._replace(payload=payload)


@pytest.mark.parametrize(
    "payload",
    [
        "no json",
        "[]",
        '{"charge_id": "x", "round": 1, "dispatch": 1}',
        json.dumps({"charge_id": str(creator_id("c")), "round": 1, "dispatch": 1}),
        json.dumps(
            {
                "charge_id": str(creator_id("c")),
                "round": 1,
                "dispatch": 1,
                "creator_id": "default",
            }
        ),
    ],
)
def test_no_message_goes_to_a_group_that_is_not_its_creator(queue: Queue, payload: str) -> None:
    """kombu would put it into the group 'default' without a word (MEASURED)."""
    [answer] = queue.send([with_payload(dispatch("aigerim", 1), payload)])

    assert isinstance(answer, Refused)
    assert answer.permanent
    assert queue.waiting().visible == 0


def test_an_outage_refuses_all_for_now_and_quickly(sqs: Sqs | None) -> None:
    away = Queue(
        client(
            endpoint_url=f"http://127.0.0.1:{free_port()}",
            region="us-east-1",
            access_key="test",
            secret="test",
        ),
        "away.fifo",
        "away-dlq.fifo",
    )

    answers = away.send([dispatch("aigerim", number) for number in range(1, 31)])

    assert len(answers) == 30
    assert all(isinstance(each, Refused) and not each.permanent for each in answers)


def test_the_envelope_is_what_celery_itself_would_send(queue: Queue) -> None:
    """F26: old and new workers read both."""
    message = dispatch("aigerim", 1)
    kwargs = json.loads(message.payload)
    app = Celery("plain", set_as_current=False, fixups=[])
    task = app.amqp.as_task_v2(str(message.event_id), TASK, kwargs=kwargs, ignore_result=True)
    captured: list[Any] = []
    transport: Any = type("Capturing", (memory.Transport,), {"Channel": capturing(captured)})
    with app.connection_for_write(transport=transport) as connection:
        app.amqp.send_task_message(
            connection.Producer(), TASK, task, routing_key=queue.name, exchange=""
        )
    ours = json.loads(b64decode(entry(message, queue=queue.name)["MessageBody"]))

    [theirs] = captured
    assert ours["body"] == theirs["body"]
    assert ours["content-type"] == theirs["content-type"]
    assert ours["content-encoding"] == theirs["content-encoding"]
    assert ours["headers"].keys() == theirs["headers"].keys()
    assert ours["headers"]["task"] == theirs["headers"]["task"]
    assert ours["properties"].keys() - theirs["properties"].keys() == set()
    assert ours["properties"]["body_encoding"] == theirs["properties"]["body_encoding"]


def capturing(captured: list[Any]) -> type:
    """A channel that keeps what it is told to send."""

    def put(channel: object, queue: str, message: Any, **_: Any) -> None:
        captured.append(message)

    return type("CapturingChannel", (memory.Channel,), {"_put": put})


def test_broker_url_survives_any_secret() -> None:
    url = broker_url(endpoint_url="http://127.0.0.1:4566", access_key="k/+:@", secret="s/+:@")

    parts = parse_url(url)
    assert (parts["userid"], parts["password"]) == ("k/+:@", "s/+:@")
    assert (parts["hostname"], parts["port"]) == ("127.0.0.1", 4566)
    assert broker_url(endpoint_url="", access_key="", secret="") == "sqs://"


# --- Dead letters ----------------------------------------------------------------------------------


def bury(queue: Queue, body: str, *, group: str) -> None:
    """Put a message into the dead-letter queue, as SQS itself does after three receives."""
    queue.client.send_message(
        QueueUrl=queue.dead_letter_url,
        MessageBody=body,
        MessageGroupId=group,
        MessageDeduplicationId=str(abs(hash(body))),
    )


def test_dead_letters_say_what_they_were(queue: Queue) -> None:
    body = entry(dispatch("aigerim", 1), queue=queue.name)["MessageBody"]
    bury(queue, body, group=str(creator_id("aigerim")))
    bury(queue, "not ours", group="x")

    letters = {letter.receive is not None: letter for letter in queue.dead_letters()}

    readable, unreadable = letters[True], letters[False]
    assert readable.receive is not None
    assert readable.receive.dispatch == 1
    assert "checkout.attempt_charge" in readable.body
    assert unreadable.body == "not ours"
    queue.delete(readable)
    assert queue.waiting().dead == 1


def test_redrive_sends_each_dead_letter_again_with_its_group(queue: Queue) -> None:
    """F25: the group is the creator's; the deduplication id is new, so that it is not dropped."""
    first = dispatch("aigerim", 1)
    queue.send([first])
    [received] = receive(queue)
    queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=received["ReceiptHandle"])
    bury(queue, received["Body"], group=str(first.key))

    counts = [queue.redrive(), queue.redrive()]

    [again] = receive(queue)
    assert counts == [1, 0]
    assert again["Attributes"]["MessageGroupId"] == str(first.key)
    assert again["Body"] == received["Body"]
    assert queue.waiting().dead == 0


def test_a_fourth_receive_does_not_happen(sqs: Sqs | None) -> None:
    """Counts 1, 2, 3, then the dead-letter queue; the body is the whole message."""
    queue = new_queue(visibility=1)
    queue.send([dispatch("aigerim", 1)])
    counts = []
    for _ in range(3):
        [message] = receive(queue, WaitTimeSeconds=5)
        counts.append(message["Attributes"]["ApproximateReceiveCount"])

    none = receive(queue, WaitTimeSeconds=2)

    assert counts == ["1", "2", "3"]
    assert none == []
    assert queue.waiting().dead == 1


def test_encoding_needs_no_current_app() -> None:
    assert decode(encode(task="t", task_id="i", kwargs={"a": 1}, queue="q")).kwargs == {"a": 1}
