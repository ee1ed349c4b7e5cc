"""`manage.py close_day`: propose to close a day, or lock what another person proposed."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand

from checkout.management.trail import person, reason
from settlements import books
from settlements.management.books_told import close_or_tell, day_of, reasons_of
from settlements.models import Span


class Command(BaseCommand):
    help = (
        "Propose to close a UTC day of the books; another person locks it, here or in the admin\n"
        "(Closes of the books). A locked day takes no ledger entry any more: what is learned later is\n"
        "dated into the day on which it is learned. Days close in order, one hour after their end.\n\n"
        "Whatever is open must be carried over by name, with a reason: an attempt in doubt, a\n"
        "discrepancy, a file that is not accepted, a case. Without --carry each is listed. A reason\n"
        "may be given for all of a kind (attempt, case, discrepancy, file); what the day before carried\n"
        "keeps its reason. --reason says why it is proposed or locked; it is kept with your name in the\n"
        "audit trail (Log entries in the admin).\n\n"
        "Ends with 0 when it is proposed or locked; 1 when something is open, which is named; 2 when\n"
        "this day cannot be closed now, which is explained, or the database is away.\n\n"
        "Examples:  python manage.py close_day 2026-11-22     (names what is open)\n"
        '           python manage.py close_day 2026-11-22 --carry file="late, promised for noon" \\\n'
        '             --carry discrepancy:17="asked the bank on Monday" --reason "end of the day"\n'
        "           python manage.py close_day 2026-11-22 --approve 5f2c… \\\n"
        '             --reason "compared with the bank"         (the SHA-256 proposed)'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("day", type=day_of, metavar="DAY")
        parser.add_argument(
            "--carry", action="append", default=[], metavar="NAME=REASON", help="may be repeated"
        )
        parser.add_argument("--approve", metavar="SHA256", help="lock exactly what has this digest")
        parser.add_argument("--reason", type=reason, help="why; kept with your name")
        parser.add_argument("--json", action="store_true", help="what was done, for scripts")

    def handle(self, *_: Any, **options: Any) -> None:
        reasons = reasons_of(options["carry"])
        close_or_tell(
            self.stdout,
            propose=lambda now, progress: books.propose_close(
                day=options["day"], reasons=reasons, by=person(), now=now, progress=progress
            ),
            span=Span.DAY,
            first_day=options["day"],
            approve=options["approve"],
            because=options["reason"],
            as_json=options["json"],
        )
