"""A closing that was mistyped for a file that came early: told again with the same file, and a reason."""

import getpass
from datetime import date
from decimal import Decimal
from pathlib import Path
from threading import Barrier, Thread

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from settlements.formats.lines import Refused, Told
from settlements.models import (
    Code,
    Discrepancy,
    ExpectationState,
    StatementExpectation,
    StatementImport,
)
from settlements.roles import ANALYST
from settlements.statements import Imported, import_statement
from tests.factories import LANE, World
from tests.factories_roles import member
from tests.factories_settlements import days_over, statement_text, take_in
from tests.integration.test_statement_upload import address, confirmed, review
from tests.integration.test_statements import STRIPE, look_again, stripe_name
from tests.integration.test_watched_statements import look, put, states

pytestmark = pytest.mark.django_db

WRONG, RIGHT = "-15.60", "-15.06"


@pytest.fixture
def world() -> World:
    return World()


def report(day: int) -> str:
    """Stripe's report of a day in January 2026; its lines come to -5.02."""
    text = STRIPE.read_text("utf-8").replace("2026-01-05", f"2026-01-0{day}")
    return text.replace("txn_3Q", f"txn_{day}")


def name(day: int, closing: str) -> str:
    return stripe_name(f"2026-01-0{day}", closing)


@pytest.fixture
def early(world: World, tmp_path: Path) -> StatementImport:
    """The file of the 7th came before that of the 6th, with a closing that nobody could check."""
    take_in(report(5), world=world, folder=tmp_path, name=name(5, "-5.02"))
    file = take_in(report(7), world=world, folder=tmp_path, name=name(7, WRONG)).statement
    assert file.reason == "the days from 2026-01-06 have no accepted file yet"
    return file


def the_6th_comes(world: World, folder: Path) -> None:
    take_in(report(6), world=world, folder=folder, name=name(6, "-10.04"))


def tell(
    world: World, folder: Path, closing: str, *, opening: str = "", text: str = ""
) -> tuple[Imported, str]:
    """The same file once more, with its balances; and what the trail would say."""
    path, said = folder / stripe_name("2026-01-07", "").replace("_closing_", ""), []
    path.write_text(text or report(7))
    imported = import_statement(
        path=path,
        processor="sandbox",
        lane=LANE,
        by="ann",
        now=days_over(world),
        ages=world.ages,
        told=Told(closing=Decimal(closing), opening=Decimal(opening) if opening else None),
        keep_trail=lambda _, correction: said.append(correction),
    )
    return imported, "; ".join(said)


def facts(file: StatementImport) -> tuple[str, str, str]:
    file.refresh_from_db()
    return file.state, str(file.opening), str(file.closing)


def standing() -> set[tuple[str, str]]:
    """What stands about files and rows, and says why."""
    rows = Discrepancy.objects.filter(cleared_at=None).exclude(code__in=[Code.UNMATCHED])
    return set(rows.values_list("code", "explanation"))


def test_the_corrected_closing_is_taken_and_the_file_accepted(world, early, tmp_path):
    the_6th_comes(world, tmp_path)
    early.refresh_from_db()
    why = "opening -10.04 and lines of -5.02 make -15.06, but the closing is -15.60"
    assert (early.state, early.reason) == ("quarantined", why)

    imported, said = tell(world, tmp_path, RIGHT)

    assert facts(early) == ("accepted", "-10.04", RIGHT)
    assert (imported.again, said) == (False, "Told again: closing -15.06, not closing -15.60")
    day = StatementExpectation.objects.get(lane=LANE, day=early.first_day)
    assert (day.state, day.statement) == (ExpectationState.ARRIVED, early)
    assert early.lines.count() == early.line_count


def test_a_file_that_still_waits_takes_it_and_is_accepted_by_itself_later(world, early, tmp_path):
    tell(world, tmp_path, RIGHT)
    assert facts(early)[0] == "quarantined"

    the_6th_comes(world, tmp_path)

    assert facts(early) == ("accepted", "-10.04", RIGHT)


def test_a_file_that_waited_for_the_corrected_one_is_accepted_with_it(world, early, tmp_path):
    the_6th_comes(world, tmp_path)
    take_in(report(8), world=world, folder=tmp_path, name=name(8, "-20.08"))

    imported, _ = tell(world, tmp_path, RIGHT)

    assert [str(each.closing) for each in imported.released] == ["-20.08"]


def test_what_moved_by_right_is_not_said_to_be_rewritten(world, early, tmp_path):
    """The opening of a file that waits follows the former closing, too."""
    look_again(world)
    [(code, said)] = {each for each in standing() if "2026-01-07" in each[1]}
    assert code == Code.QUARANTINED_FILE
    the_6th_comes(world, tmp_path)
    look_again(world)
    [(code, said)] = standing()
    assert (code, "the closing is -15.60" in said) == (Code.QUARANTINED_FILE, True)

    tell(world, tmp_path, RIGHT)
    look_again(world)

    assert standing() == set()


def test_balances_that_do_not_add_up_are_refused_and_change_nothing(world, early, tmp_path):
    """R39."""
    the_6th_comes(world, tmp_path)

    with pytest.raises(Refused, match=r"make -15\.06, but the closing is -15\.07; is the report"):
        tell(world, tmp_path, "-15.07")

    assert facts(early) == ("quarantined", "-10.04", WRONG)


def test_an_opening_that_was_told_wrong_is_told_again_or_left_out(world, early, tmp_path):
    the_6th_comes(world, tmp_path)

    _, said = tell(world, tmp_path, "-15.02", opening="-10.00")
    assert facts(early) == ("quarantined", "-10.00", "-15.02")
    assert said == "Told again: opening -10.00, closing -15.02, not closing -15.60"
    early.refresh_from_db()
    assert early.reason == "opening -10.00 is not the former closing -10.04"

    tell(world, tmp_path, RIGHT)
    assert facts(early) == ("accepted", "-10.04", RIGHT)


def test_the_same_closing_again_leaves_nothing(world, early, tmp_path):
    """R39."""
    imported, said = tell(world, tmp_path, WRONG)

    assert (imported.again, said) == (True, "")
    assert StatementImport.objects.count() == 2


def test_an_accepted_file_is_never_told_another_closing(world, early, tmp_path):
    """R39; and the database says so, too."""
    the_6th_comes(world, tmp_path)
    tell(world, tmp_path, RIGHT)

    imported, said = tell(world, tmp_path, WRONG)

    assert (imported.again, said, facts(early)) == (True, "", ("accepted", "-10.04", RIGHT))
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        StatementImport.objects.filter(pk=early.pk).update(closing=Decimal(WRONG))


def test_what_a_file_says_itself_is_never_told(world, tmp_path):
    """R40: of the processor's own CSV, which is framed by its balances."""
    text = statement_text(date(2026, 1, 7))
    off = text.replace("0.00,USD", "1.00,USD", 1)
    own = take_in(off, world=world, folder=tmp_path, name="cis.csv").statement
    assert own.reason == "opening 1.00 and lines of 0.00 make 1.00, but the closing is 0.00"

    imported, said = tell(world, tmp_path, "1.00", text=off)

    assert (imported.again, said, facts(own)) == (True, "", ("quarantined", "1.00", "0.00"))
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        StatementImport.objects.filter(pk=own.pk).update(closing=Decimal("1.00"))


def test_days_cannot_be_told_again(world, early, tmp_path):
    path = tmp_path / "report.csv"
    path.write_text(report(7))
    days = {"first_day": early.first_day, "last_day": early.last_day.replace(day=8)}

    with pytest.raises(Refused, match="it was told to cover 2026-01-07 to 2026-01-07, which stays"):
        import_statement(
            path=path,
            processor="sandbox",
            lane=LANE,
            by="ann",
            now=days_over(world),
            ages=world.ages,
            told=Told(closing=Decimal(RIGHT), **days),
            keep_trail=lambda *_: None,
        )


@pytest.mark.django_db(transaction=True)
def test_of_two_who_correct_it_at_once_one_does(world, early, tmp_path):
    the_6th_comes(world, tmp_path)
    start, said = Barrier(2), []

    def race(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            start.wait()
            said.append(tell(world, folder, RIGHT)[1])
        finally:
            connection.close()

    threads = [Thread(target=race, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(said) == ["", "Told again: closing -15.06, not closing -15.60"]
    assert facts(early) == ("accepted", "-10.04", RIGHT)


# --- The ways in -------------------------------------------------------------------------------------


def test_by_command_it_takes_a_reason(world, early, tmp_path):
    path = tmp_path / name(7, RIGHT)
    path.write_text(report(7))
    words = ("import_statement", str(path), "--processor", "sandbox", "--account", LANE)

    with pytest.raises(CommandError, match="say why") as refused:
        call_command(*words)
    assert refused.value.returncode == 2
    assert facts(early) == ("quarantined", "-5.02", WRONG)

    with pytest.raises(CommandError, match="set aside: the days from 2026-01-06") as aside:
        call_command(*words, "--reason", "two digits changed places")
    assert aside.value.returncode == 1

    line = LogEntry.objects.get()
    assert (line.object_id, line.change_message) == (
        str(early.pk),
        f"Told again: closing -15.06, not closing -15.60 (command line: {getpass.getuser()}):"
        " two digits changed places",
    )
    assert facts(early)[2] == RIGHT


def test_in_the_admin_it_is_shown_first(world, early, tmp_path):
    the_6th_comes(world, tmp_path)
    analyst, file = member(ANALYST), report(7)
    told = {"name": name(7, "").replace("_closing_", ""), "closing": RIGHT}

    page = review(analyst, file, **told)
    assert "Told again: closing -15.06, not closing -15.60" in page
    assert "It would be accepted" in page
    assert "was imported before. Importing it again adds nothing" not in page
    assert facts(early)[0] == "quarantined"

    done = analyst.post(address(file), confirmed(page), follow=True)

    assert facts(early) == ("accepted", "-10.04", RIGHT)
    assert "accepted, -5.02 USD" in done.content.decode()
    assert LogEntry.objects.get().change_message == (
        "Told again: closing -15.06, not closing -15.60: sent by mail"
    )


def test_the_watched_folder_corrects_nothing_for_nobody_answers_for_it(world, early, tmp_path):
    folder = tmp_path / "watched"
    (folder / LANE).mkdir(parents=True)
    put(folder / LANE / name(7, RIGHT), report(7))
    look(folder, world)
    look(folder, world)

    assert states() == {f"{LANE}/{name(7, RIGHT)}": "quarantined"}
    assert facts(early) == ("quarantined", "-5.02", WRONG)
