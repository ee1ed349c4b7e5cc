"""A POST happens once (R49), whatever is lost on the way (F1-F3, F18)."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections

from checkout import failpoints, wiring
from checkout.failpoints import Crash
from checkout.http import deadline
from checkout.models import (
    Account,
    Charge,
    ChargeState,
    Creator,
    IdempotencyRecord,
    Subscription,
)
from tests.platforms import (
    NEW_CREATOR,
    Platform,
    fields,
    platform_named,
    ready_platform,
    register,
    send_webhook,
    slug,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def platform() -> Platform:
    return ready_platform()


@pytest.fixture
def creator(platform: Platform) -> Creator:
    return register(platform)


@pytest.fixture
def at() -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Enable a failpoint for the length of a test."""
    enabled: list[str] = []

    def enable(name: str, action: Callable[[], None]) -> None:
        enabled.append(name)
        failpoints.enable(name, action)

    yield enable
    for name in enabled:
        failpoints.disable(name)


def test_r49_a_replay_is_byte_equal(platform: Platform, creator: Creator) -> None:
    first = platform.start(of=creator)
    Charge.objects.update(state=ChargeState.EXHAUSTED)

    again = platform.start(of=creator)

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Content-Type"] == first["Content-Type"]
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Subscription.objects.count() == 1


def test_r49_the_same_values_in_another_order_are_the_same_body(
    platform: Platform, creator: Creator
) -> None:
    body = {"creator_id": str(creator.pk), "plan": "monthly", "token": "tok_1"}
    platform.post("/v1/checkouts", json.dumps(body), key="k")

    other_order = json.dumps(dict(reversed(body.items())), indent=4)
    again = platform.post("/v1/checkouts", other_order, key="k")

    assert again["Idempotent-Replayed"] == "true"


def test_r49_another_body_or_address_with_the_key_is_refused(
    platform: Platform, creator: Creator
) -> None:
    platform.start(of=creator)

    other_body = platform.start(of=creator, token="tok_other")
    other_address = platform.post("/v1/creators", NEW_CREATOR, key="first")

    for response in (other_body, other_address):
        assert (response.status_code, slug(response)) == (422, "idempotency-key-reused")
    assert Subscription.objects.count() == 1
    assert Creator.objects.count() == 1


@pytest.mark.parametrize("path", ["/v1/creators", "/v1/checkouts"])
def test_r49_a_missing_key_is_refused(platform: Platform, path: str) -> None:
    response = platform.post(path, {})

    assert (response.status_code, slug(response)) == (400, "idempotency-key-missing")


@pytest.mark.parametrize("key", ["x" * 256, "ключ", "a\tb", "4242424242424242"])
def test_r49_a_key_is_printable_ascii(platform: Platform, key: str) -> None:
    response = platform.post("/v1/creators", NEW_CREATOR, key=key)

    assert (response.status_code, slug(response)) == (400, "idempotency-key-invalid")
    assert not IdempotencyRecord.objects.exists()


def test_r49_keys_belong_to_an_account(platform: Platform) -> None:
    other = platform_named("another platform")

    first = platform.post("/v1/creators", NEW_CREATOR, key="k")
    second = other.post("/v1/creators", NEW_CREATOR, key="k")

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


def test_r49_nothing_is_stored_for_what_was_refused(platform: Platform, creator: Creator) -> None:
    invalid = platform.start(of=creator, token="")
    refused = platform.start(of=creator, plan="no-such-plan")

    assert (invalid.status_code, fields(invalid)) == (422, {"token"})
    assert (refused.status_code, fields(refused)) == (422, {"plan"})
    assert not IdempotencyRecord.objects.exists()
    assert platform.start(of=creator).status_code == 201


def test_r49_fifty_at_once_make_one_subscription(platform: Platform, creator: Creator) -> None:
    """50 clients race with one key: one inserts, the others wait at the unique index and replay."""
    barrier = threading.Barrier(50)

    def start(_: int) -> tuple[int, bytes]:
        barrier.wait()
        try:
            response = Platform(platform.account, platform.key).start(of=creator)
            return response.status_code, response.content
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(start, range(50)))

    # A loser that waited its 2 s on a busy machine may be told to come again; none may differ.
    good = {answer for answer in answers if answer[0] == 201}
    assert len(good) == 1
    assert {status for status, _ in answers} <= {201, 409}
    assert Subscription.objects.count() == 1
    assert Charge.objects.count() == 1


def test_r49_a_first_request_that_still_runs_is_told(
    platform: Platform, creator: Creator, at: Callable[[str, Callable[[], None]], None]
) -> None:
    """The first request stands before its commit; the second waits 2 s for its row, then is told."""
    reached, go_on = threading.Event(), threading.Event()

    def stand() -> None:
        reached.set()
        go_on.wait(20)

    at("api.before_commit", stand)

    def first() -> int:
        try:
            return int(Platform(platform.account, platform.key).start(of=creator).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first)
        assert reached.wait(10)
        second = platform.start(of=creator)
        go_on.set()
        assert running.result(10) == 201

    assert (second.status_code, slug(second)) == (409, "idempotency-key-in-use")
    assert second["Retry-After"]
    assert platform.start(of=creator)["Idempotent-Replayed"] == "true"


def crash() -> None:
    raise Crash


def test_f1_a_crash_before_the_commit_leaves_nothing(
    platform: Platform, creator: Creator, at: Callable[[str, Callable[[], None]], None]
) -> None:
    at("api.before_commit", crash)
    with pytest.raises(Crash):
        platform.start(of=creator)
    assert not Subscription.objects.exists()
    assert not IdempotencyRecord.objects.exists()

    failpoints.disable("api.before_commit")
    assert platform.start(of=creator).status_code == 201
    assert Subscription.objects.count() == 1


def test_f2_a_crash_after_the_commit_is_answered_by_the_retry(
    platform: Platform, creator: Creator, at: Callable[[str, Callable[[], None]], None]
) -> None:
    at("api.after_commit", crash)
    with pytest.raises(Crash):
        platform.start(of=creator)

    failpoints.disable("api.after_commit")
    again = platform.start(of=creator)

    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    assert Subscription.objects.count() == 1


def lose_the_next_acknowledgement() -> None:
    """PostgreSQL commits, and the connection breaks before it can say so."""
    link: Any = connection.connection
    commit = link.commit

    def broken() -> None:
        commit()
        link.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    link.commit = broken


def test_f3_a_lost_acknowledgement_is_run_again_and_found(
    platform: Platform, creator: Creator, at: Callable[[str, Callable[[], None]], None]
) -> None:
    at("api.before_commit", lose_the_next_acknowledgement)

    response = platform.start(of=creator)

    assert response.status_code == 201
    assert Subscription.objects.count() == 1
    assert Charge.objects.count() == 1
    assert IdempotencyRecord.objects.get().body == response.content.decode()


def test_f3_a_connection_lost_before_the_commit_is_run_again(
    platform: Platform, creator: Creator, at: Callable[[str, Callable[[], None]], None]
) -> None:
    def cut() -> None:
        failpoints.disable("api.before_commit")
        link: Any = connection.connection
        link.close()

    at("api.before_commit", cut)

    response = platform.start(of=creator)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response
    assert Subscription.objects.count() == 1


@pytest.fixture
def database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port where nobody listens, and a deadline worth a test's patience."""
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    connection.close()
    ages = wiring.ages()
    monkeypatch.setattr(settings, "AGES", type(ages)(**{**vars(ages), "request_deadline": 0.3}))


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize("method", ["read", "write", "webhook"])
def test_f18_r50_a_database_that_is_away_is_a_503(method: str) -> None:
    away = Platform(Account(name="unknown"), f"ck_{'a' * 12}_{'b' * 43}")
    answers = {
        "read": lambda: away.get("/v1/charges"),
        "write": lambda: away.post("/v1/creators", NEW_CREATOR, key="k"),
        "webhook": lambda: send_webhook(away, {"id": "evt_1", "type": "charge.updated"}),
    }

    response = answers[method]()

    assert (response.status_code, slug(response)) == (503, "database-away")
    assert 2 <= int(response["Retry-After"]) <= 5


@pytest.mark.usefixtures("database_away")
def test_f18_too_many_waiters_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_waiters", threading.BoundedSemaphore(1))
    deadline._waiters.acquire()
    started = wiring.clock().monotonic()

    response = Platform(Account(name="unknown"), f"ck_{'a' * 12}_{'b' * 43}").get("/v1/charges")

    assert response.status_code == 503
    assert wiring.clock().monotonic() - started < 0.25


def test_a_creator_locked_for_too_long_is_a_503(platform: Platform, creator: Creator) -> None:
    """Another transaction (a bill run, say) holds the creator; the client is to come again."""
    with psycopg.connect(_dsn()) as other:
        other.execute("SELECT 1 FROM checkout_creator WHERE id = %s FOR UPDATE", [creator.pk])
        response = platform.start(of=creator)

    assert (response.status_code, slug(response)) == (503, "database-away")
    assert platform.start(of=creator).status_code == 201


def test_f18_a_database_that_comes_back_in_time_is_not_noticed(
    platform: Platform, creator: Creator
) -> None:
    connection.ensure_connection()
    with psycopg.connect(_dsn()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert platform.start(of=creator).status_code == 201


def _dsn() -> str:
    of = connection.settings_dict
    return f"postgresql://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{of['PORT']}/{of['NAME']}"
