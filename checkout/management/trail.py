"""What a command leaves in the audit trail of the admin: what was done, who typed it, and why."""

import getpass
from argparse import ArgumentParser, ArgumentTypeError
from typing import Final

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from checkout.desk import LONGEST_REASON, SHORTEST_REASON
from checkout.requeues import BY_COMMAND

SAY_WHY: Final = f"say why, in {SHORTEST_REASON} to {LONGEST_REASON} characters: --reason; it is kept with your name"
# Whose a line of the trail is when nobody signs in under the machine's name; no one can sign in as it.
NOBODY: Final = "command line"


def reason(text: str) -> str:
    """Why somebody acts, as the pages ask for it; a type of argparse."""
    if not SHORTEST_REASON <= len(text.strip()) <= LONGEST_REASON:
        raise ArgumentTypeError(f"a reason is {SHORTEST_REASON} to {LONGEST_REASON} characters")
    return text.strip()


def ask_why(parser: ArgumentParser) -> None:
    """Have a command refuse to act before somebody says why."""
    parser.add_argument("--reason", required=True, type=reason, help="why; kept with your name")


def person() -> str:
    """Who typed the command, as far as the machine knows."""
    return f"{BY_COMMAND}{getpass.getuser()}"


def log_command(*, about: type[Model], named: object, shown: str, did: str, because: str) -> None:
    """Write a line of the trail about the row `named`, in the caller's transaction.

    It is of the sign-in that bears the name at the machine, as closes of the books take it (R43), and
    says in any case that it was the command line.
    """
    user = User.objects.filter(username=getpass.getuser()).first() or _nobody()
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(about),
        object_id=str(named),
        object_repr=shown[:200],
        action_flag=CHANGE,
        change_message=f"{did} ({person()}): {because}",
    )


def _nobody() -> User:
    locked = {"is_active": False, "password": make_password(None)}
    return User.objects.get_or_create(username=NOBODY, defaults=locked)[0]
