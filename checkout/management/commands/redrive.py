"""Send every dead letter to the queue once more."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.management.base import BaseCommand, CommandError

from checkout import wiring


class Command(BaseCommand):
    """Safe for finished charges: their messages are acknowledged without a call (F25)."""

    help = (
        "Send what lies in the dead-letter queue to the queue again, each with its creator's group."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "example:\n  manage.py redrive --json"
        parser.add_argument("--json", action="store_true", help="print the count as JSON")

    def handle(self, *, json: bool, **_options: Any) -> None:
        try:
            count = wiring.queue().redrive()
        except (BotoCoreError, ClientError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report(count, as_json=json))


def report(count: int, *, as_json: bool) -> str:
    """The count for a script, or as a sentence for a person."""
    return json.dumps({"redriven": count}) if as_json else f"{count} dead letters sent again"
