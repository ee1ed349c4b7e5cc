"""One screen that says what is wrong, what money is at risk, and what to run next; it changes nothing.

It stands in settlements because it shows discrepancies too, which checkout knows nothing of.
"""

import io
import json
import shutil
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from checkout import wiring
from checkout.models import Charge, Hold, HoldScope
from checkout.readings import Pile
from checkout.targets import Target
from settlements.management.triage import (
    Books,
    Triage,
    gather,
    next_step,
    quiet,
    risks,
    spell,
)

NARROWEST: Final = 80
MOST_CAUSES: Final = 12


class Command(BaseCommand):
    """Read-only, and back within five seconds with every part dead."""

    help = "Show the state of collection on one screen, in under 5 s even with parts dead."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "examples:\n  manage.py triage\n  manage.py triage --json | jq .because"
        parser.add_argument("--json", action="store_true", help="the same as one JSON object")

    def handle(self, **options: Any) -> None:
        triage = gather(
            clock=wiring.clock(),
            processor_url=settings.PROCESSOR_URL,
            kafka=settings.KAFKA_BOOTSTRAP_SERVERS,
        )
        if options["json"]:
            self.stdout.write(json.dumps(as_facts(triage), indent=2, default=str))
            return
        text = io.StringIO()
        width = max(NARROWEST, shutil.get_terminal_size((120, 40)).columns)
        console = Console(file=text, width=width, force_terminal=self.stdout.isatty())
        for line in screen(triage):
            console.print(line)
        self.stdout.write(text.getvalue(), ending="")


# --- For machines ------------------------------------------------------------------------------------


def as_facts(triage: Triage) -> dict[str, object]:
    """The screen as data; amounts are strings, ages are seconds."""
    step = next_step(triage, ages=wiring.ages(), local=settings.LOCAL)
    at_risk = risks(triage, ages=wiring.ages())
    return {
        "at": triage.at.isoformat(),
        "seconds": round(triage.seconds, 2),
        "money_at_risk": bool(at_risk),
        "because": at_risk,
        "next": {"command": step.command, "why": step.why},
        "parts": [vars(part) for part in triage.parts],
        "queue": vars(triage.waiting) if triage.waiting else None,
        "books": _facts_of_books(triage.books, triage) if triage.books else None,
    }


def _facts_of_books(books: Books, triage: Triage) -> dict[str, object]:
    return {
        "retry_count": books.retry_count,
        "retries_last_hour": [vars(each) for each in books.retries],
        "heartbeats": {name: round(age, 1) for name, age in books.beats.items()},
        "in_doubt": _fact(books.in_doubt, triage),
        "dead_letters": _fact(books.dead, triage),
        "cases": {kind: _fact(pile, triage) for kind, pile in books.cases.items()},
        "outbox": {door.value: vars(depth) for door, depth in books.outbox.items()},
        "oldest_owed": str(books.oldest_owed.pk) if books.oldest_owed else None,
        "holds": [_hold_in_words(hold) for hold in books.holds],
        "discrepancies": {kind: _fact(pile, triage) for kind, pile in books.discrepancies.items()},
        "reconciled": {last.mode: round(last.age(triage.at), 1) for last in books.passes},
        "statement_days": dict(books.statement_days),
        "notices_waiting": _fact(books.notices, triage),
        "finance_is_told": is_told(),
    }


def is_told() -> bool:
    """Whether a way to finance is set."""
    return bool(settings.FINANCE_MAIL_TO or settings.FINANCE_WEBHOOK_URL)


def _fact(pile: Pile, triage: Triage) -> dict[str, object]:
    return {
        "count": pile.count,
        "usd": f"{pile.usd:.2f}",
        "oldest_seconds": round(pile.age(triage.at), 1),
    }


# --- For people --------------------------------------------------------------------------------------


def screen(triage: Triage) -> Iterable[RenderableType]:
    """The lines and tables from top to bottom: the answer first, then what it rests on."""
    step = next_step(triage, ages=wiring.ages(), local=settings.LOCAL)
    at_risk = risks(triage, ages=wiring.ages())
    yield Text(f"triage of {settings.ENVIRONMENT} at {triage.at:%Y-%m-%d %H:%M:%S} UTC", "bold")
    yield Text.assemble("money at risk: ", ("yes", "bold red") if at_risk else ("no", "green"))
    for reason in at_risk:
        yield Text(f"  · {reason}")
    yield Text.assemble("next: ", (step.command, "bold cyan"), f"   ({step.why})")
    if triage.books is None:
        yield _parts(triage)
    else:
        yield from _stopped(triage.books)
        left = Group(_parts(triage), _figures(triage.books, triage))
        right = Group(_beats(triage.books, triage), _retries(triage.books))
        yield Columns([left, right], padding=(0, 4))
    yield Text(f"read in {triage.seconds:.1f} s; nothing was changed", "dim")


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: bool = True
) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if right and number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _parts(triage: Triage) -> Table:
    rows = [
        (
            part.name,
            Text("yes", "green") if part.answers else Text(f"away: {part.why}", "bold red"),
            f"{part.seconds:.1f} s",
        )
        for part in triage.parts
    ]
    return _table("parts", ("part", "answers", "in"), rows, right=False)


def _figures(books: Books, triage: Triage) -> Table:
    def row(what: str, pile: Pile) -> tuple[str, str, str, str]:
        oldest = spell(pile.age(triage.at)) if pile.oldest else "—"
        return what, f"{pile.count:,}", f"{pile.usd:,.2f}" if pile.usd else "—", oldest

    rows: list[Sequence[str]] = [
        row("charges in doubt", books.in_doubt),
        row("dead letters (cases)", books.dead),
    ]
    for door, depth in books.outbox.items():
        oldest = spell(depth.oldest_seconds) if depth.waiting else "—"
        rows += [(f"waits to leave by {door.value}", f"{depth.waiting:,}", "—", oldest)]
    rows += [row(f"case: {kind}", pile) for kind, pile in books.cases.items()]
    rows += [row(f"discrepancy: {kind}", pile) for kind, pile in books.discrepancies.items()]
    rows += [("due, never tried", "≥ 1" if books.oldest_owed else "0", "—", _age(books, triage))]
    if triage.waiting:
        queue = triage.waiting
        rows += [
            ("queue: waiting / with workers", f"{queue.visible} / {queue.in_flight}", "—", "—"),
            ("dead-letter queue", str(queue.dead), "—", "—"),
        ]
    rows += [
        (f"statement days {state}", str(count), "—", "—")
        for state, count in books.statement_days.items()
    ]
    untold = "notices not told" if is_told() else "notices (no way to finance is set)"
    rows += [row(untold, books.notices)]
    return _table("what waits", ("", "count", "USD", "oldest"), rows)


def _age(books: Books, triage: Triage) -> str:
    charge: Charge | None = books.oldest_owed
    return spell((triage.at - charge.created_at).total_seconds()) if charge else "—"


def _retries(books: Books) -> Table:
    # The most frequent come first; one screen is enough to see which lane and cause it is.
    rows = [(each.lane, each.cause, str(each.count)) for each in books.retries[:MOST_CAUSES]]
    return _table(
        f"retries in the last hour (ever: {books.retry_count:,})",
        ("lane", "after", "attempts"),
        rows or [("none", "—", "0")],
    )


def _beats(books: Books, triage: Triage) -> Table:
    late = quiet(books.beats)
    rows: list[Sequence[str | Text]] = [
        (name, Text(f"{spell(age)} ago", "red" if name.split(":")[0] in late else ""))
        for name, age in books.beats.items()
    ]
    rows += [
        (name, Text("never", "bold red"))
        for name in late
        if not any(beat.startswith(name) for beat in books.beats)
    ]
    rows += [
        (f"reconciliation, {last.mode}", f"{spell(last.age(triage.at))} ago")
        for last in books.passes
    ]
    return _table("signs of life", ("who", "last"), rows)


def _stopped(books: Books) -> Iterable[Text]:
    yield Text("stopped: " + ("nothing" if not books.holds else ""), "bold")
    for hold in books.holds:
        yield Text(f"  · {_hold_in_words(hold)}", "yellow")


def _hold_in_words(hold: Hold) -> str:
    what = Target(HoldScope(hold.scope), hold.subject)
    end = f"until {hold.until:%Y-%m-%d %H:%M} UTC" if hold.until else "until lifted"
    return f"{hold.kind} of {what} by {hold.placed_by}, {end}: {hold.reason}"
