"""The worker that makes exports: one after another, in a process of its own.

Not a job of the timetable: a workbook holds Python's lock for half a minute and a million rows take
longer than that, while comparisons run every 15 seconds there. Any number of workers may run; what one
was making when it was killed is taken by another a minute later (settlements/exports/runs.py).
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from django.db import Error, connection

from checkout.clock import Clock, Moment
from checkout.commit import DatabaseAway, committed, is_lost
from checkout.link import patience
from settlements.exports import runs
from settlements.exports.csv_file import Progress, RowsDiffer
from settlements.exports.evidence import UnknownCharge
from settlements.exports.journal import NotBalanced, NotOver
from settlements.exports.making import Figures, NotMakeable, make_file, remove_others
from settlements.exports.runs import ClaimLost
from settlements.exports.xlsx_file import TooManyRows
from settlements.management.timetable import BEAT_SECONDS, STATEMENT_SECONDS, beat
from settlements.models import ExportRun

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAME: Final = "export-worker"
IDLE_SECONDS: Final = 1.0
# How often a claim is renewed, and a sign of life written; well within the lease.
PULSE_SECONDS: Final = 5.0
# Seconds for the few short transactions about a claim.
PATIENCE: Final = 30.0
REMOVED_AT_ONCE: Final = 100


class Stopped(Exception):
    """The worker was told to end; the export is given back."""


@dataclass
class ExportWorker:
    """`writer_of` knows how an export is written. `stop` ends it: it is set by a signal, or by a test."""

    folder: Path
    kept: timedelta
    clock: Clock
    writer_of: Callable[[ExportRun, Progress], Callable[[Path], Figures]]
    beats: bool = True
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Make what is asked for until `stop` is set; waits while the database is away."""
        while not self.stop.is_set():
            busy = False
            try:
                with patience(STATEMENT_SECONDS):
                    if self.beats:
                        beat(name=NAME, detail=str(self.folder), now=self.clock.now())
                    busy = self.turn() is not None
            except Exception as error:
                if isinstance(error, DatabaseAway) or is_lost(error):
                    logger.warning("the database is away", extra={"why": str(error)})
                else:
                    logger.exception("a turn of the export worker failed")
                connection.close()
            if not busy:
                self.stop.wait(IDLE_SECONDS)
        connection.close()

    def turn(self) -> ExportRun | None:
        """Remove what is too old, then make one export, whatever becomes of it; None if none waits."""
        self.remove_old()
        run = self._committed(lambda now: runs.claim(now=now))
        if run is None:
            return None
        with self._pulse(run) as pulse:
            try:
                self._make(run, pulse)
            except (ClaimLost, Stopped) as end:
                logger.warning("export left", extra={"export": run.pk, "why": str(end)})
        run.refresh_from_db()
        return run

    def remove_old(self) -> int:
        """Remove files that were kept long enough; how many."""
        old = list(runs.old_files(kept=self.kept, now=self.clock.now())[:REMOVED_AT_ONCE])
        for run in old:
            runs.remove_file(run=run, folder=self.folder, now=self.clock.now())
        return len(old)

    def _make(self, run: ExportRun, pulse: Progress) -> None:
        """Make the file and say so; a file that could not be made says why, unless it is to be tried again."""
        try:
            made = make_file(run=run, folder=self.folder, write=self.writer_of(run, pulse))
        except Stopped:
            self._committed(lambda _: runs.give_back(run=run), once=True)
            raise
        except ClaimLost:
            raise
        except Exception as error:
            if is_lost(error):
                # The claim runs out by itself, and the export is made when the database is back.
                raise
            logger.exception("export failed", extra={"export": run.pk})
            because = in_words(error)
            self._committed(lambda now: runs.fail(run=run, because=because, now=now), once=True)
            return
        try:
            self._committed(lambda now: runs.finish(run=run, made=made, now=now), once=True)
        except ClaimLost:
            # Whoever has it now makes a file of its own.
            (self.folder / made.file).unlink(missing_ok=True)
            raise
        remove_others(run=run, folder=self.folder, but=made.file)
        logger.info("export made", extra={"export": run.pk, "rows": made.rows, "size": made.size})

    def _committed(self, work: Callable[[Moment], T], *, once: bool = False) -> T:
        """A claim whose commit was lost runs out by itself; what ends one is `once`."""
        return committed(
            lambda: work(self.clock.now()), deadline=PATIENCE, clock=self.clock, once=once
        )

    @contextmanager
    def _pulse(self, run: ExportRun) -> Iterator[Progress]:
        """Renew the claim in a thread of its own: a long statement gives no sign of life.

        What is yielded is called between pieces; it raises Stopped, or ClaimLost once renewing failed.
        """
        done, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not done.wait(PULSE_SECONDS):
                with suppress(Error), patience(BEAT_SECONDS):
                    try:
                        runs.renew(run=run, now=self.clock.now())
                    except ClaimLost:
                        lost.set()
                    if self.beats:
                        beat(name=NAME, detail=f"export {run.pk}", now=self.clock.now())
            connection.close()

        def look(_: int) -> None:
            if self.stop.is_set():
                raise Stopped("told to end")
            if lost.is_set():
                raise ClaimLost(f"export {run.pk} was taken by another worker")

        thread = threading.Thread(target=renew, name=f"export-{run.pk}", daemon=True)
        thread.start()
        try:
            yield look
        finally:
            done.set()
            thread.join(PULSE_SECONDS)


def in_words(error: Exception) -> str:
    """Why an export failed, for the person who asked, with what to do."""
    match error:
        case TooManyRows() | NotMakeable() | NotOver() | UnknownCharge():
            return str(error)
        case NotBalanced():
            return f"{error}: debits and credits must be equal. Tell an operator."
        case RowsDiffer():
            return f"{error}. Nothing was kept; ask again."
        case OSError():
            return (
                f"The folder of exports could not be written ({error.strerror}). An operator looks at "
                "EXPORTS_FOLDER; then ask again."
            )
        case _:
            return (
                f"An unexpected fault ({type(error).__name__}); the log of export_worker says more. "
                "Tell an operator, and ask again."
            )
