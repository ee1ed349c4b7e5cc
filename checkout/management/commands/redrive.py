"""Send every dead letter to the queue once more."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.commit import DatabaseAway
from checkout.desk import in_commit
from checkout.management.trail import ask_why, log_command
from checkout.models import Case


class Command(BaseCommand):
    """Safe for finished charges: their messages are acknowledged without a call (F25)."""

    help = (
        "Send what lies in the dead-letter queue to the queue again, each with its creator's group.\n"
        "Why is kept with your name in the audit trail (Log entries in the admin), before the first is\n"
        "sent."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = 'example:\n  manage.py redrive --reason "the worker is mended" --json'
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the count as JSON")

    def handle(self, *, reason: str, json: bool, **_options: Any) -> None:
        try:
            # First, and committed: whoever is killed on the way has sent some of them.
            in_commit(lambda _: _log(reason))
            count = wiring.queue().redrive()
        except (BotoCoreError, ClientError, DatabaseAway) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report(count, as_json=json))


def _log(because: str) -> None:
    log_command(
        about=Case,
        named="dead letters",
        shown="dead letters",
        did="Asked to send what lies in the dead-letter queue again",
        because=because,
    )


def report(count: int, *, as_json: bool) -> str:
    """The count for a script, or as a sentence for a person."""
    return json.dumps({"redriven": count}) if as_json else f"{count} dead letters sent again"
