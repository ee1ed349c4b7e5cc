"""The pages on which the books are closed: propose with reasons, lock by another, the certificate."""

import html
import re
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.urls import reverse

from checkout import rescue
from checkout.gateways import InDoubt
from settlements import books, days, reconciliation
from settlements.admin.books import leads_to
from settlements.exports.journal import journal_of_day
from settlements.models import BooksClose, Decision
from settlements.roles import ANALYST, APPROVER, VIEWER
from settlements.suspense import open_items
from tests.factories import World
from tests.factories_roles import member, pages_at
from tests.factories_settlements import edit

pytestmark = pytest.mark.django_db(transaction=True)
NEXT = "/admin/settlements/booksclose/next/"
WHY = "looked at with the processor"


@pytest.fixture
def world() -> Iterator[World]:
    """A day with one capture, over, whose file did not come."""
    world = World()
    world.receive(world.due_charge())
    world.clock.forward(days=1, seconds=3 * 3600)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with pages_at(world.clock):
        yield world


def name_of_the_file() -> str:
    return f"file:cis:{books.next_day()}"


def proposed_by_ann() -> BooksClose:
    answer = member(ANALYST, name="ann").post(
        NEXT,
        {
            "day": str(books.next_day()),
            f"reason-{name_of_the_file()}": "late, told at noon",
            "reason": WHY,
        },
    )
    assert answer.status_code == 302
    return BooksClose.objects.get()


def decided(close: BooksClose, by: str, role: str, decision: str, reason: str = WHY) -> int:
    """The answer's code."""
    asked = {"decision": decision, "reason": reason, "seen": close.sha256}
    address = reverse("admin:settlements_booksclose_decide", args=[close.pk])
    return member(role, name=by).post(address, asked).status_code


@pytest.mark.usefixtures("world")
def test_what_is_open_wants_a_reason_and_the_answer_names_it() -> None:
    ann = member(ANALYST, name="ann")
    page = ann.get(NEXT).content.decode()
    assert name_of_the_file() in page
    assert "19.99" in page

    answer = ann.post(NEXT, {"day": str(books.next_day()), "reason": WHY})

    assert "1 open without a reason: file:cis:" in answer.content.decode()
    assert not BooksClose.objects.exists()


@pytest.mark.usefixtures("world")
def test_a_proposal_wants_a_reason_which_the_audit_trail_keeps() -> None:
    given = {"day": str(books.next_day()), f"reason-{name_of_the_file()}": "late, told at noon"}

    page = member(ANALYST, name="ann").post(NEXT, given).content.decode()

    assert "Nothing was proposed. Say why" in page
    assert "late, told at noon" in page
    assert not BooksClose.objects.exists()
    close = proposed_by_ann()
    kept = LogEntry.objects.get(object_id=str(close.pk))
    assert (kept.user.get_username(), kept.change_message) == (
        "ann",
        f"Proposed to close it: {WHY}",
    )


def test_each_figure_of_a_close_leads_to_its_list(world: World) -> None:
    page = member(VIEWER).get(NEXT).content.decode()
    day = books.next_day()
    assert day is not None
    found = re.findall(r'<a href="(/admin/[^"]+)">([^<]+)</a></th>', page)
    links = {words: html.unescape(link) for link, words in found}

    listed = member(VIEWER).get(links["captures await their file"]).content.decode()
    assert "<strong>1 capture</strong>" in listed
    listed = member(VIEWER).get(links["succeeded"]).content.decode()
    assert "<strong>1 charge</strong>" in listed
    assert f"billing date: {day}" in listed
    for side in ("debits", "credits"):
        printed = member(VIEWER).get(links[f"{side} of the ledger"]).context["printed"]
        assert (printed.count, printed.usd) == (2, journal_of_day(day=day).debit)


def test_what_is_carried_over_leads_to_what_it_names(world: World) -> None:
    """A file, an attempt in doubt, a discrepancy, a case; a bank's statement has a list of its own."""
    world.gateway.answers = [lambda _: InDoubt("silence")]
    world.receive(world.due_charge(price="199.00"))
    rescue.keep_unreadable(subject="m-1", body="{", reason="no JSON", now=world.clock.now())
    edit("UPDATE checkout_attempt SET captured_amount = 19.96 WHERE outcome = 'captured'")
    world.clock.forward(days=1)
    reconciliation.reconcile(clock=world.clock, ages=world.ages)
    world.clock.forward(days=1)
    yesterday = days_after_the_next(world)
    eve = member(VIEWER)

    items = {
        item.name: leads_to(item.name) for item in open_items(day=yesterday, now=world.clock.now())
    }

    assert {name.partition(":")[0] for name in items} == {"attempt", "case", "discrepancy", "file"}
    for name, link in items.items():
        answer = eve.get(link)
        assert answer.status_code == 200, name
        if name.startswith("file:"):
            assert answer.context["printed"].count == 1, name
    page = eve.get(NEXT).content.decode()
    name = name_of_the_file()
    assert f'<a href="{html.escape(leads_to(name))}"><code>{name}</code></a>' in page
    bank = eve.get(leads_to("file:bank:0012345:2026-01-31"))
    assert "account: 0012345" in bank.content.decode()


def days_after_the_next(world: World) -> date:
    return (world.clock.business_now() - timedelta(days=1)).date()


def test_two_people_close_a_day_and_the_certificate_says_so(world: World) -> None:
    close = proposed_by_ann()
    address = reverse("admin:settlements_booksclose_change", args=[close.pk])
    assert "another person locks it" in member(ANALYST, name="ann").get(address).content.decode()
    shown = member(APPROVER, name="bob").get(address).content.decode()
    assert close.sha256 in shown
    assert "Lock 20" in shown

    decided(close, "bob", APPROVER, "approve")

    close.refresh_from_db()
    assert (close.decision, close.decided_by) == (Decision.APPROVED, "bob")
    certificate = member(VIEWER, name="eve").get(address).content.decode()
    for said in ("Certificate", "late, told at noon", close.journal_sha256, "<strong>bob</strong>"):
        assert said in certificate
    assert days.closed_through() == (world.clock.business_now() - timedelta(days=1)).date()
    assert "is not over yet" in member(ANALYST, name="ann").get(NEXT).content.decode()


@pytest.mark.usefixtures("world")
def test_a_viewer_proposes_nothing_and_an_analyst_locks_nothing() -> None:
    viewer = member(VIEWER, name="eve")
    assert viewer.get(NEXT).status_code == 200
    assert viewer.post(NEXT, {"day": str(books.next_day())}).status_code == 403
    close = proposed_by_ann()

    assert decided(close, "eve", VIEWER, "send_back") == 403
    assert decided(close, "ida", ANALYST, "approve") == 403
    decided(close, "ann", ANALYST, "send_back")
    close.refresh_from_db()
    assert close.decision == Decision.WITHDRAWN


def test_who_has_both_roles_does_not_lock_his_own(world: World) -> None:
    """R43 at the page: the button is not there, and posting by hand decides nothing."""
    with transaction.atomic():
        close = books.propose_close(
            day=world.clock.business_now().date() - timedelta(days=1),
            reasons={"file": "late"},
            by="bob",
            now=world.clock.now(),
        )

    decided(close, "bob", APPROVER, "approve")

    close.refresh_from_db()
    assert close.decision == Decision.OPEN


def test_a_month_whose_days_are_closed_is_offered_and_locked(world: World) -> None:
    """The test clock's first day is the last of its month, so one day closes it."""
    assert books.next_day() == (world.clock.business_now() - timedelta(days=1)).date()
    decided(proposed_by_ann(), "bob", APPROVER, "approve")
    ann, bob = member(ANALYST, name="ann"), member(APPROVER, name="bob")
    assert "Propose to close 2026-01" in ann.get(NEXT).content.decode()

    assert bob.post("/admin/settlements/booksclose/month/").status_code == 403
    ann.post("/admin/settlements/booksclose/month/")
    assert not BooksClose.objects.filter(span="month").exists()
    ann.post("/admin/settlements/booksclose/month/", {"reason": WHY})
    kept = LogEntry.objects.get(object_repr="close of 2026-01")
    assert kept.change_message == f"Proposed to close it: {WHY}"

    month = BooksClose.objects.get(span="month")
    assert "days or months to lock" in bob.get("/admin/").content.decode()
    decided(month, "bob", APPROVER, "approve")
    page = bob.get(reverse("admin:settlements_booksclose_change", args=[month.pk]))
    assert month.figures["trial_balance_sha256"] in page.content.decode()
    assert "No case was opened in that month." in page.content.decode()
    carried = {each.words: each for each in page.context["counted"]}
    assert carried["attempts in doubt (suspense) when its last day was closed"].count == "0"
    last = carried["carried over from its last day"]
    assert (last.count, "late, told at noon" in bob.get(last.link).content.decode()) == ("1", True)
    entries = bob.get(page.context["postings"]).context["printed"]
    assert (entries.count, entries.usd) == (2, month.debit)
    assert books.next_day() == world.clock.business_now().date()
    assert "Every day of" not in ann.get(NEXT).content.decode()
