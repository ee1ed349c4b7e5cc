"""The platform's clients and the processor's webhooks, through the real HTTP API in process.

A client that hears nothing, or 503, asks again with the same key until it is answered (R49); one in
a while it uses an answered key for another body, which must be refused. What the API may answer to
each is written here, once: anything else is a violation.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.test import Client

from checkout.models import (
    Account,
    ApiKey,
    Charge,
    ChargeState,
    Instrument,
    Subscription,
    WebhookDelivery,
)
from processor.webhooks import HEADER, signature
from tests.simulation.database import looking_on
from tests.simulation.network import SECRET

if TYPE_CHECKING:
    from tests.simulation.world import World

CREATORS, CHECKOUTS = "/v1/creators", "/v1/checkouts"
_S = ChargeState
# What a checkout shows for each state of its first charge (DESIGN, "Checkout state").
SHOWN = {
    _S.DUE: {"open", "processing"},
    _S.ATTEMPTING: {"processing"},
    _S.FAILED_THEN_RETRY: {"processing"},
    _S.PENDING: {"processing"},
    _S.IN_DOUBT: {"in_doubt"},
    _S.SUCCEEDED: {"succeeded"},
    _S.EXHAUSTED: {"declined"},
    _S.WRITTEN_OFF: {"declined"},
    _S.VOIDED: {"expired"},
}


@dataclass
class Asked:
    """One POST a client wants answered: what it sent, and the answer it heard at last."""

    key: str
    path: str
    body: str
    status: int = 0
    answer: bytes = b""

    @property
    def is_accepted(self) -> bool:
        return self.status == 201

    def subscription_id(self, account_id: UUID) -> UUID:
        return Subscription.derive_id(account_id=account_id, idempotency_key=self.key)


class Clients:
    """Whoever calls the API of one world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.asked: dict[str, Asked] = {}
        self.forged: list[str] = []
        self._client = Client(raise_request_exception=False, SERVER_NAME="localhost")
        self._secret = ""

    def open_account(self) -> None:
        now = self.world.clock.real_now()
        account = Account.objects.create(
            id=self.world.account_id, name=f"account {self.world.plan.seed}", created_at=now
        )
        self._secret = ApiKey.issue(account=account, label="simulation", now=now)

    # --- Asking ------------------------------------------------------------------------------------

    def new(self, path: str, body: dict[str, str]) -> Asked:
        asked = Asked(f"key-{len(self.asked) + 1}", path, json.dumps(body))
        self.asked[asked.key] = asked
        return asked

    @property
    def unanswered(self) -> list[Asked]:
        return [asked for asked in self.asked.values() if not asked.status]

    def accepted(self, path: str) -> list[Asked]:
        found = self.asked.values()
        return [asked for asked in found if asked.is_accepted and asked.path == path]

    def ask(self, asked: Asked) -> str:
        """Send it, for the first time or again; the answer may be lost on its way back (F2)."""
        known = asked.is_accepted
        reply = self._post(asked.path, asked.body, asked.key)
        self.world.hands.wait_here("client.unanswered")
        if reply is None:
            return "503"
        if asked.status:
            return self._said_again(asked, reply, known=known)
        if reply.status_code == 201 and b'"id":' in reply.content:
            asked.status, asked.answer = 201, reply.content
        elif reply.status_code == 422 and self._card_is_dead(asked):
            asked.status = 422
        elif reply.status_code == 409 and asked.path == CREATORS:
            asked.status = 409
        else:
            self._complain(f"{asked.key} {asked.path}", reply)
        return str(reply.status_code)

    def _said_again(self, asked: Asked, reply: Any, *, known: bool) -> str:
        """What was answered once is answered so for ever, byte for byte; `known`: before we asked."""
        if asked.is_accepted:
            same = reply.status_code == 201 and reply.content == asked.answer
            replayed = reply.headers.get("Idempotent-Replayed") == "true"
            if not same or (known and not replayed):
                self._complain(f"{asked.key} again", reply)
        return f"{reply.status_code} again"

    def ask_otherwise(self, asked: Asked, body: dict[str, str]) -> str:
        """An answered key for another body: 422, and nothing happens (R49)."""
        reply = self._post(asked.path, json.dumps(body), asked.key)
        if reply is None:
            return "503"
        if reply.status_code != 422 or b"idempotency-key-reused" not in reply.content:
            self._complain(f"{asked.key} for another body", reply)
        return str(reply.status_code)

    def _card_is_dead(self, asked: Asked) -> bool:
        token = json.loads(asked.body).get("token", "")
        with looking_on():
            return Instrument.objects.filter(token=token, dead_at__isnull=False).exists()

    def look(self, asked: Asked) -> str:
        """GET an accepted checkout: it says what its first charge's row says, and the same amount."""
        subscription_id = asked.subscription_id(self.world.account_id)
        headers = {"Authorization": f"Bearer {self._secret}"}
        reply: Any = self._client.get(f"{CHECKOUTS}/{subscription_id}", headers=headers)
        if self._is_away(reply):
            return "503"
        if reply.status_code != 200:
            self._complain(f"GET of {asked.key}", reply)
            return str(reply.status_code)
        shown = reply.json()
        with looking_on():
            rows = Charge.objects.filter(subscription_id=subscription_id)
            charge = rows.earliest("period_start")
        said = (shown["charge"]["id"], shown["charge"]["amount"], shown["charge"]["state"])
        fits = shown["state"] in SHOWN[_S(charge.state)]
        if said != (str(charge.pk), str(charge.amount), charge.state) or not fits:
            self._complain(f"GET of {asked.key}, whose charge is {charge.state}", reply)
        return str(shown["state"])

    def _post(self, path: str, body: str, key: str) -> Any:
        """The answer; None if the database is away, and the client was told to come again (F18)."""
        headers = {"Authorization": f"Bearer {self._secret}", "Idempotency-Key": key}
        reply: Any = self._client.post(path, body, "application/json", headers=headers)
        return None if self._is_away(reply) else reply

    def _is_away(self, reply: Any) -> bool:
        away = reply.status_code == 503 and "Retry-After" in reply.headers
        if away and not self.world.away.was_away:
            self._complain("nothing was away", reply)
        return bool(away)

    def _complain(self, about: str, reply: Any) -> None:
        said = reply.content.decode()[:300]
        self.world.broken.append(f"{about}: answered {reply.status_code} {said}")

    # --- Webhooks ----------------------------------------------------------------------------------

    def announce(self, event: dict[str, Any]) -> str:
        """The processor tells of a charge: 202, or 200 for an event known before (R28)."""
        with looking_on():
            known = WebhookDelivery.objects.filter(event_id=event["id"]).exists()
        reply = self._webhook(event, secret=SECRET, late=0)
        if self._is_away(reply):
            return "503"
        # A commit whose acknowledgement was lost is run again, and finds itself.
        repeated = self.world.away.was_away and reply.status_code == 200
        if reply.status_code != (200 if known else 202) and not repeated:
            self._complain(f"webhook {event['id']}, known before: {known}", reply)
        return str(reply.status_code)

    def forge(self, event: dict[str, Any], *, secret: str, late: int) -> str:
        """Somebody else, or somebody who kept an old one: 401, and nothing is stored (F24)."""
        self.forged.append(event["id"])
        reply = self._webhook(event, secret=secret, late=late)
        if reply.status_code != 401 and not self._is_away(reply):
            self._complain("a forged webhook", reply)
        return str(reply.status_code)

    def _webhook(self, event: dict[str, Any], *, secret: str, late: int) -> Any:
        body, now = json.dumps(event).encode(), self.world.clock.real_now()
        signed = signature(body, secret=secret, at=int(now.timestamp()) - late)
        return self._client.post(
            "/v1/webhooks/sandbox", body, "application/json", headers={HEADER: signed}
        )
