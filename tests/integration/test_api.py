"""The API against a real database: what it is for, keys, lists and waiting."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from checkout import wiring
from checkout.api import checkouts
from checkout.models import (
    Account,
    ApiKey,
    Charge,
    ChargeState,
    Creator,
    Subscription,
)
from tests.platforms import (
    NEW_CREATOR,
    T0,
    Platform,
    fields,
    ready_platform,
    register,
    slug,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


@pytest.fixture
def creator(platform: Platform) -> Creator:
    return register(platform)


def test_a_creator_is_registered(platform: Platform) -> None:
    response = platform.post("/v1/creators", NEW_CREATOR, key="k")

    assert response.status_code == 201
    derived = Creator.derive_id(account_id=platform.account.pk, external_id="creator-7")
    assert response.json() == NEW_CREATOR | {"id": str(derived)}
    assert Creator.objects.get().name == "Дана Серік"
    assert response["Cache-Control"] == "no-store"


def test_a_checkout_answers_with_its_charge(platform: Platform, creator: Creator) -> None:
    response = platform.start(of=creator)

    assert response.status_code == 201
    charge = Charge.objects.get()
    body = response.json()
    assert UUID(body["id"]) == charge.subscription_id
    assert (body["state"], body["plan"]) == ("open", "monthly")
    assert body["charge"]["id"] == str(charge.pk)
    assert body["charge"]["amount"] == "19.99"
    assert body["charge"]["currency"] == "USD"
    assert body["charge"]["state"] == "due"
    assert body["charge"]["period_start"] == charge.period_start.isoformat()
    assert platform.get(f"/v1/checkouts/{body['id']}").json() == body


def test_r51_the_subscription_is_derived_from_the_key(platform: Platform, creator: Creator) -> None:
    response = platform.start(of=creator, key="order-4711")

    derived = Subscription.derive_id(account_id=platform.account.pk, idempotency_key="order-4711")
    assert response.json()["id"] == str(derived)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ck_x_y",
        "Basic Zm9vOmJhcg==",
        f"Bearer ck_{'a' * 12}_{'b' * 43}",
        f"Bearer ck_{'a' * 12}_{'b' * 43}\n",
        "Bearer ключ",
    ],
)
def test_no_usable_key_is_a_401(platform: Platform, header: str) -> None:
    response = platform.client.get("/v1/charges", headers={"Authorization": header})

    assert (response.status_code, slug(response)) == (401, "unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_secret_and_a_revoked_key_are_refused_alike(platform: Platform) -> None:
    wrong = Platform(
        platform.account, platform.key[:-1] + ("A" if platform.key[-1] != "A" else "B")
    )
    refused = wrong.get("/v1/charges")
    assert platform.get("/v1/charges").status_code == 200

    prefix = platform.key.split("_")[1]
    call_command(
        "create_api_key", "first platform", revoke=prefix, reason="a test", stderr=StringIO()
    )
    revoked = platform.get("/v1/charges")

    assert (refused.status_code, revoked.status_code) == (401, 401)
    assert refused.content == revoked.content


def test_a_key_is_shown_once_and_only_its_hash_is_stored() -> None:
    call_command(
        "create_account", "platform", reason="a test", stdout=StringIO(), stderr=StringIO()
    )
    out = StringIO()

    call_command(
        "create_api_key",
        "platform",
        label="checkout page",
        reason="a test",
        stdout=out,
        stderr=StringIO(),
    )

    key = out.getvalue().strip()
    row = ApiKey.objects.get()
    assert key not in str(vars(row))
    assert row.secret_sha256 == hashlib.sha256(key.split("_", 2)[2].encode()).hexdigest()
    assert Platform(row.account, key).get("/v1/charges").status_code == 200


def test_an_account_is_created_once_with_a_derived_id() -> None:
    for _ in range(2):
        out = StringIO()
        call_command("create_account", "platform", reason="a test", stdout=out, stderr=StringIO())
        assert out.getvalue().strip() == str(Account.derive_id(name="platform"))
    assert Account.objects.count() == 1


def test_a_key_needs_an_account_that_exists() -> None:
    with pytest.raises(CommandError, match="create_account"):
        call_command("create_api_key", "nobody", reason="a test")


@pytest.fixture
def charges(platform: Platform, creator: Creator) -> list[Charge]:
    """Seven charges of one creator, several created at the same instant; newest first."""
    for number in range(7):
        assert platform.start(of=creator, key=f"k{number}").status_code == 201
    for number, charge in enumerate(Charge.objects.all()):
        Charge.objects.filter(pk=charge.pk).update(created_at=T0 + timedelta(hours=number // 3))
    return list(Charge.objects.order_by("-created_at", "-id"))


def ids(page: Any) -> list[str]:
    return [charge["id"] for charge in page["charges"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_r50_pages_hold_each_charge_once_in_order(
    platform: Platform, charges: list[Charge], limit: int
) -> None:
    seen: list[str] = []
    query: dict[str, object] = {"limit": limit}
    while True:
        page = platform.get("/v1/charges", **query).json()
        seen += ids(page)
        assert len(page["charges"]) <= limit
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert seen == [str(charge.pk) for charge in charges]


def test_r50_a_forged_cursor_is_refused(platform: Platform, charges: list[Charge]) -> None:
    cursor = platform.get("/v1/charges", limit=2).json()["next_cursor"]
    payload, _, signature = cursor.partition(":")

    for forged in (payload, f"{payload}x:{signature}", f"{payload}:{signature[:-2]}xx"):
        response = platform.get("/v1/charges", cursor=forged)
        assert (response.status_code, fields(response)) == (422, {"cursor"})


def test_charges_are_filtered(platform: Platform, charges: list[Charge]) -> None:
    newest = charges[0]
    Charge.objects.filter(pk=newest.pk).update(state=ChargeState.ATTEMPTING)

    def found(**query: object) -> list[str]:
        return ids(platform.get("/v1/charges", **query).json())

    assert found(state="attempting") == [str(newest.pk)]
    assert found(subscription_id=newest.subscription_id) == [str(newest.pk)]
    assert len(found(creator_id=newest.creator_id)) == 7
    assert found(creator_id=uuid4()) == []
    hour = T0 + timedelta(hours=1)
    assert len(found(since=hour.isoformat())) == 4
    assert len(found(until=hour.isoformat())) == 3
    assert len(found(since=hour.isoformat(), until=(hour + timedelta(hours=1)).isoformat())) == 3


@pytest.mark.django_db(transaction=True)
def test_a_read_waits_for_the_next_state(platform: Platform, creator: Creator) -> None:
    checkout = platform.start(of=creator).json()["id"]
    charge = Charge.objects.get()

    def wait() -> Any:
        try:
            who = Platform(platform.account, platform.key)
            return who.get(f"/v1/checkouts/{checkout}", wait=20).json()["state"]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        wait_for(lambda: checkouts.waiters._value == 0, 5, "the request to wait")
        charge.move(ChargeState.ATTEMPTING)

        assert answer.result(5) == "processing"


def test_a_read_waits_no_longer_than_asked(platform: Platform, creator: Creator) -> None:
    checkout = platform.start(of=creator).json()["id"]
    started = wiring.clock().monotonic()

    state = platform.get(f"/v1/checkouts/{checkout}", wait=1).json()["state"]

    assert state == "open"
    assert 0.9 < wiring.clock().monotonic() - started < 3


def test_a_settled_checkout_and_one_waiter_too_many_are_answered_at_once(
    platform: Platform, creator: Creator
) -> None:
    checkout = platform.start(of=creator).json()["id"]
    started = wiring.clock().monotonic()

    while checkouts.waiters.acquire(blocking=False):
        pass
    try:
        crowded = platform.get(f"/v1/checkouts/{checkout}", wait=20)
    finally:
        for _ in range(max(1, settings.WEB_THREADS // 4)):
            checkouts.waiters.release()
    Charge.objects.get().move(ChargeState.VOIDED)
    settled = platform.get(f"/v1/checkouts/{checkout}", wait=20)

    assert (crowded.json()["state"], settled.json()["state"]) == ("open", "expired")
    assert wiring.clock().monotonic() - started < 5


@pytest.mark.parametrize("wait", ["-1", "21", "abc", "1.5", ""])
def test_a_wait_is_at_most_twenty_seconds(platform: Platform, creator: Creator, wait: str) -> None:
    checkout = platform.start(of=creator).json()["id"]

    response = platform.get(f"/v1/checkouts/{checkout}?wait={wait}")

    assert (response.status_code, fields(response)) == (422, {"wait"})
