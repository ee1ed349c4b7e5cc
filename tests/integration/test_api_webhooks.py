"""Webhooks are stored once and believed later (R28, F24)."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connections

from checkout import rescue, wiring
from checkout.gateways import Approved, Pending
from checkout.models import (
    Attempt,
    ChargeState,
    WebhookDelivery,
)
from tests.factories import World, fresh
from tests.fakes import START
from tests.platforms import Platform, ready_platform, send_webhook, signature, slug

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


REFERENCE = "5e1d0b5c-6f0a-4a53-9b39-0c8f3a1d7e42"
EVENT = {"id": "evt_1", "type": "charge.updated", "reference": REFERENCE}


def test_r28_a_webhook_is_stored_answered_and_not_yet_believed(platform: Platform) -> None:
    response = send_webhook(platform, EVENT)

    assert (response.status_code, response.json()["duplicate"]) == (202, False)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.processor, delivery.event_id) == ("sandbox", "evt_1")
    assert str(delivery.reference) == EVENT["reference"]
    assert delivery.applied_at is None
    assert delivery.next_try_at == delivery.received_at
    assert json.loads(delivery.body) == EVENT


def test_f24_a_replayed_webhook_is_answered_and_stored_once(platform: Platform) -> None:
    first = send_webhook(platform, EVENT)
    again = send_webhook(platform, EVENT)
    other = send_webhook(platform, EVENT | {"id": "evt_2"})

    assert [r.status_code for r in (first, again, other)] == [202, 200, 202]
    assert again.json() == {"event_id": "evt_1", "duplicate": True}
    assert WebhookDelivery.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_f24_the_same_webhook_twice_at_once_is_stored_once(platform: Platform) -> None:
    """Both find nothing and insert; one waits at the unique index and takes the other's row."""
    barrier = threading.Barrier(2)

    def send(_: int) -> int:
        barrier.wait()
        try:
            return int(send_webhook(Platform(platform.account, platform.key), EVENT).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(send, range(2))) == [200, 202]
    assert WebhookDelivery.objects.count() == 1


@pytest.mark.parametrize(
    "sign",
    [
        lambda _: "",
        lambda _: "t=1,v1=00",
        lambda body: signature(body, secret="of somebody else"),
        lambda body: signature(body + b" "),
        lambda body: signature(body, at=wiring.clock().real_now() - timedelta(seconds=301)),
        lambda body: signature(body, at=wiring.clock().real_now() + timedelta(seconds=310)),
    ],
)
def test_f24_a_forged_webhook_is_a_401(platform: Platform, sign: Callable[[bytes], str]) -> None:
    response = send_webhook(platform, EVENT, sign=sign)

    assert (response.status_code, slug(response)) == (401, "bad-signature")
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"\x00",
        b"[]",
        b'{"id": "\\u0000", "type": "x", "reference": "%s"}' % REFERENCE.encode(),
        b'{"id": "\\ud800", "type": "x", "reference": "%s"}' % REFERENCE.encode(),
        json.dumps(EVENT | {"id": "e" * 500, "type": "t" * 500}).encode(),
        b"[" * 5000,
    ],
)
def test_f24_a_signed_webhook_is_kept_whatever_it_holds(platform: Platform, body: bytes) -> None:
    first, again = send_webhook(platform, body), send_webhook(platform, body)

    assert (first.status_code, again.status_code) == (202, 200)
    assert WebhookDelivery.objects.count() == 1


def test_a_webhook_of_more_than_256_kb_is_refused(platform: Platform) -> None:
    response = send_webhook(platform, b"x" * (256 * 1024 + 1))

    assert (response.status_code, slug(response)) == (413, "body-too-large")


def webhook_about(attempt_id: UUID, *, event_id: str) -> dict[str, str]:
    return {"id": event_id, "type": "charge.updated", "reference": str(attempt_id)}


@pytest.mark.django_db(transaction=True)
def test_r28_f24_a_webhook_ahead_of_its_attempt_is_applied_later_by_query(
    platform: Platform,
) -> None:
    world = World()
    world.clock.forward(seconds=(wiring.clock().real_now() - START).total_seconds() + 1)
    charge = world.due_charge()
    attempt_id = Attempt.derive_id(charge_id=charge.pk, round=1, number=1)

    def apply() -> int:
        return rescue.apply_webhooks(clock=world.clock, gateways=world.gateways, ages=world.ages)

    send_webhook(platform, webhook_about(attempt_id, event_id="evt_early"))
    early = apply()
    world.gateway.answers = [Pending(None)]
    world.receive(charge)
    state_before = fresh(charge).state
    world.gateway.query_answers = [Approved(charge.amount, "USD", "ref")]
    world.clock.forward(days=1)
    applied = apply()

    assert (early, applied) == (0, 1)
    assert state_before == ChargeState.PENDING
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert WebhookDelivery.objects.get().applied_at is not None
    assert apply() == 0
