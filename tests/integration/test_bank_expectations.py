"""Our banks' statements are owed for the business days of an account, and late ones are named (R53)."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, connection, transaction

from checkout.models import ChargeState
from settlements import books, drafts, expectations, reconciliation
from settlements.drafts import Terms
from settlements.models import (
    STANDING,
    BankExpectation,
    BankTerms,
    Discrepancy,
    ExpectationState,
    Holiday,
)
from settlements.paging import Limits
from settlements.roles import ANALYST, VIEWER
from tests.factories import World, fresh
from tests.factories_bank import ACCOUNT, bank_take_in
from tests.factories_roles import member, pages_at
from tests.factories_settlements import statement_text, take_in

pytestmark = pytest.mark.django_db
FRIDAY, MONDAY, TUESDAY = date(2026, 1, 30), date(2026, 2, 2), date(2026, 2, 3)


@pytest.fixture
def world() -> Iterator[World]:
    """It is Saturday noon, 2026-01-31."""
    world = World()
    with pages_at(world.clock):
        yield world


def agree(**other: object) -> BankTerms:
    said = {
        "account": ACCOUNT,
        "from_day": date(2026, 1, 28),
        "calendar": "us-fed",
        "time_zone": "UTC",
        "due_days": 1,
        "due_time": time(9),
    }
    return expectations.agree_bank_terms(**{**said, **other})  # type: ignore[arg-type]


def passed(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    expectations.mark_late_expectations(now=world.clock.now())


def at(world: World, moment: datetime) -> None:
    world.clock.forward(seconds=(moment - world.clock.business_now()).total_seconds())
    passed(world)


def owed() -> dict[date, tuple[str, datetime]]:
    return {each.day: (each.state, each.due_at) for each in BankExpectation.objects.all()}


def late() -> list[str]:
    standing = Discrepancy.objects.filter(STANDING, code="late_file")
    return list(standing.order_by("fingerprint").values_list("explanation", flat=True))


def test_a_statement_is_owed_for_each_business_day_that_is_over(world: World) -> None:
    Holiday.objects.create(calendar="us-fed", day=date(2026, 1, 29), name="a holiday")
    agree()

    passed(world)

    assert owed() == {
        # Thursday is a holiday: Wednesday's is due on Friday, Friday's on Monday.
        date(2026, 1, 28): ("late", datetime(2026, 1, 30, 9, tzinfo=UTC)),
        FRIDAY: ("expected", datetime(2026, 2, 2, 9, tzinfo=UTC)),
    }
    at(world, datetime(2026, 2, 3, 0, 1, tzinfo=UTC))
    assert set(owed()) == {date(2026, 1, 28), FRIDAY, MONDAY}


def test_without_terms_nothing_is_owed(world: World, tmp_path: Path) -> None:
    bank_take_in([], world=world, folder=tmp_path, first=FRIDAY, last=FRIDAY)
    passed(world)

    assert owed() == {}


def test_the_due_time_is_that_of_the_terms_zone(world: World) -> None:
    agree(from_day=FRIDAY, time_zone="Asia/Almaty", due_days=2)
    passed(world)

    assert owed()[FRIDAY][1] == datetime(2026, 2, 3, 4, tzinfo=UTC)


def test_a_late_statement_is_its_own_discrepancy_until_it_comes(
    world: World, tmp_path: Path
) -> None:
    """Late by its terms, named; accepted, cleared by evidence (R53, R54)."""
    agree(from_day=FRIDAY)
    passed(world)
    assert late() == []
    at(world, datetime(2026, 2, 2, 8, 59, tzinfo=UTC))
    assert late() == []

    at(world, datetime(2026, 2, 2, 9, 0, tzinfo=UTC))

    assert late() == [
        f"The bank's statement of {ACCOUNT} for 2026-01-30 was due 2026-02-02 09:00 UTC and has not "
        "arrived."
    ]
    bank_take_in([], world=world, folder=tmp_path, first=FRIDAY, last=FRIDAY)
    assert owed()[FRIDAY][0] == ExpectationState.ARRIVED
    passed(world)
    assert late() == []


def test_one_statement_covers_all_its_days(world: World, tmp_path: Path) -> None:
    agree(from_day=date(2026, 1, 26))
    passed(world)
    assert len(owed()) == 5

    bank_take_in([], world=world, folder=tmp_path, first=date(2026, 1, 26), last=FRIDAY)

    assert {state for state, _ in owed().values()} == {"arrived"}


def test_one_that_was_set_aside_is_named_as_that_and_not_as_late(
    world: World, tmp_path: Path
) -> None:
    agree(from_day=FRIDAY)
    bank_take_in([], world=world, folder=tmp_path, first=date(2026, 1, 29), last=date(2026, 1, 29))
    bank_take_in([], world=world, folder=tmp_path, first=FRIDAY, last=FRIDAY, opening="5.00")
    at(world, datetime(2026, 2, 2, 9, 30, tzinfo=UTC))

    assert owed()[FRIDAY][0] == ExpectationState.QUARANTINED
    assert late() == []
    assert Discrepancy.objects.filter(STANDING, code="quarantined_file").count() == 1


def test_what_arrived_never_changes(world: World, tmp_path: Path) -> None:
    agree(from_day=FRIDAY)
    bank_take_in([], world=world, folder=tmp_path, first=FRIDAY, last=FRIDAY)
    passed(world)
    for change in (
        "UPDATE settlements_bankexpectation SET state = 'late', statement_id = NULL",
        "DELETE FROM settlements_bankexpectation",
    ):
        with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
            connection.cursor().execute(change)

    assert owed()[FRIDAY][0] == ExpectationState.ARRIVED


# --- Where it is seen ------------------------------------------------------------------------------


def test_home_warns_and_finance_is_told(world: World) -> None:
    agree(from_day=FRIDAY)
    at(world, datetime(2026, 2, 2, 9, 30, tzinfo=UTC))

    page = member(VIEWER).get("/admin/").content.decode()

    assert re.search(rf"The bank.{{1,6}}s statement of {ACCOUNT} for 2026-01-30 is late", page)
    listed = member(VIEWER).get("/admin/settlements/bankexpectation/?state__exact=late")
    assert ACCOUNT in listed.content.decode()
    limits = Limits(count=20, usd=Decimal("100.00"), stopped=600)
    terms = Terms(ZoneInfo("UTC"), time(8), every=900, limits=limits, pages="https://pay.example")
    notice = drafts.files(now=world.clock.now(), terms=terms)
    assert notice is not None
    assert (
        f"- bank, {ACCOUNT} for 2026-01-30: late, it was due 2026-02-02 09:00 UTC" in notice.lines
    )


def test_a_day_is_not_closed_over_a_late_bank_statement_without_a_reason(
    world: World, tmp_path: Path
) -> None:
    charge = world.due_charge()
    world.receive(charge)
    assert fresh(charge).state == ChargeState.SUCCEEDED
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=tmp_path)
    agree(from_day=FRIDAY)
    at(world, datetime(2026, 2, 2, 9, 30, tzinfo=UTC))
    day, now = date(2026, 1, 31), world.clock.now()

    with pytest.raises(books.StillOpen) as refusal:
        books.propose_close(day=day, reasons={}, by="ann", now=now)

    (item,) = refusal.value.items
    assert item.name == f"file:bank:{ACCOUNT}:2026-01-30"
    books.propose_close(day=day, reasons={"file": "the bank was asked"}, by="ann", now=now)


def test_terms_are_set_in_the_admin_with_a_reason(world: World) -> None:
    ann = member(ANALYST)
    said = {
        "account": ACCOUNT,
        "from_day": "2026-01-30",
        "calendar": "us-fed",
        "time_zone": "Asia/Almaty",
        "due_days": "1",
        "due_time": "09:00",
        "reason": "agreed with the bank",
        "decided": "yes",
    }
    refused = ann.post("/admin/settlements/bankterms/agree/", {**said, "time_zone": "Mars"})
    assert "is no zone" in refused.content.decode()
    too_old = ann.post("/admin/settlements/bankterms/agree/", {**said, "from_day": "2019-01-01"})
    assert "at most 400 days" in too_old.content.decode()

    answer = ann.post("/admin/settlements/bankterms/agree/", said)

    assert answer.status_code == 302
    assert BankTerms.objects.get().time_zone == "Asia/Almaty"
    assert "agreed with the bank" in ann.get("/admin/admin/logentry/").content.decode()
