"""The web server as a process: killed around its commit, killed under load, its database away."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from checkout.models import Charge, IdempotencyRecord, Subscription
from devstack.ports import free_port
from devstack.postgres import Postgres
from tests.platforms import Platform, ready_platform, register
from tests.waiting import wait_for
from tests.web import Answer, ask, web

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True)
class Shop:
    """A platform that starts checkouts over the network."""

    platform: Platform
    creator_id: str

    def start(self, port: int, key: str) -> Answer:
        body = {"creator_id": self.creator_id, "plan": "monthly", "token": "tok_approve"}
        headers = {
            "Authorization": f"Bearer {self.platform.key}",
            "Idempotency-Key": key,
            "Content-Type": "application/json",
        }
        return ask(port, "POST", "/v1/checkouts", body, **headers)

    def start_until_done(self, port: int, key: str) -> list[Answer]:
        """Repeat with the same key, as the guide says, until it is done."""
        answers: list[Answer] = []

        def done() -> bool:
            answers.append(self.start(port, key))
            return answers[-1].status == 201

        wait_for(done, 60, f"checkout {key}")
        return answers


@pytest.fixture
def shop() -> Shop:
    platform = ready_platform()
    return Shop(platform, str(register(platform).pk))


def each_once(keys: list[str], bodies: list[Any]) -> None:
    """I1: an accepted request is exactly one subscription with one charge."""
    assert Subscription.objects.count() == len(keys)
    assert Charge.objects.count() == len(keys)
    assert IdempotencyRecord.objects.count() == len(keys)
    assert len({json.loads(body)["id"] for body in bodies}) == len(keys)


@pytest.mark.parametrize(("where", "replayed"), [("before", False), ("after", True)])
def test_f1_f2_a_server_killed_around_its_commit_did_it_once(
    shop: Shop, tmp_path: Path, where: str, replayed: bool
) -> None:
    port = free_port()
    with web(port, tmp_path / "log", failpoints=f"api.{where}_commit=kill"):
        killed = shop.start(port, "order-1")
        assert killed.status == 0
        assert Subscription.objects.count() == (1 if replayed else 0)

    with web(port, tmp_path / "log"):
        again = shop.start(port, "order-1")

    assert (again.status, again.replayed) == (201, replayed)
    each_once(["order-1"], [again.body])


def test_i1_a_server_killed_under_load_loses_and_doubles_nothing(
    shop: Shop, tmp_path: Path
) -> None:
    """Clients keep asking with their keys while the server is killed in the middle and restarted."""
    port, keys = free_port(), [f"order-{n}" for n in range(60)]
    some_done = threading.Semaphore(0)

    def client(key: str) -> list[Answer]:
        answers = shop.start_until_done(port, key)
        some_done.release()
        return answers

    with ThreadPoolExecutor(6) as pool:
        with web(port, tmp_path / "log") as server:
            running = [pool.submit(client, key) for key in keys]
            for _ in range(15):
                assert some_done.acquire(timeout=30)
            server.kill()
        with web(port, tmp_path / "log"):
            answers = [future.result(60) for future in running]

    each_once(keys, [tries[-1].body for tries in answers])
    assert any(len(tries) > 1 for tries in answers)


def test_f18_a_database_stopped_and_started_is_a_503_at_worst(
    shop: Shop, postgres: Postgres | None, tmp_path: Path
) -> None:
    """PostgreSQL goes away under load for longer than the deadline, and comes back."""
    if postgres is None:
        pytest.skip("the PostgreSQL of this run is not ours to stop")
    port, keys = free_port(), [f"order-{n}" for n in range(40)]

    with web(port, tmp_path / "log"), ThreadPoolExecutor(6) as pool:
        running = [pool.submit(shop.start_until_done, port, key) for key in keys]
        wait_for(lambda: Subscription.objects.count() >= 5, 30, "some checkouts")
        connection.close()
        postgres.stop()
        wait_for(lambda: shop.start(port, "order-0").status == 503, 20, "the first 503")
        postgres.start()
        answers = [future.result(60) for future in running]

    each_once(keys, [tries[-1].body for tries in answers])
    assert {answer.status for tries in answers for answer in tries} <= {201, 503, 409}
