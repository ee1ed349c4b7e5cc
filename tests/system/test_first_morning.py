"""The first working day of a month, whole: analyst and approver walk in a real browser to a closed day.

40 000 charges of the 1st, which was a Sunday; three discrepancies (+0.03, -0.03, +0.01), the statement of one
lane late, one charge of 199.00 in doubt. MORNING_CHARGES makes it smaller; SCREENSHOTS keeps the pictures.
Skipped, by name, where no Chromium is installed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser

from checkout import rescue
from checkout.charging import attempt_charge
from checkout.clock import Clock
from checkout.gateways import Approved, InDoubt
from checkout.messages import Receive
from checkout.models import Attempt, Charge, ChargeState
from processor.statement import Capture, render
from settlements import expectations, reconciliation
from settlements.models import BooksClose
from settlements.roles import ANALYST, APPROVER
from tests.browser import CHROMIUM, Visitor, opened_browser, pictures_folder, signed_in
from tests.factories import LANE, World, creator, fresh, routing_rule
from tests.factories_many import PRICE, many_captures
from tests.factories_roles import pages_at
from tests.factories_settlements import captures, statement_text, take_in
from tests.fakes import START

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(900),
]

CHARGES: Final = int(os.environ.get("MORNING_CHARGES", "40000"))
# As in the sentence that finance opens on: 38 412 proved, 1 588 await their file.
LATE: Final = max(1, CHARGES * 1588 // 40000)
PROVED: Final = CHARGES - LATE
LATE_LANE: Final = "mena"
SUNDAY: Final = date(2026, 2, 1)
MONDAY: Final = datetime(2026, 2, 2, 7, 10, tzinfo=UTC)
DOUBTFUL: Final = Decimal("199.00")
WHY: Final = "looked at, the processor confirmed it"


# --- The night before ----------------------------------------------------------------------------


@dataclass
class Night(World):
    """Two lanes, one processor in memory behind both; the real clock is this machine's."""

    late: Charge | None = field(default=None)

    @property
    def gateways(self) -> dict[str, Any]:
        return {LANE: self.gateway, LATE_LANE: self.gateway}


def at(world: World, moment: datetime) -> None:
    """Set both clocks so that Monday morning is now."""
    before = MONDAY - moment
    world.clock.hands["real"] = Clock().real_now() - before - START
    world.clock.hands["business"] = moment - world.clock.real_now()


def receive(world: Night, charge: Charge) -> None:
    attempt_charge(
        receive=Receive(charge_id=charge.pk, round=1, dispatch=1, count=1),
        clock=world.clock,
        gateways=world.gateways,
        ages=world.ages,
    )


def captured_but_for(world: Night, by: str) -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"sbx_{request.reference}")
    ]
    receive(world, world.due_charge())


def in_doubt(world: Night) -> Charge:
    """199.00 sent on the late lane, without an answer; the resolver has asked three times since."""
    routing_rule("AE", lane=LATE_LANE)
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    charge = world.due_charge(of=creator(clock=world.clock, country="AE"), price=str(DOUBTFUL))
    receive(world, charge)
    for seconds in (60, 300, 3600):
        world.clock.forward(seconds=seconds)
        world.gateway.query_answers = [InDoubt("503: try again later")]
        rescue.resolve(clock=world.clock, gateways=world.gateways, ages=world.ages)
    assert fresh(charge).state == ChargeState.IN_DOUBT
    return charge


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Night]:
    """Sunday's captures, the file of one lane, the other's late; a pass of Monday morning."""
    world = Night()
    at(world, datetime(2026, 2, 1, 3, 0, tzinfo=UTC))
    many_captures(
        lanes={LANE: PROVED, LATE_LANE: LATE}, first=world.clock.business_now(), clock=world.clock
    )
    at(world, datetime(2026, 2, 1, 16, 0, tzinfo=UTC))
    for by in ("0.03", "-0.03", "0.01"):
        captured_but_for(world, by)
    world.late = in_doubt(world)
    at(world, MONDAY - timedelta(hours=2))
    take_in(statement_text(SUNDAY), world=world, folder=tmp_path, name="cis.csv")
    at(world, MONDAY)
    with pages_at(world.clock):
        looked_at(world)
        yield world


def looked_at(world: Night) -> None:
    """What the timetable does every few seconds."""
    at(world, world.clock.business_now() + timedelta(seconds=1))
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    expectations.mark_late_expectations(now=world.clock.now())
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


def late_file(folder: Path) -> Path:
    """The file at last: every capture of the lane, and 199.00 under a reference that got torn."""
    known = captures(Attempt.objects.filter(lane=LATE_LANE).order_by("booked_at", "id"))
    booked = datetime(2026, 2, 1, 16, 1, tzinfo=UTC)
    torn = Capture("torn-7F3A", "sbx_7F3A", booked, DOUBTFUL)
    text = render(account=LATE_LANE, captures=[*known, torn], first=SUNDAY, last=SUNDAY)
    path = folder / "mena-2026-02-01.csv"
    path.write_text(text, "utf-8")
    return path


# --- The walk ------------------------------------------------------------------------------------


@dataclass
class Walker:
    """A person at the browser: each page is told by name, looked at by axe-core, and perhaps kept."""

    visitor: Visitor
    folder: Path
    name: str
    found: dict[str, list[str]] = field(default_factory=dict)

    @property
    def page(self) -> Any:
        return self.visitor.page

    def look(self, what: str) -> str:
        """The words of the page as it stands; it is photographed and checked."""
        self.page.wait_for_load_state("networkidle")
        self.visitor.shoot(self.folder, f"morning-{len(self.found):02}-{self.name}-{what}")
        self.found[what] = self.visitor.violations()
        return re.sub(r"\s+", " ", self.page.inner_text("#content"))

    def go(self, path: str) -> None:
        self.visitor.open(path)

    def click(self, locator: Any) -> None:
        """Follow it to the page it leads to."""
        with self.page.expect_navigation():
            locator.click()

    def press(self, name: str | re.Pattern[str]) -> None:
        self.click(self.page.get_by_role("button", name=name))

    def follow(self, name: str | re.Pattern[str]) -> None:
        self.click(self.page.get_by_role("link", name=name).first)

    def follow_in_sentence(self, words: str) -> None:
        self.go("/admin/")
        self.click(self.page.locator(".sentence a", has_text=words))

    def open_first_row(self) -> None:
        self.click(self.page.locator("#result_list tbody th a").first)

    def say_why(self, button: str | re.Pattern[str]) -> None:
        self.page.fill("#id_reason", WHY)
        self.press(button)

    def sentence(self) -> str:
        self.go("/admin/")
        return " ".join(self.page.inner_text(".sentence").split())


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser() as opened:
        yield opened


def test_the_first_morning_of_a_month_ends_with_a_closed_day(
    live_server: Any, browser: Browser, world: Night, tmp_path: Path
) -> None:
    """Home, three discrepancies, the late file, 199.00 in doubt, the close: 0 violations, 0 complaints."""
    folder = pictures_folder(tmp_path)
    ann = Walker(signed_in(browser, live_server.url, ANALYST), folder, "analyst")
    bob = Walker(signed_in(browser, live_server.url, APPROVER), folder, "approver")

    opens_on_what_is_proved(ann)
    three_cents_are_proposed_and_approved(ann, bob)
    looked_at(world)
    the_late_file_arrives(ann, late_file(tmp_path))
    looked_at(world)
    every_cent_of_the_day_is_proved(ann)
    what_is_in_doubt_is_matched_by_hand(ann, bob)
    looked_at(world)
    the_day_is_closed(ann, bob)

    assert {name: bad for each in (ann, bob) for name, bad in each.found.items() if bad} == {}
    assert ann.visitor.complaints + bob.visitor.complaints == []
    assert world.late is not None
    assert fresh(world.late).state == ChargeState.SUCCEEDED


def opens_on_what_is_proved(ann: Walker) -> None:
    """The first line of the morning, and the list behind each of its numbers."""
    assert ann.sentence() == (
        f"{PROVED:,} proved, {LATE:,} await the file of mena for 2026-02-01, 1 h late, "
        "3 discrepant (0.07 absolute, +0.01 net)."
    )
    shown = ann.look("home")
    assert shown.index("The file of mena for 2026-02-01 is late") < shown.index(
        f"{PROVED:,} proved"
    )
    assert "in doubt 1 199.00" in shown
    assert f"succeeded {CHARGES + 3:,}" in shown
    lists = (
        ("proved", f"{PROVED:,} captures {PROVED * PRICE:,.2f} USD"),
        ("await the file", f"{LATE:,} capture"),
        ("discrepant", "3 discrepancies 0.01 USD"),
    )
    for link, head in lists:
        ann.follow_in_sentence(link)
        assert head in ann.look(f"list-{link.split()[0]}")


def three_cents_are_proposed_and_approved(ann: Walker, bob: Walker) -> None:
    """One proposal for all three; another person approves exactly these."""
    ann.follow_in_sentence("discrepant")
    assert ann.page.locator("#result_list tbody tr").count() == 3
    for box in ann.page.locator("input.action-select").all():
        box.check()
    ann.page.select_option("select[name=action]", "propose")
    ann.click(ann.page.locator("button[name=index]"))
    assert "0.01" in ann.look("propose")
    ann.page.select_option("#id_way", "corrected")
    ann.say_why("Propose it")
    ann.page.wait_for_selector("text=waits for another person")

    bob.go("/admin/")
    assert "proposals to approve or refuse 1 0.01" in bob.look("home")
    bob.follow("proposals to approve or refuse")
    bob.open_first_row()
    shown = bob.look("proposal")
    assert "+0.03" in shown
    assert "-0.03" in shown
    assert "0.07" in shown
    bob.say_why(re.compile("Approve these 3, .0.01 USD"))
    bob.page.wait_for_selector("text=is approved")
    assert "approved" in bob.look("proposal-approved")


def the_late_file_arrives(ann: Walker, path: Path) -> None:
    """It is reviewed before anything of it is stored."""
    ann.go("/admin/settlements/statementimport/")
    ann.follow("Upload a statement")
    ann.page.wait_for_selector("#id_file")
    ann.look("upload")
    ann.page.select_option("#id_whose", LATE_LANE)
    ann.page.set_input_files("#id_file", str(path))
    ann.press("Read it")
    ann.page.wait_for_selector("text=It would be accepted")
    assert f"{LATE + 1:,}" in ann.look("upload-review")
    ann.say_why("Import exactly this file")
    ann.page.wait_for_selector(".messagelist")
    assert "accepted" in ann.look("upload-imported")


def every_cent_of_the_day_is_proved(ann: Walker) -> None:
    """Nothing awaits, nothing about a charge stands; a line that names nobody does."""
    assert ann.sentence() == (f"{CHARGES + 3:,} proved, 0 discrepant (0.00 absolute, +0.00 net).")
    assert "1 discrepancy is about no charge" in ann.look("home-proved")


def what_is_in_doubt_is_matched_by_hand(ann: Walker, bob: Walker) -> None:
    """The desk offers the unmatched line of 199.00; one matches them, another approves."""
    ann.go("/admin/in-doubt/")
    shown = ann.look("in-doubt")
    assert "199.00 USD at risk" in shown
    assert shown.count("no answer to go by: 503: try again later") == 3
    ann.follow("match them by hand")
    assert "Both sides agree to the cent" in ann.look("match")
    ann.say_why(re.compile("Propose this match: 2 rows, 199.00 USD, difference .0.00"))
    ann.page.wait_for_selector("text=waits for another person")

    bob.go("/admin/")
    bob.follow("proposals to approve or refuse")
    bob.open_first_row()
    assert "199.00" in bob.look("match-proposal")
    bob.say_why(re.compile("Match these 2, 199.00 USD"))
    bob.page.wait_for_selector("text=is approved")
    bob.go("/admin/in-doubt/")
    assert "Nothing is in doubt" in bob.look("in-doubt")


def the_day_is_closed(ann: Walker, bob: Walker) -> None:
    """Nothing is open, so nothing is carried over: one proposes, another locks."""
    ann.go("/admin/settlements/booksclose/next/")
    assert "Close 2026-02-01" in ann.look("close")
    ann.say_why("Propose to close 2026-02-01")
    ann.page.wait_for_selector("text=Another person locks it")

    bob.go("/admin/")
    bob.follow("days or months to lock")
    bob.open_first_row()
    bob.look("close-waiting")
    bob.say_why(re.compile("Lock 2026-02-01"))
    bob.page.wait_for_selector("text=Certificate")
    certificate = bob.look("certificate")
    billed = (CHARGES + 3) * PRICE + DOUBTFUL
    assert f"captures proved by an accepted file {CHARGES + 3:,}" in certificate
    assert f"{billed:,.2f}" in certificate
    close = BooksClose.objects.get()
    assert (close.first_day, close.carried_count, close.debit) == (SUNDAY, 0, close.credit)
    ann.go("/admin/")
    assert "since the close of 2026-02-01" in ann.look("home-closed")
