"""`manage.py load_plans FILE`: add plans from a CSV file."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from checkout import loading
from checkout.management.table import load_table


class Command(BaseCommand):
    help = (
        "Add plans from a CSV file with the columns code,name,price,interval,interval_count.\n"
        "A plan that is there already is counted; one that differs is refused: a new price is a\n"
        "new plan. Nothing is loaded when any row is refused.\n\n"
        "Example:  python manage.py load_plans demo/plans.csv"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        load_table(
            self,
            what="plans",
            path=options["file"],
            required=loading.PLAN_COLUMNS,
            read=loading.read_plan,
            load=lambda rows: loading.load_plans(rows=rows),
            as_json=options["json"],
        )
