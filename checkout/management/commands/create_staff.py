"""Make a sign-in for the admin of a local stack; elsewhere accounts come from an administrator."""

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Running it twice is safe: the same name gets the given password and rights again."""

    help = (
        "Make a staff account for a local stack. It may read everything; with --superuser it may "
        "also decide. Example: STAFF_PASSWORD=… manage.py create_staff finance"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the name to sign in with")
        parser.add_argument(
            "--password", help="else the environment variable STAFF_PASSWORD is used"
        )
        parser.add_argument("--superuser", action="store_true", help="may use every action")

    def handle(self, *, name: str, password: str | None, superuser: bool, **_options: Any) -> None:
        if not settings.LOCAL:
            raise CommandError(
                f"refused: this is {settings.ENVIRONMENT}; create_staff is for local stacks alone"
            )
        secret = password or os.environ.get("STAFF_PASSWORD", "")
        if len(secret) < 5:
            raise CommandError("give a password of 5 characters or more, or set STAFF_PASSWORD")
        user, made = User.objects.get_or_create(username=name)
        user.is_staff = True
        user.is_superuser = superuser
        user.set_password(secret)
        user.save()
        user.user_permissions.set(() if superuser else reading_rights())
        self.stdout.write(f"{name} {'created' if made else 'updated'}; sign in at /admin/")


def reading_rights() -> list[Permission]:
    """To see every page of ours, and to decide nothing."""
    return list(
        Permission.objects.filter(
            content_type__app_label__in=["checkout", "settlements"], codename__startswith="view_"
        )
    )
