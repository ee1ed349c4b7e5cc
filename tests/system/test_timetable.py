"""The timetable as a process: it takes over from a killed one, and ends in order when told to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from checkout.models import Heartbeat
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


@contextmanager
def timetable(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reviews subscriptions every 0.1 s; killed at the end if it still runs."""
    database = settings.DATABASE_DIRECT_URL.rpartition("/")[0] + (
        f"/{connection.settings_dict['NAME']}"
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "timetable", "--only", "review"],
            env=os.environ
            | {
                "DATABASE_URL": database,
                "DATABASE_DIRECT_URL": database,
                "AGE_TIMETABLE_EVERY": "0.1",
                "AGE_WORKER_HEARTBEAT": "0.1",
            },
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def turns() -> str:
    """The newest sign of life of the job."""
    return str(Heartbeat.objects.filter(name="job:review").values_list("beat_at").first())


def sessions() -> int:
    """How many timetables are connected to ask for locks."""
    return count("pg_stat_activity a WHERE true")


def locks() -> int:
    """How many timetables hold a lock."""
    return count("pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'")


def count(rows: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM {rows} AND a.application_name = 'timetable'"
            " AND a.datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def test_a_second_timetable_takes_over_from_one_killed_with_sigkill(tmp_path):
    with timetable(tmp_path / "first.log") as first:
        wait_for(locks, 30, "the first to take the lock")
        with timetable(tmp_path / "second.log") as second:
            wait_for(lambda: sessions() == 2, 30, "the second to ask for it")
            assert locks() == 1
            first.kill()
            first.wait()
            wait_for(lambda: sessions() == 1, 30, "the first one's session to end")
            before = turns()
            wait_for(lambda: turns() != before, 30, "the second to go on")
            assert second.poll() is None
            assert locks() == 1


def test_sigterm_ends_it_in_order(tmp_path):
    with timetable(tmp_path / "log") as process:
        wait_for(lambda: Heartbeat.objects.filter(name="job:review").exists(), 30, "a turn")
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 0
        assert locks() == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
