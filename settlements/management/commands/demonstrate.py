"""`manage.py demonstrate`: the story of demo/ against the running stack, and its proof."""

import logging
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from checkout import wiring
from checkout.models import Charge
from demo import proof, story
from demo.platform import Refused
from demo.quiet import NeverQuiet
from demo.screen import Screen
from demo.stage import Memory, Stage, StageRefused

WIDTH_OF_A_FILE = 150
# What ends the story early, each with its own words; anything else is a fault of the story itself.
STOPPED = (NeverQuiet, Refused, StageRefused, httpx.HTTPError)


class Command(BaseCommand):
    help = (
        "Live through three billing months against the running stack, with faults, and prove each\n"
        "cent afterwards. The exit code is 0 only if every line of the proof holds.\n"
        "It moves the test clock and kills processes: it needs the local stack (DEVSTACK_SOCKET).\n\n"
        "Examples:  make demo                                     (a stack of its own)\n"
        '           eval "$(python -m devstack env)"; python manage.py demonstrate --keep'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument(
            "--keep",
            action="store_true",
            help="go on with a demonstration that was begun; told already, only prove it again",
        )
        parser.add_argument(
            "--small", action="store_true", help="40 creators and one month, with every fault"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        # What the two commands it calls would log is on the screen already.
        logging.disable(logging.INFO)
        stage = _stage(_console())
        if not options["keep"] and Charge.objects.exists():
            raise CommandError("this database holds charges already; go on with --keep")
        try:
            story.tell(stage, story.SMALL if options["small"] else story.WHOLE)
            _compare_in_full(stage)
        except STOPPED as why:
            _prove(stage)
            raise CommandError(f"the story stopped: {why}") from why
        lines = _prove(stage)
        if failed := [line.name for line in lines if not line.holds]:
            raise CommandError(f"{len(failed)} lines do not hold: {', '.join(failed)}")
        seconds = stage.clock.monotonic() - stage.screen.begun
        self.stdout.write(f"All {len(lines)} lines hold, after {seconds:.0f} s.")


def _compare_in_full(stage: Stage) -> None:
    with stage.screen.phase("Compare everything once more, in full") as phase:
        try:
            call_command("reconcile", stdout=StringIO())
        except SystemExit as found:
            phase.say(f"exit code {found.code}, as it must be with two cents missing")


def _prove(stage: Stage) -> list[proof.Line]:
    lines = proof.prove(stage, Memory.read(stage.memory_file))
    stage.screen.console.print(proof.table(lines))
    return lines


def _console() -> Console:
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    return console


def _stage(console: Console) -> Stage:
    missing = [
        name for name in ("DEVSTACK_SOCKET", "WEB_URL", "CLOCK_FILE") if name not in os.environ
    ]
    if missing:
        raise CommandError(
            f"{', '.join(missing)} is not set: start the stack by `make demo` or `make run`, or take"
            ' the variables of a running one by eval "$(python -m devstack env)"'
        )
    clock = wiring.clock()
    return Stage(
        web_url=os.environ["WEB_URL"],
        processor_url=settings.PROCESSOR_URL,
        processor_key=settings.PROCESSOR_API_KEY,
        admin_url=os.environ.get("DATABASE_ADMIN_URL", os.environ["DATABASE_URL"]),
        clock_file=Path(settings.CLOCK_FILE),
        socket=Path(os.environ["DEVSTACK_SOCKET"]),
        lanes={lane: (one["processor"], one["account"]) for lane, one in settings.LANES.items()},
        clock=clock,
        screen=Screen(console, clock, begun=clock.monotonic()),
    )
