"""What an operator must know first, gathered in parallel within a limit, whatever is dead.

Each part is asked on a thread of its own; who has not answered at the limit is reported as away. The
threads are daemons: a black hole may keep one waiting, never the person.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from django.db import connection, transaction

from checkout import outbox, readings, wiring
from checkout.clock import Ages, Clock
from checkout.models import CaseKind, Charge, Door, Hold, HoldKind, HoldScope
from checkout.outbox import Depth
from checkout.queue import Waiting
from checkout.readings import Pile, Retries
from checkout.targets import Target
from settlements import readings as proofs
from settlements.readings import Freshness

LIMIT_SECONDS: Final = 2.5
STATEMENT_MILLISECONDS: Final = 2_000
NETWORK_SECONDS: Final = 1.5
LAST_HOUR: Final = timedelta(hours=1)
# Everything that beats does so every few seconds; a minute without a sign is a fault.
QUIET_SECONDS: Final = 60.0
MUST_BEAT: Final = ("worker", "relay-sqs", "relay-kafka", "timetable")


@dataclass(frozen=True)
class Part:
    """Something the service stands on: whether it answers, and if not, why."""

    name: str
    answers: bool
    why: str
    seconds: float


@dataclass(frozen=True)
class Books:
    """What PostgreSQL says."""

    retry_count: int
    retries: Sequence[Retries]
    beats: Mapping[str, float]
    in_doubt: Pile
    cases: Mapping[str, Pile]
    outbox: Mapping[Door, Depth]
    oldest_owed: Charge | None
    holds: Sequence[Hold]
    discrepancies: Mapping[str, Pile]
    passes: Sequence[Freshness]
    statement_days: Mapping[str, int]
    notices: Pile

    @property
    def dead(self) -> Pile:
        return readings.dead_letters(dict(self.cases))


@dataclass(frozen=True)
class Triage:
    """The whole screen's contents; `books` and `waiting` are None while their part is away."""

    at: datetime
    seconds: float
    parts: Sequence[Part]
    books: Books | None
    waiting: Waiting | None

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


@dataclass
class _Probe:
    """A question to one part, answered on its own thread."""

    name: str
    ask: Callable[[], Any]
    answer: Any = None
    why: str = ""
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    def start(self, clock: Clock) -> None:
        threading.Thread(
            target=self._run, args=[clock], name=f"triage-{self.name}", daemon=True
        ).start()

    def _run(self, clock: Clock) -> None:
        begun = clock.monotonic()
        try:
            self.answer = self.ask()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            self.why = _in_one_line(error)
        self.seconds = clock.monotonic() - begun
        self.done.set()


def gather(*, clock: Clock, processor_url: str, kafka: str) -> Triage:
    """Ask every part at once and return within about LIMIT_SECONDS."""
    begun, now = clock.monotonic(), clock.real_now()
    probes = [
        _Probe("PostgreSQL", lambda: read_books(now)),
        _Probe("SQS", lambda: wiring.queue().waiting()),
        _Probe("Kafka", lambda: ask_kafka(kafka)),
        _Probe("processor", lambda: ask_processor(processor_url)),
    ]
    for probe in probes:
        probe.start(clock)
    for probe in probes:
        probe.done.wait(max(0.0, LIMIT_SECONDS - (clock.monotonic() - begun)))
    answers = {probe.name: probe.answer for probe in probes if probe.done.is_set()}
    return Triage(
        at=now,
        parts=[_part(probe) for probe in probes],
        books=answers.get("PostgreSQL"),
        waiting=answers.get("SQS"),
        seconds=clock.monotonic() - begun,
    )


def _part(probe: _Probe) -> Part:
    if not probe.done.is_set():
        return Part(probe.name, False, f"no answer within {LIMIT_SECONDS:g} s", LIMIT_SECONDS)  # noqa: FBT003
    return Part(probe.name, not probe.why, probe.why, probe.seconds)


def _in_one_line(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) < 120 else f"{text[:117]}…"


# --- The questions ---------------------------------------------------------------------------------


def read_books(now: datetime) -> Books:
    """Everything from PostgreSQL in one read-only transaction with a limit on each statement."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_MILLISECONDS}")
            return Books(
                retry_count=readings.retry_count(),
                retries=readings.retries_since(now - LAST_HOUR),
                beats=readings.heartbeats(now),
                in_doubt=readings.in_doubt(),
                cases=readings.open_cases(),
                outbox=outbox.depth(now=now),
                oldest_owed=readings.oldest_owed(),
                holds=readings.holds(now),
                discrepancies=proofs.open_discrepancies(),
                passes=proofs.freshness(),
                statement_days=proofs.statement_days(),
                notices=proofs.notices_waiting(),
            )
    finally:
        # This thread ends here; its connection with it.
        connection.close()


def ask_kafka(servers: str) -> int:
    """How many brokers answer."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    return len(admin.list_topics(timeout=NETWORK_SECONDS).brokers)


def ask_processor(url: str) -> int:
    """Any answer over HTTP will do: triage charges nothing and asks about no charge."""
    parts = urlsplit(url)
    return httpx.get(f"{parts.scheme}://{parts.netloc}/", timeout=NETWORK_SECONDS).status_code


# --- What it means -----------------------------------------------------------------------------------


def risks(triage: Triage, *, ages: Ages) -> list[str]:
    """Why money may be at risk now, worst first; empty means that none is known to be."""
    books = triage.books
    if books is None:
        return ["PostgreSQL does not answer: nothing is collected, and nothing here is known"]
    owed = books.oldest_owed
    waited = (triage.at - owed.created_at).total_seconds() if owed else 0.0
    unapplied = books.cases.get(CaseKind.UNAPPLIED_RECEIPT, Pile())
    found = (
        (_total(books.discrepancies), "discrepancies that stand: {}, {} USD"),
        (unapplied, "captures that no charge could take: {}, {} USD"),
        (books.in_doubt, "charges in doubt: {}, {} USD"),
        (books.dead, "dead letters that wait for a person: {}, {} USD"),
    )
    said = [text.format(pile.count, f"{pile.usd:,.2f}") for pile, text in found if pile.count]
    if CaseKind.BILL_RUN in books.cases:
        said.append("a bill run waits for an approval: nothing is billed until then")
    if waited > ages.sweep_after:
        said.append(f"a due charge waits {spell(waited)} for its first attempt")
    return said


def _total(piles: Mapping[str, Pile]) -> Pile:
    return Pile(
        count=sum(pile.count for pile in piles.values()),
        usd=sum((pile.usd for pile in piles.values()), Decimal("0.00")),
    )


@dataclass(frozen=True)
class Step:
    """What to do next, and why."""

    command: str
    why: str


NOTHING_TO_DO: Final = Step("nothing to do", "every part answers, and nothing waits for a person")


def next_step(triage: Triage, *, ages: Ages, local: bool) -> Step:
    """The one command an operator should run now: first what is away, then what sleeps, then proof."""
    for part in triage.parts:
        if not part.answers:
            return _mend(part, local=local)
    # Without the books PostgreSQL was among the parts above.
    step = _next_in(triage.books, local=local) if triage.books else NOTHING_TO_DO
    at_risk = risks(triage, ages=ages)
    if step == NOTHING_TO_DO and at_risk:
        return Step(_look_at("worker", local=local), at_risk[0])
    return step


def _next_in(books: Books, *, local: bool) -> Step:
    for name in quiet(books.beats):
        age = books.beats.get(name)
        why = f"{name} gave no sign of life " + (f"for {spell(age)}" if age else "ever")
        return Step(_look_at(name, local=local), why)
    if CaseKind.BILL_RUN in books.cases:
        page = "open /admin/checkout/case/?kind=bill_run&open=yes"
        return Step(page, "nothing is billed before somebody approves the bill run")
    if books.discrepancies:
        return Step("python manage.py reconcile", "discrepancies stand; the desk lists them")
    if books.dead.count:
        return Step("open /admin/checkout/case/?open=yes", "dead letters wait for a decision")
    if books.in_doubt.count:
        return Step(
            "open /admin/checkout/charge/?state=in_doubt",
            "the timetable asks the processor by itself",
        )
    for hold in books.holds:
        return Step(_resume(hold), f"it was stopped: {hold.reason}")
    return NOTHING_TO_DO


def _resume(hold: Hold) -> str:
    if hold.kind == HoldKind.HOLD:
        return "open /admin/checkout/hold/"
    target = Target(HoldScope(hold.scope), hold.subject)
    return f'python manage.py resume {target} --reason "what stopped it is mended"'


def quiet(beats: Mapping[str, float]) -> list[str]:
    """Who should have given a sign of life within QUIET_SECONDS and did not."""
    return [
        name
        for name in MUST_BEAT
        if min((age for beat, age in beats.items() if beat.startswith(name)), default=1e9)
        > QUIET_SECONDS
    ]


def _mend(part: Part, *, local: bool) -> Step:
    if part.name == "processor":
        return Step(
            'python manage.py pause all --for 30m --reason "the processor does not answer"',
            f"the processor is away ({part.why}); a pause spends no attempts",
        )
    commands = {
        "PostgreSQL": 'pg_isready -d "$DATABASE_URL"',
        "SQS": 'aws sqs get-queue-url --queue-name "$SQS_QUEUE"',
        "Kafka": "python manage.py kafka_topics --check",
    }
    command = "python -m devstack status" if local else commands[part.name]
    return Step(command, f"{part.name} is away: {part.why}")


def _look_at(name: str, *, local: bool) -> str:
    if local:
        return f"python -m devstack logs {name}"
    return f"kubectl rollout restart deployment/checkout-{name}"


def spell(seconds: float) -> str:
    """A length of time as people say it: 4 s, 12 min, 3 h, 2 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
