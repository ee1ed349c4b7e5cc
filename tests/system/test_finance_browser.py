"""The finance pages in a real browser: keys, and what a button puts on the clipboard.

Skipped, by name, where no Chromium is installed.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from settlements.roles import VIEWER
from tests.browser import CHROMIUM, opened_browser, signed_in
from tests.factories import World
from tests.factories_matches import doubtful
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
    world = World()
    with pages_at(world.clock):
        yield world


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


def test_a_button_copies_the_merchant_reference(
    live_server: Any, browser: Browser, world: World
) -> None:
    """The in-doubt desk: what the processor's support asks for, each under its own; and the inquiry."""
    attempts = {str(doubtful(world, price).pk) for price in ("199.00", "5.00")}
    visitor = signed_in(browser, live_server.url, VIEWER)
    page = visitor.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.open("/admin/in-doubt/")

    shown = page.locator("code[id^=reference-]")
    assert {each.inner_text() for each in shown.all()} == attempts
    for number in (1, 2):
        copy(page, f"reference-{number}", page.inner_text(f"#reference-{number}"))
    inquiry = page.input_value("#inquiry-1")
    assert page.inner_text("#reference-1") in inquiry
    copy(page, "inquiry-1", inquiry)
    assert visitor.complaints == []


def copy(page: Page, place: str, wanted: str) -> None:
    """Press the button of this place; once it says so, the clipboard holds what stands there."""
    button = page.locator(f"button[data-copies={place}]")
    button.click()
    button.filter(has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == wanted
