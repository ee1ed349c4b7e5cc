"""The database's disk is full: writes are refused for a while, and nothing that was acknowledged is lost (F19).

A tablespace on a small tmpfs holds the tables that are written to first. What a full disk under the log
itself does (the server ends, and recovers) is `make chaos`'s.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.utils import OperationalError

from checkout import wiring
from checkout.commit import DatabaseAway
from checkout.models import ChargeState, IdempotencyRecord, Subscription
from checkout.outcomes import Fate
from devstack.postgres import Postgres
from tests.factories import World, attempts, fresh
from tests.platforms import ready_platform, register, slug

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("checkout_idempotencyrecord", "checkout_attempt")
MOST_ROWS_OF_A_PAGE = 60


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


class Disk:
    """A megabyte that can be filled to the last page, and emptied."""

    def fill(self) -> None:
        with suppress(OperationalError):
            while True:
                run("INSERT INTO filler VALUES (repeat('x', 7500))")

    def empty(self) -> None:
        run("DROP TABLE IF EXISTS filler")


@pytest.fixture
def disk(postgres: Postgres | None) -> Iterator[Disk]:
    if postgres is None or postgres.user is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system, under a server of this run's own")
    folder = Path(tempfile.mkdtemp(prefix="checkout-small-"))
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "checkout-tests", str(folder)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("this machine lets nobody mount a file system, not even root")
    place = folder / "tablespace"
    place.mkdir(mode=0o700)
    shutil.chown(place, postgres.user)
    run(f"CREATE TABLESPACE small LOCATION '{place}'")
    run("CREATE TABLE filler (line text) TABLESPACE small")
    run("ALTER TABLE filler ALTER line SET STORAGE PLAIN")
    try:
        for table in TABLES:
            run(f"ALTER TABLE {table} SET TABLESPACE small")
        yield Disk()
    finally:
        connection.close()
        run("DROP TABLE IF EXISTS filler")
        for table in TABLES:
            run(f"ALTER TABLE {table} SET TABLESPACE pg_default")
        run("CHECKPOINT")
        run("DROP TABLESPACE small")
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_f19_a_full_disk_is_a_503_and_every_key_is_done_once(
    monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    ages = wiring.ages()
    monkeypatch.setattr(settings, "AGES", type(ages)(**{**vars(ages), "request_deadline": 0.2}))
    platform = ready_platform()
    creator = register(platform)
    answers: dict[str, Any] = {"order-0": platform.start(of=creator, key="order-0")}
    disk.fill()

    for number in range(1, MOST_ROWS_OF_A_PAGE):
        key = f"order-{number}"
        answers[key] = platform.start(of=creator, key=key)
        if answers[key].status_code != 201:
            break
    accepted = [key for key, answer in answers.items() if answer.status_code == 201]
    refused = answers[key]
    kept = sorted(IdempotencyRecord.objects.values_list("key", flat=True))
    replayed = platform.start(of=creator, key=accepted[0])
    disk.empty()
    again = platform.start(of=creator, key=key)

    assert (refused.status_code, slug(refused)) == (503, "database-away")
    assert refused["Retry-After"]
    assert kept == sorted(accepted)
    assert (replayed.status_code, replayed.content) == (201, answers[accepted[0]].content)
    assert again.status_code == 201
    assert Subscription.objects.count() == len(accepted) + 1


def test_f19_a_receive_at_a_full_disk_sends_nothing_and_is_left(disk: Disk) -> None:
    """40 s by the test's clock; the processor is not asked before the attempt is committed."""
    world = World()
    charge = world.due_charge()
    disk.fill()

    with pytest.raises(DatabaseAway):
        world.receive(charge)
    sent = len(world.gateway.sent)
    disk.empty()
    fate = world.receive(charge, count=2)

    assert (sent, fate) == (0, Fate.ACKNOWLEDGE)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    assert [attempt.sends for attempt in attempts(charge)] == [1]
