"""`manage.py import_statement`: take in statement files, each whole or not at all."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.management.progress import SlowProgress
from checkout.management.trail import SAY_WHY, log_command, person, reason
from settlements.arrivals import Account, AnyStatement, TakenIn, take_in
from settlements.formats import FORMATS
from settlements.formats.lines import SHOWN, Refused, Told, amount
from settlements.formats.source import Bounds, Torn, opened
from settlements.models import FileState, ImportState, StatementImport

# Why a file is imported about which nobody decides anything.
AS_DELIVERED: Final = "as delivered"
NOT_ACCEPTED: Final = 1
NOT_READ: Final = 2


@dataclass(frozen=True)
class Outcome:
    """What became of one file, to be told in words or as JSON."""

    path: Path
    state: str
    taken: TakenIn | None = None
    reason: str = ""
    faults: Sequence[str] = field(default=())


class Command(BaseCommand):
    help = (
        "Import statement files: a processor's for one of its accounts (a lane), or a bank's.\n\n"
        "Formats, recognised by how a file begins; packed as .gz or .zip they are read too:\n"
        + "".join(f"  {each.name:16}{each.what}\n" for each in FORMATS.values())
        + "\nA file with a row that cannot be read is refused, with all its bad lines; nothing of it is\n"
        "stored. A file that does not add up or does not follow the former one is stored and set\n"
        "aside. The same file again adds nothing. Stripe's report does not say which days it covers:\n"
        "keep the name Stripe gave it, or tell --first-day and --last-day. Nor does it say its balances,\n"
        "and cut short it would look whole: tell --closing, the former closing and the net balance\n"
        "change from activity of Stripe's summary, and of a lane's first file --opening; or name the\n"
        "file …_opening_100.00_closing_94.98.csv. Mistyped for a file that is set aside, they are told\n"
        "again with the same file, and a reason. Ends with 0 when every file is accepted, 1 when one is\n"
        "set aside, 2 when one could not be read.\n\n"
        "Each file that is stored is a line of the audit trail (Log entries in the admin) with your\n"
        "name and the reason, which is 'as delivered' unless you say another; whoever tells days or\n"
        "balances has to.\n\n"
        "Examples:  python manage.py import_statement cis-2026-01-05.csv --processor sandbox"
        " --account cis\n"
        "           python manage.py import_statement --bank january/*.xml.gz --json\n"
        "           python manage.py import_statement report.csv --processor sandbox --account cis \\\n"
        "             --first-day 2026-01-05 --last-day 2026-01-05 --closing 94.98 \\\n"
        '             --reason "closing of the balance summary of 5 January"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--bank", action="store_true", help="a bank's statement, camt.053")
        parser.add_argument("--processor", default="", help="who wrote it, such as sandbox")
        parser.add_argument("--account", default="", metavar="LANE", help="whose account it is")
        parser.add_argument("--format", choices=list(FORMATS), default="", help="do not recognise")
        parser.add_argument("--first-day", type=_day, metavar="DAY", help="the first day covered")
        parser.add_argument("--last-day", type=_day, metavar="DAY", help="the last, included")
        parser.add_argument("--opening", type=_usd, metavar="USD", help="balance before the first")
        parser.add_argument("--closing", type=_usd, metavar="USD", help="balance after the last")
        parser.add_argument("--by", default="", help="who brings it, else your own name")
        parser.add_argument("--reason", type=reason, help="why; kept with your name")
        parser.add_argument("--json", action="store_true", help="one JSON list instead of words")

    def handle(self, *_: Any, **options: Any) -> None:
        account = _account(options)
        told = _told(options)
        outcomes = [
            _import(path, account=account, told=told, options=options) for path in options["files"]
        ]
        if options["json"]:
            self.stdout.write(json.dumps([_as_json(each) for each in outcomes], indent=2))
        failed = [each for each in outcomes if each.state in {"refused", "quarantined"}]
        if not options["json"]:
            for each in outcomes:
                if each not in failed:
                    self.stdout.write(_in_words(each))
        if failed:
            code = NOT_READ if any(each.taken is None for each in failed) else NOT_ACCEPTED
            if options["json"]:
                raise SystemExit(code)
            raise CommandError("\n".join(map(_in_words, failed)), returncode=code)


def _import(path: Path, *, account: Account | None, told: Told, options: dict[str, Any]) -> Outcome:
    clock, bounds = wiring.clock(), Bounds(**settings.STATEMENT_BOUNDS)
    try:
        total = _count(path, bounds)
        with SlowProgress(what=f"Importing {path.name}", total=total, clock=clock) as bar:
            taken = take_in(
                path=path,
                account=account,
                by=options["by"] or person(),
                now=clock.now(),
                ages=wiring.ages(),
                bounds=bounds,
                format_name=options["format"],
                told=told,
                progress=bar.advance,
                keep_trail=partial(_log, because=options["reason"]),
            )
    except Refused as refused:
        faults = [str(bad) for bad in refused.bad[:SHOWN]]
        return Outcome(path, "refused", reason=str(refused), faults=faults)
    except OSError as error:
        return Outcome(path, "refused", reason=f"it cannot be read: {error.strerror}")
    except Torn as error:
        return Outcome(path, "refused", reason=str(error))
    except Error as error:
        raise CommandError(str(error), returncode=NOT_READ) from None
    return Outcome(path, taken.state.value, taken=taken)


def _log(statement: AnyStatement, correction: str, *, because: str | None) -> None:
    """In the name at the machine, whoever is said to have brought it."""
    if correction and not because:
        raise CommandError(SAY_WHY, returncode=NOT_READ)
    brought = "" if statement.imported_by == person() else f", brought by {statement.imported_by}"
    log_command(
        about=type(statement),
        named=statement.pk,
        shown=str(statement),
        did=correction or f"Imported {statement.file_name}{brought}",
        because=because or AS_DELIVERED,
    )


def _in_words(outcome: Outcome) -> str:
    if outcome.taken is None:
        return f"{outcome.path} was refused, nothing was stored:\n{outcome.reason}"
    return "\n".join(
        [
            *(_told_of(each, outcome.taken.state) for each in outcome.taken.statements),
            *(
                f"{_whose(each)} {each.first_day} to {each.last_day}: accepted as well, it had waited"
                " for this file"
                for each in outcome.taken.released
            ),
        ]
    )


def _told_of(statement: AnyStatement, state: FileState) -> str:
    days = f"{_whose(statement)}, {statement.first_day} to {statement.last_day}"
    if statement.state == ImportState.QUARANTINED:
        return f"{days}: set aside: {statement.reason}"
    what = "was imported before, nothing added" if state == FileState.KNOWN else "accepted"
    return f"{days}: {what}: {_count_of(statement)}"


def _whose(statement: AnyStatement) -> str:
    return statement.lane if isinstance(statement, StatementImport) else statement.account


def _count_of(statement: AnyStatement) -> str:
    if isinstance(statement, StatementImport):
        return f"{statement.line_count} lines"
    return f"{statement.entry_count} entries of {statement.movement} USD"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    taken = outcome.taken
    return {
        "file": str(outcome.path),
        "state": outcome.state,
        "reason": outcome.reason,
        "faults": list(outcome.faults),
        "statements": [_facts(each) for each in taken.statements] if taken else [],
        "released": [_facts(each) for each in taken.released] if taken else [],
    }


def _facts(statement: AnyStatement) -> dict[str, Any]:
    is_lane = isinstance(statement, StatementImport)
    return {
        "lane" if is_lane else "account": _whose(statement),
        "format": statement.format if isinstance(statement, StatementImport) else statement.version,
        "sha256": statement.sha256,
        "state": statement.state,
        "reason": statement.reason,
        "first_day": str(statement.first_day),
        "last_day": str(statement.last_day),
        "lines": statement.line_count
        if isinstance(statement, StatementImport)
        else statement.entry_count,
        "opening": f"{statement.opening:.2f}",
        "movement": f"{statement.movement:.2f}",
        "closing": f"{statement.closing:.2f}",
    }


def _account(options: dict[str, Any]) -> Account | None:
    """The lane whose processor account this is; statements know accounts, we know lanes."""
    if options["bank"]:
        if options["processor"] or options["account"] or options["format"]:
            raise CommandError(
                "--bank goes without --processor, --account and --format", returncode=NOT_READ
            )
        return None
    for lane, facts in settings.LANES.items():
        if (facts["processor"], facts["account"]) == (options["processor"], options["account"]):
            return Account(str(facts["processor"]), str(lane))
    known = ", ".join(
        f"{facts['processor']} {facts['account']}" for facts in settings.LANES.values()
    )
    raise CommandError(
        f"{options['processor']} {options['account']} is no account of ours; there are {known};"
        " a bank's statement goes with --bank",
        returncode=NOT_READ,
    )


def _told(options: dict[str, Any]) -> Told:
    first, last = options["first_day"], options["last_day"]
    opening, closing = options["opening"], options["closing"]
    if (first is None) != (last is None) or (opening is not None and closing is None):
        raise CommandError(
            "--first-day goes with --last-day, and --opening with --closing", returncode=NOT_READ
        )
    if first and last < first:
        raise CommandError("--last-day is before --first-day", returncode=NOT_READ)
    if (first or closing is not None) and not options["reason"]:
        raise CommandError(SAY_WHY, returncode=NOT_READ)
    return Told(first_day=first, last_day=last, opening=opening, closing=closing)


def _count(path: Path, bounds: Bounds) -> int:
    """About how many lines there are, for the bar; what is wrong with the file is the import's to say."""
    lines = entries = 0
    with suppress(Refused, Torn), opened(path, bounds) as source:
        for piece in source.chunks():
            lines += piece.count(b"\n")
            entries += piece.count(b"</Ntry>")
    return entries or lines


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-01-05") from None


def _usd(text: str) -> Decimal:
    value = amount(text)
    if value is None:
        raise ArgumentTypeError(f"{text!r} is not an amount such as 19.99")
    return value
