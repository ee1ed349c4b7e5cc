"""The only door out: what is recorded is committed with its change, in order, once (R44, R51)."""

import hashlib
import json
from uuid import UUID, uuid5

import pytest
from django.db import IntegrityError, transaction

from checkout import outbox
from checkout.commit import committed
from checkout.models import Creator, Door, OutboxMessage
from checkout.outbox import OutsideTransaction, event_id, record_dispatch, record_event
from tests.factories import World, creator, dispatches, unknown_id
from tests.together import together

THREADS = 8
EVENTS_EACH = 6


@pytest.fixture
def world() -> World:
    return World()


def record(world: World, who: Creator, key: str = "") -> None:
    record_event(
        creator_id=who.pk,
        type="creator.created",
        subject=unknown_id(f"{who.pk}{key}"),
        data={"creator_id": str(who.pk), "occurred_at": key},
        now=world.clock.now(),
    )


def sequence(who: Creator) -> list[int | None]:
    rows = OutboxMessage.objects.filter(key=who.pk, door=Door.KAFKA).order_by("id")
    return list(rows.values_list("event_seq", flat=True))


# --- Order -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_threads_leave_a_gapless_sequence_in_the_order_of_the_ids(world: World) -> None:
    """R44, I5; a transaction that is rolled back leaves no gap."""
    who = creator(clock=world.clock)

    def write(thread: int) -> None:
        for number in range(EVENTS_EACH):
            rolled_back = number % 3 == 2

            def work(key: str = f"{thread}.{number}", back: bool = rolled_back) -> None:
                Creator.lock([who.pk])
                record(world, who, key)
                if back:
                    transaction.set_rollback(True)

            committed(work, deadline=60, clock=world.clock)

    failed = [
        result
        for result in together(*(lambda t=thread: write(t) for thread in range(THREADS)))
        if result
    ]

    kept = THREADS * EVENTS_EACH * 2 // 3
    assert failed == []
    assert sequence(who) == list(range(1, kept + 2))
    assert Creator.objects.get(pk=who.pk).event_seq == kept + 1


@pytest.mark.django_db
def test_creators_have_sequences_of_their_own(world: World) -> None:
    one, other = creator(clock=world.clock), creator(clock=world.clock)

    record(world, one, "more")

    assert (sequence(one), sequence(other)) == ([1, 2], [1])


# --- Only inside -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_nothing_is_recorded_outside_a_transaction(world: World) -> None:
    """R44: it could outlive a change that never was."""
    charge = world.due_charge()
    who = Creator.objects.get(pk=charge.creator_id)
    before = OutboxMessage.objects.count()

    with pytest.raises(OutsideTransaction):
        record(world, who, "outside")
    with pytest.raises(OutsideTransaction):
        record_dispatch(charge=charge, now=world.clock.now())

    assert OutboxMessage.objects.count() == before


@pytest.mark.django_db
def test_an_event_of_nobody_is_refused(world: World) -> None:
    with pytest.raises(Creator.DoesNotExist):
        record_event(
            creator_id=unknown_id("nobody"),
            type="creator.created",
            subject=unknown_id("nobody"),
            data={},
            now=world.clock.now(),
        )


# --- Identity --------------------------------------------------------------------------------------


def test_the_same_fact_has_the_same_id_and_another_fact_another() -> None:
    """R51: a database restored from yesterday repeats them."""
    subject = UUID("00000000-0000-5000-8000-000000000004")
    facts = [
        {"type": "charge.declined", "round": 1, "number": 1},
        {"type": "charge.declined", "round": 1, "number": 2},
        {"type": "charge.declined", "round": 2, "number": 1},
        {"type": "charge.in_doubt", "round": 1, "number": 1},
        {"type": "charge.declined", "round": 1, "number": 1, "key": "x"},
    ]

    ids = [event_id(subject=subject, **fact) for fact in facts]  # type: ignore[arg-type]

    assert len(set(ids)) == len(facts)
    assert ids[0] == uuid5(subject, "charge.declined:1:1:")
    assert ids == [event_id(subject=subject, **fact) for fact in facts]  # type: ignore[arg-type]


@pytest.mark.django_db
def test_a_fact_told_again_is_told_once_and_takes_no_number(world: World) -> None:
    """R44, F27: a repaired charge goes over the same ground."""
    who = creator(clock=world.clock)
    for _ in range(3):
        record(world, who, "same")

    assert sequence(who) == [1, 2]


@pytest.mark.django_db
def test_a_dispatch_is_recorded_once(world: World) -> None:
    """Two messages of one round and dispatch would be a defect of ours: refused, not swallowed."""
    charge = world.due_charge()

    with pytest.raises(IntegrityError), transaction.atomic():
        record_dispatch(charge=charge, now=world.clock.now())


@pytest.mark.django_db
def test_a_message_carries_exactly_what_it_was_given(world: World) -> None:
    """R44, R45: the same data are the same characters, and their hash stands beside them."""
    who = creator(clock=world.clock)
    text = 'Айгерім \u2028 \\ " é'
    record_event(
        creator_id=who.pk,
        type="creator.created",
        subject=unknown_id("text"),
        data={"b": text, "a": "1"},
        now=world.clock.now(),
    )

    row = OutboxMessage.objects.get(subject=unknown_id("text"))
    assert row.payload == outbox.encode({"a": "1", "b": text})
    assert json.loads(row.payload) == {"a": "1", "b": text}
    assert row.payload_sha256 == hashlib.sha256(row.payload.encode()).hexdigest()
    assert row.event_seq == 2


@pytest.mark.django_db
def test_a_dispatch_carries_its_round_and_number_and_nothing_about_people(world: World) -> None:
    charge = world.due_charge()

    body = json.loads(dispatches(charge)[0].payload)

    assert body == {
        "charge_id": str(charge.pk),
        "creator_id": str(charge.creator_id),
        "round": 1,
        "dispatch": 1,
    }


@pytest.mark.django_db
def test_an_event_rolls_back_with_its_change(world: World) -> None:
    """R44: no record without a committed fact (I4)."""
    who = creator(clock=world.clock)
    before = transaction.savepoint()
    record(world, who, "never happened")

    transaction.savepoint_rollback(before)

    assert sequence(who) == [1]
    assert Creator.objects.get(pk=who.pk).event_seq == 1
