"""Create an account: a platform that uses the service."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout import wiring
from checkout.management.trail import ask_why, log_command
from checkout.models import Account


class Command(BaseCommand):
    """Running it twice is safe: the id comes from the name."""

    help = (
        "Create an account; print its id. An account that exists is left as it is. Why is kept with\n"
        "your name in the audit trail (Log entries in the admin), unless it was there."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            'example:\n  manage.py create_account "My platform" --reason "contract 17 is signed"'
        )
        parser.add_argument("name", help="the platform's name, 1 to 100 characters")
        ask_why(parser)

    def handle(self, *, name: str, reason: str, **_options: Any) -> None:
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise CommandError("the name is 1 to 100 printable characters")
        with transaction.atomic():
            account, made = Account.objects.get_or_create(
                name=name,
                defaults={
                    "id": Account.derive_id(name=name),
                    "created_at": wiring.clock().real_now(),
                },
            )
            if made:
                log_command(
                    about=Account,
                    named=account.pk,
                    shown=name,
                    did="Created",
                    because=reason,
                )
        self.stdout.write(str(account.id))
        self.stderr.write(f"account {name!r} {'created' if made else 'was already there'}")
