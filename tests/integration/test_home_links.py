"""Every figure of home leads to a list of exactly what it counts (R47, R48)."""

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test import Client

from checkout import requeues, verdicts
from checkout.charging import attempt_charge
from checkout.clock import Moment
from checkout.gateways import Approved, DeclineClass, Declined
from checkout.messages import Receive
from checkout.models import Case, CaseKind, Charge, Door, PendingMessage
from checkout.outbox import park
from checkout.requeues import BY_COMMAND, Choice, Limit
from checkout.rescue import close_case, keep_unreadable
from settlements import books, reconciliation, resolving
from settlements.models import STANDING, BooksClose, Discrepancy, Payout, Proposal, Way
from settlements.roles import ANALYST, APPROVER, VIEWER
from tests.factories import LANE, World, creator, fresh, routing_rule
from tests.factories_payouts import (
    LAST_OF_JANUARY,
    LEFT,
    NET,
    captured_world,
    credited,
    named,
    prove,
    stated,
)
from tests.factories_roles import member, pages_at
from tests.factories_settlements import statement_text, take_in
from tests.situations import (
    drain,
    due,
    exhausted_for_a_person,
    in_doubt,
    letter,
    open_attempt,
    succeeded,
    voided,
    written_off,
)

pytestmark = pytest.mark.django_db

ME = "ann"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with pages_at(world.clock):
        yield world


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return re.sub(r"\s+", " ", answer.content.decode())


def figure(client: Client, words: str) -> tuple[str, str, str]:
    """The link, the count and the USD of the row of home that begins with these words."""
    row = rf'<td><a href="([^"]+)">{words}[^<]*</a></td><td class="money">([^<]*)</td>'
    found = re.findall(rf'{row}<td class="money">([^<]*)</td>', page(client, "/admin/"))
    assert len(found) == 1, f"{words}: {found}"
    link, count, usd = found[0]
    return unescape(link), count, usd


def listed(client: Client, link: str) -> tuple[str, str]:
    """The count and the USD at the head of a list; no USD where its rows carry none."""
    shown = page(client, link)
    count = re.search(r"<strong>([\d,]+) [a-z ]+</strong>", shown)
    usd = re.search(r'<strong class="money">(\S+) USD[,<]', shown)
    assert count, link
    return count[1], usd[1] if usd else ""


# --- Payouts due ---------------------------------------------------------------------------------


def test_payouts_that_left_and_have_not_landed_are_due_and_late_ones_are_named_apart(
    tmp_path: Path,
) -> None:
    world = captured_world()
    stated(world, tmp_path)
    with pages_at(world.clock):
        client = member(VIEWER)
        due_now, late = (
            figure(client, "payouts due: left"),
            figure(client, "payouts due: past their day"),
        )
        assert due_now[1:] == late[1:] == ("1", "19.11")
        assert listed(client, due_now[0]) == listed(client, late[0]) == ("1", "19.11")

    payout = Payout.objects.get()
    on_its_day = Moment(world.clock.real_now(), world.clock.business_now())
    world.clock.move_business(days=(LEFT - on_its_day.business.date()).days)
    with pages_at(world.clock):
        assert payout.value_on == world.clock.business_now().date()
        client = member(VIEWER)
        assert figure(client, "payouts due: left")[1:] == ("1", "19.11")
        assert "payouts due: past their day" not in page(client, "/admin/")
        # The link of yesterday's page is of yesterday's day.
        assert listed(client, f"/admin/settlements/payout/?left_before={LEFT}")[0] == "0"


def test_a_payout_that_landed_is_due_no_more(tmp_path: Path) -> None:
    world = captured_world()
    stated(world, tmp_path)
    credited(world, tmp_path, named())
    prove(world)
    with pages_at(world.clock):
        client = member(VIEWER)
        link, *shown = figure(client, "payouts due: left")
        assert shown == ["0", "0.00"]
        assert listed(client, link) == ("0", "0.00")


def test_a_payout_is_due_as_it_left_and_not_as_its_lines_say(tmp_path: Path) -> None:
    """As *Cash* has it: what is on the way to the bank is what the processor sent."""
    world = captured_world()
    text = statement_text(LAST_OF_JANUARY, LEFT).replace(
        f"-{NET},0.00,-{NET}", "-18.11,0.00,-18.11"
    )
    head, _, closing = text.rstrip("\n").rpartition("\n")
    closing = closing.replace(",0.00,USD", ",1.00,USD")
    take_in(f"{head}\n{closing}\n", world=world, folder=tmp_path)
    prove(world)
    with pages_at(world.clock):
        client = member(VIEWER)
        link, *shown = figure(client, "payouts due: left")
        assert shown == ["1", "18.11"]
        assert listed(client, link) == ("1", "18.11")


# --- Declines ------------------------------------------------------------------------------------


def test_each_class_of_decline_leads_to_its_attempts_of_the_seven_days(world: World) -> None:
    def declined(by: DeclineClass, price: str) -> None:
        world.gateway.answers = [Declined(by, "no")]
        world.receive(world.due_charge(price=price))

    declined(DeclineClass.FUNDS, "5.00")
    world.clock.forward(days=1)
    declined(DeclineClass.FUNDS, "19.99")
    declined(DeclineClass.NEVER, "199.00")
    world.clock.forward(days=6)
    declined(DeclineClass.FUNDS, "7.00")

    with pages_at(world.clock):
        client = member(VIEWER)
        funds, never = figure(client, "funds"), figure(client, "never")
        assert (funds[1:], never[1:]) == (("2", "26.99"), ("1", "199.00"))
        assert listed(client, funds[0]) == ("2", "26.99")
        assert listed(client, never[0]) == ("1", "199.00")


# --- Waiting for me ------------------------------------------------------------------------------


def test_each_pile_that_waits_for_me_leads_to_exactly_it(world: World, tmp_path: Path) -> None:
    """What I proposed myself waits for somebody else, and is neither counted nor listed."""
    proposals_of(world, ME, "bob")
    close_of(world, "bob")
    verdicts_of(world, ME, "bob", "zoe")
    requeues_of(world, f"{BY_COMMAND}{ME}", "bob")
    # A case that is open and that nobody proposed anything about.
    keep_unreadable(subject="message-1", body="?", reason="no JSON", now=world.clock.now())

    with pages_at(world.clock):
        client = member(ANALYST, APPROVER, name=ME)
        for words, count in (
            ("proposals to approve", "1"),
            ("days or months to lock", "1"),
            ("verdicts and bill runs", "2"),
            ("bulk requeues", "1"),
        ):
            link, shown, usd = figure(client, words)
            assert shown == count, words
            assert listed(client, link)[0] == count, words
            assert listed(client, link)[1] in {"", usd}, words
        # For another person the same address is another list.
        bobs = member(ANALYST, APPROVER, name="bob")
        assert figure(bobs, "days or months to lock")[1] == "0"
        assert listed(bobs, figure(client, "days or months to lock")[0])[0] == "0"


def proposals_of(world: World, *people: str) -> None:
    for _ in people:
        short(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    rows = Discrepancy.objects.filter(STANDING, charge__isnull=False)
    for who, row in zip(people, rows, strict=True):
        resolving.propose(
            discrepancy_ids=[row.pk],
            way=Way.CORRECTED,
            by=who,
            reason="short",
            now=world.clock.now(),
        )
    assert Proposal.objects.count() == len(people)


def short(world: World) -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", f"{request.reference}")
    ]
    world.receive(world.due_charge())


def close_of(world: World, who: str) -> None:
    world.clock.forward(days=1, seconds=2 * 3600)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    reasons = {"file": "late, asked for", "discrepancy": "looked into"}
    day = date(2026, 1, 31)
    books.propose_close(day=day, reasons=reasons, by=who, now=world.clock.now())
    assert BooksClose.objects.count() == 1


def verdicts_of(world: World, *people: str) -> None:
    charges = [in_doubt(world) for _ in people]
    world.clock.forward(days=1)
    for who, charge in zip(people, charges, strict=True):
        with transaction.atomic():
            verdicts.propose_verdict(
                attempt_id=open_attempt(charge).pk,
                captured=None,
                by=who,
                reason="their support said so",
                now=world.clock.now(),
                gateways=world.gateways,
                ages=world.ages,
            )


def requeues_of(world: World, *people: str) -> None:
    """Each above the limit; a charge that waits in one is not chosen by the next."""
    for who in people:
        exhausted_for_a_person(world)
        with transaction.atomic():
            requeues.propose(
                choice=Choice(lane=LANE),
                by=who,
                reason="the bank is back",
                limit=Limit(count=0, usd=Decimal("0.00")),
                now=world.clock.now(),
                ages=world.ages,
            )


# --- Cases and messages --------------------------------------------------------------------------


def test_dead_letters_lead_to_the_open_ones_alone(world: World) -> None:
    now = world.clock.now()
    keep_unreadable(subject="message-1", body="?", reason="no JSON", now=now)
    closed = keep_unreadable(subject="message-2", body="?", reason="no JSON", now=now)
    close_case(case_id=closed.pk, by="ann", reason="it was a test", now=now)
    # A letter of a charge is acted on at once, and its case closed; another kind is no dead letter.
    drain(world, letter(due(world)))
    verdicts_of(world, "bob")

    client = member(VIEWER)
    link, *shown = figure(client, "dead letters")

    assert Case.objects.filter(kind=CaseKind.DEAD_LETTER).count() == 1
    assert shown == ["1", "0.00"]
    assert listed(client, link) == ("1", "0.00")
    assert f'<a href="{link}">1 dead letters wait' in page(client, "/admin/")
    assert listed(client, link.replace("=open", "=all"))[0] == "3"


def test_what_waits_is_delayed_or_parked_at_a_door_leads_to_just_that(world: World) -> None:
    first, second, *others = [world.due_charge() for _ in range(4)]
    refused = PendingMessage.objects.filter(door=Door.SQS, key=first.creator_id)
    ids = list(refused.values_list("pk", flat=True))
    park(connection.connection, ids=ids, now=world.clock.real_now())
    later = PendingMessage.objects.filter(door=Door.SQS, key=second.creator_id)
    later.update(available_at="2999-01-01T00:00:00Z")

    client = member(VIEWER)
    wait = figure(client, "messages wait to leave by sqs")
    delayed = figure(client, "messages leave by sqs later")
    parked_now = figure(client, "messages are parked at sqs")

    assert (wait[1], delayed[1], parked_now[1]) == (str(len(others)), "1", "1")
    for link, count, _ in (
        wait,
        delayed,
        parked_now,
        figure(client, "messages wait to leave by k"),
    ):
        assert listed(client, link)[0] == count, link


# --- The fourteen days and the first line --------------------------------------------------------


def test_each_count_of_the_fourteen_days_leads_to_its_charges(world: World) -> None:
    for made in (succeeded, succeeded, due, in_doubt, exhausted_for_a_person, voided, written_off):
        made(world)
    day = fresh(Charge.objects.first()).period_start  # type: ignore[arg-type]
    world.clock.forward(days=1)
    succeeded(world)

    with pages_at(world.clock):
        client = member(VIEWER)
        shown = page(client, "/admin/").partition("The same in figures")[2]
        row = re.search(rf'<th scope="row">{day}</th>(.*?)</tr>', shown)
        assert row
        cells = re.findall(r'<a href="([^"]+)">(\d+)</a></td><td class="money">(\S+)</td>', row[1])
        assert [count for _, count, _ in cells] == ["2", "2", "1", "2"]
        for link, count, usd in cells:
            assert listed(client, unescape(link)) == (count, usd), link
        # A figure of nothing has no list.
        assert shown.count("<a href=") >= 5
        assert ">0</a>" not in shown


def test_of_many_awaited_files_the_first_line_puts_those_of_the_newest_days_together(
    world: World,
) -> None:
    """Still each capture is in one of its figures, and each figure leads to exactly its captures."""
    for _ in range(6):
        world.receive(world.due_charge())
        world.clock.forward(days=1)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)

    with pages_at(world.clock):
        client = member(VIEWER)
        figures = first_line(client)
        assert [(count, words.split(",")[0]) for _, count, words in figures] == [
            ("0", "proved"),
            ("1", "await the file of cis for 2026-01-31"),
            ("1", "await the file of cis for 2026-02-01"),
            ("1", "await the file of cis for 2026-02-02"),
            ("3", "await the 3 files for 2026-02-03 to 2026-02-05"),
            ("0", "discrepant (0.00 absolute"),
        ]
        for link, count, words in figures:
            assert listed(client, link)[0] == count, words


def test_files_of_one_day_are_put_together_whole(world: World) -> None:
    """A day that is cut in two would have no address of its own."""
    routing_rule("AE", lane="mena")
    both = {LANE: world.gateway, "mena": world.gateway}
    for _ in range(3):
        for of in (creator(clock=world.clock), creator(clock=world.clock, country="AE")):
            charge = world.due_charge(of=of)
            receive = Receive(charge_id=charge.pk, round=1, dispatch=1, count=1)
            attempt_charge(receive=receive, clock=world.clock, gateways=both, ages=world.ages)
        world.clock.forward(days=1)

    with pages_at(world.clock):
        client = member(VIEWER)
        figures = [each for each in first_line(client) if "await" in each[2]]
        assert [(count, words.split(",")[0]) for _, count, words in figures] == [
            ("1", "await the file of cis for 2026-01-31"),
            ("1", "await the file of mena for 2026-01-31"),
            ("4", "await the 4 files for 2026-02-01 to 2026-02-02"),
        ]
        for link, count, words in figures:
            assert listed(client, link)[0] == count, words


def first_line(client: Client) -> list[tuple[str, str, str]]:
    """The link, the count and the words of each figure of the first line."""
    sentence = page(client, "/admin/").partition('class="sentence">')[2].partition("</p>")[0]
    found = re.findall(r'<a href="([^"]+)"><strong>([^<]+)</strong> ([^<]+)</a>', sentence)
    return [(unescape(link), count, words) for link, count, words in found]
