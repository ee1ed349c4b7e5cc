"""`manage.py close_settlements`: close every period that has ended, and prove what can be proved."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.commit import DatabaseAway
from checkout.management.progress import SlowProgress, bars
from settlements.closing import close_periods, count_due
from settlements.payouts import prove

COULD_NOT_RUN = 2


class Command(BaseCommand):
    help = (
        "Close every period of a settlement schedule that has ended: what was recorded before its cut\n"
        "becomes a settlement, what comes later falls into the next. Then payouts are gathered from\n"
        "the processors' files and held against the bank's, and settlements proved by those that\n"
        "landed. The timetable does it by itself; done twice, or beside it, each is done once. Ends\n"
        "with 0 when all that could be was done, 2 when the database is away; what was done until\n"
        "then stays.\n\n"
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
            proved = prove(clock=clock, ages=wiring.ages(), bar=bars(clock))
        except (DatabaseAway, Error) as error:
            raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
        if options["json"]:
            done = {"closed": asdict(closed), "proved": asdict(proved)}
            self.stdout.write(json.dumps(done, default=str))
        else:
            self.stdout.write(f"Closed: {closed}\nProved: {proved}")
