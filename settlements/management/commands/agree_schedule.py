"""`manage.py agree_schedule`: the settlement schedule that a lane's new creators get."""

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import date
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from checkout.clock import Moment
from checkout.commit import DatabaseAway
from checkout.desk import in_commit
from checkout.management.trail import ask_why, log_command
from settlements.calendar import FEDERAL_RESERVE, Rule
from settlements.models import HolidayRule, RouteSchedule, ScheduleInterval
from settlements.settling import (
    LONGEST_DELAY,
    DayIsPast,
    DefaultDiffers,
    UnfitAnchors,
    UnknownCalendar,
    agree_default,
    anchors_of,
)

ANY: Final = "any"
# Which option a refusal is about.
OPTIONS: Final[dict[type[Exception], str]] = {
    UnfitAnchors: "--anchor-days",
    UnknownCalendar: "--calendar",
    DayIsPast: "--since",
    DefaultDiffers: "--since",
}


class Command(BaseCommand):
    help = (
        "Agree on the settlement schedule that a lane's new creators get from a day on; `any` is for\n"
        "lanes without one of their own. Without a default they get whole months, landing two days\n"
        "later. Who has a schedule keeps it: a creator's own is changed by PUT /v1/creators/{id}/\n"
        "settlement-schedule, from the next period on. Nothing that was agreed is rewritten: another\n"
        "default begins on a later day. Why is kept with your name in the audit trail (Log entries in\n"
        "the admin). Ends with 0 when it is agreed, or was before; 1 when it is refused.\n\n"
        "A period begins on each anchor day: 1 (Monday) to 7 of a week, 1 to 31 of a month, none of\n"
        "days. Its money must have landed --delay-days after its last day, moved to the next\n"
        "(following) or the former (preceding) business day of --calendar.\n\n"
        "Examples:  python manage.py agree_schedule cis --interval month --anchor-days 1,15 \\\n"
        '             --delay-days 3 --since 2026-12-01 --reason "contract 17, annex 2"\n'
        "           python manage.py agree_schedule any --interval week --anchor-days 1 \\\n"
        '             --delay-days 2 --since 2026-12-01 --reason "decided by finance" --json'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("lane", choices=[*sorted(settings.LANES), ANY])
        parser.add_argument("--interval", required=True, choices=ScheduleInterval.values)
        parser.add_argument("--anchor-days", default="", metavar="DAYS", help="such as 1,15")
        parser.add_argument(
            "--delay-days", required=True, type=_delay, metavar="DAYS", help=f"0 to {LONGEST_DELAY}"
        )
        parser.add_argument(
            "--holiday-rule", choices=HolidayRule.values, default=HolidayRule.FOLLOWING.value
        )
        parser.add_argument("--calendar", default=FEDERAL_RESERVE, help="whose holidays")
        parser.add_argument(
            "--since", required=True, type=_day, metavar="DAY", help="the first day"
        )
        ask_why(parser)
        parser.add_argument("--json", action="store_true", help="print what was agreed as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            default, added = in_commit(lambda now: _agree(options, now))
        except tuple(OPTIONS) as refused:
            raise CommandError(f"{OPTIONS[type(refused)]}: {refused}") from None
        except DatabaseAway as away:
            raise CommandError(str(away)) from None
        said = "agreed" if added else "agreed before, nothing changed"
        self.stdout.write(
            json.dumps(_facts(default) | {"agreed": added})
            if options["json"]
            else f"{default}: {default.in_words}: {said}"
        )


def _agree(options: dict[str, Any], now: Moment) -> tuple[RouteSchedule, bool]:
    lane, day = "" if options["lane"] == ANY else options["lane"], options["since"]
    rule = Rule(
        interval=options["interval"],
        anchor_days=anchors_of(interval=options["interval"], text=options["anchor_days"]),
        delay_days=options["delay_days"],
        holiday_rule=options["holiday_rule"],
        calendar=options["calendar"],
    )
    added = agree_default(lane=lane, valid_from=day, rule=rule, now=now)
    default = RouteSchedule.objects.get(lane=lane, valid_from=day)
    if added:
        log_command(
            about=RouteSchedule,
            named=default.pk,
            shown=str(default),
            did=f"Agreed: {default.in_words}",
            because=options["reason"],
        )
    return default, added


def _facts(default: RouteSchedule) -> dict[str, Any]:
    is_daily = default.interval == ScheduleInterval.DAY
    return {
        "lane": default.lane or ANY,
        "since": str(default.valid_from),
        "interval": default.interval,
        "anchor_days": [] if is_daily else default.anchor_days,
        "delay_days": default.delay_days,
        "holiday_rule": default.holiday_rule,
        "calendar": default.calendar,
    }


def _delay(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > LONGEST_DELAY:
        raise ArgumentTypeError(f"{text!r} is no number of days from 0 to {LONGEST_DELAY}")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-01-01") from None
