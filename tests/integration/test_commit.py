"""A unit of work against a database that goes away: real connections, ended by the server (F3, F18, R32).

"Unknown" has one answer: the whole block again, from its reads on, with the same derived identifiers.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from checkout.charging import attempt_charge
from checkout.commit import DatabaseAway, committed
from checkout.gateways import ChargeRequest, Outcome
from checkout.messages import Receive
from checkout.models import Account, ChargeState, Creator
from checkout.outcomes import Fate
from devstack.ports import free_port
from tests.factories import ACCOUNT_ID, World, account, attempts, creator, events, fresh
from tests.fakes import FakeClock, approve
from tests.situations import letters_of
from tests.together import together

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def dsn() -> dict[str, object]:
    facts = connection.settings_dict
    return {
        "host": facts["HOST"],
        "port": facts["PORT"],
        "dbname": facts["NAME"],
        "user": facts["USER"],
        "password": facts["PASSWORD"],
    }


def end_this_session() -> None:
    """The server ends our session, as in a restart or a failover; we notice at the next use."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with psycopg.connect(**dsn(), autocommit=True) as other:  # type: ignore[arg-type]
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@contextmanager
def database_away() -> Iterator[None]:
    """Nobody listens where the database was."""
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = str(free_port())
    try:
        yield
    finally:
        connection.settings_dict["PORT"] = port


class Runs:
    """A unit of work that counts its runs and makes one account with a derived id."""

    def __init__(self, *before: object, after: object = None) -> None:
        self.count = 0
        self.before, self.after = list(before), after

    def __call__(self) -> str:
        self.count += 1
        if self.before:
            self.before.pop(0)()  # type: ignore[operator]
        Account.objects.get_or_create(
            id=ACCOUNT_ID, defaults={"name": "platform", "created_at": FakeClock().real_now()}
        )
        if self.after is not None and self.count == 1:
            self.after()  # type: ignore[operator]
        return f"run {self.count}"


# --- Lost and found again --------------------------------------------------------------------------


def test_a_session_ended_in_the_middle_runs_the_whole_block_again(clock: FakeClock) -> None:
    """F18."""
    work = Runs(end_this_session)

    assert committed(work, deadline=5, clock=clock) == "run 2"
    assert Account.objects.count() == 1


def test_a_session_ended_right_before_the_commit_runs_the_block_again(clock: FakeClock) -> None:
    """F3: Django masks the failed COMMIT as a failed connection; the row is not there."""
    work = Runs(after=end_this_session)

    assert committed(work, deadline=5, clock=clock) == "run 2"
    assert Account.objects.count() == 1


def test_a_commit_that_took_effect_and_was_not_acknowledged_changes_nothing_twice(
    clock: FakeClock,
) -> None:
    """F3: the row is there when the connection dies; the second run finds it by its derived id."""

    def dies_after_the_commit() -> None:
        def ended_and_used() -> None:
            end_this_session()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")

        transaction.on_commit(ended_and_used)

    work = Runs(after=dies_after_the_commit)

    assert committed(work, deadline=5, clock=clock) == "run 2"
    assert Account.objects.count() == 1


def test_a_read_only_database_is_waited_for(clock: FakeClock) -> None:
    """F18, SQLSTATE 25006: after a failover we may still be at the old primary."""

    def read_only() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")

    work = Runs(read_only, read_only)

    assert committed(work, deadline=5, clock=clock) == "run 3"


def test_a_deadlock_is_run_again(world: World) -> None:
    """40P01: two who lock the other's row; the database ends one of them, and both commit."""
    first, second = creator(clock=world.clock), creator(clock=world.clock)

    both_have_one = threading.Barrier(2)

    def lock(*order: Creator) -> int:
        runs: list[Creator] = []

        def work() -> int:
            runs.append(order[0])
            Creator.lock([order[0].pk])
            if len(runs) == 1:
                both_have_one.wait(60)
            Creator.lock([order[1].pk])
            return len(runs)

        return committed(work, deadline=60, clock=world.clock)

    runs = together(lambda: lock(first, second), lambda: lock(second, first))

    assert sorted(str(count) for count in runs) == ["1", "2"]


# --- Not lost --------------------------------------------------------------------------------------


def test_a_broken_rule_is_not_tried_again(clock: FakeClock) -> None:
    """An IntegrityError goes to the caller."""
    account(clock=clock)

    def twice() -> None:
        Account.objects.create(id=ACCOUNT_ID, name="platform", created_at=clock.real_now())

    work = Runs(twice, twice)

    with pytest.raises(IntegrityError):
        committed(work, deadline=5, clock=clock)
    assert work.count == 1


def test_a_lock_not_granted_in_time_is_not_tried_again(world: World) -> None:
    """55P03: somebody holds it, the database is there; the API answers 409 or 503 at once."""
    who = creator(clock=world.clock)

    def impatient() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '20ms'")
        Creator.lock([who.pk])

    work = Runs(impatient, impatient)
    with psycopg.connect(**dsn()) as other:  # type: ignore[arg-type]
        other.execute("SELECT 1 FROM checkout_creator FOR UPDATE")
        with pytest.raises(OperationalError):
            committed(work, deadline=5, clock=world.clock)

    assert work.count == 1


def test_an_error_of_the_work_s_own_rolls_everything_back(clock: FakeClock) -> None:
    def breaks() -> None:
        raise ValueError("mine")

    work = Runs(after=breaks)

    with pytest.raises(ValueError, match="mine"):
        committed(work, deadline=5, clock=clock)
    assert (work.count, Account.objects.count()) == (1, 0)


def test_it_is_the_outermost_transaction_or_nothing(clock: FakeClock) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        committed(Runs(), deadline=5, clock=clock)


# --- The deadline ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 15, 40])
def test_a_database_that_stays_away_is_given_up_at_the_deadline(
    clock: FakeClock, seconds: float
) -> None:
    """R32: never longer, and not a moment before it tried as long as it may."""
    work = Runs()
    with database_away(), pytest.raises(DatabaseAway):
        committed(work, deadline=seconds, clock=clock)

    assert seconds - 1 <= clock.monotonic() <= seconds or seconds == clock.monotonic() == 0
    assert work.count == 0


def test_a_receive_without_a_database_is_left_within_forty_seconds(world: World) -> None:
    """Row 12: the worker leaves the message."""
    charge = world.due_charge()
    receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)

    with database_away(), pytest.raises(DatabaseAway):
        attempt_charge(receive=receive, clock=world.clock, gateways=world.gateways, ages=world.ages)

    assert 39 <= world.clock.monotonic() <= 40
    assert world.gateway.sent == []
    assert world.receive(charge, count=2) == Fate.ACKNOWLEDGE


def test_a_database_lost_during_the_call_costs_fifteen_seconds_and_no_second_capture(
    world: World,
) -> None:
    """F10, F18, R32: captured, not written; the redelivery sends the same key."""
    charge = world.due_charge()
    away = database_away()

    def captured_and_cut_off(request: ChargeRequest) -> Outcome:
        away.__enter__()
        return approve(request)

    world.gateway.answers = [captured_and_cut_off]
    receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)
    with pytest.raises(DatabaseAway):
        attempt_charge(receive=receive, clock=world.clock, gateways=world.gateways, ages=world.ages)
    away.__exit__(None, None, None)

    assert 14 <= world.clock.monotonic() <= 15
    assert letters_of(charge) == "?"
    world.receive(charge, count=2)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert world.gateway.captured == Decimal("19.99")
    assert attempts(charge)[0].sends == 2


def test_a_session_ended_during_the_call_is_replaced_before_tx_2(world: World) -> None:
    """F18: written at once, with one capture and one event."""
    charge = world.due_charge()

    def ended_meanwhile(request: ChargeRequest) -> Outcome:
        end_this_session()
        return approve(request)

    world.gateway.answers = [ended_meanwhile]

    assert world.receive(charge) == Fate.ACKNOWLEDGE
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert events(charge) == ["charge.billed", "charge.succeeded"]


def test_waits_grow_and_stay_short(clock: FakeClock) -> None:
    """No try waits longer than a second, so that a database that is back is used at once."""
    waits: list[float] = []

    class Listening(FakeClock):
        def sleep(self, seconds: float) -> None:
            waits.append(seconds)
            super().sleep(seconds)

    with database_away(), pytest.raises(DatabaseAway):
        committed(Runs(), deadline=40, clock=Listening())

    assert max(waits) <= 1.0
    assert waits[0] <= 0.05
    assert len(waits) > 40
