"""`manage.py import_statement`: take in a processor's statement file, whole or not at all."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.management.progress import SlowProgress
from settlements.formats.lines import Refused
from settlements.formats.source import Torn
from settlements.models import ImportState
from settlements.statements import import_statement

NOT_ACCEPTED = 1
NOT_READ = 2


class Command(BaseCommand):
    help = (
        "Import a processor's statement file for one of its accounts (a lane).\n\n"
        "A file with a row that cannot be read is refused, with all its bad lines; nothing of it is\n"
        "stored. A file that does not add up or does not follow the former one is stored and set\n"
        "aside. The same file again adds nothing. Ends with 0 when the file is accepted, 1 when it\n"
        "is set aside, 2 when it could not be read.\n\n"
        "Example:  python manage.py import_statement cis-2026-01-05.csv"
        " --processor sandbox --account cis"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)
        parser.add_argument("--processor", required=True, help="who wrote it, such as sandbox")
        parser.add_argument("--account", required=True, metavar="LANE", help="whose account it is")
        parser.add_argument("--by", default="command line", help="who imports it, for the record")

    def handle(self, *_: Any, **options: Any) -> None:
        clock, path, lane = wiring.clock(), options["file"], _lane(options)
        lines = _count_lines(path)
        try:
            with SlowProgress(what=f"Importing {path.name}", total=lines, clock=clock) as bar:
                imported = import_statement(
                    path=path,
                    processor=options["processor"],
                    lane=lane,
                    by=options["by"],
                    now=clock.now(),
                    ages=wiring.ages(),
                    progress=bar.advance,
                )
        except Refused as refused:
            raise CommandError(
                f"{path} was refused, nothing was stored:\n{refused}", returncode=NOT_READ
            ) from None
        except (Torn, OSError, Error) as error:
            raise CommandError(str(error), returncode=NOT_READ) from None
        statement = imported.statement
        days = f"{statement.lane}, {statement.first_day} to {statement.last_day}"
        if statement.state == ImportState.QUARANTINED:
            raise CommandError(f"{days}: set aside: {statement.reason}", returncode=NOT_ACCEPTED)
        what = "was imported before, nothing added" if imported.again else "accepted"
        self.stdout.write(f"{days}: {what}: {statement.line_count} lines")
        for file in imported.released:
            self.stdout.write(f"{file}: accepted as well, it had waited for this file")


def _lane(options: dict[str, Any]) -> str:
    """The lane whose processor account this is; statements know accounts, we know lanes."""
    for lane, facts in settings.LANES.items():
        if (facts["processor"], facts["account"]) == (options["processor"], options["account"]):
            return str(lane)
    known = ", ".join(
        f"{facts['processor']} {facts['account']}" for facts in settings.LANES.values()
    )
    raise CommandError(
        f"{options['processor']} {options['account']} is no account of ours; there are {known}",
        returncode=NOT_READ,
    )


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read: {error.strerror}", returncode=NOT_READ
        ) from None
