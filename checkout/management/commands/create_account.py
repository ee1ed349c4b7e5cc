"""Create an account: a platform that uses the service."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.models import Account


class Command(BaseCommand):
    """Running it twice is safe: the id comes from the name."""

    help = "Create an account; print its id. An account that exists is left as it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = 'example:\n  manage.py create_account "My platform"'
        parser.add_argument("name", help="the platform's name, 1 to 100 characters")

    def handle(self, *, name: str, **_options: Any) -> None:
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise CommandError("the name is 1 to 100 printable characters")
        account, made = Account.objects.get_or_create(
            name=name,
            defaults={
                "id": Account.derive_id(name=name),
                "created_at": wiring.clock().real_now(),
            },
        )
        self.stdout.write(str(account.id))
        self.stderr.write(f"account {name!r} {'created' if made else 'was already there'}")
