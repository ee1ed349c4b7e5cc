"""`manage.py close_month`: propose to close a month whose days are closed, or lock it."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand

from checkout.management.trail import person, reason
from settlements import books
from settlements.management.books_told import close_or_tell, month_of
from settlements.models import Span


class Command(BaseCommand):
    help = (
        "Propose to close a month of the books, all of whose days are closed; another person locks it.\n"
        "Kept with it are the SHA-256 of the journal and of the trial balance, which are those of the\n"
        "files that `export journal` writes, byte for byte. --reason says why it is proposed or locked;\n"
        "it is kept with your name in the audit trail (Log entries in the admin).\n\n"
        "Ends with 0 when it is proposed or locked; 2 when the month cannot be closed now, which is\n"
        "explained, or the database is away.\n\n"
        'Examples:  python manage.py close_month 2026-10 --reason "all its days are closed"\n'
        "           python manage.py close_month 2026-10 --approve 5f2c… \\\n"
        '             --reason "trial balance looked at"        (the SHA-256 proposed)'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("month", type=month_of, metavar="YYYY-MM")
        parser.add_argument("--approve", metavar="SHA256", help="lock exactly what has this digest")
        parser.add_argument("--reason", type=reason, help="why; kept with your name")
        parser.add_argument("--json", action="store_true", help="what was done, for scripts")

    def handle(self, *_: Any, **options: Any) -> None:
        close_or_tell(
            self.stdout,
            propose=lambda now, progress: books.propose_month(
                month=options["month"], by=person(), now=now, progress=progress
            ),
            span=Span.MONTH,
            first_day=options["month"],
            approve=options["approve"],
            because=options["reason"],
            as_json=options["json"],
        )
