"""One simulated world: clock, queue, topic, processor and network, and the trace of what happened."""

import hashlib
import json
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import httpx

from checkout.clock import Ages
from checkout.gateways import Answer, ChargeRequest, Gateway, Outcome, WebhookHint
from checkout.gateways.sandbox import SandboxGateway
from processor.control import IllFormed
from processor.journal import Journal, Line
from processor.orders import read_order, read_reference
from processor.sandbox import Reply, Sandbox, event_of
from tests.fakes import FakeClock
from tests.simulation.queue import FifoQueue
from tests.simulation.topic import Topic
from tests.simulation.turns import Hands, current

SECRET = "webhook-secret-of-the-simulation"
LANE = "cis"
NAMES = UUID("6f1c3a52-7d1f-5c58-9d6e-0d0d8a3a1f77")
LAST_STEPS = 60
_TURNED_AWAY = {"429": 429, "503": 503, "404": 404, "403": 403}

CALM_TOKENS = (
    *("approve",) * 4,
    "soft_then_approve_1",
    "soft_then_approve_2",
    "technical_then_approve_1",
    "funds_then_approve",
    "decline_soft",
    "decline_funds",
    "decline_never",
    "decline_customer_action",
)
ROUGH_TOKENS = (
    *CALM_TOKENS,
    "timeout_after_charge",
    "500_after_charge",
    "garbled",
    "lost",
    "429_once",
    "pending_30s",
    "pending_900s",
    "pending_600s_decline",
    "pending_stuck",
)


@dataclass(frozen=True)
class Plan:
    """What one schedule is made of: a swarm configuration drawn from its seed."""

    seed: int
    steps: int = 60
    calm: bool = False
    workers: int = 2
    # Probabilities: of a crash where a turn waits, of a fault of a call, of a freeze, of a lost commit.
    crash: float = 0.0
    network: float = 0.0
    freeze: float = 0.0
    commits: float = 0.0
    away: float = 0.0
    broker: float = 0.0
    queue: bool = False
    chaos: bool = False
    people: bool = False
    # Rescuers that do not run before healing.
    without: frozenset[str] = frozenset()
    two_leaders: bool = False
    # A process may freeze between its look at the time and its first byte, and a request may be under
    # way for hours: then a second capture cannot be ruled out, but it must be found and kept (R22).
    last_defence: bool = False
    shorts: bool = False
    # Time passes in minutes alone, so that what is late is still under way when we ask.
    minutes: bool = False
    idempotent_hours: float = 24.0
    webhooks: str = "resolved"
    creators: int = 2
    only: frozenset[str] = frozenset()

    @classmethod
    def drawn(cls, seed: int, *, steps: int) -> "Plan":
        rng = random.Random(f"plan:{seed}")
        if rng.random() < 0.15:
            return cls(
                seed=seed,
                steps=steps,
                calm=True,
                people=rng.random() < 0.5,
                workers=rng.choice([1, 2]),
            )
        some = {
            name: rng.choice(levels)
            for name, levels in {
                "crash": (0.0, 0.05, 0.25),
                "network": (0.0, 0.1, 0.5),
                "freeze": (0.0, 0.1, 0.4),
                "commits": (0.0, 0.0, 0.03),
                "away": (0.0, 0.0, 0.1),
                "broker": (0.0, 0.0, 0.2),
                "queue": (False, False, True),
                "chaos": (False, False, True),
                "people": (False, True, True),
                "two_leaders": (False, False, True),
                "last_defence": (False, False, False, False, False, True),
                "shorts": (False, False, True),
                "minutes": (False, True),
                "idempotent_hours": (24.0, 24.0, 2.0),
                "webhooks": ("none", "resolved", "all"),
                "workers": (2, 2, 3),
                "creators": (1, 2, 3),
            }.items()
        }
        without = frozenset(
            job for job in ("resolve", "sweep", "drain", "dunning", "bill") if rng.random() < 0.25
        )
        return cls(seed=seed, steps=steps, without=without, **some)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SimulatedClock(FakeClock):
    """A sleep lets the others go on, as in the life of a process that waits."""

    hands_of: list[Hands] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.forward(seconds=seconds)
        for hands in self.hands_of:
            hands.wait_here("asleep")


class ProcessorClock:
    """The processor's view of the same clock; it thinks in no time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def real_now(self) -> datetime:
        return self._clock.real_now()

    def business_now(self) -> datetime:
        return self._clock.business_now()

    def sleep(self, seconds: float, /) -> None:
        pass


class World:
    """Everything that is not the product, and the one source of chance."""

    def __init__(self, plan: Plan, hands: Hands) -> None:
        self.plan = plan
        self.rng = random.Random(f"schedule:{plan.seed}")
        random.seed(plan.seed)  # the spread of the waits of commit.py
        self.hands = hands
        self.clock = SimulatedClock(hands_of=[hands])
        # Shorter than production's, so that healing is soon over: one dunning date, and a card that
        # was tried too often rests for a day (R30).
        self.ages = Ages(
            idempotent_for=plan.idempotent_hours * 3600, attempts_window=86400, dunning_days=(3,)
        )
        self.account_id = uuid5(NAMES, str(plan.seed))
        self.queue = FifoQueue(self.clock, visibility=self.ages.visibility)
        self.topic = Topic()
        self.network = Network(self)
        self.announced: list[dict[str, Any]] = []
        self.processor = Sandbox(
            journal=Journal.in_memory(),
            clock=ProcessorClock(self.clock),
            announce=lambda line: self.announced.append(event_of(line)),
        )
        hours = plan.idempotent_hours
        self.processor.instruct(
            {
                "webhooks": plan.webhooks,
                "idempotent_seconds": hours * 3600,
                "pending_expires_seconds": 2000,
            }
        )
        self.lane = Lane(self)
        self.gateways: dict[str, Gateway] = {LANE: self.lane}
        self.stormy = not plan.calm
        self.asked: set[str] = set()  # idempotency keys that were used
        self.accepted: set[str] = set()  # and those that were answered
        self.rewritten: set[UUID] = set()
        self.billed_at: datetime | None = None  # business time of the last bill run
        self.broken: list[str] = []  # what broke on the way, before the oracle looks
        self.rescued: list[str] = []
        self.swept = 0  # charges that nothing but the sweep brought back, in healing
        self.faults: dict[str, int] = {}
        self.lines: deque[str] = deque(maxlen=LAST_STEPS)
        self._hash = hashlib.sha256()
        self._names: dict[object, str] = {}
        self._commits = 0

    # --- The trace ---------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        elapsed = self.clock.monotonic()
        line = f"{elapsed:>12.1f}  {text}"
        self._hash.update(line.encode() + b"\n")
        self.lines.append(line)

    @property
    def trace(self) -> str:
        return self._hash.hexdigest()

    def name(self, what: object, kind: str = "charge") -> str:
        """A short name for an identifier, the same in each run of a seed."""
        known = sum(1 for name in self._names.values() if name.startswith(kind))
        return self._names.setdefault(what, f"{kind}-{known + 1}")

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1
        self.note(f"   fault: {name}")

    def happens(self, chance: float) -> bool:
        """Whether a fault of this probability strikes now; never in a calm or healed world."""
        return self.stormy and chance > 0 and self.rng.random() < chance

    # --- Faults that product code meets -----------------------------------------------------------

    def commit_fault(self) -> str:
        """ "before", "after" or "": how the commit of the turn that runs is lost (F3)."""
        if current() is None or not self.happens(self.plan.commits):
            return ""
        lost = self.rng.choice(["before", "after"])
        self.fault(f"commit lost {lost}")
        return lost

    # --- Time ------------------------------------------------------------------------------------

    def forward(self, seconds: float) -> None:
        self.clock.forward(seconds=seconds)
        self.network.deliver_late()
        self.processor.resolve_due()


class Network:
    """What lies between the service and the processor: a transport that loses what it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fault = ""
        self.late: list[tuple[datetime, bytes, str]] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        fault, self.fault = self.fault, ""
        if fault == "refused":
            raise httpx.ConnectError("refused", request=request)
        request.extensions["trace"]("http11.send_request_headers.started", {})
        if fault == "late":
            hours = self.world.plan.last_defence
            after = self.world.rng.choice([20, 700, 9000] if hours else [20, 200, 430])
            at = self.world.clock.real_now() + timedelta(seconds=after)
            self.late.append((at, request.content, request.headers["Idempotency-Key"]))
        if fault in ("lost", "late"):
            raise httpx.ReadTimeout("nothing came back", request=request)
        if fault in _TURNED_AWAY:
            return httpx.Response(_TURNED_AWAY[fault], json={"error": "turned away"})
        return self._delivered(self._reply(request), fault, request)

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

    def __init__(self, world: World) -> None:
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
        faults = (
            "refused",
            "lost",
            *("late",) * 3,
            "answer lost",
            "500 after",
            "429",
            "503",
            "403",
        )
        self._strike(faults)
        outcome = self.inner.charge(request, deadline=deadline)
        self._note("charge", request.reference, outcome)
        return outcome

    def query(self, reference: UUID, *, deadline: float) -> Answer:
        self.world.hands.wait_here("query")
        self._strike(("refused", "answer lost", "503", "404"))
        answer = self.inner.query(reference, deadline=deadline)
        self._note("query", reference, answer)
        return answer

    def expire(self, reference: UUID, *, deadline: float) -> Answer:
        self.world.hands.wait_here("expire")
        self._strike(("refused", "answer lost", "503"))
        answer = self.inner.expire(reference, deadline=deadline)
        self._note("expire", reference, answer)
        return answer

    def parse_webhook(self, body: bytes, headers: Any, *, now: datetime) -> WebhookHint:
        return self.inner.parse_webhook(body, headers, now=now)

    def _strike(self, faults: tuple[str, ...]) -> None:
        if self.world.happens(self.world.plan.network):
            self.world.network.fault = self.world.rng.choice(faults)
            self.world.fault(self.world.network.fault)

    def _note(self, verb: str, reference: UUID, answer: object) -> None:
        text = type(answer).__name__
        self.world.note(f"   {verb} {self.world.name(reference, 'attempt')}: {text}")


class Complaints(logging.Handler):
    """What the product logs as an error is a violation: nothing may hide behind `logger.exception`."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.world: World | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.world is None:
            return
        error = record.exc_info[1] if record.exc_info else ""
        self.world.broken.append(f"logged: {record.getMessage()}: {type(error).__name__}: {error}")


def captures(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.status == "approved"]
