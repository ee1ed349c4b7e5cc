"""Members of staff, signed in, with the roles of settlements/roles.py."""

from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client

from settlements.roles import settle_roles


def user_of(*roles: str, name: str = "") -> User:
    """A member of staff; after a test that flushed the database the groups are made again."""
    if not Group.objects.filter(name__in=roles).exists():
        settle_roles(apps)
    user, _ = User.objects.get_or_create(username=name or "-".join(roles), is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


def member(*roles: str, name: str = "") -> Client:
    """That member's browser, signed in."""
    client = Client()
    client.force_login(user_of(*roles, name=name))
    return client
