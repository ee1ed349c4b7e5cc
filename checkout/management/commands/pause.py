"""Stop collection on a lane, a plan, a creator or everywhere, for a while or until resumed."""

import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from checkout import routing
from checkout.clock import Moment
from checkout.commit import DatabaseAway
from checkout.desk import in_commit
from checkout.management.trail import ask_why, log_command, person
from checkout.models import Hold, HoldKind
from checkout.targets import Target, UnknownTarget, read_target

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
EXAMPLES: Final = """\
examples:
  manage.py pause cis --for 30m --reason "the processor answers 503"
  manage.py pause plan:monthly --reason "a wrong price was found"
  manage.py pause creator:c-1042 --for 2d --reason "asked by support, ticket 881"
  manage.py pause all --reason "restored from a backup"
"""


def duration(text: str) -> timedelta:
    """Read 90s, 30m, 2h or 1d; up to 365 days."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    length = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < length <= timedelta(days=365):
        raise ArgumentTypeError(f"{text!r} is not a length of time; write 90s, 30m, 2h or 1d")
    return length


class Command(BaseCommand):
    """What is due meanwhile spends no attempt, round or dead letter, and goes on afterwards (R52)."""

    help = "Pause collection on TARGET: a lane, plan:CODE, creator:ID or all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = EXAMPLES
        parser.add_argument("target", help="a lane, plan:CODE, creator:ID (or external id), or all")
        parser.add_argument(
            "--for",
            dest="length",
            type=duration,
            metavar="TIME",
            help="90s, 30m, 2h, 1d; without it the pause lasts until `manage.py resume`",
        )
        ask_why(parser)

    def handle(
        self, *, target: str, length: timedelta | None, reason: str, **_options: Any
    ) -> None:
        def place(now: Moment) -> tuple[Target, Hold]:
            what = read_target(target, lanes=settings.LANES)
            until = now.real + length if length else None
            hold = routing.place_hold(
                kind=HoldKind.PAUSE,
                scope=what.scope,
                subject=what.subject,
                reason=reason,
                by=person(),
                until=until,
                now=now,
            )
            _log(hold, did=f"Paused {what} {end_of(hold)}", because=reason)
            return what, hold

        try:
            what, hold = in_commit(place)
        except (UnknownTarget, DatabaseAway) as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(
            f"{what} is paused {end_of(hold)}. To go on: manage.py resume {what} --reason …"
        )


def end_of(hold: Hold) -> str:
    """Until when it stops collection, in words."""
    return f"until {hold.until:%Y-%m-%d %H:%M:%S} UTC" if hold.until else "until it is resumed"


def _log(hold: Hold, *, did: str, because: str) -> None:
    log_command(about=Hold, named=hold.pk, shown=str(hold), did=did, because=because)
