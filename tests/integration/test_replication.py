"""A commit that should wait for a standby which is not there (F3, F18).

PostgreSQL commits first and waits then. While it waits nobody else sees the rows; somebody who cancels the
wait, or a restart, makes them seen, and this side is told "committed". None of that is an acknowledgement.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import Client

from checkout import wiring
from checkout.clock import Clock
from checkout.commit import DatabaseAway, committed, is_lost
from checkout.link import Unreplicated
from checkout.models import Account, Creator, Subscription, UnreplicatedCommits
from devstack.postgres import Postgres
from tests.factories import ACCOUNT_ID
from tests.platforms import Platform, ready_platform, register
from tests.relays import direct
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
clock = Clock()


class Standby:
    """A standby that the primary waits for and that does not exist, until it is `back`."""

    def __init__(self) -> None:
        self._hand = direct()
        self._name = connection.settings_dict["NAME"]

    def gone(self) -> None:
        self._run(f'ALTER DATABASE "{self._name}" SET synchronous_commit = on')
        self._run("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (gone)'")
        self._run("SELECT pg_reload_conf()")
        connection.close()
        wait_for(self._is_awaited, 10, "the server to wait for its standby")

    def back(self) -> None:
        self._run("ALTER SYSTEM RESET synchronous_standby_names")
        self._run("SELECT pg_reload_conf()")
        self._run(f'ALTER DATABASE "{self._name}" RESET synchronous_commit')
        wait_for(lambda: not self.waiting(), 10, "the server to stop waiting")

    def waiting(self) -> list[int]:
        """The backends whose commits wait."""
        sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        return [row[0] for row in self._hand.execute(sql)]

    def cancel_a_wait(self) -> None:
        """What a well-meaning script does: pg_cancel_backend on what hangs."""
        [pid] = wait_for(self.waiting, 10, "a commit that waits")
        self._run(f"SELECT pg_cancel_backend({pid})")
        wait_for(lambda: pid not in self.waiting(), 10, "the wait to end")

    def close(self) -> None:
        self.back()
        connection.close()
        self._hand.close()

    def _is_awaited(self) -> bool:
        row = self._hand.execute("SHOW synchronous_standby_names").fetchone()
        return row is not None and row[0] != ""

    def _run(self, sql: str) -> None:
        self._hand.execute(sql)


@pytest.fixture
def standby(postgres: Postgres | None) -> Iterator[Standby]:
    if postgres is None:
        pytest.skip("the PostgreSQL of this run is not ours to configure")
    standby = Standby()
    yield standby
    standby.close()


def make_account() -> None:
    Account.objects.get_or_create(
        id=ACCOUNT_ID, defaults={"name": "platform", "created_at": clock.real_now()}
    )


def aside(work: Any, *args: Any, **named: Any) -> Any:
    """Run in another thread, on its own connection."""
    try:
        return work(*args, **named)
    finally:
        connections.close_all()


def test_a_commit_without_its_standby_is_given_up_at_the_deadline(standby: Standby) -> None:
    standby.gone()
    begun = clock.monotonic()

    with pytest.raises(DatabaseAway):
        committed(make_account, deadline=2, clock=clock)

    assert clock.monotonic() - begun < 2 + 2
    assert not Account.objects.exists()  # written, and not to be seen before a standby has it


def test_a_cancelled_wait_is_counted_and_no_acknowledgement(standby: Standby) -> None:
    """The server says COMMIT with WARNING 01000; the unit runs again, and its commit waits anew."""
    runs: list[bool] = []

    def work() -> str:
        runs.append(Account.objects.filter(id=ACCOUNT_ID).exists())
        make_account()
        return "done"

    standby.gone()
    with ThreadPoolExecutor(1) as pool:
        unit = pool.submit(aside, committed, work, deadline=60, clock=clock)
        standby.cancel_a_wait()
        wait_for(standby.waiting, 10, "the second run to wait as well")
        counted = UnreplicatedCommits.objects.get().count
        done_while_gone = unit.done()
        standby.back()
        assert unit.result(30) == "done"

    assert runs == [False, True]
    assert not done_while_gone
    assert counted == 1
    assert UnreplicatedCommits.objects.get().count == 1
    figures = Client().get("/metrics").content.decode()
    assert "checkout_unreplicated_commits_total 1.0" in figures


def test_a_cancelled_wait_of_a_plain_transaction_is_counted_and_raised(standby: Standby) -> None:
    """A file that is imported, say: nobody may be told that it is accepted."""

    def plain() -> None:
        with transaction.atomic():
            make_account()

    standby.gone()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(aside, plain)
        standby.cancel_a_wait()
        told = done.exception(30)
    standby.back()

    assert isinstance(told, Unreplicated)
    assert is_lost(told)
    assert UnreplicatedCommits.objects.get().count == 1


def test_a_repetition_is_not_answered_before_a_standby_has_the_first_commit(
    monkeypatch: pytest.MonkeyPatch, standby: Standby
) -> None:
    """The first commit is seen (its wait was cancelled): a mere read would repeat what a failover undoes."""
    ages = wiring.ages()
    monkeypatch.setattr(settings, "AGES", type(ages)(**{**vars(ages), "request_deadline": 2.0}))
    platform = ready_platform()
    creator = register(platform)
    standby.gone()

    first = started(platform, creator)
    for _ in range(2):
        if standby.waiting():
            standby.cancel_a_wait()
    seen = Subscription.objects.count()
    again = started(platform, creator)
    standby.back()
    at_last = started(platform, creator)

    assert [first.status_code, again.status_code] == [503, 503]
    assert seen == 1
    assert (at_last.status_code, at_last["Idempotent-Replayed"]) == (201, "true")
    assert json.loads(at_last.content)["state"] == "open"
    assert Subscription.objects.count() == 1


def started(platform: Platform, creator: Creator) -> Any:
    return platform.start(of=creator, key="once")


def test_commits_with_their_standby_are_not_counted(standby: Standby) -> None:
    committed(make_account, deadline=5, clock=clock)

    assert not UnreplicatedCommits.objects.exists()
    assert "checkout_unreplicated_commits_total 0.0" in Client().get("/metrics").content.decode()
