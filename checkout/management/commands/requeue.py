"""`manage.py requeue`: open another round of many exhausted charges at once."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import requeues, wiring
from checkout.clock import Moment
from checkout.commit import DatabaseAway
from checkout.desk import in_commit
from checkout.gateways import DeclineClass
from checkout.management.progress import SlowProgress
from checkout.management.trail import SAY_WHY, log_command, person, reason
from checkout.models import Awaits, BulkRequeue, RequeueOutcome
from checkout.requeues import Choice, DryRun, Limit, left_of

NEEDS_APPROVAL = 1
COULD_NOT_RUN = 2


class Command(BaseCommand):
    help = (
        "Open another round of exhausted charges: up to three attempts on each creator's newest card,\n"
        "without a dunning step. Choose by at least one of lane, class, what they await, and time.\n"
        "A charge is left, with the reason, if its card is dead or at the cap of attempts, if it is\n"
        "held, cancelled, in doubt or paid. --dry-run shows the count and the USD, and changes nothing.\n\n"
        "Above the limit of one person in 24 hours (REQUEUE_LIMIT_COUNT charges, REQUEUE_LIMIT_USD)\n"
        "nothing is requeued: the\n"
        "number of a proposal is printed, which another person approves in the admin, under Bulk\n"
        "requeues. Killed on the way, it is carried on by the timetable.\n\n"
        "Ends with 0 when it is done, 1 when it waits for an approval, 2 when it could not run.\n\n"
        "Examples:\n"
        "  manage.py requeue --lane cis --since 2026-11-20 --until 2026-11-21T06:00 --dry-run\n"
        "  manage.py requeue --lane cis --class technical --since 2026-11-20 \\\n"
        '      --reason "the processor declined everything for an hour, ticket 881"\n'
        '  manage.py requeue --awaits person --reason "asked for by finance" --json'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("--lane", default="", choices=sorted(settings.LANES), metavar="LANE")
        parser.add_argument(
            "--class",
            dest="decline_class",
            default="",
            choices=[each.value for each in DeclineClass],
            help="the class of the last decline",
        )
        parser.add_argument(
            "--awaits", default="", choices=[a for a in Awaits.values if a], help="what it awaits"
        )
        parser.add_argument("--since", type=instant, metavar="TIME", help="exhausted at or after")
        parser.add_argument(
            "--until", type=instant, metavar="TIME", help="exhausted before; a day, or a UTC time"
        )
        parser.add_argument(
            "--reason", type=reason, help="why; kept with each charge and your name"
        )
        parser.add_argument("--dry-run", action="store_true", help="only show what it would do")
        parser.add_argument("--json", action="store_true", help="print figures as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        choice = Choice(**{name: options[name] for name in vars(Choice())})
        if not options["dry_run"] and options["reason"] is None:
            raise CommandError(SAY_WHY, returncode=COULD_NOT_RUN)
        try:
            if options["dry_run"]:
                plan = requeues.dry_run(choice=choice, now=wiring.clock().now(), ages=wiring.ages())
                self.stdout.write(shown(plan, as_json=options["json"]))
                return
            run = _requeue(choice, options["reason"])
        except (requeues.NotChosen, DatabaseAway, Error) as refusal:
            raise CommandError(str(refusal), returncode=COULD_NOT_RUN) from None
        self.stdout.write(done(run, as_json=options["json"]))
        if run.is_waiting:
            raise SystemExit(NEEDS_APPROVAL)


def instant(text: str) -> datetime:
    """A UTC time, or a day, which means its beginning."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not a time; write 2026-11-20 or 2026-11-20T06:00"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _requeue(choice: Choice, because: str) -> BulkRequeue:
    clock, ages = wiring.clock(), wiring.ages()

    def propose(now: Moment) -> BulkRequeue:
        run = requeues.propose(
            choice=choice,
            by=person(),
            reason=because,
            limit=Limit(**settings.REQUEUE_LIMIT),
            now=now,
            ages=ages,
        )
        _log(run)
        return run

    run = in_commit(propose)
    if not run.is_waiting:
        with SlowProgress(what="Requeueing", total=run.count, clock=clock) as bar:
            requeues.carry_out(requeue_id=run.pk, clock=clock, ages=ages, progress=bar.advance)
    return run


def _log(run: BulkRequeue) -> None:
    log_command(
        about=BulkRequeue,
        named=run.pk,
        shown=str(run),
        did=f"{charges(run.count)}, {run.usd} USD",
        because=run.reason,
    )


def charges(count: int) -> str:
    """`1 charge`, `2,000 charges`."""
    return f"{count:,} {'charge' if count == 1 else 'charges'}"


def shown(plan: DryRun, *, as_json: bool) -> str:
    """A dry run for a script, or for a person."""
    limit = Limit(**settings.REQUEUE_LIMIT)
    above = plan.is_above(left_of(limit, by=person(), now=wiring.clock().now()))
    if as_json:
        left = [vars(each) for each in plan.reasons]
        facts = {"count": plan.count, "usd": plan.usd, "needs_approval": above, "left": left}
        return json.dumps(facts, default=str)
    lines = [f"would requeue {charges(plan.count)} of {plan.usd:,.2f} USD; nothing was changed"]
    lines += [f"left: {e.count:,} of {e.usd:,.2f} USD: {e.because}" for e in plan.reasons]
    return "\n".join([*lines, *(["another person has to approve it"] if above else [])])


def done(run: BulkRequeue, *, as_json: bool) -> str:
    """What became of it, for a script or for a person."""
    opened = run.items.filter(outcome=RequeueOutcome.REQUEUED).count()
    left = run.items.filter(outcome=RequeueOutcome.LEFT).count()
    if as_json:
        facts = {"bulk_requeue": run.pk, "count": run.count, "usd": str(run.usd)}
        more = {"needs_approval": run.is_waiting, "requeued": opened, "left": left}
        return json.dumps(facts | more)
    if run.is_waiting:
        return (
            f"bulk requeue {run.pk}: {charges(run.count)} of {run.usd:,.2f} USD wait for another "
            f"person's approval (admin, Bulk requeues, {run.pk}); nothing was requeued"
        )
    return f"bulk requeue {run.pk}: {opened:,} of {charges(run.count)} requeued, {left:,} left"
