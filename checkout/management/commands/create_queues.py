"""Create the SQS queues, or correct their attributes."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.queue import QueueMismatch


class Command(BaseCommand):
    """Safe to run at every start of the broker: the second time it changes nothing."""

    help = (
        "Create the queue and its dead-letter queue, or correct their attributes; then verify them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "example:\n  manage.py create_queues --json"
        parser.add_argument("--json", action="store_true", help="print what changed as JSON")

    def handle(self, *, json: bool, **_options: Any) -> None:
        queue = wiring.queue()
        try:
            changed = queue.create(visibility=wiring.ages().visibility)
        except (QueueMismatch, BotoCoreError, ClientError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report({"queue": queue.url, "changed": changed}, as_json=json))


def report(facts: dict[str, Any], *, as_json: bool) -> str:
    """The facts for a script, or as a sentence for a person."""
    if as_json:
        return json.dumps(facts)
    return "; ".join(facts["changed"]) or f"{facts['queue']} and its dead letters are as declared"
