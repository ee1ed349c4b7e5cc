"""What the three load commands share: read the file, load it in one transaction, say what was done."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import Model

from checkout import wiring
from checkout.loading import Loaded, R, RowsRefused, read_all
from checkout.management.csv_file import Row, UnreadableFile, explained, read_rows
from checkout.management.progress import SlowProgress
from checkout.management.trail import log_command


def load_table(
    command: BaseCommand,
    *,
    what: str,
    about: type[Model],
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    read: Callable[[int, Mapping[str, str]], R],
    load: Callable[[Sequence[R]], Loaded],
    because: str,
    as_json: bool,
) -> None:
    """Load the file or raise CommandError with every fault; the progress bar counts rows read.

    What was added is a line of the audit trail, of the same transaction.
    """
    try:
        rows = read_rows(path=path, required=required, optional=optional)
        with SlowProgress(what=f"{what} read", total=len(rows), clock=wiring.clock()) as progress:
            typed = read_all(rows=_counted(rows, progress), read=read)
        with transaction.atomic():
            loaded = load(typed)
            if loaded.added:
                log_command(
                    about=about,
                    named=path.name,
                    shown=path.name,
                    did=f"{loaded.added} {what} added, {loaded.already_there} already there",
                    because=because,
                )
    except UnreadableFile as error:
        raise CommandError(f"{error}\nNothing was loaded.") from error
    except RowsRefused as error:
        raise CommandError(explained(error.faults)) from error
    if as_json:
        counts = {"added": loaded.added, "already_there": loaded.already_there}
        command.stdout.write(json.dumps(counts))
    else:
        command.stdout.write(
            f"{what}: {loaded.added} added, {loaded.already_there} already there ({path})"
        )


def _counted(
    rows: Sequence[Row], progress: SlowProgress
) -> Iterator[tuple[int, Mapping[str, str]]]:
    for row in rows:
        progress.advance()
        yield row.line, row.values
