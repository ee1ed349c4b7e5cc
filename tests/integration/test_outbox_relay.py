"""The relay's half of the outbox: depth, sending again by hand, the command lines."""

import json
from datetime import timedelta
from io import StringIO
from itertools import islice
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from checkout import outbox
from checkout.models import Creator, Door, PendingMessage
from checkout.relay import relay_batch
from tests import factories
from tests.fakes import FakeBroker, FakeClock
from tests.relays import direct, rows, tell, unpublished

pytestmark = pytest.mark.django_db(transaction=True)

WHY = ("--reason", "the broker lost an hour")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def aigerim(clock: FakeClock) -> Creator:
    return factories.creator(clock=clock)


def publish(broker: FakeBroker, clock: FakeClock) -> None:
    with direct() as lock_connection:
        relay_batch(
            door=Door.KAFKA,
            send=broker.send,
            now=clock.real_now(),
            lock_connection=lock_connection,
        )


def test_depth_counts_and_ages_by_door(clock: FakeClock, aigerim: Creator) -> None:
    clock.forward(seconds=90)
    tell(aigerim, 1, clock=clock)
    clock.forward(seconds=10)

    found = outbox.depth(now=clock.real_now())

    assert found[Door.KAFKA] == outbox.Depth(waiting=2, oldest_seconds=100.0)
    assert found[Door.SQS] == outbox.Depth()


def test_republish_sends_again_in_order_with_the_same_ids(
    clock: FakeClock, aigerim: Creator
) -> None:
    """R44: a broker that lost its last records gets them again; safe twice."""
    broker = FakeBroker()
    publish(broker, clock)
    clock.forward(seconds=60)
    since = clock.real_now()
    tell(aigerim, 1, 2, 3, clock=clock)
    publish(broker, clock)
    first = [message.event_id for message in broker.log]
    until = clock.real_now() + timedelta(seconds=1)

    counts = [sum(outbox.republish(door=Door.KAFKA, since=since, until=until)) for _ in range(2)]
    publish(broker, clock)

    assert counts == [3, 0]
    assert [message.event_id for message in broker.log] == first + first[1:]
    assert not unpublished()


def test_republish_ends_though_a_relay_marks_what_it_sends_again(
    clock: FakeClock, aigerim: Creator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an `until` ahead of us, what the relay marks now was published within that time as well."""
    monkeypatch.setattr("checkout.outbox.REPUBLISH_BATCH", 1)
    broker, since = FakeBroker(), clock.real_now()
    tell(aigerim, 1, 2, clock=clock)
    publish(broker, clock)
    until = since + timedelta(hours=1)

    sizes = []
    for size in islice(outbox.republish(door=Door.KAFKA, since=since, until=until), 10):
        publish(broker, clock)
        sizes.append(size)

    assert sizes == [1] * (len(broker.log) // 2)
    assert len(sizes) < 10


def test_republish_command_counts(clock: FakeClock, aigerim: Creator) -> None:
    publish(FakeBroker(), clock)
    out = StringIO()

    call_command("republish", "--since", clock.real_now().isoformat(), *WHY, "--json", stdout=out)

    assert json.loads(out.getvalue()) == {"messages": 1}
    assert len(unpublished()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--since", "2026-01-31T12:00:00"],
        ["--parked", "7"],
        [],
        ["--parked", "00000000-0000-5000-8000-000000000001"],
    ],
)
def test_republish_refuses_what_it_cannot_read(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("republish", *arguments, *WHY)


def test_parked_row_is_released_by_command(clock: FakeClock, aigerim: Creator) -> None:
    [row] = rows(aigerim)
    PendingMessage.objects.filter(pk=row.pk).update(parked_at=clock.real_now())

    call_command("republish", "--parked", str(row.event_id), *WHY, stdout=StringIO())

    assert PendingMessage.objects.get(pk=row.pk).parked_at is None


def test_a_claim_reads_only_unpublished_rows(clock: FakeClock, aigerim: Creator) -> None:
    """Ten times a second, beside any number of published rows."""
    with direct() as lock_connection:
        lock_connection.execute(
            """
            INSERT INTO checkout_outboxmessage (event_id, door, key, event_seq, type, subject,
              payload, payload_sha256, created_at, available_at)
            SELECT gen_random_uuid(), 'kafka', %(key)s, 1 + n, 'creator.created', %(key)s, '{}', '',
              %(now)s, %(now)s
            FROM generate_series(1, 30000) n
            """,
            {"key": aigerim.pk, "now": clock.real_now()},
        )
        lock_connection.execute("ANALYZE checkout_outboxmessage, checkout_pendingmessage")
        plan: Any = lock_connection.execute(
            "EXPLAIN " + outbox._CLAIM,
            {"door": "kafka", "now": clock.real_now(), "limit": 1000, "after": 0},
        ).fetchall()
    text = "\n".join(line for (line,) in plan)

    assert "Index Scan using checkout_outboxmessage_pkey" in text, text
    assert "pending_parked" in text, text  # a parked row holds back its key
    assert "Seq Scan" not in text, text
