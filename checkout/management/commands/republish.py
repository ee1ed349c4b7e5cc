"""Send published messages again, or release a parked one."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from checkout import outbox, wiring
from checkout.management.progress import SlowProgress
from checkout.models import Door


class Command(BaseCommand):
    """Safe twice: ids stay the same, and consumers know them. Heals a broker that lost records."""

    help = "Have the relay send again, in order, what it published since a time; or release a parked message."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "example:\n  manage.py republish --since 2026-11-23T01:00:00Z --json"
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--since", type=moment, help="ISO 8601 with its zone, such as …T01:00:00Z"
        )
        what.add_argument("--parked", type=UUID, help="the event id of a parked message")
        parser.add_argument("--door", choices=[str(door) for door in Door], default=str(Door.KAFKA))
        parser.add_argument("--json", action="store_true", help="print the count as JSON")

    def handle(
        self, *, since: datetime | None, parked: UUID | None, door: str, json: bool, **_options: Any
    ) -> None:
        count = self.release(parked) if since is None else self.republish(since, Door(door))
        self.stdout.write(report(count, as_json=json))

    def release(self, event_id: UUID | None) -> int:
        if event_id is None:
            raise CommandError("give --since or --parked")
        try:
            outbox.release(event_id=event_id)
        except outbox.NotParked as error:
            raise CommandError(str(error)) from error
        return 1

    def republish(self, since: datetime, door: Door) -> int:
        clock = wiring.clock()
        until, count = clock.real_now(), 0
        total = outbox.count_published(door=door, since=since, until=until)
        with SlowProgress(what="messages to be sent again", total=total, clock=clock) as progress:
            for batch in outbox.republish(door=door, since=since, until=until):
                count += batch
                progress.advance(batch)
        return count


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
