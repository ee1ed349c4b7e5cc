"""`manage.py timetable`: the clock work of both apps, in one process."""

import signal
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from settlements.management.jobs import all_jobs
from settlements.management.timetable import Job, JobLocks, Timetable


class Command(BaseCommand):
    help = (
        "Run the clock work: billing, sweep, resolve, dunning dates, dead letters, reconciliation\n"
        "and the rest, each job at its own interval and in one process at a time. Start two of\n"
        "them for high availability: the second stands by. SIGTERM ends it after the turn.\n\n"
        "Examples:  python manage.py timetable\n"
        "           python manage.py timetable --once --only bill_due"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--once", action="store_true", help="give each job one turn, then end")
        parser.add_argument("--only", metavar="NAME", help="run this job alone")
        parser.add_argument("--list", action="store_true", help="list the jobs and their intervals")

    def handle(self, *_: Any, **options: Any) -> None:
        jobs = _chosen(options["only"])
        if options["list"]:
            for job in jobs:
                self.stdout.write(f"{job.name:24} every {job.every:g} s")
            return
        timetable = Timetable(
            jobs=jobs,
            locks=JobLocks(connect=partial(wiring.direct_connection, name="timetable")),
            clock=wiring.clock(),
            beat_every=wiring.ages().worker_heartbeat,
        )
        if options["once"]:
            turns = timetable.run_once()
            if turns.elsewhere:
                names = ", ".join(turns.elsewhere)
                self.stderr.write(f"left to the timetable that is running: {names}")
            if turns.failed:
                raise CommandError(f"failed: {', '.join(turns.failed)}")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: timetable.stop.set())
        timetable.run()


def _chosen(only: str | None) -> list[Job]:
    jobs = all_jobs(clock=wiring.clock(), ages=wiring.ages())
    if only is None:
        return jobs
    chosen = [job for job in jobs if job.name == only]
    if not chosen:
        raise CommandError(f"{only!r} is not a job; there are {', '.join(j.name for j in jobs)}")
    return chosen
