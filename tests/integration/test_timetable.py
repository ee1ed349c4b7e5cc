"""Clock work: one process a job, a failing or slow job harms no other, and it outlives its database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from checkout.clock import Clock
from checkout.models import Heartbeat
from settlements.management.timetable import Job, JobLocks, Timetable
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def direct_url() -> str:
    """The test database behind DATABASE_DIRECT_URL, whose name pytest-django changed."""
    return settings.DATABASE_DIRECT_URL.rpartition("/")[0] + f"/{connection.settings_dict['NAME']}"


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(direct_url(), autocommit=True, application_name="timetable")


def timetable_of(*jobs: Job) -> Timetable:
    locks = JobLocks(connect=connect)
    return Timetable(jobs=jobs, locks=locks, clock=Clock(), beat_every=0.05)


@contextmanager
def running(timetable: Timetable) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=timetable.run)
    thread.start()
    try:
        yield thread
    finally:
        timetable.stop.set()
        thread.join(10)
        assert not thread.is_alive()


class Counter:
    """Counts its turns and remembers the last moment."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.turns = 0
        self.then = then

    def __call__(self) -> str:
        self.turns += 1
        self.then()
        return f"turn {self.turns}"


def test_a_job_runs_again_and_again_and_shows_its_sign_of_life():
    work = Counter()

    with running(timetable_of(Job("count", 0.01, work))):
        wait_for(lambda: work.turns >= 3, 5, "three turns")
        wait_for(lambda: Heartbeat.objects.filter(name="timetable").exists(), 5, "a heartbeat")

    assert Heartbeat.objects.get(name="job:count").detail.startswith("turn ")


def test_a_second_timetable_stands_by_and_takes_over():
    first, second = Counter(), Counter()

    with running(timetable_of(Job("bill", 0.01, second))) as standby:
        wait_for(lambda: second.turns, 5, "the first one to begin")
        with running(timetable_of(Job("bill", 0.01, first))):
            seen = second.turns
            wait_for(lambda: second.turns > seen + 3, 5, "the holder to go on")
            assert first.turns == 0
        assert standby.is_alive()

    with running(timetable_of(Job("bill", 0.01, first))):
        wait_for(lambda: first.turns, 5, "the lock to be free again")


def test_two_timetables_never_run_a_job_at_once():
    inside: list[int] = []
    overlaps: list[int] = []

    def enter() -> None:
        inside.append(1)
        overlaps.extend([1] * (len(inside) > 1))
        threading.Event().wait(0.005)
        inside.pop()

    works = [Counter(enter), Counter(enter)]
    with (
        running(timetable_of(Job("x", 0, works[0]))),
        running(timetable_of(Job("x", 0, works[1]))),
    ):
        wait_for(lambda: sum(work.turns for work in works) > 30, 10, "thirty turns")

    assert overlaps == []


def test_a_failing_job_ends_no_other_and_ages_until_it_succeeds(caplog):
    broken, sound = Counter(lambda: 1 / 0), Counter()

    with running(timetable_of(Job("broken", 0.01, broken), Job("sound", 0.01, sound))):
        wait_for(lambda: broken.turns >= 3 and sound.turns >= 3, 5, "both to go on")
        wait_for(lambda: Heartbeat.objects.filter(name="job:broken").exists(), 5, "its row")
        first = Heartbeat.objects.get(name="job:broken")
        seen = broken.turns
        wait_for(lambda: broken.turns > seen + 1, 5, "more turns")

    last = Heartbeat.objects.get(name="job:broken")
    assert "ZeroDivisionError" in last.detail
    assert last.beat_at == first.beat_at
    assert "a job failed" in caplog.text


def test_a_slow_job_delays_no_other():
    go = threading.Event()
    slow, quick = Counter(lambda: go.wait(10)), Counter()

    with running(timetable_of(Job("resolve", 0.01, slow), Job("bill", 0.01, quick))):
        wait_for(lambda: slow.turns and quick.turns >= 5, 5, "the quick one to go on")
        go.set()

    assert slow.turns >= 1


def test_it_comes_back_when_the_database_dropped_every_connection():
    work = Counter(Heartbeat.objects.exists)

    with running(timetable_of(Job("work", 0.01, work))):
        wait_for(lambda: work.turns >= 2, 5, "it to begin")
        with psycopg.connect(direct_url(), autocommit=True) as other:
            ended = other.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                "   AND application_name = 'timetable'"
            ).fetchone()
        assert ended is not None
        assert ended[0] == 1
        seen = work.turns
        wait_for(lambda: work.turns > seen + 2, 10, "it to come back")


def test_run_once_gives_each_free_job_one_turn_and_names_the_failed():
    works = [Counter(), Counter(lambda: 1 / 0), Counter()]
    jobs = [Job(name, 60, work) for name, work in zip("abc", works, strict=True)]
    holder = JobLocks(connect=connect)
    assert holder.mine("c")

    turns = timetable_of(*jobs).run_once()

    assert (turns.failed, turns.elsewhere) == (["b"], ["c"])
    assert [work.turns for work in works] == [1, 1, 0]
    holder.close()
