"""`manage.py agree_fees`: record what a lane's processor may keep of each capture."""

import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout.management.trail import ask_why, log_command
from checkout.money import NotAnAmount, usd
from settlements.models import FeeTerms
from settlements.statements import FeesDiffer, agree_fees

_RATE: Final = re.compile(r"0\.[0-9]{1,6}", re.ASCII)


class Command(BaseCommand):
    help = (
        "Record what the processor of a lane may keep of each capture from a day on: a share of it\n"
        "and a fixed amount in USD, rounded half up together. Reconciliation names every line whose\n"
        "fee is another. Without terms a lane's fees are not compared. Why is kept with your name in\n"
        "the audit trail (Log entries in the admin). Ends with 0 when they are agreed, or were before;\n"
        "1 when that day has other terms.\n\n"
        "Example:  python manage.py agree_fees cis --rate 0.029 --fixed 0.30 --since 2026-01-01 \\\n"
        '            --reason "contract of December, ticket 812"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("lane", choices=sorted(settings.LANES))
        parser.add_argument("--rate", required=True, type=_rate, help="the share, such as 0.029")
        parser.add_argument("--fixed", required=True, type=_usd, help="USD, such as 0.30")
        parser.add_argument("--since", required=True, type=_day, help="a day, such as 2026-01-01")
        ask_why(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        terms = {name: options[name] for name in ("lane", "rate", "fixed")}
        try:
            with transaction.atomic():
                added = agree_fees(valid_from=options["since"], **terms)
                if added:
                    _log(options["lane"], options["since"], options["reason"])
        except FeesDiffer as differ:
            raise CommandError(str(differ)) from None
        said = "agreed" if added else "agreed before, nothing changed"
        self.stdout.write(
            f"{options['lane']}: {options['rate']} + {options['fixed']} USD since"
            f" {options['since']}: {said}"
        )


def _log(lane: str, since: date, because: str) -> None:
    agreed = FeeTerms.objects.get(lane=lane, valid_from=since)
    log_command(
        about=FeeTerms,
        named=agreed.pk,
        shown=str(agreed),
        did="Agreed",
        because=because,
    )


def _rate(text: str) -> Decimal:
    if not _RATE.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is not a share below 1 such as 0.029")
    return Decimal(text)


def _usd(text: str) -> Decimal:
    try:
        return usd(text)
    except NotAnAmount as error:
        raise ArgumentTypeError(str(error)) from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-01-01") from None
