"""Reading what the queue hands over: any text is either a message of ours or Unreadable."""

import base64
import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.messages import Receive, Unreadable, decode, read_receive, readable
from checkout.queue import TASK, encode

CHARGE = UUID("00000000-0000-5000-8000-000000000002")
KWARGS: dict[str, object] = {
    "charge_id": str(CHARGE),
    "creator_id": "c",
    "round": 1,
    "dispatch": 2,
}


def test_what_the_relay_encodes_is_read_back() -> None:
    body = encode(task=TASK, task_id="id", kwargs=KWARGS, queue="q.fifo")

    envelope = decode(body)

    assert envelope.task == TASK
    assert envelope.kwargs == KWARGS
    assert read_receive(envelope.kwargs, count=3) == Receive(CHARGE, round=1, dispatch=2, count=3)


def test_a_newer_relay_may_say_more() -> None:
    """F26: unknown keys are for newer workers."""
    assert read_receive(KWARGS | {"of_tomorrow": True}, count=1).dispatch == 2


@pytest.mark.parametrize(
    "change",
    [
        {"charge_id": "not one"},
        {"charge_id": None},
        {"round": "1"},
        {"round": 0},
        {"dispatch": True},
        {"dispatch": 1.0},
    ],
)
def test_ill_formed_keywords_are_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        read_receive(KWARGS | change, count=1)


@given(st.one_of(st.text(), st.binary().map(lambda b: base64.b64encode(b).decode())))
def test_any_text_is_read_or_unreadable(body: str) -> None:
    """F22: nothing else is ever raised, so nothing can end the worker's loop."""
    with pytest.raises(Unreadable):
        decode(body)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_read_or_unreadable(value: object) -> None:
    try:
        decode(json.dumps(value))
        decode(json.dumps({"body": json.dumps(value), "content-type": "application/json"}))
    except Unreadable:
        pass


def test_a_person_reads_the_text_inside() -> None:
    assert readable(base64.b64encode("сообщение".encode()).decode()) == "сообщение"
    assert readable("plain words") == "plain words"
