"""`manage.py load_routing_rules FILE`: add dated rules of which lane may charge which country."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from checkout import loading
from checkout.management.table import load_table
from checkout.management.trail import ask_why
from checkout.models import RoutingRule


class Command(BaseCommand):
    help = (
        "Add routing rules from a CSV file with the columns\n"
        "country,lane,valid_from,valid_to,reason,source,source_date. An empty lane refuses the\n"
        "country; an empty valid_to has no end. Nothing is loaded when any row is refused.\n"
        "Why is kept with your name in the audit trail (Log entries in the admin), unless no row\n"
        "was added.\n\n"
        "Example:  python manage.py load_routing_rules demo/routing_rules.csv \\\n"
        '            --reason "counsel, memo of 2 March"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        load_table(
            self,
            what="routing rules",
            about=RoutingRule,
            path=options["file"],
            required=loading.RULE_COLUMNS,
            read=partial(loading.read_rule, lanes=settings.LANES),
            load=lambda rows: loading.load_routing_rules(rows=rows),
            because=options["reason"],
            as_json=options["json"],
        )
