"""The migrations of settlements go back to nothing, and forward again."""

import pytest
from django.core.management import call_command
from django.db import connection

pytestmark = pytest.mark.django_db


def ours() -> set[str]:
    """Every function and marking trigger that settlements put into the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'settlements\\_%'"
            " UNION SELECT tgname || ' on ' || tgrelid::regclass FROM pg_trigger"
            " WHERE tgname LIKE 'dirty\\_%' AND tgenabled = 'A'"
            " UNION SELECT relname FROM pg_class"
            " WHERE relname LIKE 'settlements\\_%' OR relname LIKE 'reconcile\\_%'"
        )
        return {name for (name,) in cursor.fetchall()}


def test_backwards_leaves_nothing_and_forwards_brings_all_back():
    before = ours()
    assert "dirty_update on checkout_charge" in before

    call_command("migrate", "settlements", "zero", verbosity=0)
    assert ours() == set()
    call_command("migrate", "settlements", verbosity=0)

    assert ours() == before
