"""The file of one export: written beside its place, brought to the disk, and put there by a rename."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from checkout.clock import Clock
from settlements.exports.csv_file import EXCEL, PLAIN, Progress, write_csv
from settlements.exports.evidence import write_evidence
from settlements.exports.export_list import ExportList
from settlements.exports.journal import write_journal, write_trial_balance
from settlements.exports.pack import Pack
from settlements.exports.runs import Made
from settlements.exports.snapshot import read_at, snapshot
from settlements.exports.xlsx_file import write_xlsx
from settlements.models import BooksClose, Decision, ExportForm, ExportRun, Span

ENDINGS: Final = {
    ExportForm.CSV: "csv",
    ExportForm.CSV_EXCEL: "csv",
    ExportForm.XLSX: "xlsx",
    ExportForm.ZIP: "zip",
}


class NotMakeable(Exception):
    """There is no such file; the message says why, and what to do."""


@dataclass(frozen=True)
class Figures:
    """What a file says of itself: its snapshot's moment, how many rows, how much USD if they have any."""

    as_of: datetime
    rows: int
    total: Decimal | None


def make_file(*, run: ExportRun, folder: Path, write: Callable[[Path], Figures]) -> Made:
    """Make the file of an export under a name that no other try of it has. Raises OSError, and as `write`.

    Killed anywhere it leaves at most a file that no row names; the next try removes it.
    """
    name = f"{run.pk}-{run.tries}.{ENDINGS[ExportForm(run.form)]}"
    part, whole = folder / f".{name}.part", folder / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_others(run=run, folder=folder, but="")
    try:
        part.touch(mode=0o600)
        figures = write(part)
        with part.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        size = part.stat().st_size
        part.rename(whole)
        _to_disk(folder)
    finally:
        part.unlink(missing_ok=True)
    return Made(name, size, sha256, figures.as_of, figures.rows, figures.total)


def remove_others(*, run: ExportRun, folder: Path, but: str) -> None:
    """Remove what other tries of an export left in the folder; `but` is the one to keep."""
    for pattern in (f"{run.pk}-*", f".{run.pk}-*"):
        for path in folder.glob(pattern):
            if path.name != but:
                path.unlink(missing_ok=True)


def list_writer(
    *, wanted: ExportList, form: ExportForm, progress: Progress
) -> Callable[[Path], Figures]:
    """Writes a list in this form."""

    def write(part: Path) -> Figures:
        with snapshot():
            if form == ExportForm.XLSX:
                written = write_xlsx(wanted=wanted, given={}, to=part, progress=progress)
            else:
                dialect = EXCEL if form == ExportForm.CSV_EXCEL else PLAIN
                with part.open("wb") as file:
                    written = write_csv(
                        wanted=wanted, given={}, to=file, dialect=dialect, progress=progress
                    )
        return Figures(written.head.as_of, written.head.rows, written.head.total)

    return write


def journal_writer(*, month: date, today: date, progress: Progress) -> Callable[[Path], Figures]:
    """Writes the journal of a closed month with its trial balance: the bytes whose hashes the close keeps.

    What it writes raises NotMakeable when the month is not closed, or its journal is another one now.
    """

    def write(part: Path) -> Figures:
        with part.open("wb") as file, snapshot(), Pack(file) as pack:
            close = closed_month(month)
            with pack.member(f"journal-{month:%Y-%m}.csv") as member:
                journal = write_journal(month=month, today=today, to=member, progress=progress)
            with pack.member(f"trial-balance-{month:%Y-%m}.csv") as member:
                write_trial_balance(journal=journal, to=member)
            if journal.sha256 != close.journal_sha256:
                raise NotMakeable(
                    f"The journal of {month:%Y-%m} is not the one that was closed: the books were "
                    "changed behind the service. Nothing was made; tell an operator."
                )
            pack.finish(
                month=f"{month:%Y-%m}",
                lines=journal.lines,
                debit_usd=str(journal.debit),
                credit_usd=str(journal.credit),
                closed_by=close.decided_by,
                closed_sha256=close.sha256,
            )
            return Figures(read_at(), journal.lines, journal.debit)

    return write


def evidence_writer(*, charge_id: str, by: str, clock: Clock) -> Callable[[Path], Figures]:
    """Writes the evidence pack of a charge. What it writes raises evidence.UnknownCharge."""

    def write(part: Path) -> Figures:
        with part.open("wb") as file, snapshot():
            now = clock.now()
            pack = write_evidence(charge_id=charge_id, by=by, now=now, to=file)
        return Figures(now.real, pack.rows, pack.charge.amount)

    return write


def closed_month(month: date) -> BooksClose:
    """The approved close of a month. Raises NotMakeable."""
    close = BooksClose.objects.filter(
        span=Span.MONTH, first_day=month, decision=Decision.APPROVED
    ).first()
    if close is None:
        raise NotMakeable(
            f"{month:%Y-%m} is not closed. Close it under “Close the day”; the command "
            "`manage.py export journal` writes the journal of a month that is over but not closed."
        )
    return close


def _to_disk(folder: Path) -> None:
    """A rename outlives the machine only when its folder was brought to the disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
