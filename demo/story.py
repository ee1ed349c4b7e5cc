"""What happens: 500 creators, three billing months, and everything that may go wrong in between.

1. `load`: plans, routing rules and creators, by file; the processor's fees; an account.
2. `start_checkouts`: by HTTP, a dozen at a time; a creator in a country nobody may serve is refused.
3. `live_through`: the business clock moves step by step; after each step everything must come to rest.
   - In the outage's step the worker and both relays are killed, one message meets a worker that dies
     of it three times, and SQS is away for ten seconds.
   - In the short step the processor captures a charge 0.03 USD short, and another charge's row is
     shorted behind the triggers; the seconds until each is named are measured.
4. `import_statements`: the processor's own statements of all days, lane by lane.
5. `proof.prove` compares everything with everything, and decides the exit code.

What was done is remembered in a file beside the clock, so that a second run goes on from there.
"""

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from typing import Final, TypeAlias

import httpx
import psycopg
from django.core.management import call_command
from django.db.models import Sum

from checkout import wiring
from checkout.models import Account, ApiKey, Attempt, Charge, ChargeState, Creator
from demo.platform import Order, Platform
from demo.quiet import wait_until_quiet
from demo.receives import count_receives
from demo.stage import FILES, HTTP_SECONDS, Fault, Memory, Stage
from settlements.models import Code, Discrepancy

Say: TypeAlias = Callable[[str], None]

ACCOUNT: Final = "demonstration"
SQS_AWAY_SECONDS: Final = 10.0
SHORT: Final = Decimal("0.03")
SHORTED_BY_PROCESSOR: Final = "creator-0001"
SHORTED_BY_HAND: Final = "creator-0002"
QUIET_SECONDS: Final = 180.0
# What the sandbox keeps of a capture (processor/statement.py).
WHY: Final = ("--reason", "loaded with the demonstration")
PROCESSOR_FEES: Final = ("--rate=0.029", "--fixed=0.30", "--since=2024-01-01")
NAMED_WITHIN: Final = 60.0
LOOK_SECONDS: Final = 0.2
MOST_RECEIVES_TO_DIE: Final = 50


@dataclass(frozen=True)
class Script:
    """How much of the file subscribes, and to which days after the first one the clock moves.

    `outage` and `short` are the steps (from 1) in which the faults are put in; a month must fall due
    in both.
    """

    creators: int
    days: tuple[int, ...]
    outage: int
    short: int


WHOLE: Final = Script(creators=500, days=(10, 20, 35, 50, 63, 78, 94), outage=3, short=5)
# Every part of the story once, for a test: a month in one step.
SMALL: Final = Script(creators=40, days=(32,), outage=1, short=1)


def tell(stage: Stage, script: Script) -> None:
    """Play the story, or what is left of it; raises when a part of it does not come to an end."""
    memory = Memory.read(stage.memory_file)
    load(stage)
    if not memory.finished:
        memory.began_on = memory.began_on or str(stage.clock.business_now().date())
        start_checkouts(stage, memory, script)
        live_through(stage, memory, script)
        memory.finished = True
        memory.write(stage.memory_file)
    with stage.screen.phase("Everything comes to rest") as phase:
        _come_to_rest(stage, phase.say)
        phase.say(_collected_so_far())
    import_statements(stage, memory)
    if not any(memory.receives):
        # Now: the next start of the stack begins its logs anew.
        memory.receives = count_receives(stage.worker_log)
        memory.sends = Attempt.objects.aggregate(sum=Sum("sends"))["sum"] or 0
        memory.write(stage.memory_file)


def load(stage: Stage) -> None:
    """Load the files and agree on the fees; what is there already is left as it is."""
    with stage.screen.phase("Plans, routing rules and creators, by file") as phase:
        said = StringIO()
        call_command("load_plans", str(FILES / "plans.csv"), *WHY, stdout=said)
        call_command("load_routing_rules", str(FILES / "routing_rules.csv"), *WHY, stdout=said)
        call_command("load_holidays", "us-fed", "--years", "2025-2040", *WHY, stdout=StringIO())
        for lane in stage.lanes:
            # As a person would write it: by keyword the values would reach the command unread.
            call_command("agree_fees", lane, *PROCESSOR_FEES, *WHY, stdout=StringIO())
        call_command("create_account", ACCOUNT, *WHY, stdout=StringIO(), stderr=StringIO())
        creators = str(FILES / "creators.csv")
        call_command("load_creators", creators, *WHY, account=ACCOUNT, stdout=said)
        phase.say("; ".join(line.partition(" (")[0] for line in said.getvalue().splitlines()))


def start_checkouts(stage: Stage, memory: Memory, script: Script) -> None:
    """Start the creators' checkouts by POST, and see one refused by its country's rule."""
    account = Account.objects.get(name=ACCOUNT)
    key = ApiKey.issue(account=account, label="the demonstration", now=stage.clock.now().real)
    with (
        stage.screen.phase("Checkouts, by POST") as phase,
        httpx.Client(
            base_url=stage.web_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=HTTP_SECONDS,
        ) as client,
    ):
        platform = Platform(client, stage.clock)
        orders = _orders(account)[: script.creators]
        memory.checkouts = platform.start_checkouts(orders, tell=phase.say)
        refused = platform.post(
            "/v1/creators",
            {
                "external_id": "creator-in-cuba",
                "name": "Yaneisy Rodríguez",
                "email": "yaneisy@example.com",
                "country": "CU",
                "time_zone": "America/Havana",
            },
            idempotency_key="demonstration-cuba",
        )
        memory.refused = f"{refused.status_code} {refused.json().get('detail', '')}"
        memory.write(stage.memory_file)
        phase.say(f"{phase.said}; one in Cuba: {refused.status_code}")
    with stage.screen.phase("The first periods are collected") as phase:
        _come_to_rest(stage, phase.say)


def live_through(stage: Stage, memory: Memory, script: Script) -> None:
    """Move the business clock step by step; after each step everything must come to rest."""
    began = date.fromisoformat(memory.began_on)
    for step, days in enumerate(script.days[memory.steps :], memory.steps + 1):
        today = began + timedelta(days=days)
        with stage.screen.phase(f"{today}, step {step:2} of {len(script.days)}") as phase:
            if step == script.short:
                _ask_for_a_short_capture(stage)
            stage.move_clock(to=today)
            if step == script.outage:
                break_things(stage, memory, phase.say)
            _come_to_rest(stage, phase.say)
            if step == script.short:
                find_the_cents(stage, memory, phase.say)
            memory.steps = step
            memory.write(stage.memory_file)
            phase.say(_collected_so_far())


def break_things(stage: Stage, memory: Memory, say: Say) -> None:
    """While a month is being collected: SIGKILL worker and relays, and take SQS away."""

    def done(what: str) -> None:
        memory.outages.append(what)
        say(", ".join(memory.outages))

    _wait_for_a_busy_moment(stage)
    stage.kill("worker")
    done("worker killed")
    if _die_three_times():
        done("one message received three times and never acknowledged")
    for relay in ("relay-sqs", "relay-kafka"):
        stage.kill(relay)
        done(f"{relay} killed")
    _wait_for_a_busy_moment(stage)
    stage.pause("sqs", seconds=SQS_AWAY_SECONDS)
    done(f"SQS away for {SQS_AWAY_SECONDS:g} s")


def find_the_cents(stage: Stage, memory: Memory, say: Say) -> None:
    """Short a row behind the triggers, then wait until both missing cents have been named."""
    memory.faults = [_captured_short(), _short_a_row(stage)]
    end = stage.clock.monotonic() + NAMED_WITHIN
    while any(not fault.named_at for fault in memory.faults) and stage.clock.monotonic() < end:
        for fault in memory.faults:
            fault.named_at = fault.named_at or _named_at(fault)
        say(f"{sum(bool(fault.named_at) for fault in memory.faults)} of 2 missing cents were named")
        stage.clock.sleep(LOOK_SECONDS)


def import_statements(stage: Stage, memory: Memory) -> None:
    """Fetch each lane's statement of the days that are over and not imported yet, and import it."""
    first = date.fromisoformat(memory.statements_from or memory.began_on)
    last = stage.clock.business_now().date() - timedelta(days=1)
    if last < first:
        return
    folder = stage.clock_file.with_name("statements")
    folder.mkdir(exist_ok=True)
    with stage.screen.phase("The processor's statements") as phase:
        for number, (processor, account) in enumerate(stage.lanes.values(), 1):
            path = folder / f"{account}-{first}-{last}.csv"
            path.write_text(stage.statement(account=account, first=first, last=last), "utf-8")
            whose = {"processor": processor, "account": account, "by": "demonstration"}
            call_command("import_statement", str(path), stdout=StringIO(), **whose)
            phase.say(f"{number} of {len(stage.lanes)} accounts, {first} to {last}")
    memory.statements_from = str(last + timedelta(days=1))
    memory.write(stage.memory_file)


def _orders(account: Account) -> list[Order]:
    """All of the file, one card of each behaviour first, so that a few orders show everything."""
    seen: Counter[str] = Counter()
    ranked = []
    for order in _orders_in_file(account):
        behaviour = order.token.rpartition("_")[0]
        ranked.append((seen[behaviour], order.external_id, order))
        seen[behaviour] += 1
    return [order for _, _, order in sorted(ranked, key=lambda ranks: ranks[:2])]


def _orders_in_file(account: Account) -> list[Order]:
    with (FILES / "creators.csv").open(encoding="utf-8", newline="") as file:
        return [
            Order(
                external_id=row["external_id"],
                creator_id=Creator.derive_id(account_id=account.id, external_id=row["external_id"]),
                plan=row["plan"],
                token=row["token"],
            )
            for row in csv.DictReader(file)
        ]


def _come_to_rest(stage: Stage, say: Say) -> None:
    wait_until_quiet(clock=stage.clock, seconds=QUIET_SECONDS, tell=say)


def _wait_for_a_busy_moment(stage: Stage) -> None:
    """Until the present week's charges are half under way: a fault in the middle, not before or after."""
    end = stage.clock.monotonic() + QUIET_SECONDS
    before = Attempt.objects.count()
    while Attempt.objects.count() < before + 10 and stage.clock.monotonic() < end:
        stage.clock.sleep(LOOK_SECONDS / 4)


def _die_three_times() -> bool:
    """Be a worker that dies of its message: receive one three times and never acknowledge it.

    SQS then moves it to the dead-letter queue by itself. Other messages that come our way meanwhile
    merely lose a receive.
    """
    queue = wiring.queue()
    for _ in range(MOST_RECEIVES_TO_DIE):
        answer = queue.client.receive_message(
            QueueUrl=queue.url,
            VisibilityTimeout=0,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        for message in answer.get("Messages", []):
            if message["Attributes"]["ApproximateReceiveCount"] == "3":
                return True
    return False


def _creator(external_id: str) -> Creator:
    return Creator.objects.get(account__name=ACCOUNT, external_id=external_id)


def _ask_for_a_short_capture(stage: Stage) -> None:
    creator = _creator(SHORTED_BY_PROCESSOR)
    stage.instruct_processor({"short": {"creator": str(creator.id), "by": str(SHORT)}})


def _captured_short() -> Fault:
    attempt = (
        Attempt.objects.filter(
            creator=_creator(SHORTED_BY_PROCESSOR), captured_amount__isnull=False
        )
        .order_by("-ended_at")
        .first()
    )
    if attempt is None or attempt.ended_at is None:
        raise LookupError(f"{SHORTED_BY_PROCESSOR} was not charged in this step")
    return Fault(
        what="captured short by the processor",
        external_id=SHORTED_BY_PROCESSOR,
        charge_id=str(attempt.charge_id),
        committed_at=attempt.ended_at.isoformat(),
    )


def _short_a_row(stage: Stage) -> Fault:
    """Take 0.03 USD off a collected charge as a superuser, with every ordinary trigger off."""
    charge = (
        Charge.objects.filter(creator=_creator(SHORTED_BY_HAND), state=ChargeState.SUCCEEDED)
        .order_by("-period_start")
        .first()
    )
    if charge is None:
        raise LookupError(f"{SHORTED_BY_HAND} has no collected charge to short")
    with psycopg.connect(stage.admin_url) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute(
            "UPDATE checkout_charge SET amount = amount - %s WHERE id = %s", [SHORT, charge.id]
        )
    return Fault(
        what="shorted in our own row, triggers off",
        external_id=SHORTED_BY_HAND,
        charge_id=str(charge.id),
        committed_at=stage.clock.real_now().isoformat(),
    )


def _named_at(fault: Fault) -> str:
    found = Discrepancy.objects.filter(
        charge_id=fault.charge_id, code=Code.UNDER_CHARGE, difference=-SHORT
    )
    first = found.order_by("opened_at").first()
    return first.opened_at.isoformat() if first else ""


def _collected_so_far() -> str:
    states = Charge.objects.values_list("state", flat=True)
    collected = sum(state == ChargeState.SUCCEEDED for state in states)
    return f"{collected} of {len(states)} charges collected so far"
