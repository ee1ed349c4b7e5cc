"""Make a sign-in for the admin of a local stack; elsewhere accounts come from an administrator."""

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Running it twice is safe: the same name gets the given password and rights again."""

    help = (
        "Make a staff account for a local stack. Its roles say what it may do: viewer, analyst, "
        "approver, operator. Example: STAFF_PASSWORD=… manage.py create_staff ann --role analyst"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
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

    def handle(
        self, *, name: str, password: str | None, role: list[str], superuser: bool, **_options: Any
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
        user, made = User.objects.get_or_create(username=name)
        user.is_staff = True
        user.is_superuser = superuser
        user.set_password(secret)
        user.save()
        user.user_permissions.clear()
        user.groups.set(groups)
        self.stdout.write(f"{name} {'created' if made else 'updated'}; sign in at /admin/")
