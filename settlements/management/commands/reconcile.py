"""`manage.py reconcile`: compare everything, and say what does not agree."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from rich.console import Console
from rich.table import Table

from checkout import rescue, wiring
from checkout.management.progress import SlowProgress
from checkout.models import Creator
from checkout.topics import KafkaAway
from settlements.models import Kind
from settlements.reconciliation import (
    KINDS,
    Finding,
    NotCompared,
    look,
    reconcile,
    standing,
)

COULD_NOT_RUN = 2


class Command(BaseCommand):
    help = (
        "Compare, to the cent, what is owed, billed, captured, booked, published and stated.\n\n"
        f"Kinds: {', '.join(KINDS)}. Without one, all of them. What does not agree is recorded;\n"
        "what agrees again is cleared. With --as-of, periods and files are judged as of that\n"
        "business time and nothing is recorded. Ends with 0 when all agrees, 1 when something does\n"
        "not, 2 when it could not run.\n\n"
        "Examples:  python manage.py reconcile\n"
        "           python manage.py reconcile billing captured --json\n"
        "           python manage.py reconcile periods --as-of 2026-02-01"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("kinds", nargs="*", metavar="KIND", type=_kind)
        parser.add_argument("--as-of", type=_instant, metavar="TIME", help="a day, or a UTC time")
        parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
        parser.add_argument(
            "--offline", action="store_true", help="ask neither Kafka nor the processor"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        kinds = tuple(options["kinds"]) or KINDS
        try:
            found = _compare(kinds, as_of=options["as_of"], offline=options["offline"])
        except (KafkaAway, NotCompared, Error) as error:
            raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
        self.stdout.write(_json(found) if options["json"] else _table(found, kinds))
        if found:
            raise SystemExit(1)


def _compare(kinds: Sequence[Kind], *, as_of: datetime | None, offline: bool) -> list[Finding]:
    clock, ages = wiring.clock(), wiring.ages()
    if as_of is not None:
        with SlowProgress(what="Comparing by kind", total=len(kinds), clock=clock) as bar:
            return look(kinds=kinds, as_of=as_of, now=clock.now(), progress=bar.advance)
    with SlowProgress(what="Comparing", total=Creator.objects.count(), clock=clock) as bar:
        run = reconcile(
            kinds=kinds,
            clock=clock,
            ages=ages,
            topic=None if offline else wiring.topic_reader(),
            resolve=None if offline else _resolve,
            progress=bar.advance,
        )
    if run.ended_at is None:
        raise NotCompared(kinds)
    return standing(kinds=kinds)


def _resolve(attempt_id: UUID) -> None:
    rescue.resolve_attempt(
        attempt_id=attempt_id,
        clock=wiring.clock(),
        gateways=wiring.gateways(),
        ages=wiring.ages(),
    )


def _kind(text: str) -> Kind:
    if text not in KINDS:
        raise ArgumentTypeError(f"{text!r} is not a comparison; there are {', '.join(KINDS)}")
    return Kind(text)


def _instant(text: str) -> datetime:
    """A UTC time; a day alone means its end, so that the whole day is judged."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-02-01") from None
    if len(text) == len("2026-02-01"):
        instant += timedelta(days=1)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _json(found: Sequence[Finding]) -> str:
    return json.dumps([vars(finding) for finding in found], default=str, indent=2)


def _table(found: Sequence[Finding], kinds: Sequence[Kind]) -> str:
    if not found:
        return f"All agrees: {', '.join(kinds)}."
    table = Table(title=f"{len(found)} discrepancies", title_justify="left")
    for name in ("Kind", "Difference", "Creator", "Charge", "What does not agree"):
        table.add_column(name, justify="right" if name == "Difference" else "left", overflow="fold")
    for finding in found:
        table.add_row(
            finding.kind,
            f"{finding.actual - finding.expected:.2f}",
            str(finding.creator_id or ""),
            str(finding.charge_id or ""),
            finding.explanation,
        )
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
