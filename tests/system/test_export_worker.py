"""The export worker as a process: killed in the middle, its export is made by the next; SIGTERM ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction

from checkout.clock import Clock
from settlements.exports import runs
from settlements.models import ExportForm, ExportRun, ExportState, ExportWhat
from settlements.roles import ANALYST
from tests.factories import World
from tests.factories_roles import user_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.django_db(transaction=True)]


def database() -> str:
    server = settings.DATABASE_DIRECT_URL.rpartition("/")[0]
    return f"{server}/{connection.settings_dict['NAME']}"


@contextmanager
def export_worker(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder.parent / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "export_worker", *words],
            env=os.environ
            | {
                "DATABASE_URL": database(),
                "DATABASE_DIRECT_URL": database(),
                "EXPORTS_FOLDER": str(folder),
            },
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def asked() -> ExportRun:
    user_of(ANALYST, name="ann")
    with transaction.atomic():
        return runs.ask(
            what=ExportWhat.CHARGES,
            form=ExportForm.CSV,
            query="",
            words="everything",
            by="ann",
            reason="for the auditors",
            now=Clock().now(),
        )


def state() -> str:
    return ExportRun.objects.get().state


def test_killed_in_the_middle_it_is_made_by_the_next_and_sigterm_ends_that(tmp_path: Path) -> None:
    World().due_charge(price="19.99")
    folder = tmp_path / "exports"
    with psycopg.connect(database()) as elsewhere:
        # Whoever reads the charges waits: the worker is in the middle for as long as we like.
        elsewhere.execute("LOCK TABLE checkout_attempt IN ACCESS EXCLUSIVE MODE")
        run = asked()
        with export_worker(folder) as first:
            wait_for(lambda: list(folder.glob(".*.part")), 60, "a worker to begin")
            first.send_signal(signal.SIGKILL)
            assert first.wait(20) == -signal.SIGKILL
    assert state() == ExportState.ASKED
    # A minute passes: its claim ends.
    ExportRun.objects.update(claimed_until=datetime.now(UTC) - timedelta(seconds=1))

    with export_worker(folder) as second:
        wait_for(lambda: state() == ExportState.MADE, 60, "the second to make it")
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0

    run.refresh_from_db()
    assert (run.tries, run.rows) == (2, 1)
    assert [path.name for path in folder.iterdir()] == [run.file]
