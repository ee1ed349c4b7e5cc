"""`manage.py load_creators FILE`: add creators of one account from a CSV file."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from checkout import loading, wiring
from checkout.management.table import load_table
from checkout.management.trail import ask_why
from checkout.models import Account, Creator


class Command(BaseCommand):
    help = (
        "Add creators from a CSV file with the columns external_id,name,email,country,time_zone\n"
        "and, if wanted, plan and token (checked here, used by the creator's checkout).\n"
        "Load plans and routing rules first. Nothing is loaded when any row is refused.\n"
        "Why is kept with your name in the audit trail (Log entries in the admin), unless no row\n"
        "was added.\n\n"
        "Example:  python manage.py load_creators demo/creators.csv --account demonstration \\\n"
        '            --reason "moved from the old platform, ticket 812"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)
        parser.add_argument("--account", help="name of the account (needed if there are several)")
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        account = _account(options["account"])
        now = wiring.clock().now()
        load_table(
            self,
            what="creators",
            about=Creator,
            path=options["file"],
            required=loading.CREATOR_COLUMNS,
            optional=loading.CHECKOUT_COLUMNS,
            read=loading.read_creator,
            load=lambda rows: loading.load_creators(account_id=account.id, rows=rows, now=now),
            because=options["reason"],
            as_json=options["json"],
        )


def _account(name: str | None) -> Account:
    accounts = Account.objects.filter(name=name) if name else Account.objects.all()
    found = list(accounts.order_by("name")[:2])
    if len(found) == 1:
        return found[0]
    known = ", ".join(Account.objects.order_by("name").values_list("name", flat=True)[:20])
    raise CommandError(f"name the account with --account; there are: {known or 'none yet'}")
