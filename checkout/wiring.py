"""Builds the adapters from the settings, nowhere else; edges pass them on."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings

from checkout.clock import Ages, Clock
from checkout.gateways import Gateway
from checkout.gateways.sandbox import SandboxGateway
from checkout.link import Link
from checkout.queue import Queue, client
from checkout.topics import EventProducer, Topic, TopicReader, Topics

DIRECT_SECONDS: Final = 30.0


def clock() -> Clock:
    """The two clocks; the business clock follows CLOCK_FILE, where that is allowed."""
    return Clock(Path(settings.CLOCK_FILE) if settings.CLOCK_FILE else None)


def ages() -> Ages:
    """Every age and deadline, in seconds."""
    ages: Ages = settings.AGES
    return ages


@cache
def gateways() -> Mapping[str, Gateway]:
    """The processor account of each lane."""
    return {
        lane: SandboxGateway(
            url=settings.PROCESSOR_URL,
            api_key=settings.PROCESSOR_API_KEY,
            account=facts["account"],
            webhook_secret=settings.PROCESSOR_WEBHOOK_SECRET,
            minimum_age=timedelta(seconds=ages().not_found_after),
            not_found_repeats=ages().not_found_repeats,
            idempotent_for=timedelta(seconds=ages().idempotent_for),
            processor=facts["processor"],
        )
        for lane, facts in settings.LANES.items()
    }


def queue() -> Queue:
    """The queue of dispatches with its dead-letter queue; nothing is asked of SQS yet."""
    return Queue(
        client=client(
            endpoint_url=settings.SQS_ENDPOINT_URL,
            region=settings.AWS_REGION,
            access_key=settings.AWS_ACCESS_KEY_ID,
            secret=settings.AWS_SECRET_ACCESS_KEY,
        ),
        name=settings.SQS_QUEUE,
        dead_letter_name=settings.SQS_DEAD_LETTER_QUEUE,
    )


def topic() -> Topic:
    """The topic as it must be on the broker."""
    return Topic(
        partitions=settings.KAFKA_PARTITIONS, replication=settings.KAFKA_REPLICATION_FACTOR
    )


def topics() -> Topics:
    """Declares and verifies topics."""
    return Topics(settings.KAFKA_BOOTSTRAP_SERVERS)


def producer() -> EventProducer:
    """Sends events; for the relay alone."""
    return EventProducer(settings.KAFKA_BOOTSTRAP_SERVERS, timeout=settings.KAFKA_MESSAGE_TIMEOUT)


def topic_reader() -> TopicReader:
    """Reads the topic back, for reconciliation."""
    return TopicReader(settings.KAFKA_BOOTSTRAP_SERVERS)


def direct_connection(*, name: str) -> psycopg.Connection[Any]:
    """A connection of its own past any pooler, for session locks; raises psycopg.OperationalError.

    It breaks when a statement takes longer than DIRECT_SECONDS, and the locks go to whoever stands by.
    """
    link = Link.connect(
        settings.DATABASE_DIRECT_URL,
        autocommit=True,
        application_name=name,
        **settings.DATABASES["default"]["OPTIONS"],
    )
    link.longest = DIRECT_SECONDS
    return link
