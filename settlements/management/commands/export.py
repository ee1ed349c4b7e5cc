"""`manage.py export`: lists and the journal, as files that prove what they are of."""

import hashlib
import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from checkout import wiring
from checkout.management.progress import SlowProgress
from checkout.management.trail import person
from settlements.exports.csv_file import EXCEL, PLAIN, RowsDiffer, Written, write_csv
from settlements.exports.evidence import UnknownCharge, write_evidence
from settlements.exports.export_list import ExportList, FilterNotTaken, conditions
from settlements.exports.journal import (
    Journal,
    NotBalanced,
    NotOver,
    count_postings,
    month_of,
    write_journal,
    write_trial_balance,
)
from settlements.exports.lists import LISTS, named
from settlements.exports.snapshot import head_of, snapshot
from settlements.exports.xlsx_file import TooManyRows, write_xlsx

COULD_NOT_RUN: Final = 2
JOURNAL: Final = "journal"
EVIDENCE: Final = "evidence"
ENDINGS: Final = {"csv": ".csv", "csv-excel": ".csv", "xlsx": ".xlsx"}


class Command(BaseCommand):
    help = (
        "Write a list, or the journal of a month, as a file; one state of the database for each.\n\n"
        + "".join(f"  {each.name:17}{each.what}\n" for each in LISTS.values())
        + f"  {JOURNAL:17}every posting of a month, and the trial balance beside it\n"
        + f"  {EVIDENCE:17}all that is recorded of one charge, as a ZIP with a manifest\n\n"
        "Days are UTC days of the list's own time: --from is included, --to is not. csv-excel has a\n"
        "byte order mark, semicolons and decimal commas; xlsx takes 100,000 rows. Text that a\n"
        "spreadsheet would run as a formula begins with an apostrophe in CSV. The file appears when\n"
        "it is complete. Ends with 0, or with 2 when nothing could be written.\n\n"
        "Examples:  python manage.py export charges --from 2026-10-01 --to 2026-11-01\n"
        "           python manage.py export discrepancies --standing yes --format xlsx --out open.xlsx\n"
        "           python manage.py export payouts --standing yes --lane cis\n"
        "           python manage.py export settlement-lines --settlement 6f1c33a2-…\n"
        "           python manage.py export audit-trail --from 2026-10-01 --by ann\n"
        "           python manage.py export journal --month 2026-10 --json\n"
        "           python manage.py export evidence --charge 6f1c33a2-… --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("what", choices=[*LISTS, JOURNAL, EVIDENCE], metavar="WHAT")
        parser.add_argument("--from", type=_day, metavar="DAY", help="from this day on")
        parser.add_argument("--to", type=_day, metavar="DAY", help="before this day")
        parser.add_argument("--creator", type=_uuid, metavar="ID")
        parser.add_argument("--settlement", type=_uuid, metavar="ID")
        parser.add_argument(
            "--standing",
            choices=["yes", "no"],
            help="not yet cleared, closed, landed, proved, lifted, decided or finished",
        )
        parser.add_argument("--by", metavar="NAME", help="who did it, or proposed it")
        parser.add_argument(
            "--about", metavar="TABLE", help="of the trail, such as checkout.charge"
        )
        for name in ("state", "outcome", "kind", "lane", "type", "payout", "account"):
            parser.add_argument(f"--{name}")
        parser.add_argument("--month", type=_month, metavar="YYYY-MM", help="of the journal")
        parser.add_argument("--charge", type=_uuid, metavar="ID", help="of the evidence")
        parser.add_argument("--format", choices=list(ENDINGS), default="csv")
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="default: named after the list"
        )
        parser.add_argument("--json", action="store_true", help="what was written, for scripts")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            told = self._written(options)
        except Refused as refused:
            raise CommandError(str(refused), returncode=COULD_NOT_RUN) from refused
        except NOT_WRITTEN as refused:
            raise CommandError(f"{refused} Nothing was written.", returncode=2) from refused
        except (Error, OSError) as error:
            raise CommandError(f"could not run: {error}", returncode=COULD_NOT_RUN) from error
        self.stdout.write(json.dumps(told) if options["json"] else _in_words(told))

    def _written(self, options: dict[str, Any]) -> dict[str, Any]:
        if options["charge"] and options["what"] != EVIDENCE:
            raise Refused(f"--charge is of the evidence; {options['what']} takes no charge")
        match options["what"]:
            case "journal":
                return self._journal(options)
            case "evidence":
                return self._evidence(options)
            case _:
                return self._list(options)

    def _list(self, options: dict[str, Any]) -> dict[str, Any]:
        wanted = named(options["what"])
        given = _filters(options)
        conditions(wanted, given)  # refuses before a file is begun
        if options["month"]:
            raise Refused(f"--month is of the journal; {wanted.name} takes --from and --to")
        form = options["format"]
        out = options["out"] or Path(f"{wanted.name}{ENDINGS[form]}")
        with _new_file(out) as part, snapshot():
            written = _write(wanted, given, form, part)
        return {
            "file": str(out),
            "filter": written.head.filter_in_words,
            "as_of": f"{written.head.as_of:%Y-%m-%dT%H:%M:%SZ}",
            "rows": written.head.rows,
            "total_usd": None if written.head.total is None else str(written.head.total),
            "sha256": written.sha256,
        }

    def _journal(self, options: dict[str, Any]) -> dict[str, Any]:
        month = options["month"]
        if month is None:
            raise Refused("say of which month: --month 2026-10")
        if given := _filters(options):
            raise Refused(f"the journal is of a whole month; it takes no --{next(iter(given))}")
        if options["format"] != "csv":
            raise Refused("the journal is CSV alone: the same bytes each time")
        out = options["out"] or Path(f"journal-{month:%Y-%m}.csv")
        beside = out.with_name(f"trial-balance-{month:%Y-%m}.csv")
        today = wiring.clock().now().business.date()
        with _new_file(beside) as balance, _new_file(out) as part, snapshot():
            with part.open("wb") as file:
                journal = _journal_with_bar(month, today, file)
            with balance.open("wb") as file:
                sha256 = write_trial_balance(journal=journal, to=file)
        return {
            "file": str(out),
            "rows": journal.lines,
            "debit_usd": str(journal.debit),
            "credit_usd": str(journal.credit),
            "sha256": journal.sha256,
            "trial_balance": str(beside),
            "trial_balance_sha256": sha256,
        }

    def _evidence(self, options: dict[str, Any]) -> dict[str, Any]:
        charge = options["charge"]
        if charge is None:
            raise Refused("say of which charge, by its id: --charge 6f1c33a2-…")
        if given := [*_filters(options), *(["month"] if options["month"] else [])]:
            raise Refused(f"the evidence is of one charge; it takes no --{given[0]}")
        if options["format"] != "csv":
            raise Refused("the evidence is a ZIP of CSV files; it takes no --format")
        out = options["out"] or Path(f"evidence-{charge}.zip")
        now = wiring.clock().now()
        with _new_file(out) as part, snapshot():
            with part.open("wb") as file:
                pack = write_evidence(charge_id=charge, by=person(), now=now, to=file)
            with part.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "file": str(out),
            "charge": str(charge),
            "as_of": f"{now.real:%Y-%m-%dT%H:%M:%SZ}",
            "verdict": pack.verdict.value,
            "rows": pack.rows,
            "members": len(pack.members) + 1,
            "total_usd": str(pack.charge.amount),
            "sha256": sha256,
        }


class Refused(Exception):
    """The command line cannot be meant."""


NOT_WRITTEN: Final = (
    FilterNotTaken,
    NotOver,
    NotBalanced,
    RowsDiffer,
    TooManyRows,
    UnknownCharge,
)


def _filters(options: dict[str, Any]) -> dict[str, str]:
    names = {name for each in LISTS.values() for name in each.filters}
    return {name: str(options[name]) for name in sorted(names) if options[name] is not None}


def _write(wanted: ExportList, given: dict[str, str], form: str, part: Path) -> Written:
    with SlowProgress(what="Rows", total=head_of(wanted, given).rows, clock=wiring.clock()) as bar:
        if form == "xlsx":
            return write_xlsx(wanted=wanted, given=given, to=part, progress=bar.advance)
        dialect = EXCEL if form == "csv-excel" else PLAIN
        with part.open("wb") as file:
            return write_csv(
                wanted=wanted, given=given, to=file, dialect=dialect, progress=bar.advance
            )


def _journal_with_bar(month: date, today: date, file: Any) -> Journal:
    total = count_postings(month=month)
    with SlowProgress(what="Postings", total=total, clock=wiring.clock()) as bar:
        return write_journal(month=month, today=today, to=file, progress=bar.advance)


@contextmanager
def _new_file(out: Path) -> Iterator[Path]:
    """A file beside `out` to write to, which takes its place when all went well."""
    if out.exists():
        raise Refused(f"{out} is there already; name another with --out, or move it away")
    part = out.with_name(f".{out.name}.part")
    try:
        yield part
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-10-01") from None


def _month(text: str) -> date:
    try:
        return month_of(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a month such as 2026-10") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not an id such as 6f1c33a2-0d5b-5e0a-9a3e-…"
        ) from None


def _in_words(told: dict[str, Any]) -> str:
    told = {name: value for name, value in told.items() if value is not None}
    width = max(len(name) for name in told)
    return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in told.items())
