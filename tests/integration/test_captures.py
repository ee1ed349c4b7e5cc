"""Captures by how far they are proved: each number of home opens the list of exactly what it counts."""

import re
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checkout.gateways import Approved
from checkout.tallies import Tally
from settlements import reconciliation
from settlements.captures import captures, of_proof, within
from settlements.days import Stretch, captures_in, days_to_prove
from settlements.expectations import agree_terms
from settlements.models import Covers, ProofState
from settlements.roles import VIEWER
from tests.factories import LANE, World
from tests.factories_roles import member, pages_at
from tests.factories_settlements import edit, statement_text, take_in

pytestmark = pytest.mark.django_db
LIST = "/admin/settlements/capture/"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with pages_at(world.clock):
        yield world


def captured(world: World, by: str = "0.00", price: str = "19.99") -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"ref-{request.reference}")
    ]
    world.receive(world.due_charge(price=price))


def three_days(world: World, folder: Path) -> None:
    """Two proved on the first day, one short; one proved that stands on the second; two await on the third."""
    for by in ("0.00", "0.00", "-0.03"):
        captured(world, by)
    world.clock.forward(days=1)
    captured(world, price="5.00")
    take_in(statement_text(date(2026, 1, 31), date(2026, 2, 1)), world=world, folder=folder)
    world.clock.forward(days=1)
    captured(world, price="7.00")
    captured(world, price="9.00")
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def summed(proof: ProofState, stretch: Stretch | None) -> Tally:
    found = captures().filter(of_proof(proof, stretch))
    if stretch:
        found = found.filter(within(stretch))
    amounts = [row.captured_amount or Decimal() for row in found]
    return Tally(len(amounts), sum(amounts, Decimal("0.00")))


def links_of(client: Client) -> list[tuple[str, str]]:
    """What the first sentence and the table below it count, and where each leads."""
    page = client.get("/admin/").content.decode()
    part = page[page.index('<section class="headline"') : page.index('<div class="board">')]
    rows = re.findall(r'<a href="([^"]+)"><strong>([\d,]+)</strong>', part)
    rows += re.findall(r'<a href="([^"]+)">[^<]+</a></td><td class="money">([\d,]+)', part)
    return [(unescape(link), count) for link, count in rows]


def test_every_number_of_the_first_sentence_opens_the_list_of_what_it_counts(
    world: World, tmp_path: Path
) -> None:
    three_days(world, tmp_path)
    client = member(VIEWER)

    links = links_of(client)

    assert [count for _, count in links] == ["3", "2", "1", "3", "2", "1"]
    for link, count in links:
        shown = client.get(link).content.decode()
        noun = "discrepanc(y|ies)" if "/discrepancy/" in link else "captures?"
        assert re.search(rf"<strong>{count} {noun}</strong>", shown), link
        rows = re.findall(r'<th class="field-|<td class="field-booked_at', shown)
        assert len(rows) >= int(count), link


@pytest.mark.parametrize("stretch", [None, Stretch(date(2026, 1, 31), date(2026, 2, 2))])
def test_a_list_and_its_kept_figure_are_the_same(
    world: World, tmp_path: Path, stretch: Stretch | None
) -> None:
    """R47: nobody counts the list, so what is kept must be exactly it."""
    three_days(world, tmp_path)

    found = {proof: summed(proof, stretch) for proof in ProofState}

    assert found == {
        ProofState.PROVED: Tally(3, Decimal("44.98")),
        ProofState.AWAITING: Tally(2, Decimal("16.00")),
        ProofState.DISCREPANT: Tally(1, Decimal("19.96")),
    }
    for proof, tally in found.items():
        assert captures_in(proof=proof, stretch=stretch, lane="") == tally
        assert captures_in(proof=proof, stretch=stretch, lane=LANE) == tally
        assert captures_in(proof=proof, stretch=stretch, lane="mena") == Tally()


def test_a_day_is_the_lane_s_own(world: World) -> None:
    """Captured at 12:00 UTC it is the next day already where the lane's statements are cut."""
    agree_terms(
        lane=LANE, covers=Covers.DAY, time_zone="Pacific/Auckland", due_days=1, due_time=time(9)
    )
    captured(world)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    row = captures().get()
    assert row.booked_at is not None
    there = date(2026, 2, 1)
    assert days_to_prove(now=world.clock.business_now()).awaiting[0].day == there

    assert summed(ProofState.AWAITING, Stretch(there, there)).count == 1
    assert summed(ProofState.AWAITING, Stretch(date(2026, 1, 31), date(2026, 1, 31))).count == 0
    page = member(VIEWER).get(f"{LIST}?days=2026-02-01..2026-02-01").content.decode()
    assert "1 capture" in page
    assert "2026-02-01" in page


def test_what_an_address_names_wrongly_chooses_nothing(world: World) -> None:
    captured(world)
    client = member(VIEWER)
    for days in ("yesterday", "2026-02-31", "2026-02-02..2026-02-01", "0001-01-01..9999-12-31"):
        assert "1 capture" in client.get(f"{LIST}?days={days}").content.decode()
    assert "0 captures" in client.get(f"{LIST}?lane=gone").content.decode()


def test_a_list_that_goes_on_prints_the_kept_figure(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what a list counts the head still says how many, and how much, to the cent."""
    three_days(world, tmp_path)
    monkeypatch.setattr("checkout.lists.MOST_COUNTED", 1)

    page = member(VIEWER).get(f"{LIST}?proof=proved").content.decode()

    assert "<strong>3 captures</strong>" in page
    assert "44.98 USD" in page


def test_r47_a_page_of_captures_asks_as_often_for_many_as_for_one(
    world: World, tmp_path: Path
) -> None:
    captured(world)
    client = member(VIEWER)
    with CaptureQueriesContext(connection) as of_one:
        client.get(f"{LIST}?proof=awaiting&days=2026-01-31..2026-02-02")
    three_days(world, tmp_path)
    with CaptureQueriesContext(connection) as of_many:
        client.get(f"{LIST}?proof=awaiting&days=2026-01-31..2026-02-02")

    assert len(of_many) == len(of_one)


def test_an_edit_behind_the_back_moves_list_and_figure_alike(world: World, tmp_path: Path) -> None:
    three_days(world, tmp_path)
    edit("UPDATE checkout_attempt SET captured_amount = 8.00 WHERE captured_amount = 7.00")

    kept = captures_in(proof=ProofState.AWAITING, stretch=None, lane="")

    assert kept == summed(ProofState.AWAITING, None) == Tally(2, Decimal("17.00"))
