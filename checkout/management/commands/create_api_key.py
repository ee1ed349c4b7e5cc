"""Issue an API key for an account, or revoke one."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout import wiring
from checkout.management.trail import ask_why, log_command
from checkout.models import Account, ApiKey

EXAMPLES: Final = """\
examples:
  KEY=$(manage.py create_api_key "My platform" --label "checkout page" --reason "goes live")
  manage.py create_api_key "My platform" --revoke 3fk2m1p8q0zz --reason "it stood in a log"
"""


class Command(BaseCommand):
    """Two live keys at a time let a platform change over without a gap."""

    help = (
        "Issue an API key: printed once, on standard output; only its SHA-256 is stored. Why is kept\n"
        "with your name in the audit trail (Log entries in the admin)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = EXAMPLES
        parser.add_argument("account", help="the account's name")
        parser.add_argument("--label", default="", help="what the key is for, shown to people")
        parser.add_argument("--revoke", metavar="PREFIX", help="revoke this key, issue none")
        ask_why(parser)

    def handle(
        self, *, account: str, label: str, revoke: str | None, reason: str, **_options: Any
    ) -> None:
        owner = Account.objects.filter(name=account).first()
        if owner is None:
            raise CommandError(f"there is no account {account!r}; create it by create_account")
        if revoke is not None:
            self._revoke(owner, revoke, because=reason)
            return
        if len(label) > 100:
            raise CommandError("the label is at most 100 characters")
        with transaction.atomic():
            key = ApiKey.issue(account=owner, label=label, now=wiring.clock().real_now())
            _log(key.split("_")[1], did=f"Issued to {owner.name}: {label!r}", because=reason)
        self.stdout.write(key)
        self.stderr.write("Keep it now: it cannot be shown again.")

    def _revoke(self, owner: Account, prefix: str, *, because: str) -> None:
        live = ApiKey.objects.filter(account=owner, prefix=prefix, revoked_at__isnull=True)
        with transaction.atomic():
            if not live.update(revoked_at=wiring.clock().real_now()):
                raise CommandError(f"{owner.name!r} has no live key with the prefix {prefix!r}")
            _log(prefix, did="Revoked", because=because)
        self.stderr.write(f"key {prefix} is revoked from now on")


def _log(prefix: str, *, did: str, because: str) -> None:
    """A line of the trail about a key, which is known by its prefix; nobody keeps the rest."""
    log_command(
        about=ApiKey,
        named=ApiKey.objects.get(prefix=prefix).pk,
        shown=prefix,
        did=did,
        because=because,
    )
