"""What finance is told, once each; what pages, and that one cent does not."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import Error, connection, transaction
from django.test import Client

from checkout import requeues, verdicts
from checkout.gateways import Approved
from checkout.models import Case, CaseKind
from checkout.requeues import Choice, Limit
from settlements import books, reconciliation, resolving, telling
from settlements.banking import import_bank_statement
from settlements.drafts import Terms
from settlements.expectations import mark_late_expectations
from settlements.management import jobs
from settlements.models import (
    Discrepancy,
    ExpectationState,
    Notice,
    NoticeDelivery,
    NoticeItem,
    NoticeKind,
    StatementExpectation,
    TopicProgress,
    Way,
)
from settlements.paging import Limits, Reason, standing
from settlements.roles import VIEWER
from tests.factories import LANE, World, unknown_id
from tests.factories_bank import Credit, bank_text
from tests.factories_roles import member, pages_at
from tests.factories_settlements import statement_text, take_in
from tests.situations import BELIEVED_AFTER, FUNDS, in_doubt, open_attempt
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db

LIMITS = Limits(count=20, usd=Decimal("100.00"), stopped=600)
# No digest before midnight: tests of other kinds see only theirs.
TERMS = Terms(ZoneInfo("UTC"), time(23, 59), every=900, limits=LIMITS, pages="https://pay.example")


@pytest.fixture
def world() -> World:
    return World()


def captured(world: World, by: str, price: str = "19.99") -> None:
    """A capture that differs by this much, and the pass that names it."""
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"ref-{request.reference}")
    ]
    world.receive(world.due_charge(price=price))
    passed(world)


def passed(world: World) -> None:
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def noted(world: World, terms: Terms = TERMS) -> list[Notice]:
    """What a turn writes."""
    before = set(Notice.objects.values_list("pk", flat=True))
    telling.note(clock=world.clock, ages=world.ages, terms=terms)
    return list(Notice.objects.exclude(pk__in=before).order_by("kind"))


def proposed(world: World) -> None:
    resolving.propose(
        discrepancy_ids=list(Discrepancy.objects.values_list("pk", flat=True)),
        way=Way.CORRECTED,
        by="ann@example.org",
        reason="the processor said so",
        now=world.clock.now(),
    )


# --- Discrepancies -----------------------------------------------------------------------------------


def test_what_opened_is_told_in_one_notice_and_once(world: World) -> None:
    captured(world, "-0.03")
    captured(world, "0.01")

    (notice,) = noted(world)

    assert notice.title == "2 discrepancies opened: 0.04 USD absolute, -0.02 net"
    assert "The oldest opened 2026-01-31 12:00 UTC." in notice.text
    assert "- captured, under charge: 1, 0.03 USD absolute" in notice.text
    assert "https://pay.example/admin/settlements/discrepancy/?standing=yes" in notice.text
    assert notice.figures == {"count": 2, "absolute": "0.04", "net": "-0.02"}
    world.clock.forward(seconds=901)
    passed(world)
    assert noted(world) == []


def test_notices_of_discrepancies_keep_their_distance(world: World) -> None:
    """However many open meanwhile, the next notice has all of them."""
    captured(world, "-0.03")
    noted(world)
    for _ in range(3):
        captured(world, "0.01")
    world.clock.forward(seconds=899)
    passed(world)
    assert noted(world) == []

    world.clock.forward(seconds=2)
    (notice,) = noted(world)

    assert notice.title == "3 discrepancies opened: 0.03 USD absolute, +0.03 net"


def test_another_amount_is_told_anew(world: World) -> None:
    captured(world, "0.01")
    noted(world)
    row = Discrepancy.objects.get()
    row.actual += Decimal("500.00")
    row.difference += Decimal("500.00")
    row.save()
    world.clock.forward(seconds=901)
    passed_at = world.clock.now()
    assert passed_at.real > row.opened_at

    (notice,) = (n for n in noted(world) if n.kind == NoticeKind.DISCREPANCIES)

    assert notice.title == "1 discrepancy opened: 500.01 USD absolute, +500.01 net"


# --- What pages, and what does not -------------------------------------------------------------------


def metrics() -> dict[str, float]:
    lines = Client().get("/metrics").content.decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("checkout_"))
        if "finance" in name or "notices" in name
    }


def test_one_cent_pages_nobody(world: World) -> None:
    """At three in the morning one cent is written down for finance, and the pager stays still."""
    world.clock.forward(seconds=15 * 3600)
    captured(world, "0.01")

    with pages_at(world.clock):
        notices = noted(world)

    assert world.clock.real_now().hour == 3
    assert [notice.kind for notice in notices] == [NoticeKind.DISCREPANCIES]
    assert standing(now=world.clock.real_now()).above(LIMITS) == set()
    figures = metrics()
    assert figures['checkout_finance_page{reason="count"}'] == 0
    assert figures['checkout_finance_page{reason="usd"}'] == 0
    assert figures["checkout_notices_waiting"] == 1


@pytest.mark.parametrize(
    ("limits", "seconds", "reasons"),
    [
        (LIMITS, 0, set()),
        (replace(LIMITS, count=2), 0, set()),
        (replace(LIMITS, count=1), 0, {Reason.COUNT}),
        (replace(LIMITS, usd=Decimal("0.04")), 0, set()),
        (replace(LIMITS, usd=Decimal("0.03")), 0, {Reason.USD}),
        (LIMITS, 600, set()),
        (LIMITS, 601, {Reason.STOPPED, Reason.TOPIC}),
    ],
)
def test_what_is_above_a_limit_pages(
    world: World, limits: Limits, seconds: float, reasons: set[Reason]
) -> None:
    captured(world, "-0.03")
    captured(world, "0.01")
    TopicProgress.objects.create(
        partition=0, first_offset=0, next_offset=1, read_at=world.clock.real_now()
    )
    world.clock.forward(seconds=seconds)

    assert standing(now=world.clock.real_now()).above(limits) == reasons


def test_where_nothing_ever_compared_the_comparison_has_stopped(world: World) -> None:
    assert standing(now=world.clock.real_now()).above(LIMITS) == {Reason.STOPPED}


def test_a_reason_to_page_is_told_once_a_day_of_the_finance_zone(world: World) -> None:
    captured(world, "-0.03")
    terms = replace(TERMS, limits=replace(LIMITS, usd=Decimal("0.02"), stopped=1e9))

    (page,) = (n for n in noted(world, terms) if n.kind == NoticeKind.PAGE)
    again = noted(world, terms)
    world.clock.forward(days=1)
    (tomorrow,) = noted(world, terms)

    assert page.title == "Above what pages: 0.03 USD absolute stand apart (limit 0.02)"
    assert again == []
    assert tomorrow.kind == NoticeKind.PAGE


# --- Files and approvals -----------------------------------------------------------------------------


def test_a_late_file_is_told_as_a_file_and_pages_nobody(world: World) -> None:
    world.receive(world.due_charge())
    passed(world)
    world.clock.forward(days=1, seconds=18 * 3600)
    mark_late_expectations(now=world.clock.now())
    passed(world)
    late = StatementExpectation.objects.filter(state=ExpectationState.LATE)
    assert late
    assert Discrepancy.objects.filter(code="late_file").exists()

    (notice,) = noted(world)

    assert notice.kind == NoticeKind.FILES
    assert f"- {LANE} for 2026-01-31: late, it was due 2026-02-01 06:00 UTC" in notice.text
    assert standing(now=world.clock.real_now()).count == 0
    assert noted(world) == []


def test_a_file_that_was_set_aside_is_told(world: World, tmp_path: Path) -> None:
    world.receive(world.due_charge())
    day = world.clock.business_now().date()
    world.clock.forward(days=1)
    *rows, closing = statement_text(day).splitlines()
    take_in("\n".join([*rows, closing.replace("19.11", "19.12"), ""]), world=world, folder=tmp_path)
    assert StatementExpectation.objects.get(day=day).state == ExpectationState.QUARANTINED
    passed(world)

    (notice,) = (n for n in noted(world) if n.kind == NoticeKind.FILES)

    assert notice.title == "Statement files: 0 days late, 1 days set aside"
    assert f"- {LANE} for {day}: came and was set aside" in notice.text


def test_what_waits_for_another_person_is_told_without_anybody_s_name(world: World) -> None:
    captured(world, "-0.03")
    proposed(world)
    attempt = open_attempt(in_doubt(world))
    world.clock.forward(seconds=BELIEVED_AFTER + 1)
    verdicts.propose_verdict(
        attempt_id=attempt.pk,
        captured=Decimal("19.99"),
        by="ann@example.org",
        reason="they told us by telephone",
        now=world.clock.now(),
        gateways=world.gateways,
        ages=world.ages,
    )
    passed(world)

    (notice,) = (n for n in noted(world) if n.kind == NoticeKind.APPROVALS)

    assert notice.title == "2 decisions wait for an approval: 20.02 USD"
    assert "1 discrepancy, 0.03 USD absolute, -0.03 net" in notice.text
    case = Case.objects.get(kind=CaseKind.IN_DOUBT)
    assert f"- in doubt: 19.99 USD: https://pay.example/admin/checkout/case/{case.pk}/" in (
        notice.text
    )
    said = " ".join(Notice.objects.values_list("text", flat=True))
    assert not any(word in said for word in ("ann", "example.org", "Aigerim", "creator-", "tok_"))


def test_a_day_that_waits_to_be_closed_is_told(world: World, tmp_path: Path) -> None:
    world.receive(world.due_charge())
    day = world.clock.business_now().date()
    world.clock.forward(days=1, seconds=3 * 3600)
    take_in(statement_text(day), world=world, folder=tmp_path)
    passed(world)
    books.propose_close(day=day, reasons={}, by="ann@example.org", now=world.clock.now())

    (notice,) = noted(world)

    assert notice.kind == NoticeKind.APPROVALS
    assert f"- close of {day}: 39.98 USD on each side of the journal, 0 carried over" in notice.text
    assert "ann" not in notice.text
    assert noted(world) == []


# --- The morning digest ------------------------------------------------------------------------------


def above_the_limit(world: World) -> None:
    """A bulk requeue that waits for another person."""
    world.gateway.answers = [FUNDS]
    world.receive(world.due_charge())
    with transaction.atomic():
        requeues.propose(
            choice=Choice(lane=LANE),
            by="olga",
            reason="the issuers answer again",
            limit=Limit(count=0, usd=Decimal("0.00")),
            now=world.clock.now(),
            ages=world.ages,
        )


def test_the_digest_says_the_morning_in_one_line(world: World, tmp_path: Path) -> None:
    for _ in range(3):
        world.receive(world.due_charge())
    captured(world, "-0.03")
    captured(world, "0.02")
    day = world.clock.business_now().date()
    world.clock.forward(days=1)
    take_in(statement_text(day), world=world, folder=tmp_path)
    in_doubt(world)
    world.receive(world.due_charge())
    passed(world)
    proposed(world)
    above_the_limit(world)
    # The day ended at midnight and its file was due at six.
    world.clock.forward(days=0.5, seconds=7 * 3600)
    mark_late_expectations(now=world.clock.now())
    passed(world)
    terms = replace(TERMS, digest_at=time(7, 0))

    (digest,) = (n for n in noted(world, terms) if n.kind == NoticeKind.DIGEST)

    assert digest.text.splitlines()[:4] == [
        f"3 proved, 1 await the file of {LANE} for 2026-02-01, 1 h late,"
        " 2 discrepant (0.05 absolute, -0.01 net).",
        "In doubt: 1 charge, 19.99 USD.",
        "Dead letters: 0, 0.00 USD.",
        "Waiting for an approval: 2.",
    ]
    assert digest.title == (
        "2026-01-31 to 2026-02-02: 3 proved, 1 await a file,"
        " 2 discrepant (0.05 absolute, -0.01 net)"
    )
    assert not [n for n in noted(world, terms) if n.kind == NoticeKind.DIGEST]


@pytest.mark.parametrize(
    ("digest_at", "start", "told"),
    [
        # 02:30 does not exist on 29 March 2026 in Berlin, and comes twice on 25 October; times are UTC.
        (time(2, 30), "2026-03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        (time(2, 30), "2026-10-24", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        (time(7, 30), "2026-03-28", ["03-28 06:30", "03-29 05:30", "03-30 05:30"]),
        # The day of the 24th is two hours old at the first turn.
        (time(0, 0), "2026-10-24", ["10-24 00:00", "10-24 22:00", "10-25 23:00"]),
    ],
)
def test_a_local_day_has_one_digest_whatever_its_clocks_do(
    world: World, digest_at: time, start: str, told: list[str]
) -> None:
    """R13, for the digest: turns every half hour over two days and a half."""
    terms = replace(TERMS, zone=ZoneInfo("Europe/Berlin"), digest_at=digest_at)
    begun = datetime.fromisoformat(start).replace(tzinfo=UTC)
    world.clock.hands["real"] += begun - world.clock.real_now()

    for _ in range(120):
        telling.note(clock=world.clock, ages=world.ages, terms=terms)
        world.clock.forward(seconds=1800)

    digests = Notice.objects.filter(kind=NoticeKind.DIGEST).order_by("noticed_at")
    assert [f"{digest.noticed_at:%m-%d %H:%M}" for digest in digests] == told
    assert len({item.subject for item in NoticeItem.objects.filter(notice__in=digests)}) == 3


def test_a_digest_that_was_missed_comes_when_the_timetable_is_back(world: World) -> None:
    terms = replace(TERMS, digest_at=time(7, 30))
    world.clock.forward(seconds=11 * 3600)

    assert [n.kind for n in noted(world, terms) if n.kind == NoticeKind.DIGEST] == ["digest"]


# --- Told once, and kept -----------------------------------------------------------------------------


def at_once(*works: Any) -> list[Any]:
    """Call each in a thread of its own, all released at the same moment."""
    barrier, answers = threading.Barrier(len(works)), []

    def run(work: Any) -> None:
        barrier.wait(20)
        try:
            answers.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_note_at_once_write_one_notice() -> None:
    world = World()
    captured(world, "-0.03")

    def note() -> int:
        return telling.note(clock=world.clock, ages=world.ages, terms=TERMS)

    assert sorted(at_once(note, note, note)) == [0, 0, 1]
    assert Notice.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_notes_waits_for_whoever_notes_already_and_then_finds_it_told() -> None:
    world = World()
    captured(world, "-0.03")
    row = Discrepancy.objects.get()
    subject = f"discrepancy:{row.pk}:{row.opened_at.timestamp():.6f}:-0.03"
    said: list[int] = []

    def note() -> None:
        said.append(telling.note(clock=world.clock, ages=world.ages, terms=TERMS))
        connection.close()

    second = threading.Thread(target=note)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [telling.LOCK])
        second.start()
        wait_for(lambda: waiting_for_the_lock(cursor), 20, "the second to wait for the first")
        first = Notice.objects.create(
            id=unknown_id("first"),
            kind="digest",
            noticed_at=row.opened_at,
            title="first",
            text="it",
        )
        NoticeItem.objects.create(notice=first, subject=subject)
    second.join(30)

    assert said == [0]


def waiting_for_the_lock(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(cursor.fetchone()[0])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE settlements_notice SET title = 'nothing happened'",
        "DELETE FROM settlements_noticeitem",
        "DELETE FROM settlements_noticedelivery",
        "UPDATE settlements_noticedelivery SET told_at = NULL",
        "UPDATE settlements_noticedelivery SET way = 'webhook'",
        "INSERT INTO settlements_noticeitem (notice_id, subject)"
        " SELECT notice_id, subject FROM settlements_noticeitem",
    ],
)
def test_what_was_told_stays_as_it_was_told(world: World, sql: str) -> None:
    captured(world, "-0.03")
    (notice,) = noted(world)
    now = world.clock.real_now()
    NoticeDelivery.objects.create(notice=notice, way="mail", tries=1, next_try_at=now, told_at=now)

    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_finance_reads_what_it_was_told(world: World) -> None:
    captured(world, "-0.03")
    (notice,) = noted(world)
    client = member(VIEWER)

    listed = client.get("/admin/settlements/notice/").content.decode()
    page = client.get(f"/admin/settlements/notice/{notice.pk}/change/").content.decode()

    assert notice.title in listed
    assert "under charge: 1, 0.03 USD absolute" in page
    assert client.get("/admin/settlements/noticedelivery/").status_code == 200


def test_every_link_of_a_notice_opens(world: World) -> None:
    captured(world, "-0.03")
    proposed(world)
    noted(world, replace(TERMS, pages="", digest_at=time(0), limits=replace(LIMITS, count=0)))
    words = " ".join(Notice.objects.values_list("text", flat=True)).split()
    links = {word for word in words if word.startswith("/admin/")}
    client = member(VIEWER)

    assert len(links) == 5
    with pages_at(world.clock):
        assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


# --- Nobody to tell ----------------------------------------------------------------------------------


@pytest.fixture
def silence() -> Iterator[None]:
    jobs.say_that_nobody_is_told.cache_clear()
    yield
    jobs.say_that_nobody_is_told.cache_clear()


@pytest.mark.usefixtures("silence")
def test_with_no_way_set_notices_wait_and_the_log_says_so_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    captured(world, "-0.03")

    said = [jobs.tell_finance(clock=world.clock, ages=world.ages) for _ in range(3)]

    assert said[0] == "2 noted; no way is set (FINANCE_MAIL_TO, FINANCE_WEBHOOK_URL)"
    assert [r.message for r in caplog.records if "told nothing" in r.message] == [
        "finance is told nothing: set FINANCE_MAIL_TO or FINANCE_WEBHOOK_URL"
    ]
    assert NoticeDelivery.objects.count() == 0
    assert metrics()["checkout_notices_waiting"] == 2


def test_a_way_that_is_set_later_is_told_the_last_week(world: World) -> None:
    captured(world, "-0.03")
    noted(world)
    world.clock.forward(days=8)
    captured(world, "0.01")
    (young,) = noted(world)
    heard: list[str] = []

    class Ear:
        name = "mail"

        def tell(self, message: telling.Message, *, at: datetime) -> None:
            heard.append(message.title)

    told = telling.tell(clock=world.clock, ages=world.ages, ways=[Ear()])

    assert heard == [young.title]
    assert str(told) == "1 told"
    assert timedelta(days=7) == telling.TOLD_WITHIN


def test_a_bank_s_statement_that_is_set_aside_is_told(world: World, tmp_path: Path) -> None:
    """No day of a lane tells of it."""
    day = world.clock.business_now().date()
    text = bank_text([Credit("5.00", day)], first=day, last=day)
    path = tmp_path / "bank.xml"
    path.write_text(text.replace('<Amt Ccy="USD">0.00<', '<Amt Ccy="USD">1.00<'), "utf-8")
    import_bank_statement(path=path, by="test", now=world.clock.now())
    passed(world)

    (notice,) = noted(world)

    assert notice.kind == NoticeKind.DISCREPANCIES
    assert "statement, quarantined file: 1, 0.00 USD absolute" in notice.text
    # What is told as a discrepancy counts for the pager as one.
    assert standing(now=world.clock.real_now()).count == 1
