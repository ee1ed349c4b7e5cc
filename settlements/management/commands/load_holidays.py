"""`manage.py load_holidays`: the days on which no money moves, by calendar."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout.management.csv_file import UnreadableFile, explained, read_rows
from checkout.management.trail import ask_why, log_command
from settlements.calendar import FEDERAL_RESERVE, federal_reserve_holidays
from settlements.models import Holiday
from settlements.settling import store_holidays


class Command(BaseCommand):
    help = (
        "Add holidays to a calendar. Those of the Federal Reserve Banks (us-fed) are computed for the\n"
        "years asked for; any other calendar comes from a CSV file with the columns day,name. Days\n"
        "that are there already stay, and none is ever taken out. Weekends need no entry. Why is kept\n"
        "with your name in the audit trail (Log entries in the admin), unless no day was added.\n\n"
        'Examples:  python manage.py load_holidays us-fed --years 2026-2035 --reason "ten years on"\n'
        '           python manage.py load_holidays kz-banks --file kz.csv --reason "decree 1043"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("calendar", type=_name)
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--years", type=_years, help="such as 2026 or 2026-2035; us-fed alone")
        source.add_argument("--file", type=Path, help="CSV with the columns day,name")
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        calendar, years = options["calendar"], options["years"]
        days = _computed(calendar, years) if years else _read(options["file"])
        with transaction.atomic():
            added = store_holidays(calendar=calendar, days=days)
            if added:
                log_command(
                    about=Holiday,
                    named=calendar,
                    shown=f"{calendar}, {min(days)} to {max(days)}",
                    did=f"{added} holidays added to {calendar}",
                    because=options["reason"],
                )
        if options["json"]:
            counts = {"calendar": calendar, "added": added, "already_there": len(days) - added}
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(f"{calendar}: {added} added, {len(days) - added} already there")


def _computed(calendar: str, years: range) -> dict[date, str]:
    if calendar != FEDERAL_RESERVE:
        raise CommandError(f"only {FEDERAL_RESERVE} can be computed; give --file for {calendar}")
    return {day: name for year in years for day, name in federal_reserve_holidays(year).items()}


def _read(path: Path) -> dict[date, str]:
    try:
        rows = read_rows(path=path, required=("day", "name"))
    except UnreadableFile as error:
        raise CommandError(f"{error}\nNothing was loaded.") from error
    days: dict[date, str] = {}
    faults = []
    for row in rows:
        try:
            day = date.fromisoformat(row.values["day"])
        except ValueError:
            faults.append(
                f"line {row.line}, day: {row.values['day'][:40]!r} is not a day such as 2026-01-01"
            )
            continue
        if day in days:
            faults.append(f"line {row.line}, day: {day} stands here twice")
        if not 0 < len(row.values["name"]) <= 100:
            faults.append(f"line {row.line}, name: write 1 to 100 characters")
        days[day] = row.values["name"]
    if faults:
        raise CommandError(explained(faults))
    return days


def _name(text: str) -> str:
    if not 0 < len(text) <= 40 or not text.isprintable() or " " in text:
        raise ArgumentTypeError(f"{text!r} is no name of a calendar; write one such as us-fed")
    return text


def _years(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        years = range(int(first), int(last or first) + 1)
    except ValueError:
        years = range(0)
    if not years or years[0] < 2000 or years[-1] > 2100:
        raise ArgumentTypeError(f"{text!r} are no years such as 2026 or 2026-2035")
    return years
