"""Members of staff, signed in, with the roles of settlements/roles.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client

from checkout.clock import Clock
from settlements.roles import settle_roles
from tests.fakes import FakeClock


def ensure_roles() -> None:
    """Make again what the migrations made, once a test that empties every table has been here."""
    if not Group.objects.exists():
        settle_roles(apps)


def user_of(*roles: str, name: str = "") -> User:
    """A member of staff; after a test that flushed the database the groups are made again."""
    ensure_roles()
    user, _ = User.objects.get_or_create(username=name or "-".join(roles), is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


@contextmanager
def pages_at(clock: FakeClock) -> Iterator[None]:
    """The pages read the processes' own clock: its business clock is moved to a test's day."""
    file = Path(settings.CLOCK_FILE)
    offset = clock.business_now() - Clock().real_now()
    file.write_text(str(offset.total_seconds()), "ascii")
    yield
    file.unlink(missing_ok=True)


def member(*roles: str, name: str = "") -> Client:
    """That member's browser, signed in."""
    client = Client()
    client.force_login(user_of(*roles, name=name))
    return client
