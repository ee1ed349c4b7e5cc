"""Real gunicorn under an open-loop load while its database goes away in every way there is (F18, F20).

Whatever happens, a client hears 2xx, or 503 (a key still in use: 409) with Retry-After, within the deadline;
/livez stays 200. Afterwards each key that was ever sent is one subscription.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from checkout.models import Charge, Subscription
from devstack.ports import free_port
from devstack.postgres import Postgres
from devstack.proxy import Proxy
from tests.platforms import Platform, ready_platform, register
from tests.relays import direct
from tests.waiting import wait_for
from tests.web import Answer, ask, web

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]

DEADLINE = 5.0
# A connect that was begun right before the deadline, and a busy machine.
SMALL = 3.0
AWAY = 6.5
ARRIVALS_A_SECOND = 8
# One question to /readyz in two seconds: each keeps a thread for one while the database is silent.
PATHS = (
    *("checkout", "charges", "checkout", "livez", "checkout", "charges", "checkout", "charges"),
    *("checkout", "charges", "checkout", "livez", "checkout", "charges", "checkout", "readyz"),
)


@dataclass
class Load:
    """Requests at fixed times, whatever became of those before; a checkout each with a key of its own."""

    port: int
    platform: Platform
    creator_id: str
    answers: list[tuple[float, str, Answer]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    begun: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Send until stopped, and return when all are answered."""
        sent: list[Future[None]] = []
        with ThreadPoolExecutor(64) as pool:
            while not self.stop.wait(1 / ARRIVALS_A_SECOND):
                number = len(sent)
                what = PATHS[number % len(PATHS)]
                sent.append(pool.submit(self._one, what, f"order-{number}"))
        for each in sent:
            each.result()

    def _one(self, what: str, key: str) -> None:
        at = time.monotonic() - self.begun
        if what == "checkout":
            self.keys.append(key)
            answer = self.start(key)
        elif what == "charges":
            answer = ask(self.port, "GET", "/v1/charges", Authorization=self._signed())
        else:
            answer = ask(self.port, "GET", f"/{what}")
        self.answers.append((at, what, answer))

    def start(self, key: str) -> Answer:
        body = {"creator_id": self.creator_id, "plan": "monthly", "token": "tok_approve"}
        return ask(
            self.port,
            "POST",
            "/v1/checkouts",
            body,
            Authorization=self._signed(),
            **{"Idempotency-Key": key, "Content-Type": "application/json"},
        )

    def _signed(self) -> str:
        return f"Bearer {self.platform.key}"

    def of(self, *whats: str) -> list[Answer]:
        return [answer for _, what, answer in self.answers if what in whats]


@pytest.fixture
def hand(transactional_db: None) -> Any:
    """A connection past the link, for what is done to the server itself."""
    with direct("postgres") as hand:
        yield hand


@dataclass(frozen=True)
class Server:
    """What can be done to the database and the way to it."""

    link: Proxy
    postgres: Postgres | None
    hand: psycopg.Connection[Any]

    def black_hole(self) -> Callable[[], None]:
        self.link.black_hole()
        return self.link.heal

    def read_only(self) -> Callable[[], None]:
        """Standing sessions meet 25006, new ones are refused as no primary's."""
        self.hand.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        self.hand.execute("SELECT pg_reload_conf()")

        def writable() -> None:
            self.hand.execute("SET default_transaction_read_only = off")
            self.hand.execute("ALTER SYSTEM RESET default_transaction_read_only")
            self.hand.execute("SELECT pg_reload_conf()")

        return writable

    def killed(self) -> Callable[[], None]:
        """SIGKILL to the server and all its backends; it recovers from its log."""
        if self.postgres is None:
            pytest.skip("the PostgreSQL of this run is not ours to stop")
        self.postgres.kill()
        return self.postgres.start


@pytest.mark.parametrize("how", ["black_hole", "read_only", "killed"])
def test_f18_clients_hear_2xx_or_come_again(
    how: str,
    postgres: Postgres | None,
    hand: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Away for longer than the deadline; then each key is repeated until it is done."""
    facts, port = connection.settings_dict, free_port()
    platform = ready_platform()
    creator_id = str(register(platform).pk)
    connection.close()

    with ExitStack() as stack:
        link = stack.enter_context(Proxy(upstream=(str(facts["HOST"]), int(facts["PORT"]))))
        stack.enter_context(web(port, tmp_path / "log", at=f"127.0.0.1:{link.port}"))
        load = Load(port, platform, creator_id)
        running = threading.Thread(target=load.run)
        running.start()
        wait_for(lambda: len(load.of("checkout")) >= 5, 30, "some checkouts")
        fell_at = time.monotonic() - load.begun
        heal = getattr(Server(link, postgres, hand), how)()
        wait_for(lambda: time.monotonic() - load.begun > fell_at + AWAY, 20, "the outage")
        unready = ask(port, "GET", "/readyz")
        heal()
        healed_at = time.monotonic() - load.begun
        wait_for(lambda: accepted_after(load, healed_at), 20, "an accepted checkout")
        load.stop.set()
        running.join(30)
        again = [until_done(load, key) for key in load.keys]

    with capsys.disabled():
        sys.stderr.write(f"\n  {how}: {told(load, fell_at, healed_at)}\n")
    judge(load)
    assert len({json.loads(answer.body)["id"] for answer in again}) == len(load.keys)
    assert Subscription.objects.count() == Charge.objects.count() == len(load.keys)
    assert (unready.status, unready.retry_after) == (503, "5")


def accepted_after(load: Load, at: float) -> bool:
    return any(
        answer.status == 201 and began > at
        for began, what, answer in list(load.answers)
        if what == "checkout"
    )


def until_done(load: Load, key: str) -> Answer:
    answers: list[Answer] = []

    def done() -> bool:
        answers.append(load.start(key))
        return answers[-1].status == 201

    wait_for(done, 30, f"checkout {key}")
    return answers[-1]


def judge(load: Load) -> None:
    """What each client may have heard, and when."""
    asked = load.of("checkout", "charges")
    assert {answer.status for answer in asked} <= {200, 201, 409, 503}
    assert all(answer.retry_after for answer in asked if answer.status in {409, 503})
    assert max(answer.seconds for answer in asked) < DEADLINE + SMALL
    assert {answer.status for answer in load.of("livez")} == {200}
    assert {answer.status for answer in load.of("readyz")} <= {200, 503}
    assert max(answer.seconds for answer in load.of("livez", "readyz")) < DEADLINE + SMALL / 2


def told(load: Load, fell_at: float, healed_at: float) -> str:
    """One line of figures."""
    asked = load.of("checkout", "charges")
    statuses = sorted({answer.status for answer in asked})
    away = [a for at, what, a in load.answers if what in {"checkout", "charges"} and at > fell_at]
    refused = sorted(answer.seconds for answer in away if answer.status == 503)
    back = min(
        at - healed_at
        for at, what, answer in load.answers
        if what == "checkout" and answer.status == 201 and at > healed_at
    )
    counts = ", ".join(f"{sum(a.status == s for a in asked)} x {s}" for s in statuses)
    longest = max(answer.seconds for answer in asked)
    alive = max(answer.seconds for answer in load.of("livez"))
    middle = refused[len(refused) // 2] if refused else 0.0
    return (
        f"{len(asked)} requests: {counts}; longest {longest:.1f} s, median 503 {middle:.2f} s, "
        f"/livez {alive:.1f} s, accepted again {back:.1f} s after healing"
    )
