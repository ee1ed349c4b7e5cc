"""F20: a server that is slow makes nothing twice, and does not spend itself on clients that have left."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, transaction

from checkout.models import Creator, Subscription
from devstack.ports import free_port
from devstack.proxy import Proxy
from tests.platforms import ready_platform, register
from tests.system.test_web import Shop
from tests.together import somebody_waits_for_a_lock
from tests.waiting import wait_for
from tests.web import ask, web

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]

THREADS = 4
WHO_LEAVE = 12


def ask_and_leave(port: int, shop: Shop, key: str) -> None:
    """Send a whole POST and close the connection, as a client whose patience is over."""
    body = json.dumps({"creator_id": shop.creator_id, "plan": "monthly", "token": "tok_approve"})
    head = (
        "POST /v1/checkouts HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {shop.platform.key}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall("\r\n".join([*head, "", body]).encode())


def test_what_nobody_waits_for_any_more_is_not_begun(tmp_path: Path) -> None:
    platform = ready_platform()
    shop, port = Shop(platform, str(register(platform).pk)), free_port()

    with web(port, tmp_path / "log"), ThreadPoolExecutor(THREADS) as pool:
        with transaction.atomic():
            Creator.lock([Creator.objects.get().pk])
            waiting = [pool.submit(shop.start, port, f"waits-{n}") for n in range(THREADS)]
            wait_for(somebody_waits_for_a_lock, 10, "the threads, all of them busy")
            for number in range(WHO_LEAVE):
                ask_and_leave(port, shop, f"left-{number}")
        for future in waiting:
            future.result(30)
        wait_for(
            lambda: ask(port, "GET", "/livez").status == 200, 10, "the line behind them to be done"
        )
        last = shop.start(port, "comes later")

    assert last.status == 201
    connection.close()
    left = [
        Subscription.derive_id(account_id=platform.account.pk, idempotency_key=f"left-{n}")
        for n in range(WHO_LEAVE)
    ]
    assert not Subscription.objects.filter(pk__in=left).exists()
    assert "client left" in (tmp_path / "log").read_text()


def test_f20_at_500_ms_a_round_trip_a_checkout_is_made_once_and_its_answer_comes(
    tmp_path: Path,
) -> None:
    """Slow is not away: a sign-in of four round trips must fit into the time-out for it, too."""
    platform = ready_platform()
    shop, port = Shop(platform, str(register(platform).pk)), free_port()
    facts = connection.settings_dict

    with (
        Proxy(upstream=(str(facts["HOST"]), int(facts["PORT"]))) as link,
        web(port, tmp_path / "log", at=f"127.0.0.1:{link.port}"),
    ):
        link.latency = 0.5
        ask_and_leave(port, shop, "order-1")
        answers = shop.start_until_done(port, "order-1")

    assert answers[-1].status == 201
    assert {answer.status for answer in answers} <= {0, 201, 409, 503}
    assert Subscription.objects.count() == 1
