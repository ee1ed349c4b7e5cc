"""`manage.py triage`: one screen, in time, with everything dead too; and what it advises."""

import io
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from checkout import routing
from checkout.clock import Ages
from checkout.gateways import DeclineClass, Declined, InDoubt
from checkout.models import Charge, HoldKind, HoldScope
from checkout.readings import Pile, Retries
from settlements.management.triage import (
    LIMIT_SECONDS,
    MUST_BEAT,
    Books,
    Part,
    Triage,
    next_step,
    read_books,
    risks,
    spell,
)
from tests.factories import LANE, World
from tests.fakes import START, FakeGateway

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 5.0


def triage_with(**places: str) -> dict[str, Any]:
    """Run the command in a process of its own, as an operator does."""
    done = subprocess.run(
        [sys.executable, "manage.py", "triage", "--json"],
        cwd=ROOT,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def places_at(port: int) -> dict[str, str]:
    at = f"127.0.0.1:{port}"
    return {
        "DATABASE_URL": f"postgresql://nobody:nothing@{at}/checkout",
        "DATABASE_DIRECT_URL": f"postgresql://nobody:nothing@{at}/checkout",
        "SQS_ENDPOINT_URL": f"http://{at}",
        "KAFKA_BOOTSTRAP_SERVERS": at,
        "PROCESSOR_URL": f"http://{at}",
    }


def test_with_every_part_dead_triage_is_back_in_time_and_names_each_part() -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        facts = triage_with(**places_at(unused.getsockname()[1]))

    assert facts["seconds"] < MOST_SECONDS
    assert [part["name"] for part in facts["parts"] if not part["answers"]] == [
        "PostgreSQL",
        "SQS",
        "Kafka",
        "processor",
    ]
    assert facts["money_at_risk"] is True
    assert "devstack" in facts["next"]["command"]


def test_with_every_part_a_black_hole_triage_is_back_in_time() -> None:
    with closing(socket.socket()) as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(50)
        facts = triage_with(**places_at(hole.getsockname()[1]))

    assert LIMIT_SECONDS / 2 < facts["seconds"] < MOST_SECONDS
    assert not any(part["answers"] for part in facts["parts"])


@pytest.mark.django_db(transaction=True)
def test_the_books_are_read_whole_and_nothing_is_changed() -> None:
    soft = Declined(decline_class=DeclineClass.ISSUER_SOFT, code="do_not_honor")
    world = World(gateway=FakeGateway(answers=[soft, InDoubt(reason="timed out")]))
    charge = world.due_charge(price="199.00")
    world.receive(charge)
    world.clock.forward(seconds=400)
    world.receive(charge, count=2)
    world.due_charge()
    routing.place_hold(
        kind=HoldKind.PAUSE,
        scope=HoldScope.LANE,
        subject=LANE,
        reason="maintenance",
        by="test",
        until=None,
        now=world.clock.now(),
    )

    books = read_books(world.clock.real_now())

    assert books.in_doubt.count == 1
    assert books.in_doubt.usd == Decimal("199.00")
    assert books.retries == [Retries(lane=LANE, cause="issuer_soft", count=1)]
    assert books.retry_count == 1
    assert books.oldest_owed is not None
    assert [hold.reason for hold in books.holds] == ["maintenance"]


@pytest.mark.django_db(transaction=True)
def test_the_screen_shows_what_waits_and_the_next_command(sqs: object, kafka: object) -> None:
    World(gateway=FakeGateway(answers=[InDoubt(reason="timed out")])).due_charge()
    text = io.StringIO()

    call_command("triage", stdout=text)

    shown = text.getvalue()
    for words in ("money at risk:", "next:", "charges in doubt", "waits to leave by sqs", "worker"):
        assert words in shown


# --- The advice, without any server ------------------------------------------------------------------

ALIVE = [Part(name, True, "", 0.1) for name in ("PostgreSQL", "SQS", "Kafka", "processor")]


def a_triage(**changes: object) -> Triage:
    calm: dict[str, object] = {
        "retry_count": 0,
        "retries": [],
        "beats": dict.fromkeys(MUST_BEAT, 1.0),
        "in_doubt": Pile(),
        "cases": {},
        "outbox": {},
        "oldest_owed": None,
        "holds": [],
        "discrepancies": {},
        "passes": [],
        "statement_days": {},
        "notices": Pile(),
    }
    books = Books(**{**calm, **changes})  # type: ignore[arg-type]
    return Triage(at=START, seconds=0.1, parts=ALIVE, books=books, waiting=None)


def test_a_calm_service_has_no_money_at_risk_and_nothing_to_do() -> None:
    calm = a_triage()

    assert risks(calm, ages=Ages()) == []
    assert next_step(calm, ages=Ages(), local=True).command == "nothing to do"


@pytest.mark.parametrize(
    ("changes", "risk", "command"),
    [
        ({"in_doubt": Pile(2, Decimal("39.98"))}, "charges in doubt: 2, 39.98 USD", "in_doubt"),
        (
            {"cases": {"dead_letter": Pile(1, Decimal("4.99"))}},
            "wait for a person: 1, 4.99",
            "/admin/",
        ),
        ({"discrepancies": {"captured": Pile(1, Decimal("0.03"))}}, "0.03 USD", "reconcile"),
        ({"cases": {"unapplied_receipt": Pile(1, Decimal("9.99"))}}, "no charge could take", ""),
        ({"cases": {"bill_run": Pile(1)}}, "a bill run waits", "kind=bill_run"),
        ({"beats": {}}, "", "worker"),
        ({"oldest_owed": Charge(created_at=START - timedelta(hours=3))}, "waits 3 h", "worker"),
    ],
)
def test_what_waits_is_named_with_its_usd_and_a_command(
    changes: dict[str, object], risk: str, command: str
) -> None:
    triage = a_triage(**changes)

    assert any(risk in reason for reason in risks(triage, ages=Ages())) or not risk
    assert command in next_step(triage, ages=Ages(), local=True).command


def test_a_part_that_is_away_comes_before_everything_else() -> None:
    away = Part("processor", False, "refused", 0.1)
    triage = Triage(START, 0.1, [*ALIVE[:3], away], a_triage().books, None)

    assert "pause all" in next_step(triage, ages=Ages(), local=False).command


def test_lengths_of_time_are_spelt_as_people_say_them() -> None:
    said = [spell(timedelta(**span).total_seconds()) for span in ({"seconds": 4}, {"hours": 3})]

    assert said == ["4 s", "3 h"]
