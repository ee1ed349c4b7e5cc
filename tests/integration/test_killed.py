"""A forked process is ended with -9 at every failpoint; what runs after it heals, with one capture.

The child works on the real database with a processor whose journal is a file, so it outlives the child.
Rules R15, R19, R33; faults F6, F7, F10, F11. That the child ended by SIGKILL shows that the failpoint
fired; those of the API and the relay are in tests/integration/test_api_once.py and
tests/system/test_relay_process.py.
"""

import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from django.db import connection

from checkout import failpoints, ledger, rescue
from checkout.billing import bill_due
from checkout.gateways import ChargeRequest, Outcome
from checkout.models import Attempt, AttemptOutcome, Case, Charge, ChargeState, LedgerEntry
from checkout.outcomes import Fate
from settlements.closing import close_periods
from settlements.models import Settlement, SettlementLine
from settlements.settling import store_default_schedules
from tests.factories import World, attempts, events, fresh
from tests.fakes import FakeGateway
from tests.situations import SOFT, drain, in_doubt, letter, letters_of, published

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class FileGateway(FakeGateway):
    """A processor whose journal is a file: one line a decision, synchronised before it answers."""

    path: Path = field(default_factory=Path)
    decides: Outcome | None = None

    def charge(self, request: ChargeRequest, *, deadline: float) -> Outcome:
        with self.path.open("a+", encoding="ascii") as journal:
            journal.seek(0)
            known = str(request.reference) in journal.read().split()
            if not known:
                journal.write(f"{request.reference}\n")
                journal.flush()
                os.fsync(journal.fileno())
        if self.decides is not None:
            self.answers = [self.decides]
        return super().charge(request, deadline=deadline)

    @property
    def decisions(self) -> list[str]:
        return self.path.read_text("ascii").split() if self.path.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(gateway=FileGateway(path=tmp_path / "journal"))


def killed_at(name: str, work: Callable[[], object]) -> None:
    """Run `work` in a forked process that is killed at the failpoint; fail if it was not reached."""
    # Two processes must not share one session.
    connection.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            failpoints.enable(name, failpoints.kill)
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{name} was not reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


def decisions(world: World) -> list[str]:
    assert isinstance(world.gateway, FileGateway)
    return world.gateway.decisions


CHARGING = [
    "charging.intent_committed",
    "charging.before_send",
    "charging.answered",
    "charging.outcome_committed",
]


@pytest.mark.parametrize("name", CHARGING)
def test_a_worker_killed_anywhere_leaves_one_capture_after_its_redelivery(
    world: World, name: str
) -> None:
    """F7 before the call, F10 after it, F11 after the outcome: the same key, whatever happened."""
    charge = world.due_charge()

    killed_at(name, lambda: world.receive(charge))
    world.clock.forward(seconds=300)
    fate = world.receive(charge, count=2)

    assert fate == Fate.ACKNOWLEDGE
    assert decisions(world) == [str(attempts(charge)[0].pk)]
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert LedgerEntry.objects.filter(charge=charge, kind="captured").count() == 1
    assert ledger.receivable(charge_id=charge.pk) == 0
    assert events(charge) == ["charge.billed", "charge.succeeded"]


@pytest.mark.parametrize("name", CHARGING)
def test_a_worker_killed_around_a_decline_counts_it_once(world: World, name: str) -> None:
    """R31: redelivery of a finished attempt makes no call, an unfinished one keeps its key."""
    assert isinstance(world.gateway, FileGateway)
    world.gateway.decides = SOFT
    charge = world.due_charge()

    killed_at(name, lambda: world.receive(charge))
    world.clock.forward(seconds=100)
    world.receive(charge, count=2)

    assert letters_of(charge) == "S"
    assert len(decisions(world)) == 1
    assert events(charge).count("charge.declined") == 1
    assert fresh(charge).state == ChargeState.FAILED_THEN_RETRY


@pytest.mark.parametrize("name", CHARGING)
def test_a_worker_killed_at_every_receive_ends_with_the_drain_and_the_resolver(
    world: World, name: str
) -> None:
    """F6: three deaths, a dead letter, one case; never a second capture."""
    charge = world.due_charge()
    for count in (1, 2, 3):
        if fresh(charge).state == ChargeState.SUCCEEDED:
            break
        killed_at(name, partial(world.receive, charge, count=count))
        world.clock.forward(seconds=300)

    drain(world, letter(charge))

    assert Case.objects.count() == 1
    assert len(decisions(world)) <= 1
    state = fresh(charge).state
    assert state == (
        ChargeState.SUCCEEDED if name == "charging.outcome_committed" else ChargeState.IN_DOUBT
    )


def test_a_resolver_killed_with_its_answer_asks_again(world: World) -> None:
    charge = in_doubt(world)
    world.gateway.remember(attempts(charge)[0].pk, SOFT)
    world.clock.forward(seconds=60)

    def resolve() -> int:
        return rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)

    killed_at("resolve.answered", resolve)

    assert letters_of(charge) == "?"
    assert resolve() == 1
    assert letters_of(charge) == "S"


def test_a_sweep_killed_after_a_dispatch_dispatches_the_others_and_none_twice(
    world: World,
) -> None:
    charges = [world.due_charge() for _ in range(3)]
    for charge in charges:
        published(charge)
    world.clock.forward(seconds=1200)

    def sweep() -> int:
        return rescue.sweep(clock=world.clock, ages=world.ages)

    killed_at("sweep.dispatched", sweep)

    assert sweep() == 2
    assert {fresh(charge).dispatch for charge in charges} == {2}


def test_a_drain_killed_between_case_and_delete_adds_no_case(world: World) -> None:
    """R33."""
    charge = world.due_charge()
    dead = letter(charge)

    killed_at("drain.case_committed", lambda: drain(world, dead))
    drain(world, dead)

    assert Case.objects.count() == 1
    assert fresh(charge).dispatch == 2


def test_a_bill_run_killed_after_each_batch_bills_every_period_once(world: World) -> None:
    """R15."""
    for _ in range(3):
        world.due_charge()
    world.clock.forward(days=28)

    def bill() -> int:
        return bill_due(clock=world.clock, ages=world.ages, batch=1).charges

    for _ in range(2):
        killed_at("bill.batch_committed", bill)

    assert bill() == 1
    assert Charge.objects.count() == 6
    assert Charge.objects.values("subscription", "period_start").distinct().count() == 6


def test_a_close_killed_before_each_commit_closes_every_period_once(world: World) -> None:
    """R44: nothing of a batch is there before its commit, and all of it after."""
    for _ in range(3):
        world.receive(world.due_charge())
    store_default_schedules(now=world.clock.now())
    world.clock.forward(days=1)

    def close(*, batch: int = 1) -> int:
        return close_periods(clock=world.clock, ages=world.ages, batch=batch).settlements

    killed_at("commit.written", close)
    assert close(batch=2) == 3

    assert Settlement.objects.count() == SettlementLine.objects.count() == 3
    assert close() == 0


def test_nothing_open_and_nothing_captured_is_left_by_the_dead(world: World) -> None:
    """I6: after healing, nothing in flight."""
    charge = world.due_charge()
    killed_at("charging.answered", lambda: world.receive(charge))

    rescue_all = world.clock.forward(seconds=300)
    world.receive(charge, count=2)

    assert rescue_all.real == world.clock.real_now()
    assert not Attempt.objects.filter(outcome=AttemptOutcome.OPEN).exists()
    assert attempts(charge)[0].captured_amount == Decimal("19.99")
