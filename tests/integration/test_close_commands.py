"""`close_day` and `close_month`: proposed and locked by command, with the reason in the audit trail."""

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from checkout.management import progress
from checkout.management.trail import NOBODY
from settlements import books, payouts
from settlements.exports.journal import count_postings
from settlements.models import BooksClose, Decision, Span
from settlements.roles import APPROVER
from tests.factories import World
from tests.factories_roles import pages_at, user_of
from tests.integration.test_books import approved, closed, over, paid, proposed

pytestmark = pytest.mark.django_db(transaction=True)
ME = getpass.getuser()
BECAUSE = ("--reason", "the bank was compared")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def month(world: World, tmp_path: Path) -> Iterator[date]:
    """Its one day with anything in it, the last, is closed; two captures, eight postings."""
    paid(world)
    paid(world, "5.01")
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        closed(world, day)
    with pages_at(world.clock):
        yield day.replace(day=1)


def told(*command: str) -> dict[str, Any]:
    out = StringIO()
    call_command(*command, "--json", stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def refused(*command: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as refusal:
        call_command(*command)
    return refusal.value.returncode, str(refusal.value)


def trail() -> list[tuple[str, str, str]]:
    """Who, about what, and the words."""
    rows = LogEntry.objects.order_by("id").select_related("user")
    return [(row.user.get_username(), row.object_repr, row.change_message) for row in rows]


def test_close_day_names_what_is_open_and_then_proposes(world: World) -> None:
    """Exit 1 with each thing by name; 0 when it is proposed; 2 when it is no turn of that day."""
    paid(world)
    day = over(world)
    name = f"file:cis:{day}"

    code, said = refused("close_day", f"{day}")
    assert (code, name in said) == (1, True)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("close_day", f"{day}", "--json", stdout=out)
    assert (ended.value.code, json.loads(out.getvalue())["open"][0]["name"]) == (1, name)

    proposal = told("close_day", f"{day}", "--carry", f"{name}=late again", *BECAUSE)
    assert (proposal["state"], proposal["carried"]) == ("waits for another person", 1)
    user_of(APPROVER, name=ME)
    code, said = refused("close_day", f"{day}", "--approve", proposal["sha256"], *BECAUSE)
    assert (code, "does not approve" in said) == (2, True)
    with transaction.atomic():
        approved(world, BooksClose.objects.get())
    assert refused("close_day", f"{day}")[0] == 2


def test_close_day_locks_what_another_person_proposed(world: World) -> None:
    paid(world)
    day = over(world)
    with transaction.atomic():
        close = proposed(world, day, file="late again")
    user_of(APPROVER, name=ME)

    with pages_at(world.clock):
        assert told("close_day", f"{day}", "--approve", close.sha256, *BECAUSE)["state"] == (
            "approved"
        )

    close.refresh_from_db()
    assert close.decided_because == "the bank was compared"
    assert trail() == [(ME, f"{close}", f"Locked (command line: {ME}): the bank was compared")]


def test_without_a_reason_nothing_is_proposed_and_nothing_locked(world: World) -> None:
    paid(world)
    day = over(world)

    code, said = refused("close_day", f"{day}", "--carry", "file=late again")
    assert (code, "--reason" in said) == (2, True)
    assert not BooksClose.objects.exists()

    with transaction.atomic():
        close = proposed(world, day, file="late again")
    user_of(APPROVER, name=ME)
    code, said = refused("close_day", f"{day}", "--approve", close.sha256)
    assert (code, "--reason" in said) == (2, True)
    close.refresh_from_db()
    assert close.decision == Decision.OPEN
    assert "5 to 300 characters" in refused("close_day", f"{day}", "--reason", "ok")[1]


def test_close_month_proposes_with_the_hashes_of_the_files_and_locks(month: date) -> None:
    """Proposed by nobody who signs in; locked by an approver of this name once another proposed it."""
    proposal = told("close_month", f"{month:%Y-%m}", *BECAUSE)

    close = BooksClose.objects.get(span=Span.MONTH)
    assert proposal == {
        "close": f"{month:%Y-%m}",
        "state": "waits for another person",
        "lines": 8,
        "debit_usd": "50.00",
        "credit_usd": "50.00",
        "journal_sha256": close.journal_sha256,
        "carried": 0,
        "carried_usd": "0.00",
        "sha256": close.sha256,
    }
    asked = f"Proposed to close it (command line: {ME}): the bank was compared"
    assert trail() == [(NOBODY, f"{close}", asked)]


def test_close_month_locks_and_says_so_in_words(month: date, world: World) -> None:
    with transaction.atomic():
        close = books.propose_month(month=month, by="ann", now=world.clock.now())
    user_of(APPROVER, name=ME)
    out = StringIO()

    call_command("close_month", f"{month:%Y-%m}", "--approve", close.sha256, *BECAUSE, stdout=out)

    assert "state           approved" in out.getvalue()
    close.refresh_from_db()
    assert (close.decision, close.decided_by) == (Decision.APPROVED, f"command line: {ME}")


def test_close_month_refuses_what_is_no_turn_of_it(month: date) -> None:
    user_of(APPROVER, name=ME)
    code, said = refused("close_month", f"{month:%Y-%m}", "--approve", "0", *BECAUSE)
    assert (code, "no proposal to close this month waits" in said) == (2, True)
    code, said = refused("close_month", f"{month.replace(year=2027):%Y-%m}", *BECAUSE)
    assert (code, "is its last" in said) == (2, True)


# --- Bars ------------------------------------------------------------------------------------------


def test_a_bar_is_told_of_each_posting_of_the_month(month: date, world: World) -> None:
    steps: list[int] = []
    with transaction.atomic():
        books.propose_month(month=month, by="ann", now=world.clock.now(), progress=steps.append)

    assert sum(steps) == 8 == count_postings(month=month)
    assert books.count_steps(span=Span.MONTH, first_day=month) == 8


def test_a_bar_is_told_of_each_step_of_a_day(world: World) -> None:
    paid(world)
    day = over(world)
    steps: list[int] = []

    books.draft_of_day(day=day, reasons={}, now=world.clock.now(), progress=steps.append)

    assert sum(steps) == books.count_steps(span=Span.DAY, first_day=day)


def test_the_bar_of_a_command_reaches_its_end(
    month: date, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "SHOWN_AFTER", -1.0)

    told("close_month", f"{month:%Y-%m}", *BECAUSE)
    assert "8/8" in capsys.readouterr().err
    told("export", "journal", "--month", f"{month:%Y-%m}", "--out", str(tmp_path / "journal.csv"))
    assert "8/8" in capsys.readouterr().err
    call_command("reconcile", "ledger", "captured", "--as-of", f"{month}", stdout=StringIO())
    assert "2/2" in capsys.readouterr().err


def test_a_bar_is_told_of_each_file_mark_and_booking(month: date, world: World) -> None:
    """Gathering, proving and booking count what is there when each begins, and reach it."""
    bars: dict[str, list[int]] = {}

    @contextmanager
    def bar(what: str, count: Callable[[], int]) -> Iterator[Callable[[int], None]]:
        left = bars[what] = [count()]
        yield left.append

    payouts.prove(clock=world.clock, ages=world.ages, bar=bar)

    assert {what: steps[0] for what, steps in bars.items()} == {
        "Gathering files": 1,
        "Proving settlements": 0,
        "Booking files, credits and payouts": 1,
    }
    assert all(total == sum(steps) for total, *steps in bars.values())
