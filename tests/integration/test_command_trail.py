"""What a person decides at the command line is a line of the audit trail: who, what and why."""

import getpass
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db.models import Model

from checkout import wiring
from checkout.models import (
    Account,
    ApiKey,
    BulkRequeue,
    Case,
    Creator,
    Hold,
    OutboxMessage,
    PendingMessage,
    Plan,
    RoutingRule,
)
from devstack.sqs import Sqs
from settlements.models import BankStatement, StatementImport
from tests.factories import LANE, World, fresh
from tests.factories_roles import ensure_roles
from tests.factories_settlements import statement_text
from tests.fakes import FakeBroker
from tests.integration.test_outbox_relay import publish
from tests.integration.test_requeues import exhausted
from tests.integration.test_statements import DAY, paid

pytestmark = pytest.mark.django_db

DEMO = Path("demo")
BANKS = Path(__file__).parents[1] / "files" / "statements" / "mock-bank-day-1.camt.053.001.08.xml"
WHY = "asked for in ticket 881"
BY = f"command line: {getpass.getuser()}"


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out, stderr=out)
    return out.getvalue()


def act(*words: str) -> str:
    return run(*words, "--reason", WHY)


def kept(about: type[Model]) -> list[tuple[str, str]]:
    """The row and what was done, of each line of the trail about such rows; who and why are tested."""
    lines = []
    kind = ContentType.objects.get_for_model(about)
    for line in LogEntry.objects.filter(content_type=kind).order_by("id"):
        did, end = line.change_message.split(f" ({BY}): ")
        assert end == WHY
        lines.append((str(line.object_id), did))
    return lines


def test_a_pause_and_its_end_are_two_lines_about_the_hold() -> None:
    act("pause", LANE)
    act("resume", LANE)

    hold = str(Hold.objects.get().pk)
    assert kept(Hold) == [
        (hold, f"Paused {LANE} until it is resumed"),
        (hold, f"Resumed {LANE}"),
    ]


def test_what_a_file_adds_is_one_line_and_what_is_there_none() -> None:
    act("create_account", "demonstration")
    for _ in range(2):
        act("load_plans", str(DEMO / "plans.csv"))
        act("load_routing_rules", str(DEMO / "routing_rules.csv"))
        act("load_creators", str(DEMO / "creators.csv"))

    rules = RoutingRule.objects.count()
    assert kept(Plan) == [("plans.csv", "4 plans added, 0 already there")]
    assert kept(RoutingRule) == [
        ("routing_rules.csv", f"{rules} routing rules added, 0 already there")
    ]
    assert kept(Creator) == [("creators.csv", "500 creators added, 0 already there")]


def test_a_file_that_is_refused_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    path.write_text("code,name,price,interval,interval_count\nmonthly,Monthly,x,month,1\n")

    with pytest.raises(CommandError):
        act("load_plans", str(path))

    assert not LogEntry.objects.exists()


def test_an_account_and_its_keys_are_lines_that_hold_no_secret() -> None:
    for _ in range(2):
        act("create_account", "platform")
    key = act("create_api_key", "platform", "--label", "checkout page").splitlines()[0]
    prefix, secret = key.split("_", 2)[1:]
    act("create_api_key", "platform", "--revoke", prefix)

    row = str(ApiKey.objects.get().pk)
    assert kept(Account) == [(str(Account.objects.get().pk), "Created")]
    assert kept(ApiKey) == [(row, "Issued to platform: 'checkout page'"), (row, "Revoked")]
    assert not LogEntry.objects.filter(change_message__contains=secret).exists()


def test_a_sign_in_is_a_line_whenever_its_rights_or_password_change() -> None:
    ensure_roles()
    act("create_staff", "ann", "--password", "local-only", "--role", "analyst")
    act("create_staff", "ann", "--password", "local-only", "--role", "analyst")
    act("create_staff", "ann", "--password", "another-one", "--role", "analyst")
    act("create_staff", "ann", "--password", "another-one", "--superuser")

    ann = str(User.objects.get(username="ann").pk)
    assert kept(User) == [
        (ann, "Sign-in created: analyst"),
        (ann, "Sign-in updated: analyst"),
        (ann, "Sign-in updated: everything, as a superuser"),
    ]


def test_dead_letters_are_sent_again_with_a_line(sqs: Sqs | None, settings: Any) -> None:
    settings.SQS_QUEUE, settings.SQS_DEAD_LETTER_QUEUE = "trail.fifo", "trail-dlq.fifo"
    run("create_queues")

    act("redrive")

    asked = "Asked to send what lies in the dead-letter queue again"
    assert kept(Case) == [("dead letters", asked)]


@pytest.mark.django_db(transaction=True)
def test_messages_are_sent_again_and_released_with_a_line() -> None:
    world = World()
    world.due_charge()
    since = world.clock.real_now()
    publish(FakeBroker(), world.clock)
    published = OutboxMessage.objects.filter(door="kafka").count()

    act("republish", "--since", since.isoformat())
    parked = PendingMessage.objects.filter(door="kafka").select_related("message")[0]
    PendingMessage.objects.filter(pk=parked.pk).update(parked_at=since)
    act("republish", "--parked", str(parked.message.event_id))

    what = f"Asked to send again what kafka published since {since.isoformat()}"
    assert kept(OutboxMessage) == [
        ("kafka", f"{what}, {published} messages"),
        (str(parked.message.event_id), "Released what was parked"),
    ]


def test_a_bulk_requeue_is_a_line_and_a_dry_run_none() -> None:
    charge = exhausted(World())

    act("requeue", "--lane", LANE, "--dry-run")
    act("requeue", "--lane", LANE)

    assert fresh(charge).round == 2
    assert kept(BulkRequeue) == [(str(BulkRequeue.objects.get().pk), "1 charge, 19.99 USD")]


def statement(tmp_path: Path) -> tuple[str, ...]:
    paid(World())
    path = tmp_path / "cis.csv"
    path.write_text(statement_text(DAY))
    return ("import_statement", str(path), "--processor", "sandbox", "--account", LANE)


def test_a_statement_that_is_stored_is_a_line_and_one_that_is_known_none(tmp_path: Path) -> None:
    words = statement(tmp_path)
    for _ in range(2):
        act(*words)

    stored = StatementImport.objects.get()
    assert stored.imported_by == BY
    assert kept(StatementImport) == [(str(stored.pk), "Imported cis.csv")]


def test_a_statement_nobody_explains_was_imported_as_delivered(tmp_path: Path) -> None:
    run(*statement(tmp_path), "--by", "the nightly fetch")

    line = LogEntry.objects.get()
    assert line.change_message == (
        f"Imported cis.csv, brought by the nightly fetch ({BY}): as delivered"
    )


def test_each_statement_of_a_banks_file_is_a_line() -> None:
    act("import_statement", "--bank", str(BANKS))

    assert kept(BankStatement) == [
        (str(BankStatement.objects.get().pk), f"Imported {BANKS.name}"),
    ]


@pytest.mark.parametrize(
    "told",
    [
        {"closing": Decimal("94.98")},
        {"first_day": date(2026, 1, 5), "last_day": date(2026, 1, 5)},
    ],
)
def test_whoever_tells_what_a_file_does_not_say_says_why(told: dict[str, object]) -> None:
    with pytest.raises(CommandError, match="say why") as refused:
        call_command("import_statement", "x.csv", processor="sandbox", account=LANE, **told)

    assert refused.value.returncode == 2


def _paused() -> None:
    run("pause", LANE, "--reason", WHY)
    LogEntry.objects.all().delete()


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (("pause", LANE), None),
        (("resume", LANE), _paused),
        (("load_plans", str(DEMO / "plans.csv")), None),
        (("load_routing_rules", str(DEMO / "routing_rules.csv")), None),
        (("load_creators", str(DEMO / "creators.csv")), None),
        (("create_account", "platform"), None),
        (("create_api_key", "platform"), None),
        (("create_staff", "ann", "--password", "local-only"), None),
        (("redrive",), None),
        (("republish", "--since", "2026-01-01T00:00:00Z"), None),
        (("requeue", "--awaits", "person"), None),
    ],
)
@pytest.mark.parametrize("why", [(), ("--reason", "ok")])
def test_nothing_is_done_before_somebody_says_why(
    words: tuple[str, ...], before: Callable[[], None] | None, why: tuple[str, ...]
) -> None:
    if before:
        before()
    holds = Hold.objects.in_force(wiring.clock().real_now()).count()

    with pytest.raises(CommandError, match="reason"):
        run(*words, *why)

    assert not LogEntry.objects.exists()
    assert Hold.objects.in_force(wiring.clock().real_now()).count() == holds
    assert not any(model.objects.exists() for model in (Account, ApiKey, Creator))
