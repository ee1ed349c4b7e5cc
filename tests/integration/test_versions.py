"""F26: the version before and this one side by side: rows, messages and events are readable by both."""

import os
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import pytest
from django.db import connection

from checkout import outbox, tasks, topics
from checkout.messages import decode, read_receive
from checkout.models import Door, OutboxMessage
from checkout.queue import TASK, encode
from checkout.relay import relay_batch
from checkout.topics import EVENT_TYPES, InvalidEvent, validate, validate_payload
from tests import factories
from tests.fakes import FakeBroker, FakeClock
from tests.relays import direct
from tests.versions import Column, Version, said_by, sample, unlike

_COLUMNS: Final = """
    SELECT c.table_name, c.column_name, c.udt_name || coalesce('(' || c.numeric_precision || ','
             || c.numeric_scale || ')', '(' || c.character_maximum_length || ')', ''),
           c.is_nullable = 'YES', c.column_default IS NOT NULL OR c.is_identity = 'YES'
    FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
      AND (c.table_name LIKE 'checkout%%' OR c.table_name LIKE 'settlements%%')
"""
KWARGS: Final = {
    "charge_id": "00000000-0000-5000-8000-000000000002",
    "creator_id": "00000000-0000-5000-8000-000000000003",
    "round": 1,
    "dispatch": 2,
}


def version_now() -> Version:
    """What this version writes."""
    columns: dict[str, dict[str, Column]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS)
        for table, name, *facts in cursor.fetchall():
            columns.setdefault(table, {})[name] = Column(*facts)
    return Version(
        dispatch=encode(task=TASK, task_id="id", kwargs=KWARGS, queue="checkout-payments.fifo"),
        schemas={type: said_by(topics.schema(type)) for type in sorted(EVENT_TYPES)},
        columns=columns,
    )


@pytest.fixture
def before() -> Version:
    return Version.before()


@pytest.mark.skipif("RECORD_VERSION" not in os.environ, reason="only when a version is released")
@pytest.mark.django_db
def test_record_this_version() -> None:
    version_now().write()


# --- Messages ----------------------------------------------------------------------------------------


def test_f26_a_dispatch_of_the_version_before_is_read(before: Version) -> None:
    envelope = decode(before.dispatch)
    receive = read_receive(envelope.kwargs, count=1)

    assert envelope.task == TASK
    assert (receive.charge_id, receive.round, receive.dispatch) == (
        UUID(str(KWARGS["charge_id"])),
        1,
        2,
    )


def test_f26_a_dispatch_of_the_version_after_may_say_more() -> None:
    """What a task does not know it ignores, in the parent that decodes and in the child that runs."""
    newer = encode(task=TASK, task_id="id", kwargs=KWARGS | {"of_tomorrow": [1]}, queue="q.fifo")

    assert read_receive(decode(newer).kwargs, count=1).dispatch == 2
    for task in (tasks.attempt_charge, tasks.keep_unreadable):
        assert task.run.__kwdefaults__ is None or "_" not in task.run.__kwdefaults__
        assert task.run.__code__.co_flags & 0x08, f"{task.name} must end with **_"


# --- Events ------------------------------------------------------------------------------------------


def test_f26_an_event_of_the_version_before_may_still_be_sent(before: Version) -> None:
    """A row written before the change of versions is relayed after it."""
    for type, schema in before.schemas.items():
        validate_payload(type, outbox.encode(sample(schema)))


def test_f26_an_event_of_this_version_could_be_sent_by_the_one_before(before: Version) -> None:
    """The relay that leads may be the older one: under one version a schema does not change at all."""
    for type in before.schemas:
        validate(type, sample(topics.schema(type)))
        assert said_by(topics.schema(type)) == said_by(before.schemas[type]), type


def test_f26_an_added_field_is_refused_under_the_same_version(before: Version) -> None:
    """R46: the schemas are closed; more data is another ce_type, such as checkout.charge.billed.v2."""
    for type, schema in before.schemas.items():
        with pytest.raises(InvalidEvent):
            validate(type, sample(schema) | {"of_tomorrow": "x"})


# --- Rows --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_f26_rows_of_both_versions_are_rows_of_both(before: Version) -> None:
    """An INSERT of the version before, which names its own columns alone, is taken by these tables."""
    assert unlike(before, version_now()) == []


@pytest.mark.django_db
def test_f26_each_kind_of_break_is_named() -> None:
    now = version_now()
    schemas: dict[str, Any] = deepcopy(dict(now.schemas))
    schemas["charge.billed"]["properties"]["tax"] = {"type": "string"}
    del schemas["charge.voided"]
    table = dict(now.columns["checkout_charge"])
    table["state"] = replace(table["state"], type="text")
    table["next_round_at"] = replace(table["next_round_at"], nullable=False)
    table["tax"] = Column("numeric(14,2)", nullable=False, filled=False)
    table["note"] = Column("text", nullable=True, filled=False)
    table["tries"] = Column("int4", nullable=False, filled=True)
    del table["lane"]

    found = unlike(
        now, replace(now, schemas=schemas, columns={**now.columns, "checkout_charge": table})
    )

    assert sorted(found) == [
        "checkout_charge.lane is gone",
        "checkout_charge.next_round_at must not be null any more",
        "checkout_charge.state was varchar(17), is text",
        "checkout_charge.tax is new, and an INSERT that does not know it is refused",
        "event charge.billed takes other data under the same version",
        "event charge.voided is gone: its rows in the outbox could not be sent",
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("door", list(Door))
def test_f26_a_message_that_the_version_before_wrote_is_sent(before: Version, door: Door) -> None:
    """Its INSERT names the columns that it knew, and no trigger of Django's stands behind it."""
    clock = FakeClock()
    creator = factories.creator(clock=clock)
    for told in OutboxMessage.objects.all():
        factories.publish(told, at=clock.real_now())
    known = before.columns["checkout_outboxmessage"]
    facts: dict[str, Any] = {
        "event_id": KWARGS["charge_id"],
        "door": door.value,
        "key": str(creator.pk),
        "event_seq": 2 if door == Door.KAFKA else None,
        "type": "creator.created" if door == Door.KAFKA else outbox.DISPATCH_TYPE,
        "subject": str(creator.pk),
        "payload": "{}",
        "payload_sha256": outbox.digest("{}"),
        "created_at": clock.real_now(),
        "available_at": clock.real_now(),
    }
    assert {name for name, column in known.items() if not (column.nullable or column.filled)} <= {
        *facts
    }
    names, places = ", ".join(facts), ", ".join(["%s"] * len(facts))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO checkout_outboxmessage ({names}) VALUES ({places})", [*facts.values()]
        )

    broker = FakeBroker()
    with direct() as lock_connection:
        relay_batch(
            door=door, send=broker.send, now=clock.real_now(), lock_connection=lock_connection
        )

    assert [str(message.event_id) for message in broker.log] == [facts["event_id"]]
