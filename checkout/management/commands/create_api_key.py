"""Issue an API key for an account, or revoke one."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from checkout import wiring
from checkout.models import Account, ApiKey

EXAMPLES: Final = """\
examples:
  KEY=$(manage.py create_api_key "My platform" --label "checkout page")
  manage.py create_api_key "My platform" --revoke 3fk2m1p8q0zz
"""


class Command(BaseCommand):
    """Two live keys at a time let a platform change over without a gap."""

    help = "Issue an API key: printed once, on standard output; only its SHA-256 is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = EXAMPLES
        parser.add_argument("account", help="the account's name")
        parser.add_argument("--label", default="", help="what the key is for, shown to people")
        parser.add_argument("--revoke", metavar="PREFIX", help="revoke this key, issue none")

    def handle(self, *, account: str, label: str, revoke: str | None, **_options: Any) -> None:
        owner = Account.objects.filter(name=account).first()
        if owner is None:
            raise CommandError(f"there is no account {account!r}; create it by create_account")
        if revoke is not None:
            self._revoke(owner, revoke)
            return
        if len(label) > 100:
            raise CommandError("the label is at most 100 characters")
        key = ApiKey.issue(account=owner, label=label, now=wiring.clock().real_now())
        self.stdout.write(key)
        self.stderr.write("Keep it now: it cannot be shown again.")

    def _revoke(self, owner: Account, prefix: str) -> None:
        live = ApiKey.objects.filter(account=owner, prefix=prefix, revoked_at__isnull=True)
        if not live.update(revoked_at=wiring.clock().real_now()):
            raise CommandError(f"{owner.name!r} has no live key with the prefix {prefix!r}")
        self.stderr.write(f"key {prefix} is revoked from now on")
