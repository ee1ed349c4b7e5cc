"""PostgreSQL itself is ended, again and again, while forked workers work (FAULTS F18).

The server is one of our own, with its commits flushed as in production. Workers are not told anything:
they meet the loss in the middle of whatever they do, and carry on by themselves. What a client was told
is accepted, and what the queue was told is done, must be there afterwards.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.core.management import call_command
from django.db import Error, connection

from checkout.commit import DatabaseAway, is_lost
from checkout.models import Charge, ChargeState, Subscription
from checkout.relay import MarkFailed
from devstack.ports import free_port
from devstack.postgres import Postgres
from tests.kills.campaign import Progress
from tests.kills.forks import Child, fork, serve
from tests.kills.outside import Ask
from tests.kills.storms import acts
from tests.kills.yard import Yard, complaints
from tests.waiting import wait_for

WORKERS = 3
CALM_SECONDS = (0.3, 1.5)
BACK_SECONDS = 40.0
# A message of the present dispatch is only acknowledged with the commit that leaves these behind.
WAITING = (ChargeState.DUE, ChargeState.ATTEMPTING, ChargeState.FAILED_THEN_RETRY)


@dataclass
class Crashes:
    """What the crashes did: how many, what was lost, and how long nothing could be written."""

    kinds: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    seconds_without_writes: list[float] = field(default_factory=list)
    seconds_down: list[float] = field(default_factory=list)
    losses_met: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def told(self) -> str:
        """The figures, in a few lines."""
        gaps, down = self.seconds_without_writes, self.seconds_down
        kinds = ", ".join(f"{name} {count}" for name, count in self.kinds.items())
        met = ", ".join(f"{name} {count}" for name, count in self.losses_met.most_common())
        return (
            f"{sum(self.kinds.values())} PostgreSQL crashes ({kinds});"
            f" {self.acknowledged} acknowledged writes, {len(self.lost)} lost;"
            f" {len(self.violations)} violations\n"
            f"seconds without writes: median {median(gaps):.2f}, most {max(gaps):.2f}"
            f" (of which the server was down: median {median(down):.2f}, most {max(down):.2f})\n"
            f"what workers met: {met}"
        )


class Acknowledged:
    """Notes, in the thread that serves, when the outside was told that something is done."""

    def __init__(self, yard: Yard) -> None:
        self.yard, self.answer_of_yard = yard, yard.ask
        self.at: list[float] = []
        self.dispatches: set[tuple[Any, int, int]] = set()
        self.losses: Counter[str] = Counter()

    def answer(self, door: str, *question: Any) -> Any:
        if door == "lost":
            self.losses[question[0]] += 1
            return None
        self.yard.catch_up()
        done = self.answer_of_yard(door, *question)
        if door == "accepted":
            self.at.append(time.monotonic())
        if door == "delete" and done:
            of = question[0].receive()
            self.dispatches.add((of.charge_id, of.round, of.dispatch))
            self.at.append(time.monotonic())
        return done

    def since(self, moment: float) -> float | None:
        """The first acknowledgement after a moment."""
        return next((at for at in list(self.at) if at > moment), None)


def run_crashes(
    *, times: int, home: Path, seed: int = 1, progress: Progress = lambda _: None
) -> Crashes:
    """End the server `times` times under `WORKERS` workers; then everything heals and is judged."""
    crashes, rng = Crashes(), random.Random(f"crashes:{seed}")
    with server_of_our_own(home) as server:
        yard = Yard(seed=900_000 + seed, creators=8)
        told = Acknowledged(yard)
        with complaints(yard, but=is_of_a_crash), workers(yard, told):
            wait_for_writes(told, since=0.0)
            for number in range(times):
                time.sleep(rng.uniform(*CALM_SECONDS))
                crash(server, told, crashes, at_once=bool(number % 2))
                progress(1)
        crashes.losses_met = told.losses
        crashes.acknowledged = len(told.at)
        connection.close()
        yard.close()
        crashes.lost = list(lost(yard, told))
        with complaints(yard):
            crashes.violations += yard.violations()
    return crashes


@contextmanager
def workers(yard: Yard, told: Acknowledged) -> Iterator[None]:
    """Processes at work, until they are killed at the end; raises NotKilled for one that ended before."""
    children = [fork(partial(at_work, yard)) for _ in range(WORKERS)]
    failed: list[BaseException] = []
    serving = threading.Thread(target=keep_serving, args=(children, told.answer, failed))
    serving.start()
    try:
        yield
    finally:
        for child in children:
            with suppress(ProcessLookupError):  # it ended before, and `failed` says why
                os.kill(child.pid, signal.SIGKILL)
        serving.join()
        if failed:
            raise failed[0]


def keep_serving(
    children: list[Child], answer: Callable[..., Any], failed: list[BaseException]
) -> None:
    try:
        serve(children, answer)
    except Exception as error:  # noqa: BLE001  told to the main thread
        failed.append(error)


def crash(server: Postgres, told: Acknowledged, crashes: Crashes, *, at_once: bool) -> None:
    """`pg_ctl stop -m immediate`, or kill -9 of the postmaster and its children; then start again."""
    before = time.monotonic()
    last = told.at[-1]
    if at_once:
        os.kill(server.pid, signal.SIGQUIT)  # what pg_ctl sends for -m immediate
        wait_for(lambda: not server.alive, 30, "the server's immediate end")
    server.kill()
    server.start()
    up = time.monotonic()
    crashes.kinds["stop -m immediate" if at_once else "kill -9"] += 1
    crashes.seconds_down.append(up - before)
    crashes.seconds_without_writes.append(wait_for_writes(told, since=up) - last)


def wait_for_writes(told: Acknowledged, *, since: float) -> float:
    """When something was acknowledged again."""
    at = wait_for(lambda: told.since(since), BACK_SECONDS, "a write after PostgreSQL was back")
    return at or since


def lost(yard: Yard, told: Acknowledged) -> Iterator[str]:
    """Acknowledged, and not there: before anything heals."""
    for key in yard.outside.accepted:
        pk = Subscription.derive_id(account_id=yard.account_id, idempotency_key=key)
        if not Charge.objects.filter(subscription=pk).exists():
            yield f"checkout {key} was accepted and is not there"
    there = {charge.pk: charge for charge in Charge.objects.all()}
    for pk, round, dispatch in told.dispatches:
        charge = there.get(pk)
        if charge is None:
            yield f"charge {pk} was worked on and is not there"
        # A later dispatch may be under way when the workers are ended.
        elif charge.state in WAITING and (charge.round, charge.dispatch) == (round, dispatch):
            yield f"the message of {pk} was acknowledged, and its outcome is not there"


def at_work(yard: Yard, ask: Ask) -> None:
    """Act after act; what loses the database is met again later, as the product's own loops do."""
    yard.enter_child(ask)
    yard.run_clock()
    for name, act in acts(yard.rng):
        try:
            act(yard)
        except (Error, psycopg.Error, DatabaseAway, MarkFailed) as away:
            if not is_of_a_crash(away):
                raise
            yard.ask("lost", f"{name}: {type(away).__name__}")
            connection.close()
            yard.close()


def is_of_a_crash(error: BaseException | None) -> bool:
    """Whether it says that the server is away; a broken rule or a wrong statement is a defect, crash or no."""
    if isinstance(error, MarkFailed):
        error = error.__cause__
    if isinstance(error, DatabaseAway | psycopg.OperationalError | psycopg.InterfaceError):
        return True
    return error is not None and is_lost(error)


@contextmanager
def server_of_our_own(home: Path) -> Iterator[Postgres]:
    """A PostgreSQL whose commits are flushed, with our schema, behind Django's connection."""
    server = Postgres(home / "crashing", free_port(), password="tests", fsync=True)
    server.start()
    before = dict(connection.settings_dict)
    connection.close()
    parts = urlsplit(server.dsn())
    connection.settings_dict.update(HOST=parts.hostname, PORT=parts.port, NAME="checkout")
    connection.settings_dict.update(USER=parts.username, PASSWORD=parts.password)
    try:
        call_command("migrate", verbosity=0)
        yield server
    finally:
        connection.close()
        connection.settings_dict.update(before)
        server.kill()
