"""`manage.py close_settlements`: close every period that has ended."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.commit import DatabaseAway
from checkout.management.progress import SlowProgress
from settlements.closing import close_periods, count_due

COULD_NOT_RUN = 2


class Command(BaseCommand):
    help = (
        "Close every period of a settlement schedule that has ended: what was recorded before its cut\n"
        "becomes a settlement, what comes later falls into the next. The timetable does it by itself;\n"
        "closing twice, or beside it, closes each period once. Ends with 0 when all is closed, 2 when\n"
        "the database is away; what was closed until then stays closed.\n\n"
        "Example:  python manage.py close_settlements --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        clock = wiring.clock()
        try:
            due = count_due(today=clock.business_now().date())
            with SlowProgress(what="Closing periods", total=due, clock=clock) as bar:
                closed = close_periods(clock=clock, ages=wiring.ages(), progress=bar.advance)
        except (DatabaseAway, Error) as error:
            raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(closed), default=str))
        else:
            self.stdout.write(f"Closed: {closed}")
