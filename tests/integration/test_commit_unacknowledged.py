"""A decision whose commit took effect and was not acknowledged: it is done once, and told as done (F3).

No derived identifier finds the row of a hold or of a note again; what was being done is known by its unit.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django.db
import psycopg
import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from checkout import failpoints, requeues
from checkout.models import BulkRequeue, ChargeState, Hold, UnitKey
from checkout.requeues import Choice
from settlements import reconciliation
from settlements.admin.export_pages import writer_of
from settlements.exports import runs
from settlements.management.exporting import ExportWorker
from settlements.models import (
    DeskAction,
    Discrepancy,
    ExportForm,
    ExportRun,
    ExportState,
    ExportWhat,
    StatementUpload,
)
from tests.factories import LANE, World, fresh
from tests.factories_pages import exhausted
from tests.factories_settlements import edit, statement_text
from tests.integration.test_statements import DAY

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def unacknowledged() -> Iterator[Callable[[], None]]:
    """The next unit of work commits, and its connection breaks before the server can say so."""

    def lose() -> None:
        failpoints.disable("commit.written")
        link: Any = connection.connection
        commit = link.commit

        def broken() -> None:
            commit()
            link.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        link.commit = broken

    yield lambda: failpoints.enable("commit.written", lose)
    failpoints.disable("commit.written")


def chosen(client: Client, app: str, name: str, action: str, row: object, **answers: str) -> str:
    answer = client.post(
        reverse(f"admin:{app}_{name}_changelist"),
        {"action": action, ACTION_CHECKBOX_NAME: [str(row)], "decided": "yes", **answers},
        follow=True,
    )
    return answer.content.decode()


def test_a_hold_is_placed_once(admin_client: Client, unacknowledged: Callable[[], None]) -> None:
    """Two would be there, and lifting the one that was told of would let nothing go on."""
    unacknowledged()
    call_command("pause", LANE, "--reason", "the processor answers 503")
    assert (Hold.objects.count(), LogEntry.objects.count()) == (1, 1)
    assert UnitKey.objects.count() == 1

    unacknowledged()
    page = admin_client.post(
        reverse("admin:checkout_hold_place"),
        {"target": "all", "kind": "hold", "minutes": "30", "reason": "looked into"},
        follow=True,
    )
    assert "Stopped: all (looked into)" in page.content.decode()
    assert Hold.objects.filter(scope="all").count() == 1


def test_a_round_is_opened_once_and_told_as_opened(
    world: World, admin_client: Client, unacknowledged: Callable[[], None]
) -> None:
    charge = exhausted(world)
    unacknowledged()
    page = chosen(admin_client, "checkout", "charge", "requeue", charge.pk, reason="card topped up")

    assert "done for 1 of 1" in page
    assert (fresh(charge).state, fresh(charge).round) == (ChargeState.DUE, 2)
    assert LogEntry.objects.filter(object_id=str(charge.pk)).count() == 1


def test_no_decision_stands_without_its_trace(
    world: World, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away after the use case and before the trail's line: neither is there."""
    charge = exhausted(world)
    admin_client.raise_request_exception = False

    def away(*_: Any, **__: Any) -> None:
        raise django.db.OperationalError from psycopg.errors.LockNotAvailable("the trail is locked")

    monkeypatch.setattr(LogEntry, "save", away)
    chosen(admin_client, "checkout", "charge", "write_off", charge.pk, reason="given up for good")

    assert fresh(charge).state == ChargeState.EXHAUSTED
    assert not LogEntry.objects.exists()


def test_a_bulk_requeue_is_written_down_once_and_told_so(
    world: World, admin_client: Client, unacknowledged: Callable[[], None]
) -> None:
    exhausted(world)
    seen = requeues.dry_run(choice=Choice(lane=LANE), now=world.clock.now(), ages=world.ages).sha256
    unacknowledged()
    page = admin_client.post(
        reverse("admin:checkout_dead_letters"),
        {"look": "yes", "lane": LANE, "seen": seen, "reason": "the issuers answer again"},
        follow=True,
    ).content.decode()

    assert "Nothing was done" not in page
    assert "Written down" in page
    assert BulkRequeue.objects.count() == 1


def test_a_note_is_written_once(
    world: World, admin_client: Client, unacknowledged: Callable[[], None]
) -> None:
    world.receive(world.due_charge())
    edit("UPDATE checkout_attempt SET captured_amount = 19.96 WHERE outcome = 'captured'")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    row = Discrepancy.objects.first()
    assert row is not None
    unacknowledged()
    page = chosen(
        admin_client, "settlements", "discrepancy", "note", row.pk, reason="asked the processor"
    )

    assert "Noted on 1" in page
    assert DeskAction.objects.count() == 1


def test_an_upload_is_kept_whole(admin_client: Client, unacknowledged: Callable[[], None]) -> None:
    """Its bytes can be read from the request once."""
    raw = statement_text(DAY).encode()
    unacknowledged()
    admin_client.post(
        reverse("admin:settlements_statementimport_upload"),
        {"whose": LANE, "file": SimpleUploadedFile("cis.csv", raw)},
    )

    assert StatementUpload.objects.get().sha256 == hashlib.sha256(raw).hexdigest()


def test_an_export_that_is_made_keeps_its_file(
    world: World, tmp_path: Path, unacknowledged: Callable[[], None]
) -> None:
    """Told again that it is made, it is no other worker's."""
    world.receive(world.due_charge())
    admin = User.objects.create_superuser("ann")
    runs.ask(
        what=ExportWhat.CHARGES,
        form=ExportForm.CSV,
        query="",
        words="all",
        by=admin.get_username(),
        reason="for the auditors",
        now=world.clock.now(),
    )

    def armed(run: ExportRun, progress: Any) -> Any:
        unacknowledged()
        return writer_of(run, progress)

    worker = ExportWorker(
        folder=tmp_path,
        kept=timedelta(days=30),
        clock=world.clock,
        writer_of=armed,
        beats=False,
    )
    worker.turn()

    run = ExportRun.objects.get()
    assert run.state == ExportState.MADE
    assert (tmp_path / run.file).is_file()
