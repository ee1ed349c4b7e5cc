"""`manage.py reconcile`: 0 clean, 1 discrepancies, 2 could not run; a table and JSON."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from devstack.ports import free_port
from settlements.models import Discrepancy
from tests.factories import World
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    world = World()
    world.receive(world.due_charge())
    return world


def reconcile(*args: str, **options: Any) -> tuple[int, str]:
    """Exit code and output."""
    out = StringIO()
    try:
        call_command("reconcile", *args, stdout=out, **options)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def test_records_that_agree_end_with_0(world):
    # The business clock of the command is the machine's, so only what no date decides is compared.
    code, text = reconcile("billing", "captured", "ledger")

    assert (code, text) == (0, "All agrees: billing, captured, ledger.\n")


def test_a_discrepancy_ends_with_1_and_a_table_that_people_can_read(world):
    """R37."""
    edit("UPDATE checkout_charge SET amount = 19.96")

    code, text = reconcile("billing")

    assert code == 1
    assert "1 discrepancies" in text
    assert "-0.03" in text
    assert "Under-charge of 0.03 USD: 19.99 was owed" in " ".join(text.split())


def test_json_says_the_same_with_amounts_as_strings(world):
    """R2."""
    edit("UPDATE checkout_charge SET amount = 19.96")

    code, text = reconcile("billing", "--json")

    (found,) = json.loads(text)
    assert code == 1
    assert (found["kind"], found["code"]) == ("billing", "under_charge")
    assert (found["expected"], found["actual"]) == ("19.99", "19.96")
    assert found["creator_id"] == str(Discrepancy.objects.get().creator_id)


def test_as_of_a_day_records_nothing(world):
    code, text = reconcile("periods", "--as-of", "2026-02-28", "--json")

    assert code == 1
    assert [finding["code"] for finding in json.loads(text)] == ["missing"]
    assert Discrepancy.objects.count() == 0


def test_kafka_away_ends_with_2(world, settings, monkeypatch):
    """A pass that could not compare what was asked for is not a clean one."""
    settings.KAFKA_BOOTSTRAP_SERVERS = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr("checkout.topics.reading.ADMIN_SECONDS", 1.0)

    code, text = reconcile("events")

    assert code == 2
    assert text.startswith("could not run: ")


@pytest.mark.parametrize("args", [("payouts",), ("everything",), ("--as-of", "soon")])
def test_what_it_cannot_compare_ends_with_2(world, args):
    code, text = reconcile(*args)

    assert code != 0
    assert "is not a" in text
