"""What lies between the service and the processor, and the product's own gateway on top of it."""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from checkout.gateways import Answer, ChargeRequest, NotSent, Outcome, WebhookHint
from checkout.gateways.sandbox import SandboxGateway
from processor.control import IllFormed
from processor.orders import read_order, read_reference
from processor.sandbox import Reply
from tests.simulation.turns import current
from tests.simulation.watch import sending

if TYPE_CHECKING:
    from tests.simulation.world import World

SECRET = "webhook-secret-of-the-simulation"
LANE = "cis"
_TURNED_AWAY = {"429": 429, "503": 503, "404": 404, "403": 403}
# By number of FAULTS: what is not there is a refusal, which the lane's breaker counts.
_NUMBERS = {
    **dict.fromkeys(("lost", "late", "hours late", "refused"), "F8"),
    **dict.fromkeys(("answer lost", "500 after"), "F9"),
}


class Network:
    """A transport that loses what it is told to."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.fault = ""
        self.late: list[tuple[datetime, bytes, str]] = []
        self.refuses_until = world.clock.real_now()

    def refuse(self, seconds: float) -> None:
        """Nobody listens at the processor's address for so long (F31)."""
        self.refuses_until = self.world.clock.real_now() + timedelta(seconds=seconds)

    def handle(self, request: httpx.Request) -> httpx.Response:
        fault, self.fault = self.fault, ""
        if fault == "refused" or self.world.clock.real_now() < self.refuses_until:
            raise httpx.ConnectError("refused", request=request)
        request.extensions["trace"]("http11.send_request_headers.started", {})
        if fault == "late":
            hours = self.world.plan.last_defence
            self._delay(
                request, self.world.rng.choice([20, 700, 9000] if hours else [20, 200, 430])
            )
        if fault == "hours late":
            self._delay(request, 9000)
        if fault in ("lost", "late", "hours late"):
            raise httpx.ReadTimeout("nothing came back", request=request)
        if fault in _TURNED_AWAY:
            return httpx.Response(_TURNED_AWAY[fault], json={"error": "turned away"})
        return self._delivered(self._reply(request), fault, request)

    def _delay(self, request: httpx.Request, seconds: float) -> None:
        at = self.world.clock.real_now() + timedelta(seconds=seconds)
        self.late.append((at, request.content, request.headers["Idempotency-Key"]))

    def _delivered(self, reply: Reply, fault: str, request: httpx.Request) -> httpx.Response:
        """The answer, as far as the network and the processor's own humours let it through."""
        if fault == "answer lost" or reply.delivery == "silence":
            raise httpx.ReadTimeout("nothing came back", request=request)
        if reply.delivery == "hangup":
            raise httpx.RemoteProtocolError("closed", request=request)
        if fault == "500 after" or reply.delivery == "server_error":
            return httpx.Response(500, json={"error": "broken"})
        body = json.dumps(reply.body).encode()
        if reply.delivery == "garbled":
            body = body[: len(body) // 2]
        return httpx.Response(reply.status, content=body, headers=dict(reply.headers))

    def _reply(self, request: httpx.Request) -> Reply:
        processor, parts = self.world.processor, request.url.path.split("/")
        if request.method == "GET":
            return processor.query(read_reference(parts[3]))
        if parts[-1] == "expire":
            return processor.expire(read_reference(parts[3]))
        return self._charge(request.content, request.headers["Idempotency-Key"])

    def _charge(self, body: bytes, key: str) -> Reply:
        try:
            return self.world.processor.charge(read_order(body, key=key))
        except IllFormed as error:
            self.world.broken.append(f"the processor cannot read our order: {error}")
            return Reply(400, {"error": "ill_formed"})

    @property
    def next_late(self) -> datetime | None:
        """When the next request that was given up arrives."""
        return min((at for at, _, _ in self.late), default=None)

    def deliver_late(self) -> None:
        """Requests that were given up long ago arrive after all."""
        now = self.world.clock.real_now()
        due = [late for late in self.late if late[0] <= now]
        self.late = [late for late in self.late if late[0] > now]
        for _, body, key in due:
            reply = self._charge(body, key)
            self.world.note(f"late request arrives: {reply.body.get('status', reply.status)}")


class Lane:
    """The product's own sandbox gateway over the simulated network; its queries are points to wait at."""

    processor = "sandbox"

    def __init__(self, world: "World") -> None:
        self.world = world
        ages = world.ages
        self.inner = SandboxGateway(
            url="http://processor.invalid",
            api_key="key",
            account=LANE,
            webhook_secret=SECRET,
            minimum_age=timedelta(seconds=ages.not_found_after),
            not_found_repeats=ages.not_found_repeats,
            idempotent_for=timedelta(seconds=ages.idempotent_for),
            transport=httpx.MockTransport(world.network.handle),
        )
        self.idempotent_for = self.inner.idempotent_for
        self.minimum_age = self.inner.minimum_age
        self.not_found_repeats = self.inner.not_found_repeats

    def charge(self, request: ChargeRequest, *, deadline: float) -> Outcome:
        self._strike("refused", "lost", *("late",) * 3, "answer lost", "500 after")
        self._strike("429", "503", "403")
        turn = current()
        if turn is not None:
            turn.attempt = request.reference
        self.world.broken += sending(self.world, request)
        self._doubt(self.world.doubts.before_charge(request.reference))
        outcome = self.inner.charge(request, deadline=deadline)
        if isinstance(outcome, NotSent):
            self.world.not_sent.add(request.reference)
        self._note("charge", request.reference, outcome)
        self.world.doubts.after_charge(request.reference, outcome)
        return outcome

    def query(self, reference: UUID, *, deadline: float) -> Answer:
        self._meet(reference)
        self.world.hands.wait_here("query")
        self._strike("refused", "answer lost", "503", "404")
        self._doubt(self.world.doubts.before_query(reference))
        answer = self.inner.query(reference, deadline=deadline)
        self._note("query", reference, answer)
        self.world.doubts.after_query(reference, answer)
        return answer

    def expire(self, reference: UUID, *, deadline: float) -> Answer:
        self.world.hands.wait_here("expire")
        self._strike("refused", "answer lost", "503")
        answer = self.inner.expire(reference, deadline=deadline)
        self._note("expire", reference, answer)
        return answer

    def parse_webhook(self, body: bytes, headers: Any, *, now: datetime) -> WebhookHint:
        return self.inner.parse_webhook(body, headers, now=now)

    def _meet(self, reference: UUID) -> None:
        if any(turn.attempt == reference for turn in self.world.waiting if turn is not current()):
            self.world.fault("F13 asked about an attempt that a worker has in hand")

    def _strike(self, *faults: str) -> None:
        world = self.world
        allowed = [fault for fault in faults if world.plan.allows(fault)]
        if allowed and not world.network.fault and world.happens(world.plan.network):
            fault = world.network.fault = world.rng.choice(allowed)
            world.fault(f"{_NUMBERS.get(fault, 'turned away:')} {fault}")

    def _doubt(self, fault: str) -> None:
        if fault and not self.world.network.fault:
            self.world.network.fault = fault
            self.world.fault(f"{_NUMBERS.get(fault, 'turned away:')} {fault}, in doubt")

    def _note(self, verb: str, reference: UUID, answer: object) -> None:
        text = type(answer).__name__
        self.world.heard.add((reference, text))
        self.world.note(f"   {verb} {self.world.name(reference, 'attempt')}: {text}")
