"""The watched folder: complete new files once, nothing moved, what cannot be read seen by everybody."""

import gzip
import os
from datetime import time
from pathlib import Path
from typing import cast

import pytest

from checkout.clock import Ages
from settlements import reconciliation
from settlements.arrivals import Looked, look_at_folder
from settlements.formats.source import Bounds
from settlements.models import (
    BankStatement,
    Code,
    Discrepancy,
    StatementFile,
    StatementImport,
    StatementTerms,
)
from tests.factories import LANE, World
from tests.factories_settlements import days_over, statement_text
from tests.integration.test_statements import DAY, NEXT, paid

pytestmark = pytest.mark.django_db

FILES = Path(__file__).parents[1] / "files" / "statements"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (LANE, "bank"):
        (tmp_path / name).mkdir()
    return tmp_path


def look(folder: Path, world: World) -> Looked:
    return look_at_folder(
        folder=folder,
        processors={LANE: "sandbox"},
        now=days_over(world),
        ages=world.ages,
        bounds=Bounds(),
    )


def states() -> dict[str, str]:
    return dict(StatementFile.objects.values_list("path", "state"))


def standing(world: World) -> list[tuple[str, str]]:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    rows = Discrepancy.objects.filter(cleared_at__isnull=True).exclude(code=Code.LATE_FILE)
    return list(rows.values_list("code", "explanation"))


def put(path: Path, content: str | bytes, *, at: int = 1) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, ns=(at, at))
    return path


def test_complete_new_files_are_taken_in_once(world, folder):
    """R39: of a lane and of a bank, packed or not; and where they lie they stay."""
    paid(world)
    put(folder / LANE / "cis.csv.gz", gzip.compress(statement_text(DAY).encode()))
    put(folder / "bank" / "day.xml", (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_bytes())

    assert look(folder, world) == Looked(taken=0, refused=0, arriving=2)
    assert look(folder, world) == Looked(taken=2, refused=0, arriving=0)
    assert look(folder, world) == Looked(taken=0, refused=0, arriving=0)

    assert states() == {f"{LANE}/cis.csv.gz": "imported", "bank/day.xml": "imported"}
    assert StatementImport.objects.get().lane == LANE
    assert BankStatement.objects.get().imported_by == "watched folder"
    assert len(list(folder.rglob("*.*"))) == 2


def test_a_file_that_still_grows_is_left_alone(world, folder):
    paid(world)
    text = statement_text(DAY)
    path = put(folder / LANE / "cis.csv", text[:100])
    look(folder, world)
    put(path, text[:150], at=2)
    assert look(folder, world) == Looked(taken=0, refused=0, arriving=1)

    put(path, text, at=3)
    look(folder, world)

    assert look(folder, world) == Looked(taken=1, refused=0, arriving=0)


@pytest.mark.parametrize("name", [".cis.csv", "cis.csv.part", "cis.csv.filepart", "~cis.csv"])
def test_what_a_transfer_has_not_finished_is_not_looked_at(world, folder, name):
    put(folder / LANE / name, "half")

    assert look(folder, world) == Looked(taken=0, refused=0, arriving=0)
    assert StatementFile.objects.count() == 0


def test_a_link_is_not_followed(world, folder, tmp_path):
    (folder / LANE / "passwd.csv").symlink_to("/etc/passwd")
    (folder / "etc").symlink_to("/etc")

    assert look(folder, world) == Looked(taken=0, refused=0, arriving=0)


def test_the_hash_decides_and_not_the_name(world, folder):
    """R39."""
    paid(world)
    for name in ("a.csv", "b.csv"):
        put(folder / LANE / name, statement_text(DAY))
    look(folder, world)

    look(folder, world)

    assert states() == {f"{LANE}/a.csv": "imported", f"{LANE}/b.csv": "known"}
    assert StatementImport.objects.count() == 1


def test_a_file_that_cannot_be_read_is_seen_and_not_tried_for_ever(world, folder):
    paid(world)
    text = statement_text(DAY)
    path = put(folder / LANE / "cis.csv", text.replace("19.99", "null"))
    look(folder, world)
    assert look(folder, world) == Looked(taken=0, refused=1, arriving=0)
    assert look(folder, world) == Looked(taken=0, refused=0, arriving=0)

    row = StatementFile.objects.get()
    assert (row.state, row.decided_at is None) == ("refused", False)
    assert "line 3: gross 'null' is not an amount" in row.reason
    [(code, explanation)] = standing(world)
    assert code == Code.UNREADABLE_FILE
    assert f"The file {LANE}/cis.csv cannot be read: line 3" in explanation

    # The processor sends it again, and that is the evidence that clears the case (R54).
    put(path, text, at=2)
    look(folder, world)
    look(folder, world)
    assert states() == {f"{LANE}/cis.csv": "imported"}
    assert standing(world) == []


def test_a_refused_file_that_is_taken_away_troubles_nobody(world, folder):
    path = put(folder / LANE / "cis.csv", "%PDF-1.7")
    look(folder, world)
    look(folder, world)
    assert [code for code, _ in standing(world)] == [Code.UNREADABLE_FILE]

    path.unlink()
    look(folder, world)

    assert states() == {f"{LANE}/cis.csv": "gone"}
    assert standing(world) == []


def test_a_file_in_no_lanes_folder_is_told_where_it_belongs(world, folder):
    put(folder / "lost.csv", "x")
    (folder / "nowhere").mkdir()
    put(folder / "nowhere" / "lost.csv", "x")
    look(folder, world)
    look(folder, world)

    assert states() == {"lost.csv": "refused", "nowhere/lost.csv": "refused"}
    assert f"there are {LANE}, bank" in StatementFile.objects.get(path="lost.csv").reason


def test_a_file_that_is_set_aside_says_why(world, folder):
    """R40."""
    paid(world)
    put(folder / LANE / "a.csv", statement_text(DAY))
    put(folder / LANE / "b.csv", statement_text(NEXT).replace("19.11", "19.12"))
    look(folder, world)
    look(folder, world)

    row = StatementFile.objects.get(path=f"{LANE}/b.csv")
    assert row.state == "quarantined"
    assert row.statement == StatementImport.objects.get(state="quarantined")
    assert "is not the former closing" in row.reason


def test_a_killed_look_is_repeated_without_harm(world, folder):
    """R39: imported and not noted; the next look finds it by its hash."""
    paid(world)
    put(folder / LANE / "cis.csv", statement_text(DAY))
    look(folder, world)
    look(folder, world)
    StatementFile.objects.update(state="arriving", decided_at=None, statement=None)

    assert look(folder, world) == Looked(taken=1, refused=0, arriving=0)
    assert states() == {f"{LANE}/cis.csv": "known"}
    assert StatementImport.objects.count() == 1


def test_a_name_that_is_no_utf8_stops_no_other_file(world, folder):
    """As a transfer from an old Windows leaves it; PostgreSQL cannot hold such a text."""
    paid(world)
    put(folder / LANE / os.fsdecode(b"K\xf6ln.csv"), statement_text(DAY))
    put(folder / LANE / "nothing.csv", "")
    look(folder, world)

    assert look(folder, world) == Looked(taken=1, refused=1, arriving=0)
    assert look(folder, world) == Looked(taken=0, refused=0, arriving=0)

    assert states() == {f"{LANE}/K\\xf6ln.csv": "imported", f"{LANE}/nothing.csv": "refused"}
    assert StatementImport.objects.get().file_name == "K\\xf6ln.csv"


def test_amounts_beyond_what_a_sum_may_hold_stop_no_other_file(world, folder):
    """A hundred lines of ten digits: refused with the reason, and the next file is taken in."""
    paid(world)
    text = statement_text(DAY)
    row = next(line for line in text.splitlines(keepends=True) if ",charge," in line)
    large = row.replace("19.99,0.88,19.11", "9999999999.99,0.00,9999999999.99")
    put(folder / LANE / "a.csv", text.replace(row, large * 101))
    put(folder / LANE / "b.csv", text)
    look(folder, world)

    assert look(folder, world) == Looked(taken=1, refused=1, arriving=0)

    assert states() == {f"{LANE}/a.csv": "refused", f"{LANE}/b.csv": "imported"}
    reason = StatementFile.objects.get(path=f"{LANE}/a.csv").reason
    assert "more than 999999999999.99" in reason


@pytest.mark.parametrize("created", ["0001-01-01 00:00:00", "9999-12-31 23:59:59"])
def test_a_time_beyond_the_calendar_stops_no_other_file(world, folder, created):
    """In a zone east or west of UTC it would be no date at all."""
    paid(world)
    for zone in ("Asia/Almaty", "America/New_York"):
        StatementTerms.objects.update_or_create(
            lane=LANE, defaults={"time_zone": zone, "due_time": time(6)}
        )
        put(
            folder / LANE / f"{zone[:3]}_2026-01-31_to_2026-01-31_closing_1.00.csv",
            "balance_transaction_id,created,currency,gross,fee,net,reporting_category\n"
            f"{zone},{created},usd,1.00,0.00,1.00,fee\n",
        )
        look(folder, world)
        assert look(folder, world) == Looked(taken=0, refused=1, arriving=0)

    assert "is not a time such as" in StatementFile.objects.latest("id").reason
    before = (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_text()
    put(
        folder / "bank" / "far.xml",
        before.replace("OPBD", "PRCD").replace("2026-01-05", "9999-12-31"),
    )
    look(folder, world)
    assert look(folder, world) == Looked(taken=0, refused=1, arriving=0)


def test_a_fault_of_ours_with_one_file_stops_no_other(world, folder):
    """Whatever it is that a file brings to light: it is refused, and seen, and the next one is read."""
    paid(world)
    put(folder / LANE / "cis.csv", statement_text(DAY))
    put(folder / "bank" / "day.xml", (FILES / "mock-bank-day-1.camt.053.001.08.xml").read_bytes())
    look(folder, world)

    # Only a lane's file needs the ages, so only its import fails.
    looked = look_at_folder(
        folder=folder,
        processors={LANE: "sandbox"},
        now=days_over(world),
        ages=cast(Ages, None),
        bounds=Bounds(),
    )

    assert looked == Looked(taken=1, refused=1, arriving=0)
    assert states() == {f"{LANE}/cis.csv": "refused", "bank/day.xml": "imported"}
    assert "AttributeError" in StatementFile.objects.get(state="refused").reason
    assert StatementImport.objects.count() == 0
