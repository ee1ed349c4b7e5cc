"""Closing the books: in order, by two people, with what is open named; and then nothing is dated into it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pytest
from django.db import Error, IntegrityError, connection, transaction

from checkout import ledger, rescue
from checkout.clock import Moment
from checkout.gateways import Approved, InDoubt
from checkout.models import Attempt, AttemptTally, Charge, EntryKind, LedgerAccount, LedgerEntry
from settlements import books, days, reconciliation
from settlements.exports.journal import journal_of_day, write_journal
from settlements.models import (
    STANDING,
    BooksClose,
    CarriedOver,
    Decision,
    Discrepancy,
    Span,
)
from settlements.suspense import open_items
from tests.factories import LANE, World
from tests.factories_settlements import statement_text, take_in
from tests.situations import attempting, pending, succeeded_with_open_attempt

pytestmark = pytest.mark.django_db
WHY = "looked at with the processor"


@pytest.fixture
def world() -> World:
    return World()


def today(world: World) -> date:
    return world.clock.business_now().date()


def paid(world: World, price: str = "19.99") -> Charge:
    charge = world.due_charge(price=price)
    world.receive(charge)
    return charge


def doubtful(world: World, price: str = "199.00") -> Attempt:
    world.gateway.answers = [lambda _: InDoubt("silence")]
    charge = world.due_charge(price=price)
    world.receive(charge)
    return Attempt.objects.get(charge=charge)


def over(world: World, *, folder: Path | None = None) -> date:
    """The day ends; with a folder its file arrives; all is compared. Returns the day."""
    day = today(world)
    world.clock.forward(days=1, seconds=3 * 3600)
    if folder is not None:
        take_in(statement_text(day), world=world, folder=folder, name=f"{day}.csv")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    return day


def proposed(world: World, day: date, by: str = "ann", **reasons: str) -> BooksClose:
    return books.propose_close(day=day, reasons=reasons, by=by, now=world.clock.now())


def approved(world: World, close: BooksClose, by: str = "bob") -> BooksClose:
    return books.approve_close(
        close_id=close.pk, seen=close.sha256, by=by, reason=WHY, now=world.clock.now()
    )


def closed(world: World, day: date, **reasons: str) -> BooksClose:
    return approved(world, proposed(world, day, **reasons))


# --- Proposed and approved -----------------------------------------------------------------------


def test_a_day_that_is_proved_is_closed_with_its_figures(world: World, tmp_path: Path) -> None:
    paid(world)
    paid(world, "5.01")
    day = over(world, folder=tmp_path)

    close = closed(world, day)

    assert (close.decision, close.carried_count) == (Decision.APPROVED, 0)
    assert (close.line_count, close.debit, close.credit) == (8, Decimal("50.00"), Decimal("50.00"))
    assert close.figures["proved"] == {"count": 2, "usd": "25.00"}
    assert close.figures["in_doubt"] == {"count": 0, "usd": "0.00"}
    assert [each["file"] for each in close.figures["files"]] == [f"{day}.csv"]
    assert close.charges == {"succeeded": {"count": 2, "usd": "25.00"}}
    assert close.journal_sha256 == journal_of_day(day=day).sha256
    assert days.closed_through() == day


def test_what_is_open_is_named_and_nothing_is_proposed(world: World) -> None:
    """A file that is not there, an attempt in doubt, a discrepancy: each by its name and USD."""
    attempt = doubtful(world)
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", f"r-{request.reference}")
    ]
    paid(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    short = Discrepancy.objects.get(STANDING, charge__isnull=False)
    day = over(world)

    with pytest.raises(books.StillOpen) as refusal:
        proposed(world, day)

    open_now = {item.name: item.usd for item in refusal.value.items}
    assert open_now[f"attempt:{attempt.pk}"] == Decimal("199.00")
    assert open_now[f"discrepancy:{short.pk}"] == Decimal("0.03")
    assert {item.kind for item in refusal.value.items} == {"attempt", "discrepancy", "file"}
    assert not BooksClose.objects.exists()


def test_what_is_open_is_carried_over_by_name_and_reason(world: World) -> None:
    """By its own name or by its kind; the next day's close keeps the reason while it stays open."""
    attempt = doubtful(world)
    paid(world)
    day = over(world)

    close = closed(world, day, **{f"attempt:{attempt.pk}": "bank asked", "file": "late again"})

    carried = dict(close.carried.values_list("name", "reason"))
    assert carried[f"attempt:{attempt.pk}"] == "bank asked"
    assert [reason for name, reason in carried.items() if name.startswith("file:")] == [
        "late again"
    ]
    assert close.carried_usd == Decimal("218.99")
    over(world)
    following = closed(world, day + timedelta(days=1))
    assert dict(following.carried.values_list("name", "reason")) == carried


@pytest.mark.parametrize("situation", [pending, attempting, succeeded_with_open_attempt])
def test_an_attempt_under_way_is_carried_over_too(
    world: World, situation: Callable[[World], Charge]
) -> None:
    charge = situation(world)
    day = world.clock.business_now().date()
    world.clock.forward(days=1)

    found = open_items(day=day, now=world.clock.now())

    attempt = charge.open_attempt()
    assert attempt is not None
    (item,) = [each for each in found if each.name == f"attempt:{attempt.pk}"]
    assert (item.usd, "is open, its charge is" in item.what) == (attempt.amount, True)


def test_r47_a_file_is_carried_on_and_on_and_no_day_long_closed_is_read(world: World) -> None:
    paid(world)
    first = over(world)
    for back in range(3):
        close = closed(world, first + timedelta(days=back), file="asked for")
        assert f"file:{LANE}:{first}" in close.carried.values_list("name", flat=True)
        over(world)
    AttemptTally.objects.create(
        slot=world.clock.business_now() - timedelta(days=200),
        lane=LANE,
        outcome="captured",
        count=1,
        usd=Decimal("1.00"),
    )

    found = open_items(day=first + timedelta(days=3), now=world.clock.now())

    assert min(item.name for item in found) == f"file:{LANE}:{first}"


def test_a_reason_for_nothing_that_is_open_is_refused(world: World, tmp_path: Path) -> None:
    paid(world)
    day = over(world, folder=tmp_path)

    with pytest.raises(books.NotClosable, match="nothing open is named case:77"):
        proposed(world, day, **{"case:77": "carried"})


def test_the_same_proposal_again_is_the_one_that_waits(world: World, tmp_path: Path) -> None:
    paid(world)
    day = over(world, folder=tmp_path)
    close = proposed(world, day)

    assert proposed(world, day) == close
    assert approved(world, close) == approved(world, close)
    with pytest.raises(books.NotClosable, match="the next is"):
        proposed(world, day)


def test_a_day_closes_only_when_it_is_over_and_in_order(world: World, tmp_path: Path) -> None:
    paid(world)
    day = today(world)
    with pytest.raises(books.NotClosable, match="one hour after its end"):
        proposed(world, day)
    over(world, folder=tmp_path)
    closed(world, day)
    over(world)
    over(world)

    with pytest.raises(books.NotClosable, match=f"the next is {day + timedelta(days=1)}"):
        proposed(world, day + timedelta(days=2))


# --- Four eyes, and what they saw ------------------------------------------------------------------


def test_r43_who_proposes_does_not_approve_by_raw_sql_either(world: World, tmp_path: Path) -> None:
    paid(world)
    close = proposed(world, over(world, folder=tmp_path))

    with pytest.raises(books.NotDecidable, match="does not approve"):
        approved(world, close, by="ann")
    with pytest.raises(IntegrityError, match="four_eyes"), transaction.atomic():
        decide_by_sql(close, by="ann")


def decide_by_sql(close: BooksClose, *, by: str = "bob") -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE settlements_booksclose SET decision = 'approved', decided_by = %s,"
            " decided_at = now(), decided_because = 'because' WHERE id = %s",
            [by, close.pk],
        )


def test_what_changed_since_it_was_proposed_is_not_approved(world: World, tmp_path: Path) -> None:
    """The file arrived meanwhile: what was carried over is settled, so it is proposed anew."""
    paid(world)
    day = over(world)
    close = proposed(world, day, file="late again")
    take_in(statement_text(day), world=world, folder=tmp_path)

    with pytest.raises(books.NotDecidable, match=f"file:.*:{day} was settled"):
        approved(world, close)

    books.send_back(close_id=close.pk, by="bob", reason=WHY, now=world.clock.now())
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    assert closed(world, day).carried_count == 0


def test_a_page_that_showed_something_else_approves_nothing(world: World, tmp_path: Path) -> None:
    paid(world)
    close = proposed(world, over(world, folder=tmp_path))

    with pytest.raises(books.NotDecidable, match="showed something else"):
        books.approve_close(
            close_id=close.pk, seen="0" * 64, by="bob", reason=WHY, now=world.clock.now()
        )


def test_charges_that_are_collected_meanwhile_do_not_stop_it(world: World, tmp_path: Path) -> None:
    """A charge of the day paid the day after posts to that day; the certificate keeps how it stood."""
    late = world.due_charge()
    close = proposed(world, over(world, folder=tmp_path))
    world.receive(late)

    assert approved(world, close).charges == {"due": {"count": 1, "usd": "19.99"}}


# --- Locked ------------------------------------------------------------------------------------------


def test_no_entry_is_dated_into_a_closed_day(world: World, tmp_path: Path) -> None:
    """Raw SQL and `ledger.post` alike; dated today it is taken."""
    charge = paid(world)
    day = over(world, folder=tmp_path)
    closed(world, day)
    now = world.clock.now()
    yesterday = Moment(real=now.real, business=now.business - timedelta(days=1))

    with pytest.raises(Error, match=f"closed through {day}"), transaction.atomic():
        correct(charge, yesterday)
    with pytest.raises(Error, match=f"closed through {day}"), transaction.atomic():
        correct(charge, Moment(real=now.real, business=now.business - timedelta(days=40)))
    correct(charge, now)

    assert LedgerEntry.objects.get(kind=EntryKind.CORRECTED).posted_at.date() > day


def correct(charge: Charge, now: Moment) -> None:
    ledger.correct(
        charge=charge,
        receivable=Decimal("0.01"),
        against=LedgerAccount.WRITE_OFF,
        subject=charge.pk,
        now=now,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE settlements_booksclose SET debit = debit + 1, credit = credit + 1",
        "UPDATE settlements_booksclose SET decision = '', decided_by = '', decided_at = NULL,"
        " decided_because = ''",
        "DELETE FROM settlements_booksclose",
        "UPDATE settlements_carriedover SET reason = 'another'",
        "DELETE FROM settlements_carriedover",
        "INSERT INTO settlements_carriedover (close_id, name, what, usd, reason)"
        " SELECT id, 'case:1', 'one more', 1, 'forgotten' FROM settlements_booksclose",
    ],
)
def test_a_closed_day_never_changes(world: World, statement: str) -> None:
    paid(world)
    closed(world, over(world), file="late again")

    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_raw_sql_closes_no_day_out_of_order_nor_with_other_sums(
    world: World, tmp_path: Path
) -> None:
    paid(world)
    day = over(world, folder=tmp_path)
    close = proposed(world, day)
    other = {
        field.attname: getattr(close, field.attname)
        for field in BooksClose._meta.concrete_fields
        if field.attname != "id"
    }
    wrong = BooksClose(**other | {"debit": Decimal(1), "credit": Decimal(1)})
    books.send_back(close_id=close.pk, by="ann", reason=WHY, now=world.clock.now())
    wrong.save()
    with pytest.raises(Error, match="not what the books hold"), transaction.atomic():
        decide_by_sql(wrong)
    books.send_back(close_id=wrong.pk, by="ann", reason=WHY, now=world.clock.now())
    closed(world, day)
    over(world)
    over(world)
    empty = {"line_count": 0, "debit": Decimal(0), "credit": Decimal(0)}
    gap = (
        other | empty | {"first_day": day + timedelta(days=2), "as_of": world.clock.business_now()}
    )
    later = BooksClose.objects.create(**gap)

    with pytest.raises(Error, match="days close in order"), transaction.atomic():
        decide_by_sql(later)
    with pytest.raises(Error, match="when its day is over"), transaction.atomic():
        BooksClose.objects.create(**gap | {"first_day": today(world)})


# --- The month -----------------------------------------------------------------------------------------


def test_a_month_closes_when_all_its_days_are_with_the_journal_s_own_hash(
    world: World, tmp_path: Path
) -> None:
    """The hashes are those of the files that `export journal` writes, byte for byte."""
    paid(world)
    first = over(world)
    month = first.replace(day=1)
    with pytest.raises(books.NotClosable, match="is its last"):
        books.propose_month(month=month, by="ann", now=world.clock.now())
    day = first
    while day.month == first.month:
        reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
        closed(world, day, **({"file": "late again"} if day == first else {}))
        world.clock.forward(days=1)
        day += timedelta(days=1)

    close = books.propose_month(month=month, by="ann", now=world.clock.now())
    assert approved(world, close).decision == Decision.APPROVED

    to = BytesIO()
    journal = write_journal(month=month, today=today(world), to=to)
    assert (close.span, close.journal_sha256) == (Span.MONTH, journal.sha256)
    assert close.figures["trial_balance_sha256"]
    assert len(close.figures["days"]) == (day - first).days
    assert to.getvalue().count(b"\n") == close.line_count + 1
    assert CarriedOver.objects.filter(close=close).count() == 0


def the_month_is_over(world: World) -> date:
    """The only day of January with anything in it is closed: one attempt in doubt, a letter nobody reads."""
    doubtful(world)
    rescue.keep_unreadable(subject="m-1", body="{", reason="no JSON", now=world.clock.now())
    day = over(world)
    closed(world, day, attempt="bank asked", case="looked into", file="late again")
    return day.replace(day=1)


def test_a_month_says_what_was_in_doubt_at_its_end_and_its_incidents(world: World) -> None:
    month = the_month_is_over(world)
    rescue.keep_unreadable(subject="m-2", body="{", reason="no JSON", now=world.clock.now())

    close = books.propose_month(month=month, by="ann", now=world.clock.now())

    # As its last day was closed: what came since is of February.
    assert close.figures["in_doubt"] == {"count": 1, "usd": "199.00"}
    assert close.figures["incidents"] == {"unreadable_message": 1}
    assert approved(world, close).decision == Decision.APPROVED


def test_a_month_proposed_by_an_older_version_is_approved_as_it_was(world: World) -> None:
    """It keeps neither what was in doubt nor the incidents, and its digest is of what it keeps."""
    month = the_month_is_over(world)
    draft = books.draft_of_month(month=month, now=world.clock.now())
    older = {"trial_balance", "trial_balance_sha256", "days", "open_at_the_end"}
    draft = replace(draft, figures={name: draft.figures[name] for name in older})
    close = BooksClose.objects.create(
        span=draft.span,
        first_day=month,
        line_count=draft.line_count,
        debit=draft.debit,
        credit=draft.credit,
        journal_sha256=draft.journal_sha256,
        figures=draft.figures,
        carried_count=0,
        carried_usd=draft.carried_usd,
        sha256=draft.sha256,
        as_of=world.clock.business_now(),
        proposed_by="ann",
        proposed_at=world.clock.real_now(),
    )

    assert books.propose_month(month=month, by="ann", now=world.clock.now()) == close
    assert approved(world, close).sha256 == draft.sha256


# --- Two at once ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_who_approve_at_once_close_it_once(world: World, tmp_path: Path) -> None:
    paid(world)
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)
    results: list[str] = []
    together = threading.Barrier(2)

    def approve(by: str) -> None:
        together.wait()
        try:
            with transaction.atomic():
                results.append(approved(world, close, by=by).decided_by)
        except books.NotDecidable:
            results.append("too late")
        finally:
            connection.close()

    threads = [threading.Thread(target=approve, args=(by,)) for by in ("bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results)[0] in {"bob", "eve"}
    assert "too late" in results
    assert BooksClose.objects.filter(decision=Decision.APPROVED).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_close_waits_for_what_is_being_posted_into_its_day(world: World, tmp_path: Path) -> None:
    """Two runners: one posts into the day and has not committed, another approves its close."""
    charge = paid(world)
    now = world.clock.now()
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)
    results: list[str] = []

    def approve() -> None:
        try:
            with transaction.atomic():
                approved(world, close)
                results.append("closed")
        except books.NotDecidable as refusal:
            results.append(str(refusal))
        finally:
            connection.close()

    thread = threading.Thread(target=approve)
    with transaction.atomic():
        correct(charge, now)
        thread.start()
        thread.join(timeout=1)
        assert results == []
    thread.join()

    assert "its journal changed" in results[0]


@pytest.mark.django_db(transaction=True)
def test_a_late_entry_waits_for_the_close_and_is_refused(world: World, tmp_path: Path) -> None:
    """The other way round: the close has not committed when another posts into its day."""
    charge = paid(world)
    now = world.clock.now()
    day = over(world, folder=tmp_path)
    with transaction.atomic():
        close = proposed(world, day)
    results: list[str] = []

    def post() -> None:
        try:
            with transaction.atomic():
                correct(charge, now)
            results.append("posted")
        except Error as refusal:
            results.append(str(refusal))
        finally:
            connection.close()

    thread = threading.Thread(target=post)
    with transaction.atomic():
        approved(world, close)
        thread.start()
        thread.join(timeout=1)
        assert results == []
    thread.join()

    assert f"closed through {day}" in results[0]
