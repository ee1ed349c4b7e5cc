"""Send published messages again, or release a parked one."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout import outbox, wiring
from checkout.management.progress import SlowProgress
from checkout.management.trail import ask_why, log_command
from checkout.models import Door, OutboxMessage

EXAMPLES: Final = """\
examples:
  manage.py republish --since 2026-11-23T01:00:00Z --reason "the broker lost an hour" --json
  manage.py republish --parked 5f2c1a9e-0000-5000-8000-000000000001 --reason "the topic is there now"
"""


class Command(BaseCommand):
    """Safe twice: ids stay the same, and consumers know them. Heals a broker that lost records."""

    help = (
        "Have the relay send again, in order, what it published since a time; or release a parked\n"
        "message. Why is kept with your name in the audit trail (Log entries in the admin), before the\n"
        "first is sent."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = EXAMPLES
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--since", type=moment, help="ISO 8601 with its zone, such as …T01:00:00Z"
        )
        what.add_argument("--parked", type=UUID, help="the event id of a parked message")
        parser.add_argument("--door", choices=[str(door) for door in Door], default=str(Door.KAFKA))
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the count as JSON")

    def handle(
        self,
        *,
        since: datetime | None,
        parked: UUID | None,
        door: str,
        reason: str,
        json: bool,
        **_options: Any,
    ) -> None:
        if since is None:
            count = self.release(parked, because=reason)
        else:
            count = self.republish(since, Door(door), because=reason)
        self.stdout.write(report(count, as_json=json))

    def release(self, event_id: UUID | None, *, because: str) -> int:
        if event_id is None:
            raise CommandError("give --since or --parked")
        try:
            with transaction.atomic():
                outbox.release(event_id=event_id)
                _log(event_id, did="Released what was parked", because=because)
        except outbox.NotParked as error:
            raise CommandError(str(error)) from error
        return 1

    def republish(self, since: datetime, door: Door, *, because: str) -> int:
        clock = wiring.clock()
        until, count = clock.real_now(), 0
        total = outbox.count_published(door=door, since=since, until=until)
        if total:
            did = f"Asked to send again what {door} published since {since.isoformat()}"
            # First: whoever is killed on the way has sent some of them.
            _log(door, did=f"{did}, {total} messages", because=because)
        with SlowProgress(what="messages to be sent again", total=total, clock=clock) as progress:
            for batch in outbox.republish(door=door, since=since, until=until):
                count += batch
                progress.advance(batch)
        return count


def _log(named: object, *, did: str, because: str) -> None:
    log_command(
        about=OutboxMessage,
        named=named,
        shown=str(named),
        did=did,
        because=because,
    )


def moment(text: str) -> datetime:
    """A time with its zone; argparse turns the fault into a usage error."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-11-23T01:00:00Z") from None
    if read.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} has no zone; end it with Z for UTC")
    return read


def report(count: int, *, as_json: bool) -> str:
    """The count for a script, or as a sentence for a person."""
    return json.dumps({"messages": count}) if as_json else f"{count} messages will be sent again"
