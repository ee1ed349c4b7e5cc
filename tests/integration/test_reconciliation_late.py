"""R55 with commits in any order: an edit is made before a pass, and committed or taken back after it.

Every editor has a connection of its own and holds its transaction open over any number of passes; rows
of several tables are edited, lines deleted and doubled, files taken in, lost and taken in again. Wherever
an incremental and a full pass look one after the other, the second opens and clears nothing.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from django.db import connection

from checkout.models import Attempt, Charge, LedgerPosting
from settlements import reconciliation
from settlements.models import Discrepancy, StatementImport, StatementLine
from tests.factories import World
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db(transaction=True)

CHARGES: Final = 6
STEPS: Final = 40
# By table: what a late transaction does to one of its rows.
LATE: Final = {
    "charge": ("UPDATE checkout_charge SET amount = amount - 0.01 WHERE id = %s",),
    "attempt": (
        "UPDATE checkout_attempt SET captured_amount = captured_amount + 0.01 WHERE id = %s",
        "UPDATE checkout_attempt SET amount = amount + 0.01 WHERE id = %s",
    ),
    "posting": (
        "UPDATE checkout_ledgerposting SET amount = amount + 0.01 WHERE id = %s",
        "DELETE FROM checkout_ledgerposting WHERE id = %s",
    ),
    "line": (
        "UPDATE settlements_statementline SET gross = gross - 0.01, net = net - 0.01 WHERE id = %s",
        "DELETE FROM settlements_statementline WHERE id = %s",
        "INSERT INTO settlements_statementline (statement_id, number, key, line_id, type, reference,"
        " processor_reference, booked_at, gross, fee, net, currency, payout)"
        " SELECT statement_id, (SELECT max(number) + 1 FROM settlements_statementline), key, line_id,"
        " type, reference, processor_reference, booked_at, gross, fee, net, currency, payout"
        " FROM settlements_statementline WHERE id = %s",
    ),
}
TABLES: Final = {
    "charge": Charge,
    "attempt": Attempt,
    "posting": LedgerPosting,
    "line": StatementLine,
}


@dataclass
class Late:
    """An open transaction and the rows it has locked."""

    connection: psycopg.Connection[Any]
    rows: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Scene:
    """Steps by name; `late` are the transactions that are open now."""

    world: World
    folder: Path
    chance: random.Random
    late: list[Late] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Somebody edits up to three rows, past the triggers, and commits nothing yet."""
        if len(self.late) >= 3:
            return
        opened = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None})
        late = Late(opened)
        self.late.append(late)
        opened.execute("SET session_replication_role = replica")
        for _ in range(self.chance.randint(1, 3)):
            self.edit_late(late)

    def edit_late(self, late: Late) -> None:
        what = self.chance.choice(list(LATE))
        busy = {row for other in self.late for table, row in other.rows if table == what}
        ids = [
            str(pk)
            for pk in TABLES[what]._default_manager.order_by("pk").values_list("pk", flat=True)
        ]
        free = [id for id in ids if id not in busy]
        # A doubled line takes the next number; two at once would wait for one another.
        edits = [sql for sql in LATE[what] if "INSERT" not in sql or not any_insert(self.late)]
        if free and edits:
            row, sql = self.chance.choice(free), self.chance.choice(edits)
            late.rows |= {(what, row), *({("insert", "")} if "INSERT" in sql else set())}
            late.connection.execute(sql, [row])
            self.told.append(f"late: {sql[:60]} {row}")

    def end(self) -> None:
        """One of them commits, or takes everything back."""
        if not self.late:
            return
        late = self.late.pop(self.chance.randrange(len(self.late)))
        commits = self.chance.random() < 0.75
        late.connection.commit() if commits else late.connection.rollback()
        late.connection.close()
        self.told.append("commit" if commits else "rollback")

    def take_in_file(self) -> None:
        """The day's file, with what we know now; refused where that day is there already."""
        day = self.world.clock.business_now().date() - timedelta(days=1)
        if not StatementImport.objects.filter(last_day__gte=day).exists():
            take_in(statement_text(day), world=self.world, folder=self.folder)
            self.told.append(f"file {day}")

    def lose_file(self) -> None:
        """Its rows go, unless an open transaction holds one of its lines."""
        newest = StatementImport.objects.order_by("-id").first()
        if newest is None or any("line" in dict(late.rows) for late in self.late):
            return
        edit("DELETE FROM settlements_statementline WHERE statement_id = %s", newest.pk)
        edit(
            "UPDATE settlements_statementexpectation SET state = 'expected', statement_id = NULL"
            " WHERE statement_id = %s",
            newest.pk,
        )
        edit("DELETE FROM settlements_statementimport WHERE id = %s", newest.pk)
        self.told.append("file lost")

    def look(self) -> None:
        reconciliation.reconcile_incremental(clock=self.world.clock, ages=self.world.ages)

    def look_at_all(self) -> None:
        reconciliation.reconcile(clock=self.world.clock, ages=self.world.ages, at_once=2)

    def both(self) -> None:
        """In either order, the second finds what the first found."""
        first, second = self.chance.sample([self.look, self.look_at_all], 2)
        first()
        found = standing()
        second()
        assert found == standing(), "\n".join(self.told)


def any_insert(late: list[Late]) -> bool:
    return any(("insert", "") in each.rows for each in late)


def standing() -> dict[str, tuple[Any, Any]]:
    rows = Discrepancy.objects.filter(cleared_at__isnull=True)
    return {row.fingerprint: (row.expected, row.actual) for row in rows}


@pytest.fixture
def scene(tmp_path: Path, seed: int) -> Iterator[Scene]:
    scene = Scene(World(), tmp_path, random.Random(seed))
    for number in range(CHARGES):
        scene.world.receive(scene.world.due_charge(price="19.99" if number % 2 else "4.99"))
    scene.world.clock.forward(days=1)
    scene.take_in_file()
    scene.look()
    yield scene
    for late in scene.late:
        late.connection.close()


@pytest.mark.parametrize("seed", range(4))
def test_r55_incremental_finds_what_full_finds_whenever_commits_come(scene: Scene) -> None:
    """R55, R53: marks come with their commits, so no pass can step over one."""
    steps = (
        scene.begin,
        scene.begin,
        scene.end,
        scene.take_in_file,
        scene.lose_file,
        scene.look,
        scene.both,
    )
    passed_over = 0
    for _ in range(STEPS):
        step = scene.chance.choice(steps)
        passed_over += step == scene.look and bool(scene.late)
        step()
    while scene.late:
        scene.end()

    scene.both()

    assert passed_over
    assert standing()
