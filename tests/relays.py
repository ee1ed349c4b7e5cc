"""Messages for the relay's tests, committed or made up, the direct connection, and what must come of them."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid5

import psycopg
from django.db import connection, transaction

from checkout import outbox
from checkout.messages import Outgoing
from checkout.models import Creator, OutboxMessage
from tests.fakes import FakeClock

_numbers = count(1)


def database_url(name: str = "") -> str:
    """The test database, or another of its server, as a URL for direct connections and processes."""
    facts = connection.settings_dict
    return (
        f"postgresql://{facts['USER']}:{facts['PASSWORD']}@{facts['HOST']}:{facts['PORT']}"
        f"/{name or facts['NAME']}"
    )


def direct(name: str = "") -> psycopg.Connection[Any]:
    """A connection of its own, as wiring.direct_connection makes it.

    To the database `postgres` for what is done to the server: no rule of ours holds there.
    """
    return psycopg.connect(database_url(name), autocommit=True)


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


def outgoing(creator: UUID, sequence: int, *, payload: str = "") -> Outgoing:
    """An event as a relay claims it, of a creator that no database knows."""
    facts = {"creator_id": str(creator), "occurred_at": "2026-01-31T12:00:00+00:00"}
    return Outgoing(
        id=next(_numbers),
        event_id=uuid5(creator, str(sequence)),
        key=creator,
        event_seq=sequence,
        type="creator.created",
        subject=creator,
        payload=payload or outbox.encode(facts),
        created_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    )


def unpublished(door: str = "kafka") -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(pending__door=door).order_by("id"))


def rows(creator: Creator, door: str = "kafka") -> list[OutboxMessage]:
    return list(OutboxMessage.objects.filter(door=door, key=creator.pk).order_by("id"))


def astray(records: Sequence[Outgoing], *, committed: Collection[OutboxMessage]) -> Iterator[str]:
    """I4, I5: records and committed rows are the same, each creator's in order; a repetition is none."""
    rows = {row.event_id: row for row in committed}
    first: dict[UUID, list[int | None]] = defaultdict(list)
    seen: set[UUID | None] = set()
    for sent in records:
        row = rows.get(sent.event_id)
        if row is None or row.payload != sent.payload:
            yield f"record {sent.type} {sent.event_id} has no committed row"
        if sent.event_id not in seen:
            seen.add(sent.event_id)
            first[sent.key].append(sent.event_seq)
    for row in rows.values():
        if row.event_id not in seen:
            yield f"{row.type} of {row.subject} is not in the topic"
    for creator in Creator.objects.all():
        if first[creator.pk] != list(range(1, creator.event_seq + 1)):
            yield f"events of {creator.pk} came as {first[creator.pk]} of {creator.event_seq}"
