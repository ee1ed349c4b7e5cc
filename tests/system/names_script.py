"""Four long-lived clients that are asked again and again, each by a name: what they hear, a line each time.

Started by test_names.py with its own /etc/hosts. A line of standard input asks all of them once more.
"""

import json
import sys
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import django
from django.conf import settings
from django.db import connection

from checkout import wiring
from checkout.commit import DatabaseAway, committed
from checkout.gateways import InDoubt
from checkout.messages import Outgoing, Refused
from checkout.queue import client
from checkout.topics import EventProducer


def main() -> None:
    django.setup()
    asked = clients()
    for _ in sys.stdin:
        heard = {name: ask() for name, ask in asked.items()}
        sys.stdout.write(json.dumps(heard) + "\n")
        sys.stdout.flush()


def clients() -> dict[str, Callable[[], bool]]:
    """Each says whether it was answered; built once, as a process builds them."""
    sqs = client(
        endpoint_url=settings.SQS_ENDPOINT_URL,
        region="us-east-1",
        access_key="test",
        secret="test",
    )
    gateway = wiring.gateways()["cis"]
    producer = EventProducer(settings.KAFKA_BOOTSTRAP_SERVERS, topic="names", timeout=3)

    def database() -> bool:
        return answered(lambda: committed(one, deadline=0, clock=wiring.clock()), DatabaseAway)

    def queue() -> bool:
        return answered(sqs.list_queues, Exception)

    def processor() -> bool:
        answer = gateway.query(uuid.UUID(int=7), deadline=3)
        return not (isinstance(answer, InDoubt) and answer.reason.startswith("not answered"))

    def broker() -> bool:
        return not any(isinstance(each, Refused) for each in producer.send(event()))

    return {"database": database, "queue": queue, "processor": processor, "broker": broker}


def one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def answered(ask: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        ask()
    except refusal:
        return False
    return True


def event() -> Sequence[Outgoing]:
    """One record of our own kind."""
    payload = {
        "creator_id": str(uuid.UUID(int=1)),
        "occurred_at": datetime(2026, 1, 31, tzinfo=UTC).isoformat(),
    }
    return [
        Outgoing(
            id=1,
            event_id=uuid.UUID(int=2),
            key=uuid.UUID(int=1),
            event_seq=1,
            type="creator.created",
            subject=uuid.UUID(int=1),
            payload=json.dumps(payload),
            created_at=datetime(2026, 1, 31, tzinfo=UTC),
        )
    ]


if __name__ == "__main__":
    main()
