"""Make a sign-in for the admin of a local stack; elsewhere accounts come from an administrator."""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from checkout.management.trail import ask_why, log_command


class Command(BaseCommand):
    """Running it twice is safe: the same name gets the given password and rights again."""

    help = (
        "Make a staff account for a local stack. Its roles say what it may do: viewer, analyst,\n"
        "approver, operator. Why is kept with your name in the audit trail (Log entries in the admin),\n"
        "unless nothing changes.\n\n"
        "Example:  STAFF_PASSWORD=… python manage.py create_staff ann --role analyst \\\n"
        '            --reason "she joined finance"'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("name", help="the name to sign in with")
        parser.add_argument(
            "--password", help="else the environment variable STAFF_PASSWORD is used"
        )
        parser.add_argument(
            "--role",
            action="append",
            default=[],
            help="viewer (if none is given), analyst, approver or operator; may be repeated",
        )
        parser.add_argument("--superuser", action="store_true", help="may use every action")
        ask_why(parser)

    def handle(
        self,
        *,
        name: str,
        password: str | None,
        role: list[str],
        superuser: bool,
        reason: str,
        **_options: Any,
    ) -> None:
        if not settings.LOCAL:
            raise CommandError(
                f"refused: this is {settings.ENVIRONMENT}; create_staff is for local stacks alone"
            )
        secret = password or os.environ.get("STAFF_PASSWORD", "")
        if len(secret) < 5:
            raise CommandError("give a password of 5 characters or more, or set STAFF_PASSWORD")
        wanted = set() if superuser else set(role or ["viewer"])
        groups = list(Group.objects.filter(name__in=wanted))
        if unknown := wanted - {group.name for group in groups}:
            known = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
            raise CommandError(f"no role {', '.join(sorted(unknown))}; there are: {known}")
        with transaction.atomic():
            user, made = User.objects.get_or_create(username=name)
            before = not made and user.check_password(secret) and _rights(user)
            user.is_staff = True
            user.is_superuser = superuser
            user.set_password(secret)
            user.save()
            user.user_permissions.clear()
            user.groups.set(groups)
            done = "created" if made else "updated"
            if before != _rights(user):
                _log(user, did=f"Sign-in {done}: {_rights(user)}", because=reason)
        self.stdout.write(f"{name} {done}; sign in at /admin/")


def _rights(user: User) -> str:
    """What it may do, in words."""
    if not user.is_staff:
        return "nothing"
    if user.is_superuser:
        return "everything, as a superuser"
    roles = user.groups.order_by("name").values_list("name", flat=True)
    # Rights beside the roles are taken away below.
    return ", ".join([*roles, *user.user_permissions.values_list("codename", flat=True)])


def _log(user: User, *, did: str, because: str) -> None:
    log_command(about=User, named=user.pk, shown=user.username, did=did, because=because)
