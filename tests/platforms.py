"""A client of the API with its key, as a platform has one; and a processor's signed webhook."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.test import Client

from checkout import subscriptions, wiring
from checkout.models import Account, ApiKey, Creator
from tests import factories

T0 = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
NEW_CREATOR = {
    "external_id": "creator-7",
    "name": "Дана Серік",
    "email": "dana@example.com",
    "country": "KZ",
    "time_zone": "Asia/Almaty",
}


@dataclass
class Platform:
    """A client of the API with its key."""

    account: Account
    key: str

    def __post_init__(self) -> None:
        self.client = Client(raise_request_exception=False)

    def post(self, path: str, body: object, *, key: str | None = None, **headers: str) -> Any:
        raw = body if isinstance(body, str | bytes) else json.dumps(body)
        sent = {"Authorization": f"Bearer {self.key}", **headers}
        if key is not None:
            sent["Idempotency-Key"] = key
        return self.client.post(path, raw, "application/json", headers=sent)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, query, headers={"Authorization": f"Bearer {self.key}"})

    def start(self, *, of: Creator, key: str = "first", **other: Any) -> Any:
        body = {"creator_id": str(of.pk), "plan": "monthly", "token": "tok_approve_1", **other}
        return self.post("/v1/checkouts", body, key=key)


def platform_named(name: str) -> Platform:
    account = Account.objects.create(id=Account.derive_id(name=name), name=name, created_at=T0)
    return Platform(account, ApiKey.issue(account=account, label="tests", now=T0))


def ready_platform() -> Platform:
    """A platform, with a plan to sell and a country that is served."""
    factories.plan()
    factories.routing_rule("KZ")
    return platform_named("first platform")


def register(platform: Platform, external_id: str = "creator-1", country: str = "KZ") -> Creator:
    with transaction.atomic():
        return subscriptions.register_creator(
            account_id=platform.account.pk,
            external_id=external_id,
            name="Aigerim Bekova",
            email="aigerim@example.com",
            country=country,
            time_zone="Asia/Almaty",
            now=wiring.clock().now(),
        )


def slug(response: Any) -> str:
    assert response["Content-Type"] == "application/problem+json", response.content
    return str(response.json()["type"].removeprefix("/problems/"))


def fields(response: Any) -> set[str]:
    return {error["field"] for error in response.json()["errors"]}


def signature(body: bytes, *, at: datetime | None = None, secret: str = "") -> str:
    moment = int((at or wiring.clock().real_now()).timestamp())
    key = (secret or settings.PROCESSOR_WEBHOOK_SECRET).encode()
    digest = hmac.new(key, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def send_webhook(
    platform: Platform, event: object, *, sign: Callable[[bytes], str] = signature
) -> Any:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return platform.client.post(
        "/v1/webhooks/sandbox", body, "application/json", headers={"Sandbox-Signature": sign(body)}
    )
