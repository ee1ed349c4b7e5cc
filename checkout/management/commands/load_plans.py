"""`manage.py load_plans FILE`: add plans from a CSV file."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from checkout import loading
from checkout.management.table import load_table
from checkout.management.trail import ask_why
from checkout.models import Plan


class Command(BaseCommand):
    help = (
        "Add plans from a CSV file with the columns code,name,price,interval,interval_count.\n"
        "A plan that is there already is counted; one that differs is refused: a new price is a\n"
        "new plan. Nothing is loaded when any row is refused.\n"
        "Why is kept with your name in the audit trail (Log entries in the admin), unless no row\n"
        "was added.\n\n"
        'Example:  python manage.py load_plans demo/plans.csv --reason "prices of 2026"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        load_table(
            self,
            what="plans",
            about=Plan,
            path=options["file"],
            required=loading.PLAN_COLUMNS,
            read=loading.read_plan,
            load=lambda rows: loading.load_plans(rows=rows),
            because=options["reason"],
            as_json=options["json"],
        )
