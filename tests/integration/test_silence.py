"""A database that is silent: every wait for it has an end, on our side and on the server's (F18, R32).

The proxy's black hole acknowledges every packet and passes none on, which no option of a socket notices.
"""

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, close_old_connections, connection, transaction
from django.test import Client, override_settings

from checkout import queue, tasks, wiring
from checkout.clock import Clock
from checkout.commit import DatabaseAway, committed, is_lost
from checkout.link import Link, given_patience, patience
from checkout.models import Account, Heartbeat
from devstack.ports import free_port
from devstack.proxy import Proxy
from settlements.admin.export_pages import writer_of
from settlements.management import exporting, timetable
from settlements.models import ExportRun
from tests.factories import ACCOUNT_ID
from tests.relays import direct
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
clock = Clock()


@pytest.fixture
def link() -> Iterator[Proxy]:
    """Our way to the database."""
    facts = connection.settings_dict
    place = facts["HOST"], facts["PORT"]
    connection.close()
    with Proxy(upstream=(str(place[0]), int(place[1]))) as proxy:
        facts["HOST"], facts["PORT"] = "127.0.0.1", str(proxy.port)
        yield proxy
        facts["HOST"], facts["PORT"] = place
        connection.close()


@contextmanager
def within(least: float, most: float) -> Iterator[None]:
    begun = clock.monotonic()
    yield
    took = clock.monotonic() - begun
    assert least <= took <= most, f"took {took:.2f} s"


def ask(sql: str = "SELECT 1") -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


# --- Our patience ----------------------------------------------------------------------------------


def test_a_slow_statement_is_given_up_and_its_connection_closed() -> None:
    with within(0.3, 2.0), pytest.raises(OperationalError) as given_up, patience(0.3):
        ask("SELECT 1 FROM pg_sleep(30)")

    assert is_lost(given_up.value)
    assert connection.connection.closed
    connection.close()
    assert ask() == 1


def test_a_server_s_refusal_leaves_the_connection_open() -> None:
    """Only what broke off in the middle of a statement is closed."""
    ask("SELECT set_config('statement_timeout', '20ms', false)")
    with pytest.raises(OperationalError), patience(5):
        ask("SELECT 1 FROM pg_sleep(30)")

    assert not connection.connection.closed
    connection.close()


def test_the_shortest_patience_counts_and_ends_with_its_block() -> None:
    with patience(5):
        with patience(9):
            assert given_patience() == 5
        with patience(2), patience(None):
            assert given_patience() == 2
        assert given_patience() == 5
    assert given_patience() is None


def test_patience_is_a_thread_s_own() -> None:
    seen: list[float | None] = []
    with patience(3):
        other = threading.Thread(target=lambda: seen.append(given_patience()))
        other.start()
        other.join()

    assert seen == [None]


def test_django_and_the_direct_connections_are_bounded() -> None:
    connection.ensure_connection()
    with wiring.direct_connection(name="tests") as direct:
        assert isinstance(direct, Link)
        assert direct.longest == wiring.DIRECT_SECONDS
    assert isinstance(connection.connection, Link)


# --- A black hole ----------------------------------------------------------------------------------


def test_a_unit_of_work_in_a_black_hole_ends_at_its_deadline(link: Proxy) -> None:
    """Half of the deadline for the statement, the rest for connects that can still end in time."""
    ask()
    link.black_hole()

    with within(2.5, 5 + 2), pytest.raises(DatabaseAway):
        committed(ask, deadline=5, clock=clock)


def test_a_black_hole_in_the_middle_of_a_unit_that_heals_costs_one_more_run(link: Proxy) -> None:
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        Account.objects.get_or_create(
            id=ACCOUNT_ID, defaults={"name": "platform", "created_at": clock.real_now()}
        )
        if len(runs) == 1:
            link.black_hole()
            threading.Timer(2.0, link.heal).start()

    with within(1.4, 8):
        committed(work, deadline=8, statement=1.4, clock=clock)

    assert len(runs) == 2
    assert Account.objects.count() == 1


def test_a_black_hole_at_the_commit_is_an_unknown_that_is_found_again(link: Proxy) -> None:
    """F3: the COMMIT was swallowed, or its answer was; what the next run finds decides."""
    seen: list[bool] = []

    def work() -> None:
        seen.append(Account.objects.filter(id=ACCOUNT_ID).exists())
        Account.objects.get_or_create(
            id=ACCOUNT_ID, defaults={"name": "platform", "created_at": clock.real_now()}
        )
        if len(seen) == 1:
            commit = connection.connection.commit

            def into_the_hole() -> None:
                # The answer is kept back half a second: the hole is there before it arrives.
                link.latency = 1.0
                threading.Timer(0.75, link.black_hole).start()
                threading.Timer(2.2, heal).start()
                commit()

            connection.connection.commit = into_the_hole

    def heal() -> None:
        link.latency = 0.0
        link.heal()

    committed(work, deadline=8, statement=1.4, clock=clock)

    assert seen == [False, True]
    assert Account.objects.count() == 1


def test_a_kept_connection_that_is_silent_is_given_up(link: Proxy) -> None:
    """Django asks it at the edges of a request or a task, where no unit of work has a deadline."""
    ask()
    connection.errors_occurred = True
    link.black_hole()

    with within(0.9, 2.5):
        close_old_connections()

    assert connection.connection is None


def test_readiness_is_refused_within_its_second_and_comes_back(link: Proxy) -> None:
    client = Client()
    assert client.get("/readyz").status_code == 200
    link.black_hole()
    with within(0, 2):
        assert client.get("/readyz").status_code == 503
    with within(0, 1):
        assert client.get("/livez").status_code == 200
    link.heal()
    wait_for(lambda: client.get("/readyz").status_code == 200, 10, "ready again")


def test_no_page_waits_for_ever(monkeypatch: pytest.MonkeyPatch, link: Proxy) -> None:
    """The admin and the figures have no deadline of their own."""
    monkeypatch.setattr("checkout.http.deadline.LONGEST_STATEMENT", 0.5)
    client = Client(raise_request_exception=False)
    assert client.get("/admin/login/").status_code == 200
    link.black_hole()

    with within(0.4, 7):
        figures = client.get("/metrics")
    with within(0.4, 7):
        page = client.get("/admin/", headers={"Cookie": "sessionid=somebody"})

    assert "checkout_database_up 0.0" in figures.content.decode()
    assert (page.status_code, page["Retry-After"]) == (503, "5")


def test_the_worker_s_pulse_notices_a_black_hole(
    monkeypatch: pytest.MonkeyPatch, link: Proxy
) -> None:
    """A connect that is not answered, and an answer that does not come: both mean away."""
    monkeypatch.setattr(tasks, "PROBE_PATIENCE", 0.5)
    pulse = tasks.Pulse(parent=None)
    queue.DATABASE_AWAY.hoist()
    pulse._turn()
    at_first = queue.DATABASE_AWAY.is_up

    pulse._last_beat = -math.inf  # the next beat is due at once
    ask()  # a connection that stands, so that the hole is met by the statement
    link.black_hole()
    with within(0.4, 2):
        pulse._turn()
    noticed = queue.DATABASE_AWAY.is_up
    with within(1.5, 6):
        pulse._turn()
    link.heal()
    pulse._turn()

    assert (at_first, noticed, queue.DATABASE_AWAY.is_up) == (False, True, False)


def test_a_job_of_the_timetable_is_over_when_the_database_is_silent(
    monkeypatch: pytest.MonkeyPatch, link: Proxy
) -> None:
    """Its next turn connects anew; the sign of life beside it has a shorter patience of its own."""
    monkeypatch.setattr(timetable, "STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr(timetable, "BEAT_SECONDS", 0.5)
    job = timetable.Job("asks", 1, ask)
    locks = timetable.JobLocks(connect=lambda: wiring.direct_connection(name="tests"))
    jobs = timetable.Timetable(jobs=[job], locks=locks, clock=clock, beat_every=1)
    assert jobs._turn(job)
    link.black_hole()

    with within(0.4, 12):
        assert not jobs._turn(job)
        jobs._beat_if_possible()
    link.heal()

    assert jobs._turn(job)


def test_the_export_worker_gives_a_silent_database_up(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    link: Proxy,
    tmp_path: Path,
) -> None:
    """A statement of its may take long, not for ever: else it would stand after the database is back.

    What is silent first may be its sign of life or the claim of an export, which is tried for PATIENCE.
    """
    monkeypatch.setattr(exporting, "STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr(exporting, "PATIENCE", 3.0)
    worker = exporting.ExportWorker(
        folder=tmp_path, kept=timedelta(days=1), clock=clock, writer_of=writer_of
    )
    with running(worker) as thread:
        wait_for(Heartbeat.objects.exists, 10, "its sign of life")
        link.black_hole()
        wait_for(lambda: "the database is away" in caplog.text, 20, "it to give up")
        link.heal()

    assert not thread.is_alive()


@contextmanager
def running(worker: exporting.ExportWorker) -> Iterator[threading.Thread]:
    """The worker in a thread, which ends with the block even if a test fails: it would take others' exports."""
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop.set()
        thread.join(60)


def test_the_pulse_of_an_export_gives_a_silent_database_up(
    monkeypatch: pytest.MonkeyPatch, link: Proxy, tmp_path: Path
) -> None:
    """Else each export made meanwhile would leave a thread behind."""
    monkeypatch.setattr(exporting, "PULSE_SECONDS", 1.0)
    monkeypatch.setattr(exporting, "BEAT_SECONDS", 0.5)
    worker = exporting.ExportWorker(
        folder=tmp_path, kept=timedelta(days=1), clock=clock, writer_of=writer_of
    )

    with worker._pulse(ExportRun(pk=1)):
        wait_for(Heartbeat.objects.exists, 10, "its sign of life")
        link.black_hole()
        threading.Event().wait(1.5)  # the next pulse is under way

    assert "export-1" not in {thread.name for thread in threading.enumerate()}


# --- What the options bound --------------------------------------------------------------------------


def test_a_connect_that_is_not_answered_ends_after_its_time_out(link: Proxy) -> None:
    link.black_hole()

    with within(1.9, 5), pytest.raises(OperationalError, match="timeout"):
        connection.ensure_connection()


def test_of_several_hosts_the_one_that_takes_writes_is_used(link: Proxy) -> None:
    """A primary with a standby: one host is gone, the next one is asked, by Django and directly."""
    facts = connection.settings_dict
    gone = free_port()
    facts["HOST"], facts["PORT"] = "127.0.0.1,127.0.0.1", f"{gone},{link.port}"
    url = (
        f"postgresql://{facts['USER']}:{facts['PASSWORD']}"
        f"@127.0.0.1:{gone},127.0.0.1:{link.port}/{facts['NAME']}"
    )

    with override_settings(DATABASE_DIRECT_URL=url):
        direct = wiring.direct_connection(name="tests")

    with direct:
        assert direct.info.port == link.port
    assert ask() == 1


def test_a_server_that_takes_no_writes_is_no_server_of_ours() -> None:
    """`target_session_attrs`: a standby, or an old primary, is refused at the connect already."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    connection.close()
    try:
        with pytest.raises(OperationalError, match="read-only") as refused:
            connection.ensure_connection()
    finally:
        with direct("postgres") as other:
            other.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

    assert is_lost(refused.value)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux's names of the options")
def test_the_socket_has_the_options_that_notice_a_machine_that_vanished() -> None:
    """5 + 2 × 2 s while we wait, 3 s while bytes of ours stay unacknowledged; the kernel keeps to them."""
    connection.ensure_connection()
    with socket.fromfd(connection.connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as own:
        options = {
            name: own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        }
        alive = own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    assert options == {
        "TCP_USER_TIMEOUT": 3000,
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 2,
    }
    assert alive == 1


def test_connections_are_kept_and_asked_at_the_start_of_a_request() -> None:
    facts = settings.DATABASES["default"]

    assert (facts["CONN_MAX_AGE"], facts["CONN_HEALTH_CHECKS"]) == (60, True)
    assert facts["OPTIONS"]["target_session_attrs"] == "read-write"


# --- What the server ends ----------------------------------------------------------------------------


def test_the_database_ends_transactions_that_idle_and_looks_for_its_clients() -> None:
    connection.close()  # sessions take the database's settings when they begin

    assert ask("SHOW idle_in_transaction_session_timeout") == "2min"
    assert ask("SHOW client_connection_check_interval") == "2s"


def test_a_transaction_that_the_server_ended_for_idling_runs_again() -> None:
    """25P03 is an InternalError: a worker that was suspended in the middle goes on by itself."""
    runs: list[int] = []

    def work() -> int:
        runs.append(1)
        ask()
        if len(runs) == 1:
            pid = ask("SELECT pg_backend_pid()")
            ask("SELECT set_config('idle_in_transaction_session_timeout', '50ms', false)")
            wait_for(lambda: not backend(pid), 10, "the server to end the transaction")
        ask()
        return len(runs)

    assert committed(work, deadline=10, clock=clock) == 2


def test_what_we_gave_up_holds_no_lock_for_long() -> None:
    """The server notices within 2 s that nobody waits for the statement."""
    Account.objects.create(id=ACCOUNT_ID, name="platform", created_at=clock.real_now())
    connection.close()
    pids: list[object] = []

    def hold_the_row() -> None:
        with patience(0.5), transaction.atomic():
            pids.append(ask("SELECT pg_backend_pid()"))
            Account.objects.select_for_update().get()
            ask("SELECT 1 FROM pg_sleep(60)")

    with pytest.raises(OperationalError):
        hold_the_row()
    connection.close()

    with within(0, 4), transaction.atomic():
        Account.objects.select_for_update().get()
    assert not backend(pids[0])


def backend(pid: object) -> bool:
    with direct() as other:
        found = other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return found.fetchone() is not None
