"""A day is closed in a real browser: the analyst says why things may wait, the approver locks it.

Set SCREENSHOTS to a folder to keep the pictures. Skipped, by name, where no Chromium is installed.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from checkout.gateways import Approved, InDoubt
from settlements import reconciliation
from settlements.models import BooksClose
from settlements.roles import ANALYST, APPROVER
from tests.browser import CHROMIUM, opened_browser, pictures_folder, signed_in
from tests.factories import World
from tests.factories_roles import pages_at

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def world() -> Iterator[World]:
    """A day that is over: two captures, one of them three cents short, one in doubt, no file."""
    world = World()
    world.receive(world.due_charge())
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", f"r-{request.reference}")
    ]
    world.receive(world.due_charge())
    world.gateway.answers = [InDoubt("no answer within 30 s")]
    world.receive(world.due_charge(price="199.00"))
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    world.clock.forward(days=1, seconds=3 * 3600)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    with pages_at(world.clock):
        yield world


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_day_is_closed_by_two_people(
    live_server: Any, browser: Browser, tmp_path: Path, scheme: str
) -> None:
    """0 violations by axe-core and 0 console errors on each page; printed it has no buttons."""
    folder = pictures_folder(tmp_path)
    analyst = signed_in(browser, live_server.url, ANALYST, scheme=scheme)
    analyst.open("/admin/settlements/booksclose/next/")
    analyst.shoot(folder, f"books-next-{scheme}")
    found = [analyst.violations()]
    for number, why in enumerate(("processor asked", "correction is proposed", "file is late"), 1):
        analyst.page.fill(f"#reason-{number}", why)
    analyst.page.fill("#id_reason", "the day is looked at")
    analyst.page.get_by_role("button", name="Propose to close").click()
    analyst.page.wait_for_selector("text=another person locks it")
    found.append(analyst.violations())

    close = BooksClose.objects.get()
    approver = signed_in(browser, live_server.url, APPROVER, scheme=scheme)
    approver.open(f"/admin/settlements/booksclose/{close.pk}/change/")
    approver.shoot(folder, f"books-waiting-{scheme}")
    found.append(approver.violations())
    approver.page.fill("#id_reason", "all three looked at")
    approver.page.get_by_role("button", name="Lock").click()
    approver.page.wait_for_selector("text=Certificate")
    approver.shoot(folder, f"books-certificate-{scheme}")
    found.append(approver.violations())
    approver.page.emulate_media(media="print")
    approver.shoot(folder, f"books-printed-{scheme}")

    assert found == [[], [], [], []]
    assert not approver.page.locator("#header").is_visible()
    assert approver.page.locator("text=processor asked").is_visible()
    assert analyst.complaints + approver.complaints == []
