"""Committed messages for the relay's tests, and the direct connection it works on."""

from typing import Any
from uuid import uuid5

import psycopg
from django.db import connection, transaction

from checkout import outbox
from checkout.models import Creator, OutboxMessage
from tests.fakes import FakeClock


def database_url() -> str:
    """The test database as a URL, for direct connections and other processes."""
    facts = connection.settings_dict
    return (
        f"postgresql://{facts['USER']}:{facts['PASSWORD']}@{facts['HOST']}:{facts['PORT']}"
        f"/{facts['NAME']}"
    )


def direct() -> psycopg.Connection[Any]:
    """A connection of its own, as wiring.direct_connection makes it."""
    return psycopg.connect(database_url(), autocommit=True)


def tell(creator: Creator, *numbers: int, clock: FakeClock) -> None:
    """Commit one event of this creator for each number, each in a transaction of its own."""
    for number in numbers:
        with transaction.atomic():
            Creator.lock([creator.pk])
            record(creator, number, clock=clock)


def record(creator: Creator, number: int, *, clock: FakeClock) -> None:
    """Record one event in the caller's transaction."""
    now = clock.now()
    instrument = uuid5(creator.pk, str(number))
    outbox.record_event(
        creator_id=creator.pk,
        type="instrument.added",
        subject=instrument,
        data={
            "creator_id": str(creator.pk),
            "instrument_id": str(instrument),
            "occurred_at": now.business.isoformat(),
        },
        now=now,
    )


def unpublished(door: str = "kafka") -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(pending__door=door).order_by("id"))


def rows(creator: Creator, door: str = "kafka") -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(door=door, key=creator.pk).order_by("id"))
