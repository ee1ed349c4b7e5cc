"""`manage.py export_worker`: makes the files that people asked for on the pages."""

import json
import signal
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.commit import DatabaseAway
from settlements.admin.export_pages import writer_of
from settlements.management.exporting import ExportWorker
from settlements.models import ExportRun, ExportState

SOME_FAILED: Final = 1
COULD_NOT_RUN: Final = 2


class Command(BaseCommand):
    help = (
        "Make the exports that were asked for in the admin, one after another, into the folder\n"
        "EXPORTS_FOLDER, which the web processes must see too; remove each after EXPORTS_KEPT_DAYS.\n"
        "Start two for high availability: what one was making when it died, the other takes after a\n"
        "minute. SIGTERM gives back what is not finished, and ends it.\n\n"
        "With --once it makes what waits and ends: with 0; with 1 if one failed (its page says why); with\n"
        "2 when it could not run.\n\n"
        "Examples:  python manage.py export_worker\n"
        "           python manage.py export_worker --once --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--once", action="store_true", help="make what waits, then end")
        parser.add_argument("--json", action="store_true", help="with --once: what was made")

    def handle(self, *_: Any, **options: Any) -> None:
        if not settings.EXPORTS_FOLDER:
            raise CommandError(
                "EXPORTS_FOLDER is not set: name a folder that the web processes see too",
                returncode=COULD_NOT_RUN,
            )
        worker = ExportWorker(
            folder=Path(settings.EXPORTS_FOLDER),
            kept=timedelta(days=settings.EXPORTS_KEPT_DAYS),
            clock=wiring.clock(),
            writer_of=writer_of,
            beats=not options["once"],
        )
        if options["once"]:
            self._once(worker, as_json=options["json"])
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop.set())
        worker.run()

    def _once(self, worker: ExportWorker, *, as_json: bool) -> None:
        done: list[ExportRun] = []
        try:
            while run := worker.turn():
                done.append(run)
        except (Error, DatabaseAway, OSError) as error:
            raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
        told = [_told(run) for run in done]
        lines = [" ".join(str(value) for value in each.values()) for each in told]
        self.stdout.write(json.dumps(told) if as_json else "\n".join(lines or ["nothing waits"]))
        if any(run.state == ExportState.FAILED for run in done):
            raise CommandError("some failed; their pages say why", returncode=SOME_FAILED)


def _told(run: ExportRun) -> dict[str, Any]:
    """What became of one, for a terminal or a script."""
    return {
        "export": run.pk,
        "what": run.what,
        "state": run.state,
        "rows": run.rows,
        "total_usd": None if run.total is None else str(run.total),
        "sha256": run.sha256,
        "file": run.file,
        "because": run.failed_because,
    }
