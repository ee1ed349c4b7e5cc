"""Exports that were asked for, one after another: asked, claimed, made or failed.

Several workers may run. A claim is a lease: it ends by itself unless it is renewed, so what a killed
worker had begun is taken again. `tries` numbers the claims, and every write about a claim names its
number: a worker that was taken for dead and comes back finds its number passed, and changes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from django.db.models import Q, QuerySet

from checkout.clock import Moment
from settlements.models import ExportForm, ExportRun, ExportState, ExportWhat

# A worker renews its claim more often than this, whatever it does meanwhile.
LEASE: Final = timedelta(seconds=60)
# So often may a worker end in the middle of one export before people are told.
MOST_TRIES: Final = 5
NOT_FINISHED: Final = (
    f"It was begun {MOST_TRIES} times and no worker came to its end. Narrow the filter or take CSV; "
    "if that fails too, an operator looks at the log of export_worker."
)


class ClaimLost(Exception):
    """Another worker took this export meanwhile, or ended it."""


@dataclass(frozen=True)
class Made:
    """A file that is complete in the folder; `as_of` is its snapshot's moment, `total` USD or none."""

    file: str
    size: int
    sha256: str
    as_of: datetime
    rows: int
    total: Decimal | None


def ask(
    *, what: ExportWhat, form: ExportForm, query: str, words: str, by: str, reason: str, now: Moment
) -> ExportRun:
    """Write down what somebody wants. Asked again before it is made, it is the same one."""
    run = ExportRun(
        what=what,
        form=form,
        query=query,
        words=words,
        asked_by=by,
        asked_at=now.real,
        reason=reason,
    )
    ExportRun.objects.bulk_create([run], ignore_conflicts=True)
    same = ExportRun.objects.filter(asked_by=by, what=what, form=form, query=query)
    return same.latest("id")


def claim(*, now: Moment) -> ExportRun | None:
    """Take the oldest export that nobody is making; None when there is none. In a transaction.

    One that was begun too often fails here, with words, and the next is taken.
    """
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now.real)
    waiting = ExportRun.objects.filter(free, state=ExportState.ASKED).order_by("asked_at", "id")
    while run := waiting.select_for_update(skip_locked=True).first():
        if run.tries >= MOST_TRIES:
            fail(run=run, because=NOT_FINISHED, now=now)
            continue
        run.tries += 1
        run.claimed_until = now.real + LEASE
        ExportRun.objects.filter(pk=run.pk).update(tries=run.tries, claimed_until=run.claimed_until)
        return run
    return None


def renew(*, run: ExportRun, now: Moment) -> None:
    """Hold the claim for another LEASE. Raises ClaimLost."""
    _write(run, claimed_until=now.real + LEASE)


def give_back(*, run: ExportRun) -> None:
    """End the claim, so that any worker may take the export at once. Raises ClaimLost."""
    _write(run, claimed_until=None)


def finish(*, run: ExportRun, made: Made, now: Moment) -> None:
    """The export is made. Raises ClaimLost; then the file is nobody's."""
    _write(run, state=ExportState.MADE, ended_at=now.real, **vars(made))


def fail(*, run: ExportRun, because: str, now: Moment) -> None:
    """The export cannot be made; `because` says what to do about it. Raises ClaimLost."""
    _write(run, state=ExportState.FAILED, ended_at=now.real, failed_because=because[:500])


def old_files(*, kept: timedelta, now: Moment) -> QuerySet[ExportRun]:
    """The exports whose file is there and older than that, oldest first."""
    made = ExportRun.objects.filter(state=ExportState.MADE, removed_at__isnull=True)
    return made.filter(ended_at__lt=now.real - kept).order_by("ended_at")


def remove_file(*, run: ExportRun, folder: Path, now: Moment) -> None:
    """Remove the file of an export, and say so in its row. Killed in between, it is done again."""
    (folder / run.file).unlink(missing_ok=True)
    ExportRun.objects.filter(pk=run.pk, removed_at__isnull=True).update(removed_at=now.real)


def _write(run: ExportRun, **columns: object) -> None:
    """Write columns of an export, if it is still this worker's."""
    mine = ExportRun.objects.filter(pk=run.pk, state=ExportState.ASKED, tries=run.tries)
    if not mine.update(**columns):
        raise ClaimLost(f"export {run.pk} was taken by another worker")
