"""The relay on real PostgreSQL, its brokers in memory: marks, order, parking, leadership."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from checkout import outbox
from checkout.clock import Clock
from checkout.messages import Refused
from checkout.models import Case, CaseKind, Creator, Door, Heartbeat, OutboxMessage, PendingMessage
from checkout.relay import ENDED, Batch, MarkFailed, Relay, relay_backlog, relay_batch
from tests import factories
from tests.factories import World
from tests.fakes import FakeBroker, FakeClock
from tests.relays import direct, record, rows, tell, unpublished
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def lock_connection() -> Iterator[psycopg.Connection[Any]]:
    with direct() as opened:
        yield opened


@pytest.fixture
def aigerim(clock: FakeClock) -> Creator:
    return factories.creator(clock=clock)


@pytest.fixture
def timur(clock: FakeClock) -> Creator:
    return factories.creator(clock=clock)


def relay(
    broker: FakeBroker,
    clock: FakeClock,
    lock_connection: psycopg.Connection[Any],
    *,
    door: Door = Door.KAFKA,
    limit: int = 1000,
) -> Batch:
    return relay_batch(
        door=door,
        send=broker.send,
        now=clock.real_now(),
        lock_connection=lock_connection,
        limit=limit,
    )


def refuse(message: OutboxMessage, *, permanent: bool) -> dict[Any, Refused]:
    return {message.event_id: Refused(message.pk, "too large", permanent=permanent)}


def test_what_was_acknowledged_is_marked_with_its_place(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator
) -> None:
    """R44"""
    tell(aigerim, 1, 2, clock=clock)

    done = relay(broker, clock, lock_connection)

    assert done == Batch(3, outbox.Settled(marked=3))
    assert broker.sequences(aigerim.pk) == [1, 2, 3]
    assert [(m.published.published_at, m.published.kafka_offset) for m in rows(aigerim)] == [
        (clock.real_now(), offset) for offset in range(3)
    ]
    assert [m.waiting for m in rows(aigerim)] == [None] * 3
    assert relay(broker, clock, lock_connection).read == 0


def test_payload_goes_out_as_it_was_committed(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator
) -> None:
    relay(broker, clock, lock_connection)

    [sent], [row] = broker.log, rows(aigerim)
    assert sent.payload == row.payload
    assert outbox.digest(sent.payload) == row.payload_sha256


def test_after_a_failed_row_later_rows_of_its_key_are_sent_again_behind_it(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator, timur: Creator
) -> None:
    """R44: order per creator; the others are not held up."""
    tell(aigerim, 1, 2, clock=clock)
    tell(timur, 1, clock=clock)
    failed = rows(aigerim)[1]
    broker.refusals = refuse(failed, permanent=False)

    first = relay(broker, clock, lock_connection)
    waits = PendingMessage.objects.get(pk=failed.pk)
    broker.refusals = {}
    relay(broker, clock, lock_connection)

    assert first.settled == outbox.Settled(marked=3, again=2)
    assert broker.sequences(aigerim.pk) == [1, 3, 2, 3]
    assert broker.sequences(timur.pk) == [1, 2]
    assert (waits.tries, waits.last_error) == (1, "too large")
    assert not unpublished()


def test_a_row_refused_for_good_is_parked_with_a_case_and_holds_only_its_key(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator, timur: Creator
) -> None:
    tell(aigerim, 1, 2, clock=clock)
    bad = rows(aigerim)[1]
    broker.refusals = refuse(bad, permanent=True)

    relay(broker, clock, lock_connection)
    tell(aigerim, 3, clock=clock)
    tell(timur, 1, clock=clock)
    relay(broker, clock, lock_connection)

    case = Case.objects.get()
    assert (case.kind, case.subject) == (CaseKind.PARKED_MESSAGE, str(bad.event_id))
    assert case.creator == aigerim
    assert "too large" in case.reason
    assert broker.sequences(timur.pk) == [1, 2]
    assert [row.waiting is None for row in rows(aigerim)] == [True, False, False, False]
    assert outbox.depth(now=clock.real_now())[Door.KAFKA].parked == 1


def test_a_released_row_is_sent_before_those_it_held(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator
) -> None:
    tell(aigerim, 1, 2, clock=clock)
    bad = rows(aigerim)[1]
    broker.refusals = refuse(bad, permanent=True)
    relay(broker, clock, lock_connection)
    broker.refusals, broker.log = {}, []

    outbox.release(event_id=bad.event_id)
    relay(broker, clock, lock_connection)

    assert broker.sequences(aigerim.pk) == [2, 3]
    with pytest.raises(outbox.NotParked):
        outbox.release(event_id=bad.event_id)


def test_a_delayed_row_holds_back_nothing_and_leaves_when_its_time_has_come(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any
) -> None:
    world = World(clock=clock)
    charge = world.due_charge()
    later = clock.real_now().replace(hour=13)
    PendingMessage.objects.filter(message__subject=charge.pk, door="sqs").update(available_at=later)
    other = world.due_charge(of=charge.creator)

    relay(broker, clock, lock_connection, door=Door.SQS)
    before = [message.subject for message in broker.log]
    waiting = outbox.depth(now=clock.real_now())[Door.SQS]
    clock.forward(seconds=3601)
    relay(broker, clock, lock_connection, door=Door.SQS)

    assert before == [other.pk]
    assert (waiting.waiting, waiting.delayed) == (0, 1)
    assert [message.subject for message in broker.log] == [other.pk, charge.pk]


def test_an_event_of_a_host_whose_clock_is_ahead_is_not_overtaken(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator
) -> None:
    """R44, I5, F21: order is the database's; no host's clock may hold an event back."""
    ahead = FakeClock()
    ahead.forward(seconds=5)
    tell(aigerim, 1, clock=ahead)
    tell(aigerim, 2, clock=clock)

    relay(broker, clock, lock_connection)

    assert broker.sequences(aigerim.pk) == [1, 2, 3]


def test_the_doors_are_independent(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any
) -> None:
    """F14: Kafka away never stops collection."""
    charge = World(clock=clock).due_charge()
    events = unpublished("kafka")
    kafka = FakeBroker(refusals={m.event_id: Refused(m.pk, "away") for m in events})

    relay(kafka, clock, lock_connection)
    relay(broker, clock, lock_connection, door=Door.SQS)

    assert [message.subject for message in broker.log] == [charge.pk]
    assert not unpublished("sqs")
    assert unpublished("kafka") == events


def test_a_late_commit_with_an_older_id_is_published(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator, timur: Creator
) -> None:
    """A cursor `id > last` would skip it for ever (MEASURED, Kafka)."""
    relay(broker, clock, lock_connection)
    begun, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            Creator.lock([aigerim.pk])
            record(aigerim, 1, clock=clock)
            begun.set()
            may_commit.wait(10)
        connection.close()

    writer = threading.Thread(target=slow)
    writer.start()
    begun.wait(10)
    tell(timur, 1, clock=clock)
    relay(broker, clock, lock_connection)
    before = broker.sequences(aigerim.pk)
    may_commit.set()
    writer.join()
    relay(broker, clock, lock_connection)

    assert before == [1]
    assert broker.sequences(aigerim.pk) == [1, 2]
    late, early = rows(aigerim)[-1], rows(timur)[-1]
    assert late.pk < early.pk, "the test must have committed in the other order"


def test_a_rollback_leaves_nothing_to_send(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator
) -> None:
    """I4: no record without a committed row; the sequence has no gap."""
    with transaction.atomic():
        Creator.lock([aigerim.pk])
        record(aigerim, 1, clock=clock)
        transaction.set_rollback(True)
    tell(aigerim, 2, clock=clock)

    relay(broker, clock, lock_connection)

    assert broker.sequences(aigerim.pk) == [1, 2]


def test_a_lost_lock_connection_ends_the_process_with_nothing_marked(
    clock: FakeClock, aigerim: Creator
) -> None:
    """The mark runs on the lock's own connection: who lost the lock cannot mark, and must stop."""
    broker = FakeBroker(before=end_relay_connections)

    with pytest.raises(MarkFailed):
        running(broker).run()

    assert broker.purged == 1
    assert len(broker.log) == 1
    assert len(unpublished()) == 1


def end_relay_connections() -> None:
    """As a failover or an administrator does, while the broker is being waited for."""
    with direct() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )


# --- Leading -------------------------------------------------------------------------------------


def running(broker: FakeBroker, **changes: Any) -> Relay:
    facts: dict[str, Any] = {
        "door": Door.KAFKA,
        "sender": broker,
        "connect": direct,
        "clock": Clock(),
    }
    return Relay(**facts | changes)


@contextmanager
def started(*relays: Relay) -> Iterator[None]:
    """Run relays in threads until the block ends."""
    threads = [threading.Thread(target=each.run, daemon=True) for each in relays]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in relays:
            each.stop.set()
        for thread in threads:
            thread.join(10)


def test_one_leads_and_the_other_takes_over_without_a_crossing(
    clock: FakeClock, aigerim: Creator, timur: Creator
) -> None:
    """R44: whatever the number of relays, 0 out of order; SKIP LOCKED would cross them."""
    log: list[Any] = []
    one, other = FakeBroker(log=log), FakeBroker(log=log)
    first, second = running(one), running(other)

    with started(first):
        tell(aigerim, *range(1, 20), clock=clock)
        wait_for(lambda: one.batches, 10, "the first one leading")
        with started(second):
            tell(timur, *range(1, 20), clock=clock)
            wait_for(lambda: not unpublished(), 10, "everything published")
            assert not other.batches, "the second one stands by"
            first.stop.set()
            tell(aigerim, *range(20, 40), clock=clock)
            wait_for(lambda: not unpublished(), 10, "the second one taking over")

    assert other.batches
    assert one.sequences(aigerim.pk) == list(range(1, 41))
    assert one.sequences(timur.pk) == list(range(1, 21))


def test_a_new_leader_waits_out_what_a_dead_one_may_still_send(
    clock: FakeClock, aigerim: Creator
) -> None:
    Heartbeat.objects.create(name="relay-kafka", beat_at=clock.real_now(), detail="5 messages")
    broker = FakeBroker(lingers=1.0)
    begun = Clock().monotonic()

    with started(running(broker)):
        wait_for(lambda: broker.batches, 10, "the first batch")

    assert Clock().monotonic() - begun >= 1.0


def test_after_an_orderly_end_nobody_waits(clock: FakeClock, aigerim: Creator) -> None:
    with started(running(FakeBroker(lingers=60))):
        wait_for(lambda: not unpublished(), 10, "the first one's work")
    beat = Heartbeat.objects.get(name="relay-kafka")
    tell(aigerim, 1, clock=clock)

    with started(running(FakeBroker(lingers=60))):
        wait_for(lambda: not unpublished(), 10, "the second one's work, at once")

    assert beat.detail == ENDED


def test_a_leader_that_ends_with_doubts_is_waited_out(clock: FakeClock, aigerim: Creator) -> None:
    broker = FakeBroker(refusals={m.event_id: Refused(m.pk, "away") for m in unpublished()})

    with started(running(broker)):
        wait_for(lambda: broker.batches, 10, "a batch that failed")

    assert Heartbeat.objects.get(name="relay-kafka").detail != ENDED


def test_comes_back_by_itself_when_database_and_broker_were_away(
    clock: FakeClock, aigerim: Creator, caplog: pytest.LogCaptureFixture
) -> None:
    """F14, F18: the first warning only, then everything in order."""
    tries: list[int] = []

    def connect() -> psycopg.Connection[Any]:
        tries.append(1)
        if len(tries) < 3:
            raise psycopg.OperationalError("away")
        return direct()

    tell(aigerim, 1, 2, clock=clock)
    broker = FakeBroker(refusals={m.event_id: Refused(m.pk, "away") for m in unpublished()})

    with started(running(broker, connect=connect)):
        wait_for(lambda: len(broker.batches) > 2, 10, "several batches in vain")
        broker.refusals = {}
        wait_for(lambda: not unpublished(), 10, "everything published")

    assert broker.sequences(aigerim.pk) == [1, 2, 3]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 2, warnings


def test_a_primary_that_was_demoted_is_left_at_its_first_refused_write(
    broker: FakeBroker, clock: FakeClock, aigerim: Creator
) -> None:
    """F18: it lets its old sessions read, and refuses what they write with 25006, an InternalError."""
    tries: list[int] = []

    def connect() -> psycopg.Connection[Any]:
        tries.append(1)
        link = direct()
        if len(tries) == 1:
            link.execute("SET default_transaction_read_only = on")
        return link

    with started(running(broker, connect=connect)):
        wait_for(lambda: not unpublished(), 10, "everything published")

    assert len(tries) == 2
    assert broker.sequences(aigerim.pk) == [1]


def test_full_batches_follow_at_once(
    broker: FakeBroker, clock: FakeClock, aigerim: Creator
) -> None:
    tell(aigerim, *range(1, 8), clock=clock)

    with direct() as lock_connection:
        reads = [relay(broker, clock, lock_connection, limit=3).read for _ in range(4)]

    assert reads == [3, 3, 2, 0]
    assert broker.sequences(aigerim.pk) == list(range(1, 9))


def backlog(broker: FakeBroker, clock: FakeClock, **facts: Any) -> outbox.Settled:
    with direct() as lock_connection:
        return relay_backlog(
            door=Door.KAFKA,
            hand_over=broker.hand_over,
            now=clock.real_now(),
            lock_connection=lock_connection,
            **facts,
        )


def test_a_backlog_is_marked_while_the_next_batch_is_sent(
    broker: FakeBroker, clock: FakeClock, aigerim: Creator
) -> None:
    tell(aigerim, *range(1, 10), clock=clock)

    settled = backlog(broker, clock, limit=3)

    assert settled == outbox.Settled(marked=10)
    assert broker.batches == [3, 3, 3, 1]
    assert broker.sequences(aigerim.pk) == list(range(1, 11))
    assert not unpublished()


def test_in_a_backlog_nothing_overtakes_a_failed_message_of_its_key(
    broker: FakeBroker, clock: FakeClock, aigerim: Creator
) -> None:
    """R44: the batch that was read ahead is dropped unsent."""
    tell(aigerim, *range(1, 10), clock=clock)
    broker.refusals = refuse(rows(aigerim)[4], permanent=False)

    first = backlog(broker, clock, limit=3)
    broker.refusals = {}
    second = backlog(broker, clock, limit=3)

    assert first == outbox.Settled(marked=4, again=2)
    assert second == outbox.Settled(marked=6)
    assert broker.sequences(aigerim.pk) == [1, 2, 3, 4, 6, *range(5, 11)]
    assert not unpublished()


def test_while_something_is_parked_nothing_is_read_ahead(
    broker: FakeBroker, clock: FakeClock, lock_connection: Any, aigerim: Creator, timur: Creator
) -> None:
    """Released in the middle of a backlog, it would be overtaken by those it held."""
    broker.refusals = refuse(rows(aigerim)[0], permanent=True)
    relay(broker, clock, lock_connection)
    tell(timur, *range(1, 10), clock=clock)

    assert backlog(broker, clock, limit=3) == outbox.Settled()
    assert relay(broker, clock, lock_connection).settled.marked == 9


def test_a_lost_mark_in_a_backlog_ends_it(clock: FakeClock, aigerim: Creator) -> None:
    tell(aigerim, *range(1, 10), clock=clock)
    broker = FakeBroker()
    with closing(direct()) as lock_connection:
        lock_connection.execute("SELECT pg_advisory_lock(7)")
        broker.before = end_relay_connections

        with pytest.raises(MarkFailed):
            relay_backlog(
                door=Door.KAFKA,
                hand_over=broker.hand_over,
                now=clock.real_now(),
                lock_connection=lock_connection,
                limit=3,
            )

    assert len(unpublished()) == 10
