"""Files that arrive: taken in by whoever brings them, and picked up from one watched folder.

The folder holds a folder for each lane's processor, by the lane's name, and `bank` for our banks'
statements. Nothing in it is moved or deleted. A file is taken once it has stopped growing from one look
to the next; its hash decides whether it is new. One that cannot be read is a row that everybody sees, a
discrepancy, and is looked at again only if it changes.
"""

import logging
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias

from checkout.clock import Ages, Moment
from checkout.commit import is_lost
from settlements.banking import import_bank_statement
from settlements.formats.lines import Refused, Told
from settlements.formats.source import Bounds, Torn, storable
from settlements.models import (
    BankStatement,
    FileState,
    ImportState,
    StatementFile,
    StatementImport,
)
from settlements.spool import Progress
from settlements.statements import NOTHING_TOLD, import_statement

logger = logging.getLogger(__name__)

BANK: Final = "bank"
# Names under which transfer programs keep what is not complete yet.
UNFINISHED: Final = (".part", ".tmp", ".temp", ".filepart", ".crdownload", ".partial", "~")
MOST_A_TURN: Final = 20
LONGEST_REASON: Final = 4000
LONGEST_PATH: Final = 400

AnyStatement: TypeAlias = StatementImport | BankStatement
# Writes the audit trail's line about a statement that was stored, or what was corrected of it; in the
# import's transaction.
KeepTrail: TypeAlias = Callable[[AnyStatement, str], object]


@dataclass(frozen=True)
class Account:
    """Whose statement a file is: one processor account of ours, a lane."""

    processor: str
    lane: str


@dataclass(frozen=True)
class TakenIn:
    """What became of a file that could be read."""

    state: FileState
    statements: Sequence[AnyStatement]
    # Set aside earlier, and accepted now that this file came.
    released: Sequence[AnyStatement] = ()


@dataclass(frozen=True)
class Looked:
    """One look at the watched folder: how many files were taken in, refused, or still arrive."""

    taken: int
    refused: int
    arriving: int

    def __str__(self) -> str:
        return f"{self.taken} taken in, {self.refused} refused, {self.arriving} arriving"


def take_in(
    *,
    path: Path,
    account: Account | None,
    by: str,
    now: Moment,
    ages: Ages,
    bounds: Bounds,
    format_name: str = "",
    told: Told = NOTHING_TOLD,
    progress: Progress = lambda _: None,
    keep_trail: KeepTrail | None = None,
) -> TakenIn:
    """Import a processor's file, or a bank's where no account is named.

    `keep_trail` is called for each statement that is stored, in its transaction; without it nobody
    answers for balances that are told again, so none are. Raises Refused and Torn with nothing stored, and OSError. Twice is safe: the hash decides (R39).
    """
    statements: Sequence[AnyStatement]
    released: Sequence[AnyStatement]
    if account is None:
        bank = import_bank_statement(
            path=path, by=by, now=now, bounds=bounds, progress=progress, keep_trail=keep_trail
        )
        statements, released, again = bank.statements, bank.released, bank.again
    else:
        imported = import_statement(
            path=path,
            processor=account.processor,
            lane=account.lane,
            by=by,
            now=now,
            ages=ages,
            format_name=format_name,
            told=told,
            bounds=bounds,
            progress=progress,
            keep_trail=keep_trail,
        )
        statements, released, again = [imported.statement], imported.released, imported.again
    return TakenIn(_state(statements, again=again), statements, released)


def look_at_folder(
    *,
    folder: Path,
    processors: Mapping[str, str],
    now: Moment,
    ages: Ages,
    bounds: Bounds,
) -> Looked:
    """Take in the complete new files of the watched folder; `processors` names each lane's.

    Cut short anywhere it may run again: a file imported and not noted is known by its hash.
    """
    found = dict(_files(folder))
    rows = {row.path: row for row in StatementFile.objects.filter(path__in=found)}
    taken = refused = arriving = 0
    for name, path in found.items():
        row = _seen(rows.get(name), name, path, now=now)
        if row is None:
            arriving += 1
        elif row.state == FileState.ARRIVING and taken + refused < MOST_A_TURN:
            try:
                _decide(row, path, processors=processors, now=now, ages=ages, bounds=bounds)
            except Exception as error:
                # A fault of ours that this file brought to light: the others must still be read.
                if is_lost(error):
                    raise
                logger.exception("statement file failed", extra={"path": name})
                _refuse(row, f"reading it failed ({type(error).__name__}), see the log", now=now)
            taken += row.state not in {FileState.REFUSED, FileState.ARRIVING}
            refused += row.state == FileState.REFUSED
    _forget_what_is_gone(found, now=now)
    return Looked(taken, refused, arriving)


def _state(statements: Sequence[AnyStatement], *, again: bool) -> FileState:
    if any(each.state == ImportState.QUARANTINED for each in statements):
        return FileState.QUARANTINED
    return FileState.KNOWN if again else FileState.IMPORTED


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every complete-looking file in the folder and one level below, by its name from there."""
    inside = sorted(folder.iterdir())
    below = chain.from_iterable(sorted(each.iterdir()) for each in inside if _is_folder(each))
    for path in chain(inside, below):
        name = path.name
        hidden = name.startswith((".", "~")) or name.lower().endswith(UNFINISHED)
        if not hidden and not path.is_symlink() and path.is_file():
            yield storable(str(path.relative_to(folder)))[:LONGEST_PATH], path


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def _seen(row: StatementFile | None, name: str, path: Path, *, now: Moment) -> StatementFile | None:
    """The file's row if it is as it was at the last look; None, noted anew, if it is not."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode):
        return None
    is_same = row and (row.size, row.modified) == (facts.st_size, facts.st_mtime_ns)
    if row and is_same and row.state != FileState.GONE:
        return row
    StatementFile.objects.update_or_create(
        path=name,
        defaults={
            "size": facts.st_size,
            "modified": facts.st_mtime_ns,
            "sha256": "",
            "state": FileState.ARRIVING,
            "reason": "",
            "seen_at": now.real,
            "decided_at": None,
            "statement": None,
            "bank_statement": None,
        },
    )
    return None


def _decide(
    row: StatementFile,
    path: Path,
    *,
    processors: Mapping[str, str],
    now: Moment,
    ages: Ages,
    bounds: Bounds,
) -> None:
    """Take the file in and note what became of it; one that changes meanwhile goes on arriving."""
    place = Path(row.path).parent.name
    try:
        if place != BANK and place not in processors:
            known = ", ".join([*sorted(processors), BANK])
            raise _Misplaced(f"it lies in no folder of a lane or of the bank; there are {known}")
        taken = take_in(
            path=path,
            account=None if place == BANK else Account(processors[place], place),
            by="watched folder",
            now=now,
            ages=ages,
            bounds=bounds,
        )
    except (Refused, _Misplaced) as refused:
        row.state, row.reason = FileState.REFUSED, str(refused)[:LONGEST_REASON]
    except (Torn, FileNotFoundError):
        return
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}; mend that, and touch the file"
        row.state, row.reason = FileState.REFUSED, reason
    else:
        _note(row, taken)
    row.decided_at = now.real
    row.save()


def _refuse(row: StatementFile, reason: str, *, now: Moment) -> None:
    row.state, row.reason, row.decided_at = FileState.REFUSED, reason, now.real
    row.save()


def _note(row: StatementFile, taken: TakenIn) -> None:
    first = taken.statements[0]
    row.state, row.sha256 = taken.state, first.sha256
    row.reason = "; ".join(each.reason for each in taken.statements if each.reason)
    if isinstance(first, StatementImport):
        row.statement = first
    else:
        row.bank_statement = first


def _forget_what_is_gone(found: Mapping[str, Path], *, now: Moment) -> None:
    """A refused file that was taken away troubles nobody any more; one that never arrived neither."""
    waiting = StatementFile.objects.filter(state__in=[FileState.REFUSED, FileState.ARRIVING])
    waiting.exclude(path__in=found).update(state=FileState.GONE, decided_at=now.real)


class _Misplaced(Exception):
    """The file lies where nobody can say whose it is."""
