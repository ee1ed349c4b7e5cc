"""The finance pages in a real browser: keys, light and dark, axe-core, no complaint of the console.

Set SCREENSHOTS to a folder to keep the pictures. Skipped, by name, where no Chromium is installed.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import Browser

from checkout import requeues
from checkout.gateways import Approved, InDoubt
from checkout.messages import DeadLetter
from checkout.models import BulkRequeue
from checkout.requeues import Choice, Limit
from settlements import reconciliation, resolving
from settlements.exports import runs
from settlements.exports.runs import Made
from settlements.models import Discrepancy, ExportForm, ExportRun, ExportWhat, Way
from settlements.roles import ANALYST, APPROVER, OPERATOR, VIEWER
from tests.browser import CHROMIUM, opened_browser, pictures_folder, signed_in
from tests.factories import World
from tests.factories_roles import pages_at
from tests.situations import (
    drain,
    exhausted_awaits_an_instrument,
    exhausted_on_a_date,
    failed_then_retry,
    letter,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
]

LETTERS = "/admin/checkout/bulkrequeue/dead-letters/"
PAGES = {
    "home": "/admin/",
    "month": "/admin/month/",
    "cash": "/admin/cash/",
    "charges": "/admin/checkout/charge/",
    "cases": "/admin/checkout/case/",
    "in-doubt": "/admin/in-doubt/",
    "captures": "/admin/settlements/capture/?proof=awaiting",
    "bank-expectations": "/admin/settlements/bankexpectation/",
    "discrepancies": "/admin/settlements/discrepancy/",
    "decisions": "/admin/admin/logentry/",
}


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with pages_at(world.clock):
        yield world


def some_work(world: World) -> dict[str, str]:
    """A proved-looking charge, two of one cause that are proposed, one that stands; and all pages."""
    world.receive(world.due_charge())
    for by in ("-0.03", "-0.03", "0.01"):
        short_of(world, by)
    rows = Discrepancy.objects.filter(difference=Decimal("-0.03"))
    with transaction.atomic():
        proposal = resolving.propose(
            discrepancy_ids=list(rows.values_list("pk", flat=True)),
            way=Way.CORRECTED,
            by="ann",
            reason="the network kept three cents; the processor confirmed it",
            now=world.clock.now(),
        )
    row = Discrepancy.objects.get(difference=Decimal("0.01"))
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    world.receive(world.due_charge(price="199.00"))
    return PAGES | {
        "discrepancy": f"/admin/settlements/discrepancy/{row.pk}/change/",
        "proposed": f"/admin/settlements/discrepancy/{rows[0].pk}/change/",
        "proposals": "/admin/settlements/proposal/",
        "proposal": f"/admin/settlements/proposal/{proposal.pk}/change/",
        "trail": "/admin/settlements/deskaction/",
        "dead-letters": f"{LETTERS}?look=yes&lane=cis#requeue",
        "requeues": "/admin/checkout/bulkrequeue/",
        "requeue": f"/admin/checkout/bulkrequeue/{requeued(world).pk}/change/",
        "exports": "/admin/settlements/exportrun/",
        "export": f"/admin/settlements/exportrun/{exported(world).pk}/change/",
    }


def exported(world: World) -> ExportRun:
    """An export that was made, and one that waits."""
    now = world.clock.now()
    with transaction.atomic():
        for form in (ExportForm.CSV, ExportForm.XLSX):
            runs.ask(
                what=ExportWhat.CHARGES,
                form=form,
                query="state__exact=due",
                words="By state: Due",
                by="ann",
                reason="for the auditors, ticket 882",
                now=now,
            )
        run = runs.claim(now=now)
        assert run is not None
        made = Made("1-1.csv", 314, "0" * 64, now.real, 3, Decimal("125.00"))
        runs.finish(run=run, made=made, now=now)
    return run


def requeued(world: World) -> BulkRequeue:
    """Two drained letters, exhausted charges of both sorts, and a bulk requeue above the limit."""
    for _ in range(2):
        exhausted_on_a_date(world)
    with transaction.atomic():
        run = requeues.propose(
            choice=Choice(decline_class="funds"),
            by="olga",
            reason="the issuers answer again, ticket 881",
            limit=Limit(count=1, usd=Decimal("5000.00")),
            now=world.clock.now(),
            ages=world.ages,
        )
    exhausted_on_a_date(world)
    exhausted_awaits_an_instrument(world)
    drain(world, letter(failed_then_retry(world)), unread_letter())
    return run


def unread_letter() -> DeadLetter:
    return DeadLetter(message_id="letter-2", receipt="receipt-2", body="not ours", receive=None)


def short_of(world: World, by: str) -> None:
    world.gateway.answers = [
        lambda request: Approved(request.amount + Decimal(by), "USD", f"ref-{request.reference}")
    ]
    world.receive(world.due_charge())
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_silent(
    live_server: Any, browser: Browser, world: World, tmp_path: Path, scheme: str
) -> None:
    """0 violations by axe-core and 0 console errors under the policy, in light and in dark."""
    one_cause = "cause=captured~surplus~cis~0.01"
    pages = some_work(world) | {
        "ask": "/admin/settlements/exportrun/ask/charges/?lane=cis",
        "cause": f"/admin/settlements/discrepancy/?standing=yes&{one_cause}",
        "together": f"/admin/settlements/discrepancy/together/?{one_cause}",
    }
    folder = pictures_folder(tmp_path)
    visitor = signed_in(browser, live_server.url, ANALYST, scheme=scheme)
    found = {}
    for name, path in pages.items():
        visitor.open(path)
        visitor.shoot(folder, f"{name}-{scheme}")
        found[name] = visitor.violations()
    assert found == {name: [] for name in pages}
    assert visitor.complaints == []


@pytest.mark.parametrize("role", [VIEWER, APPROVER, OPERATOR])
def test_every_page_is_accessible_to_each_role(
    live_server: Any, browser: Browser, world: World, role: str
) -> None:
    pages = some_work(world)
    visitor = signed_in(browser, live_server.url, role)
    found = {}
    for name, path in pages.items():
        visitor.open(path)
        found[name] = visitor.violations()
    assert found == {name: [] for name in pages}
    assert visitor.complaints == []


def test_a_slash_goes_to_the_search(live_server: Any, browser: Browser, world: World) -> None:
    """The page's own search first, else the one in the header; in a field it is a slash."""
    charge = world.due_charge()
    visitor = signed_in(browser, live_server.url, VIEWER)
    page = visitor.page

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type(f"{charge.creator.external_id}/")
    assert page.input_value("#find") == f"{charge.creator.external_id}/"
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result_list")
    assert page.locator("#result_list tbody tr").count() == 1

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "searchbar"
    assert visitor.complaints == []
