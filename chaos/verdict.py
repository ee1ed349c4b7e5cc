"""The verdict over a run: everything comes to rest, then I1 to I6, the clients' word, and finance's own.

judge(stage=…, load=…, played=[…])  →  Verdict: holds, text(), as_json()
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg

from chaos.diary import Acknowledged, Promises
from chaos.evidence import Evidence, Waiting, rows
from chaos.figures import Finding, Window
from chaos.invariants import ACKNOWLEDGED, Claim, claims
from chaos.load import Load
from chaos.stage import Played, Stage
from chaos.tables import tables
from checkout.clock import Clock
from checkout.queue import Queue, client
from checkout.topics import TopicReader
from demo.journal import lines_of
from demo.unrest import Unrest, unrest

REST_SECONDS: Final = 180.0
LOOK_SECONDS: Final = 0.5
HTTP_SECONDS: Final = 30.0
ASKERS: Final = 4
# A request that is asked again after healing must be answered at once; 503 is given this many more tries.
TRIES: Final = 5
LATE_FILE: Final = "late_file"
QUEUE: Final = ("checkout-payments.fifo", "checkout-payments-dlq.fifo")


@dataclass(frozen=True)
class Verdict:
    """What was found. `windows` are the figures by scenario, the whole run last; `rest_seconds` is how
    long it took until nothing was under way.
    """

    claims: Sequence[Claim]
    played: Sequence[Played]
    windows: Sequence[Window]
    findings: Sequence[Finding]
    rest_seconds: float
    buckets: Sequence[int]

    @property
    def holds(self) -> bool:
        """All invariants hold, no request finally failed, no acknowledged write was lost."""
        return all(claim.holds for claim in self.claims)

    @property
    def lost(self) -> int:
        """Acknowledged writes that are gone, or are not what was answered. The goal is 0."""
        return sum(len(claim.violations) for claim in self.claims if claim.says == ACKNOWLEDGED)

    @property
    def kills(self) -> dict[str, int]:
        """Processes killed, by failpoint."""
        total: Counter[str] = Counter()
        for one in self.played:
            total.update(one.outcome.kills)
        return dict(sorted(total.items()))

    def text(self) -> str:
        """The tables for people."""
        return tables(
            claims=self.claims,
            played=self.played,
            windows=self.windows,
            findings=self.findings,
            kills=self.kills,
            lost=self.lost,
            rest_seconds=self.rest_seconds,
        )

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "holds": self.holds,
            "acknowledged_writes_lost": self.lost,
            "requests_finally_failed": self.windows[-1].failed,
            "longest_seconds_without_writes": self.windows[-1].gap,
            "rest_seconds": round(self.rest_seconds, 1),
            "claims": [asdict(claim) | {"holds": claim.holds} for claim in self.claims],
            "scenarios": [_scenario(one) for one in self.played],
            "windows": [asdict(window) for window in self.windows],
            "kills": self.kills,
            "findings": [asdict(finding) for finding in self.findings],
            "acknowledged_by_second": list(self.buckets),
        }

    def json(self) -> str:
        """`as_json` as text."""
        return json.dumps(self.as_json(), default=str, indent=1)


def _scenario(one: Played) -> dict[str, Any]:
    outcome = one.outcome
    return {
        "name": one.scenario.name,
        "faults": list(one.scenario.faults),
        "seconds": round(one.ended - one.began, 1),
        "seconds_without_writes": round(one.silence, 2),
        "facts": dict(outcome.facts),
        "skipped": outcome.skipped,
        "unfulfilled": outcome.unfulfilled,
    }


def judge(*, stage: Stage, load: Load, played: Sequence[Played]) -> Verdict:
    """Wait until all is at rest, at most REST_SECONDS, then hear every witness and judge.

    The load must have been stopped. Raises what a witness that does not answer raises.
    """
    began = load.clock.monotonic()
    at_rest = come_to_rest(stage, seconds=REST_SECONDS)
    rest_seconds = load.clock.monotonic() - began
    rewritten = frozenset(id for one in played for id in one.outcome.rewritten)
    poisoned = frozenset(id for one in played for id in one.outcome.poisoned)
    evidence = gather(
        stage,
        Promises.read(load.diary.path),
        at_rest,
        rewritten=rewritten,
        poisoned=poisoned,
    )
    found = claims(evidence)
    found += [*clients_word(load), scenarios_word(played), finances_word(stage, evidence)]
    ended = load.tally.ended or load.clock.monotonic()
    spans = [(one.scenario.name, one.began, one.ended) for one in played]
    return Verdict(
        claims=found,
        played=played,
        windows=[
            load.tally.window(name, since=since, until=until)
            for name, since, until in [*spans, ("the whole run", load.tally.begun, ended)]
        ],
        findings=load.tally.findings,
        rest_seconds=rest_seconds,
        buckets=load.tally.buckets(),
    )


# --- Witnesses -------------------------------------------------------------------------------------


def come_to_rest(stage: Stage, *, seconds: float) -> tuple[Unrest, Waiting]:
    """Wait until nothing is under way, and say what still was after so many seconds (I6)."""
    clock, queue = Clock(stage.clock_file), _queue(stage)
    end = clock.monotonic() + seconds
    with psycopg.connect(stage.admin_url, autocommit=True) as database:
        while True:
            under_way = unrest(partial(_one_row, database), now=clock.now())
            counted = queue.waiting()
            waiting = Waiting(counted.visible, counted.in_flight, counted.dead)
            quiet = not (under_way.total or waiting.visible or waiting.in_flight or waiting.dead)
            if quiet or clock.monotonic() > end:
                return under_way, waiting
            stage.sleep(LOOK_SECONDS)


def _one_row(
    database: psycopg.Connection[Any], query: str, values: Mapping[str, Any]
) -> Sequence[Any]:
    row: Sequence[Any] | None = database.execute(query.encode(), values).fetchone()
    assert row is not None  # noqa: S101  a SELECT without FROM has one row
    return row


def _queue(stage: Stage) -> Queue:
    known = stage.environment
    sqs = client(
        endpoint_url=known["SQS_ENDPOINT_URL"],
        region=known["AWS_REGION"],
        access_key=known["AWS_ACCESS_KEY_ID"],
        secret=known["AWS_SECRET_ACCESS_KEY"],
    )
    name, dead = QUEUE
    return Queue(
        client=sqs,
        name=known.get("SQS_QUEUE", name),
        dead_letter_name=known.get("SQS_DEAD_LETTER_QUEUE", dead),
    )


def gather(
    stage: Stage,
    promises: Promises,
    at_rest: tuple[Unrest, Waiting],
    *,
    rewritten: frozenset[str] = frozenset(),
    poisoned: frozenset[str] = frozenset(),
) -> Evidence:
    """Hear database, journal and topic, once each."""
    with psycopg.connect(stage.admin_url) as database:
        database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        account = _account(database, stage.api_key)
        tables_read = rows(database, account=account)
    reader = TopicReader(stage.kafka_servers, stage.topic)
    return Evidence(
        account=account,
        promises=promises,
        journal=list(lines_of(_journal(stage))),
        records=list(reader.read_back(offsets={})),
        unrest=at_rest[0],
        waiting=at_rest[1],
        again=partial(ask_again, url=stage.direct_web_url, api_key=stage.api_key),
        rewritten=rewritten,
        poisoned=poisoned,
        **tables_read,
    )


def _account(database: psycopg.Connection[Any], api_key: str) -> UUID:
    """Whose key the clients had; the prefix stands between the two first underscores."""
    prefix = api_key.split("_")[1]
    row = database.execute(
        "SELECT account_id FROM checkout_apikey WHERE prefix = %s", [prefix]
    ).fetchone()
    if row is None:
        raise LookupError("the clients' API key is not in the database")
    found: UUID = row[0]
    return found


def _journal(stage: Stage) -> str:
    answer = httpx.get(
        f"{stage.processor_url}/v1/journal",
        headers={"Authorization": f"Bearer {stage.processor_key}"},
        timeout=HTTP_SECONDS,
        trust_env=False,
    )
    return answer.raise_for_status().text


def ask_again(
    acknowledged: Sequence[Acknowledged], *, url: str, api_key: str
) -> list[tuple[int, str]]:
    """Each POST once more, with its key: status and body, in order."""
    with (
        httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=HTTP_SECONDS,
            trust_env=False,
        ) as http,
        ThreadPoolExecutor(ASKERS) as pool,
    ):
        return list(pool.map(partial(_ask_one, http), acknowledged))


def _ask_one(http: httpx.Client, done: Acknowledged) -> tuple[int, str]:
    said = (0, "no answer")
    for _ in range(TRIES):
        try:
            answer = http.post(
                done.asked.path, json=done.asked.body, headers={"Idempotency-Key": done.asked.key}
            )
        except httpx.TransportError as lost:
            said = (0, str(lost))
            continue
        said = (answer.status_code, answer.text)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
    return said


# --- The clients' word, the scenarios', finance's --------------------------------------------------


def clients_word(load: Load) -> list[Claim]:
    """No operation finally failed; no client was answered what it should not have been."""
    tally = load.tally
    failed = [f"{op.what} after {op.tries} tries in {op.seconds:.0f} s" for op in tally.failed()]
    if load.cut_short:
        failed.append("clients were still waiting when the load was ended")
    found = [f"{one.what}: {one.status} {one.said[:200]}" for one in tally.findings]
    return [
        Claim("F18", "no request finally failed", len(tally.operations), failed),
        Claim("F18", "no answer that should not be (4xx, 500)", len(tally.answers), found),
    ]


def scenarios_word(played: Sequence[Played]) -> Claim:
    """Each scenario did what it is there for; one that was skipped was not looked at."""
    bad = [f"{o.scenario.name}: {o.outcome.unfulfilled}" for o in played if o.outcome.unfulfilled]
    looked_at = sum(not one.outcome.skipped for one in played)
    return Claim("chaos", "each scenario broke what it says, and healed", looked_at, bad)


def finances_word(stage: Stage, evidence: Evidence) -> Claim:
    """The service's own reconciliation, in full, finds nothing but what was rewritten on purpose.

    That it names those rows is the scenario's own claim (`brokers.rewritten`). But for statements that are late: nobody sends any here, while the business clock is moved by days.
    """
    done = stage.manage("reconcile", "--json")
    try:
        found = json.loads(done.stdout)
        bad = [
            f"{one['kind']} {one['code']}: {one['explanation']}"
            for one in found
            if str(one["charge_id"]) not in evidence.rewritten and one["code"] != LATE_FILE
        ]
    except (ValueError, TypeError, KeyError):
        bad = [f"reconcile ended with {done.returncode}: {done.stderr[-300:]}"]
    return Claim("R37", "reconciliation finds nothing", len(evidence.charges), bad)
