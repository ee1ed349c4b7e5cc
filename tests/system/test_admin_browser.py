"""The admin in a real browser: sign in, find a charge, read its proof, decide; no console error at all.

Set SCREENSHOTS to a folder to keep the pictures. Skipped, by name, where no Chromium is installed.
"""

import os
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from checkout import routing
from checkout.gateways import Approved, DeclineClass, Declined, InDoubt
from checkout.models import Charge, ChargeState, Door, OutboxMessage
from settlements import reconciliation
from settlements.models import TopicRecord
from tests.factories import LANE, World, fresh
from tests.factories_settlements import statement_text, take_in

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright's own event loop runs in this thread; the ORM below is used between its calls.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()
        # While the loop runs, Django keeps this thread's connection in another place.
        connections.close_all()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def signed_in(browser: Browser, address: str, *, scheme: str = "light") -> tuple[Page, list[str]]:
    """A page of a member of staff, and the list that collects whatever the console complains of."""
    User.objects.get_or_create(username="ops", is_staff=True, is_superuser=True)
    user = User.objects.get(username="ops")
    user.set_password("local-only")
    user.save()
    context: Any = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 1280, "height": 900},
    )
    page: Page = context.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.goto(f"{address}/admin/")
    page.fill("#id_username", "ops")
    page.fill("#id_password", "local-only")
    page.click("input[type=submit]")
    page.wait_for_selector("#user-tools")
    return page, complaints


def a_proved_charge(world: World, folder: Path) -> Charge:
    soft = Declined(DeclineClass.ISSUER_SOFT, "do_not_honor")
    world.gateway.answers = [soft]
    charge = world.due_charge()
    world.receive(charge)
    world.clock.forward(seconds=400)
    world.receive(charge, count=2)
    for offset, message in enumerate(OutboxMessage.objects.filter(door=Door.KAFKA).order_by("id")):
        TopicRecord.objects.create(
            partition=0,
            offset=offset,
            event_id=message.event_id,
            key=message.key,
            sequence=message.event_seq or 0,
            sha256=message.payload_sha256,
            read_at=world.clock.real_now(),
        )
    take_in(statement_text(date(2026, 1, 31)), world=world, folder=folder)
    return charge


def a_short_charge(world: World) -> Charge:
    world.gateway.answers = [
        lambda request: Approved(request.amount - Decimal("0.03"), "USD", "sbx_short")
    ]
    charge = world.due_charge(price="199.00")
    world.receive(charge)
    reconciliation.reconcile_incremental(clock=world.clock, ages=world.ages)
    return charge


def shoot(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=str(folder / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_staff_finds_a_charge_and_reads_its_proof(
    live_server: Any, browser: Browser, world: World, pictures: Path, tmp_path: Path, scheme: str
) -> None:
    proved = a_proved_charge(world, tmp_path)
    short = a_short_charge(world)
    page, complaints = signed_in(browser, live_server.url, scheme=scheme)
    shoot(page, pictures, f"home-{scheme}")

    page.click("#content a:has-text('Charges')")
    shoot(page, pictures, f"charges-{scheme}")
    page.fill("#searchbar", proved.creator.external_id)
    page.click("#changelist-search input[type=submit]")
    page.click(f"#result_list a[href*='{proved.pk}']")
    shoot(page, pictures, f"charge-{scheme}")
    page.click("a:has-text('Proof of this charge')")
    shoot(page, pictures, f"proof-{scheme}")

    assert "Proved: every record" in page.inner_text(".verdict")
    assert page.locator(".tick-proved").count() == 5

    page.goto(f"{live_server.url}/admin/checkout/charge/{short.pk}/proof/")
    shoot(page, pictures, f"proof-short-{scheme}")
    assert "Under-charge of 0.03 USD" in page.inner_text(".verdict")
    page.goto(f"{live_server.url}/admin/settlements/discrepancy/")
    shoot(page, pictures, f"discrepancies-{scheme}")
    assert complaints == []


def test_staff_decides_with_a_reason_and_stops_a_lane(
    live_server: Any, browser: Browser, world: World, pictures: Path
) -> None:
    world.gateway.answers = [Declined(DeclineClass.FUNDS, "insufficient_funds")]
    charge = world.due_charge()
    world.receive(charge)
    world.gateway.answers = [InDoubt("time-out")]
    world.receive(world.due_charge())
    page, complaints = signed_in(browser, live_server.url)

    page.goto(f"{live_server.url}/admin/checkout/charge/?state__exact=exhausted")
    page.check("#action-toggle")
    page.select_option("select[name=action]", "requeue")
    page.click("button[name=index]")
    assert "19.99" in page.inner_text(".figures")
    shoot(page, pictures, "decide")
    page.fill("#id_reason", "the creator topped the card up")
    page.click("button.default")
    page.wait_for_selector(".messagelist")
    shoot(page, pictures, "decided")
    assert fresh(charge).state == ChargeState.DUE

    page.goto(f"{live_server.url}/admin/checkout/hold/")
    page.click("a:has-text('Place a hold or a pause')")
    page.select_option("#id_target", LANE)
    page.fill("#id_minutes", "30")
    page.fill("#id_reason", "the processor answers 503")
    shoot(page, pictures, "place")
    page.click("button.default")
    page.wait_for_selector(".messagelist")
    shoot(page, pictures, "holds")
    assert routing.holding(charge=fresh(charge), lane=LANE, now=world.clock.now()) is not None
    assert complaints == []


def test_every_list_opens_without_a_complaint(
    live_server: Any, browser: Browser, world: World, pictures: Path
) -> None:
    world.receive(world.due_charge())
    page, complaints = signed_in(browser, live_server.url)

    for name in ("outboxmessage", "case", "attempt", "creator", "subscription"):
        # Until nothing is loading: the next page would end what is still under way.
        page.goto(f"{live_server.url}/admin/checkout/{name}/", wait_until="networkidle")
        shoot(page, pictures, f"list-{name}")
        assert page.locator("#changelist").count() == 1

    assert complaints == []
