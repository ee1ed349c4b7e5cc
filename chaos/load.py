"""Open-loop load: visitors of a checkout page arrive at a set rate, whether or not anybody answers.

A visit registers a creator, starts a checkout, looks at it until it is decided, sometimes presses the button
twice, and sometimes tries another card. Its client obeys docs/api.md: what was not answered, or answered
503, 5xx or 409 key-in-use, is repeated with the same Idempotency-Key after Retry-After, with jitter, until
its patience is over. Only then has it finally failed, and the goal is that none ever does.

Every answer that should not be given is kept as a finding; every acknowledged write goes into the diary.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any, Final

import httpx

from chaos.diary import CHECKOUTS, CREATORS, Acknowledged, Asked, Diary
from chaos.figures import DONE, FAILED, FOUND, REFUSED, Finding, Operation, Tally
from chaos.stage import Stage
from checkout.clock import Clock

# Behaviour of processor/behaviour.py → how many of a hundred cards. A processor that lies (forget) or
# never decides (pending stuck) is left out: no invariant could hold against it.
TOKENS: Final[Mapping[str, int]] = {
    "approve": 61,
    "soft_then_approve_1": 4,
    "soft_then_approve_2": 3,
    "technical_then_approve_1": 3,
    "funds_then_approve": 3,
    "decline_soft": 3,
    "decline_funds": 2,
    "decline_never": 3,
    "decline_customer_action": 2,
    "timeout_after_charge": 2,
    "500_after_charge": 3,
    "garbled": 2,
    "lost": 3,
    "429_once": 2,
    "slow_1s": 1,
    "pending_2s": 2,
    "pending_2s_decline": 1,
}
COUNTRIES: Final = (("KZ", "Asia/Almaty"), ("NG", "Africa/Lagos"), ("BR", "America/Sao_Paulo"))
# PayPal's own list and ours know it as refused by rule: the only 4xx that a visit ever expects.
REFUSED_COUNTRY: Final = ("CU", "America/Havana")
NOT_SERVED: Final = "country-not-served"
KEY_IN_USE: Final = "idempotency-key-in-use"
UNDECIDED: Final = frozenset({"open", "processing", "in_doubt"})
MOST_SAID: Final = 1000


@dataclass(frozen=True)
class Habits:
    """How the visitors behave. Seconds, and shares of 1.

    `rate` arrivals a second, `most` of them in all, at most `at_once` under way: an arrival beyond that is
    shed and counted, since a client has bounds too. `patience` is how long an operation is repeated.
    """

    rate: float
    seed: int
    most: int = 200_000
    at_once: int = 1500
    # Requests under way at a time: six for each thread of the web. The others wait here, where waiting
    # makes no request late: a server whose every answer comes after its client left does nothing but repeat.
    connections: int = 48
    patience: float = 180.0
    timeout: float = 10.0
    first_pause: float = 0.25
    longest_pause: float = 5.0
    looks: int = 6
    look_pause: float = 1.0
    presses_twice: float = 0.1
    other_card: float = 0.5
    lists_charges: float = 0.2
    refused_country: float = 0.01
    # Plan code → its price: the answer's amount must be the plan's, to the cent.
    plans: Mapping[str, Decimal] = field(
        default_factory=lambda: {"monthly": Decimal("19.99"), "weekly": Decimal("4.99")}
    )
    tokens: Mapping[str, int] = field(default_factory=lambda: TOKENS)


class Unanswered(Exception):
    """An operation's patience is over, or its answer was a finding: its visit ends here."""


@dataclass(frozen=True)
class Client:
    """One frontend: sends, repeats, and tells diary and tally. Lives inside one event loop."""

    http: httpx.AsyncClient
    slots: asyncio.Semaphore
    habits: Habits
    diary: Diary
    tally: Tally
    clock: Clock
    random: Random

    async def post(self, asked: Asked, *, expected: str = "") -> Acknowledged | None:
        """Have it done: the acknowledgement, or None where it was refused as `expected`.

        Raises Unanswered.
        """
        self.diary.write(asked)
        answer = await self._answered("POST", asked.path, asked=asked, expected=expected)
        if answer is None:
            return None
        at = self.clock.monotonic()
        acknowledged = Acknowledged(
            asked, answer.status_code, answer.text, at=round(at - self.tally.begun, 3)
        )
        self.diary.write(acknowledged)
        self.tally.writes.append(at)
        return acknowledged

    async def press_again(self, before: Acknowledged) -> None:
        """The same POST once more, as after a double click: the same answer, byte for byte (R49)."""
        again = await self._answered("POST", before.asked.path, asked=before.asked)
        if again is not None and again.text != before.answer:
            self.found("another answer to the same key", again.status_code, again.text)

    async def get(self, path: str) -> Any:
        """The document of an address that must be there. Raises Unanswered."""
        answer = await self._answered("GET", path)
        return None if answer is None else answer.json()

    def found(self, what: str, status: int, said: str) -> None:
        """Keep an answer that should not have been given."""
        at = round(self.clock.monotonic() - self.tally.begun, 3)
        self.tally.findings.append(Finding(at, what, status, said[:MOST_SAID]))

    async def _answered(
        self, method: str, path: str, *, asked: Asked | None = None, expected: str = ""
    ) -> httpx.Response | None:
        """Repeat until it is answered for good; the end of each operation is written down here alone."""
        begun = self.clock.monotonic()
        outcome, tries, answer = FAILED, 0, None
        while self.clock.monotonic() < begun + self.habits.patience or not tries:
            tries += 1
            answer = await self._try(method, path, asked)
            outcome = self._meaning(answer, f"{method} {path}", expected)
            if outcome != FAILED:
                break
            await asyncio.sleep(self._pause(answer, tries))
        what = f"{method} {'/'.join(path.split('/')[:3])}"
        ended = self.clock.monotonic()
        operation = Operation(begun, ended, what, tries, outcome, is_write=asked is not None)
        self.tally.operations.append(operation)
        if outcome in (FAILED, FOUND):
            raise Unanswered(what)
        return answer if outcome == DONE else None

    async def _try(self, method: str, path: str, asked: Asked | None) -> httpx.Response | None:
        """One request; None where no answer came: refused, reset, cut off, or too late."""
        headers = {"Idempotency-Key": asked.key} if asked else {}
        async with self.slots:
            return await self._send(method, path, asked, headers)

    async def _send(
        self, method: str, path: str, asked: Asked | None, headers: dict[str, str]
    ) -> httpx.Response | None:
        begun = self.clock.monotonic()
        try:
            answer = await self.http.request(
                method, path, json=asked.body if asked else None, headers=headers
            )
        except httpx.TransportError as lost:
            self.tally.answers.append((begun, type(lost).__name__))
            return None
        self.tally.answers.append((begun, str(answer.status_code)))
        return answer

    def _meaning(self, answer: httpx.Response | None, what: str, expected: str) -> str:
        """DONE, REFUSED, FOUND, or FAILED as long as the same request may be repeated."""
        if answer is None or answer.status_code == 503:
            return FAILED
        if answer.is_success and expected:
            self.found(f"{what}: done, where {expected} was due", answer.status_code, answer.text)
            return FOUND
        if answer.is_success:
            return DONE
        problem = slug(answer)
        if answer.status_code == 409 and problem == KEY_IN_USE:
            return FAILED
        if expected and problem == expected:
            return REFUSED
        self.found(what, answer.status_code, answer.text)
        # A 500 is a finding and is repeated all the same: docs/api.md says that this is safe.
        return FAILED if answer.status_code >= 500 else FOUND

    def _pause(self, answer: httpx.Response | None, tries: int) -> float:
        """Seconds until the next try: at least what Retry-After asks for, then spread."""
        asked_for = answer.headers.get("Retry-After", "") if answer is not None else ""
        if asked_for.isdecimal():
            return float(asked_for) * (1 + 0.5 * self.random.random())
        most = min(self.habits.longest_pause, self.habits.first_pause * float(2 ** min(tries, 10)))
        return most * (0.5 + 0.5 * self.random.random())


def slug(answer: httpx.Response) -> str:
    """The last part of a problem's type (RFC 9457), or nothing."""
    try:
        return str(answer.json().get("type", "")).removeprefix("/problems/")
    except (ValueError, AttributeError):
        return ""


@dataclass(frozen=True)
class Visit:
    """One visitor, decided by its name alone: the same seed brings the same visitors."""

    client: Client
    name: str
    random: Random

    async def live(self) -> None:
        """Register, subscribe, look; as a page would. Ends early when something finally failed."""
        with suppress(Unanswered):
            creator = await self._register()
            if creator is None:
                return
            state = await self._subscribe(creator, f"{self.name}-order", self._token())
            if state == "declined" and self.random.random() < self.client.habits.other_card:
                await self._subscribe(creator, f"{self.name}-other", "tok_approve")

    async def _register(self) -> str | None:
        refused = self.random.random() < self.client.habits.refused_country
        country, zone = REFUSED_COUNTRY if refused else self.random.choice(COUNTRIES)
        asked = Asked(
            f"{self.name}-creator",
            CREATORS,
            {
                "external_id": self.name,
                "name": "Aigerim Bekova",
                "email": f"{self.name}@example.com",
                "country": country,
                "time_zone": zone,
            },
        )
        creator = await self.client.post(asked, expected=NOT_SERVED if refused else "")
        return None if creator is None else creator.id

    async def _subscribe(self, creator: str, key: str, behaviour: str) -> str:
        """Start a checkout and wait for its decision; the state that was seen last."""
        habits = self.client.habits
        plan = self.random.choice(sorted(habits.plans))
        body = {"creator_id": creator, "plan": plan, "token": f"{behaviour}_{key}"}
        done = await self.client.post(Asked(key, CHECKOUTS, body))
        assert done is not None  # noqa: S101  nothing was expected to be refused
        self._is_what_was_asked(done, habits.plans[plan])
        if self.random.random() < habits.presses_twice:
            await self.client.press_again(done)
        state = await self._decided(done)
        if self.random.random() < habits.lists_charges:
            await self._is_listed(done, creator)
        return state

    async def _decided(self, done: Acknowledged) -> str:
        state = ""
        for _ in range(self.client.habits.looks):
            document = await self.client.get(f"{CHECKOUTS}/{done.id}")
            state = document["state"]
            if state not in UNDECIDED:
                break
            await asyncio.sleep(self.client.habits.look_pause * (0.5 + self.random.random()))
        return state

    def _is_what_was_asked(self, done: Acknowledged, price: Decimal) -> None:
        charge = done.charge or {}
        if Decimal(charge.get("amount", "0")) != price or charge.get("currency") != "USD":
            self.client.found(f"another amount than {price} USD", done.status, done.answer)

    async def _is_listed(self, done: Acknowledged, creator: str) -> None:
        page = await self.client.get(f"/v1/charges?creator_id={creator}")
        charge = done.charge or {}
        if charge.get("id") not in {each["id"] for each in page["charges"]}:
            self.client.found("an acknowledged charge is not listed", done.status, done.answer)

    def _token(self) -> str:
        tokens = self.client.habits.tokens
        return f"tok_{self.random.choices(list(tokens), weights=list(tokens.values()))[0]}"


@dataclass
class Load:
    """The visitors in a thread of their own. Not frozen: it holds that thread."""

    url: str
    api_key: str
    habits: Habits
    diary: Diary
    clock: Clock = field(default_factory=Clock)
    tally: Tally = field(init=False)
    # Whether visits were still under way when `stop` gave up on them.
    cut_short: bool = field(default=False, init=False)
    _ended: "Future[None]" = field(default_factory=Future, init=False)
    _closing: threading.Event = field(default_factory=threading.Event, init=False)
    _cancel: Callable[[], object] = field(default=lambda: None, init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(begun=self.clock.monotonic())

    def start(self) -> None:
        """Begin; visitors come until `stop`, or until habits.most of them came."""
        self.tally.begun = self.clock.monotonic()
        threading.Thread(target=self._run, name="load", daemon=True).start()

    def stop(self, *, seconds: float) -> None:
        """Begin no more visits; wait until those under way ended, or `seconds` passed.

        Raises what ended the load before its time: a mistake of its own.
        """
        self._closing.set()
        try:
            self._ended.result(timeout=seconds)
        except NotInTime:
            self.cut_short = True
            self._cancel()
            with suppress(NotInTime):
                self._ended.result(timeout=self.habits.timeout)
        self.tally.ended = self.clock.monotonic()

    def acknowledged(self) -> int:
        """How many writes were answered 2xx so far."""
        return len(self.tally.writes)

    def longest_silence(self, *, since: float, until: float) -> float:
        """The most seconds without an acknowledged write between two monotonic times."""
        return self.tally.longest_silence(since=since, until=until)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  asyncio.run runs a task
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        # The bound is `slots`: httpcore's own pool loses the places of connections that were cut while they
        # waited, and in the end gives out none (all further requests were PoolTimeout).
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=self.habits.timeout,
            limits=limits,
            trust_env=False,
        ) as http:
            client = Client(
                http,
                asyncio.Semaphore(self.habits.connections),
                self.habits,
                self.diary,
                self.tally,
                self.clock,
                Random(self.habits.seed),
            )
            with suppress(asyncio.CancelledError):
                await self._arrive(client)

    async def _arrive(self, client: Client) -> None:
        """Visitors come at exponential distances; each goes its own way."""
        random, under_way = Random(self.habits.seed), set[asyncio.Task[None]]()
        next_at = self.clock.monotonic()
        try:
            async with asyncio.TaskGroup() as visits:
                for number in count(1):
                    next_at += random.expovariate(self.habits.rate)
                    if await self._closed_before(next_at) or number > self.habits.most:
                        break
                    self.tally.arrivals.append(next_at)
                    if len(under_way) >= self.habits.at_once:
                        self.tally.shed.append(next_at)
                        continue
                    name = f"visit-{self.habits.seed}-{number:06}"
                    visit = visits.create_task(Visit(client, name, Random(name)).live())
                    under_way.add(visit)
                    visit.add_done_callback(under_way.discard)
        except* asyncio.CancelledError:
            pass

    async def _closed_before(self, at: float) -> bool:
        """Wait until `at`; True as soon as no more visitors may come."""
        while not self._closing.is_set():
            left = at - self.clock.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, 0.2))
        return True


def open_load(stage: Stage, *, rate: float, seed: int) -> Load:
    """The visitors of this stage, with their diary in its folder."""
    diary = Diary(stage.home / f"diary-{seed}.jsonl")
    return Load(stage.web_url, stage.api_key, Habits(rate=rate, seed=seed), diary)
