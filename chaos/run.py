"""One run of chaos: the stack, the load, the scenarios in turn, healing, quiet, the verdict.

`play(scenarios, minutes=…, seed=…)` is what `make chaos` calls, and whoever wants other scenarios.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Final

import psycopg

from chaos import verdict
from chaos.hands import (
    CLOCK,
    Interrupted,
    NotYet,
    Refused,
    Supervised,
    business_ahead,
    rows,
    wait_until,
)
from chaos.load import open_load
from chaos.parts import (
    ALL_PROCESSES,
    Parts,
    keep_data,
    opened_parts,
    services,
    unmount_small_disks,
)
from chaos.scenes import programme
from chaos.stage import Load, Outcome, Played, Scenario, Stage, Verdict
from checkout.clock import Moment
from demo.unrest import Unrest, unrest
from devstack.cluster import Cluster, Hands, NotReplicating
from devstack.control import ask
from devstack.process import NotStarted, python_environment
from devstack.stack import PROJECT, state_folder, web_address
from devstack.supervisor import Supervisor

ACCOUNT: Final = "chaos"
WARM_UP_WRITES: Final = 10
WRITES_AGAIN_SECONDS: Final = 90.0
QUIET_SECONDS: Final = 240.0
LOOK_SECONDS: Final = 0.2
MANAGE_SECONDS: Final = 120
STOPPED: Final = (NotYet, Refused, NotReplicating, NotStarted, psycopg.Error)
TOPIC: Final = "checkout.events.v1"
WHY: Final = ("--reason", "the chaos run")
SET_UP: Final = (
    ("load_plans", "demo/plans.csv", *WHY),
    ("load_routing_rules", "demo/routing_rules.csv", *WHY),
    ("create_account", ACCOUNT, *WHY),
)


@dataclass(frozen=True)
class Plan:
    """What is asked for: which scenarios, how many minutes, the load's visitors a second and their seed."""

    scenarios: Sequence[Scenario]
    minutes: float
    seed: int
    rate: float
    away: float

    @property
    def seconds(self) -> float:
        return self.minutes * 60


def play(plan: Plan, *, home: Path | None = None) -> int:
    """Play it; returns the exit code: 0 only if the verdict holds. Everything is stopped afterwards.

    The supervisor has this thread, whose children die with it; the play has a thread of its own.
    """
    home = home or state_folder(purpose="-chaos")
    ended, code, failed = Event(), [1], 0
    unmount_small_disks(home)
    with opened_parts(home) as parts:
        (home / "logs").mkdir(exist_ok=True)
        log = home.with_name(f"{home.name}.log")  # the supervisor empties its own folder
        with log.open("w", encoding="utf-8") as said:
            supervisor = Supervisor(services(parts), home=home, quiet=True, fresh=True, out=said)

            def act() -> None:
                try:
                    code[0] = Play(plan, parts, ended).run()
                finally:
                    with suppress(Exception):
                        ask(home / "control", "down")

            player = Thread(target=act, name="play")
            player.start()
            try:
                failed = supervisor.run()
            finally:
                ended.set()
                player.join()
                if failed or code[0]:
                    keep_data(home)
                unmount_small_disks(home)
    if failed:
        tell(log.read_text("utf-8")[-3000:])
    return failed or code[0]


@dataclass
class Play:
    """The play itself, in its thread."""

    plan: Plan
    parts: Parts
    ended: Event

    def run(self) -> int:
        """Returns the exit code.

        1. Wait for the stack; make the standby; load plans, rules and an account.
        2. Start the load; play scenario after scenario until the time is over.
        3. Heal everything; end the load; wait until nothing is under way.
        4. Ask the verdict.
        """
        try:
            stage = self._set_up()
            load = open_load(stage, rate=self.plan.rate, seed=self.plan.seed)
            load.start()
            try:
                played = self._play(stage, load)
                heal(stage)
                tell("healed; the clients end")
                load.stop(seconds=QUIET_SECONDS)
            except BaseException:
                with suppress(Exception):
                    load.stop(seconds=0)
                raise
            quiet = wait_until_quiet(stage)
            judged = verdict.judge(stage=stage, load=load, played=played)
        except Interrupted:
            tell("interrupted: no verdict")
            return 1
        except STOPPED as why:
            tell(f"the run stopped, no verdict: {type(why).__name__}: {why}")
            return 1
        return self._conclude(played, judged, quiet)

    def _set_up(self) -> Stage:
        processes = Supervised(self.parts.home, self.ended)
        began = CLOCK.monotonic()
        cluster = Cluster(
            self.parts.nodes,
            hands=Hands(start=processes.start, end=processes.end),
            lead_to=self._lead_to,
        )
        self._wait_for_the_stack(processes)
        cluster.make_standby()
        stage = open_stage(self.plan, self.parts, processes, cluster)
        tell(f"the stack is up, its standby synchronous, in {CLOCK.monotonic() - began:.0f} s")
        return stage

    def _wait_for_the_stack(self, processes: Supervised) -> None:
        """The control socket comes with the supervisor, which this thread may overtake."""
        while not (self.parts.home / "control").exists():
            processes.sleep(LOOK_SECONDS)
        while not processes.ready():
            processes.sleep(LOOK_SECONDS)

    def _lead_to(self, address: tuple[str, int]) -> None:
        link = self.parts.links["postgres"]
        link.upstream = address
        link.reset()

    def _play(self, stage: Stage, load: Load) -> list[Played]:
        end = CLOCK.monotonic() + self.plan.seconds
        wait_until(
            stage,
            lambda: load.acknowledged() >= WARM_UP_WRITES,
            seconds=WRITES_AGAIN_SECONDS,
            what=f"{WARM_UP_WRITES} acknowledged writes",
        )
        played: list[Played] = []
        for scenario in programme(self.plan.scenarios, left=lambda: end - CLOCK.monotonic()):
            played.append(play_one(scenario, stage, load))
            tell(line_of(played[-1]))
        return played

    def _conclude(self, played: Sequence[Played], judged: Verdict, quiet: str) -> int:
        names = {one.scenario.name for one in played}
        left_out = [one.name for one in self.plan.scenarios if one.name not in names]
        wrong = [
            f"{one.scenario.name}: {one.outcome.unfulfilled}"
            for one in played
            if one.outcome.unfulfilled
        ]
        tell("\n" + judged.text())
        if left_out:
            tell(
                f"left out, for lack of time ({self.plan.minutes:g} minutes): {', '.join(left_out)}"
            )
        for why in [*wrong, *([quiet] if quiet else [])]:
            tell(f"not as it must be: {why}")
        holds = judged.holds and not wrong and not quiet
        tell(f"logs are in {self.parts.home / 'logs'}; seed {self.plan.seed}")
        tell("the verdict holds" if holds else "THE VERDICT DOES NOT HOLD")
        return 0 if holds else 1


def play_one(scenario: Scenario, stage: Stage, load: Load) -> Played:
    """Play one scenario to its end; what goes wrong in it is its outcome, and everything is healed."""
    began = CLOCK.monotonic()
    try:
        outcome = scenario.run(stage)
    except STOPPED as wrong:
        outcome = Outcome(unfulfilled=f"{type(wrong).__name__}: {wrong}")
        heal(stage)
    before = load.acknowledged()
    try:
        wait_until(
            stage,
            lambda: load.acknowledged() > before,
            seconds=WRITES_AGAIN_SECONDS,
            what="an acknowledged write afterwards",
            look=0.05,
        )
    except NotYet as late:
        outcome = replace(outcome, unfulfilled=outcome.unfulfilled or str(late))
    ended = CLOCK.monotonic()
    silence = load.longest_silence(since=began, until=ended)
    return Played(scenario, outcome, began=began, ended=ended, silence=silence)


def heal(stage: Stage) -> None:
    """Put every part right again, whatever a scenario left: links, settings, processes, standby."""
    for link in stage.links.values():
        link.latency = 0.0
        link.heal()
    for name in ALL_PROCESSES:
        if stage.processes.pid(name) is None and name != stage.cluster.standby:
            stage.processes.start(name)
    rows(stage, "ALTER SYSTEM RESET default_transaction_read_only")
    rows(stage, "SELECT pg_reload_conf()")
    if stage.processes.pid(stage.cluster.standby) is None:
        stage.cluster.make_standby()


def wait_until_quiet(stage: Stage) -> str:
    """Wait until nothing is under way; what still is after the deadline, or nothing."""
    found: list[Unrest] = []

    def quiet() -> bool:
        found.append(under_way(stage))
        return not found[-1].total

    try:
        took = wait_until(stage, quiet, seconds=QUIET_SECONDS, what="quiet", look=0.5)
    except NotYet:
        return f"after {QUIET_SECONDS:g} s still under way: {found[-1] if found else 'unknown'}"
    tell(f"nothing is under way any more, after {took:.0f} s")
    return ""


def under_way(stage: Stage) -> Unrest:
    real = CLOCK.real_now()
    now = Moment(real=real, business=real + timedelta(seconds=business_ahead(stage)))
    with psycopg.connect(stage.admin_url, autocommit=True) as connection:

        def ask_one(query: str, values: Mapping[str, object]) -> Sequence[object]:
            found = connection.execute(query.encode(), values).fetchone()
            return found or ()

        return unrest(ask_one, now=now)


def open_stage(plan: Plan, parts: Parts, processes: Supervised, cluster: Cluster) -> Stage:
    """Load plans and routing rules, make an account with a key, and name all addresses."""

    def manage(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            env=python_environment() | dict(parts.beside) | variables,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=MANAGE_SECONDS,
            check=False,
        )

    with ThreadPoolExecutor() as pool:
        for done in pool.map(lambda words: manage(*words), SET_UP):
            if done.returncode:
                raise Refused(f"{' '.join(done.args[1:])}: {done.stderr[-1000:]}")
    key = manage("create_api_key", ACCOUNT, "--label", "chaos", *WHY).stdout.strip()
    beside = parts.beside
    return Stage(
        home=parts.home,
        web_url=parts.web_url,
        api_key=key,
        database_url=parts.stack.variables["DATABASE_URL"],
        sqs_url=beside["SQS_ENDPOINT_URL"],
        admin_url=cluster.dsn(),
        direct_web_url=web_address(parts.stack),
        processor_url=beside["PROCESSOR_URL"],
        processor_key=beside["PROCESSOR_API_KEY"],
        kafka_servers=beside["KAFKA_BOOTSTRAP_SERVERS"],
        topic=TOPIC,
        environment=beside,
        clock_file=Path(beside["CLOCK_FILE"]),
        away=plan.away,
        links=parts.links,
        processes=processes,
        cluster=cluster,
        manage=manage,
        sleep=processes.sleep,
    )


def line_of(played: Played) -> str:
    """A scenario's line while the run goes on."""
    outcome, name = played.outcome, played.scenario.name
    if outcome.skipped:
        return f"  {name:28} skipped: {outcome.skipped}"
    facts = ", ".join(f"{what} {value}" for what, value in outcome.facts.items())
    why = f"  NOT AS IT MUST BE: {outcome.unfulfilled}" if outcome.unfulfilled else ""
    seconds = played.ended - played.began
    return f"  {name:28} {seconds:5.1f} s, {played.silence:4.1f} s without writes; {facts}{why}"


def tell(text: str) -> None:
    print(text, flush=True)
