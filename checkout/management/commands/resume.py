"""End the pauses of a target: collection goes on at once where nothing else holds it."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
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

EXAMPLES: Final = """\
examples:
  manage.py resume cis --reason "the processor answers again"
  manage.py resume plan:monthly --reason "the price is right now, ticket 881"
  manage.py resume all --reason "restored and compared"
                                lifts the pause on everything, not the pauses of single lanes
"""


class Command(BaseCommand):
    """Lifts pauses and open breakers. A hold is somebody's question: it is lifted in the admin."""

    help = "Resume collection on TARGET: a lane, plan:CODE, creator:ID or all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = EXAMPLES
        parser.add_argument("target", help="as it was paused: a lane, plan:CODE, creator:ID, all")
        ask_why(parser)

    def handle(self, *, target: str, reason: str, **_options: Any) -> None:
        def lift(now: Moment) -> tuple[Target, list[Hold], list[Hold]]:
            what = read_target(target, lanes=settings.LANES)
            return what, lift_pauses(what, because=reason, now=now), in_force(what, now=now)

        try:
            what, lifted, left = in_commit(lift)
        except (UnknownTarget, DatabaseAway) as refused:
            raise CommandError(str(refused)) from None
        if not lifted and not left:
            raise CommandError(f"{what} is not paused")
        self.stdout.write(f"{what}: {len(lifted)} lifted")
        for hold in left:
            self.stderr.write(
                f"{what} is still held by {hold.placed_by}: {hold.reason} (lift it in the admin)"
            )


def in_force(what: Target, *, now: Moment) -> list[Hold]:
    """What still stops exactly this target."""
    holds = Hold.objects.in_force(now.real).filter(scope=what.scope, subject=what.subject)
    return list(holds.order_by("placed_at", "id"))


def lift_pauses(what: Target, *, because: str, now: Moment) -> list[Hold]:
    """Lift every pause and open breaker of exactly this target, each with its line of the trail."""
    pauses = [hold for hold in in_force(what, now=now) if hold.kind != HoldKind.HOLD]
    for pause in pauses:
        routing.lift_hold(hold_id=pause.pk, by=person(), now=now)
        log_command(
            about=Hold,
            named=pause.pk,
            shown=str(pause),
            did=f"Resumed {what}",
            because=because,
        )
    return pauses
