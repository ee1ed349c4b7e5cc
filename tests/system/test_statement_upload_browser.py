"""Uploading a statement in a real browser: chosen, reviewed, confirmed; no complaint, no barrier."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from settlements.models import StatementImport
from tests.factories import LANE, World
from tests.factories_settlements import statement_text
from tests.system.test_admin_browser import (
    CHROMIUM,
    browser,  # noqa: F401  a fixture
    pictures,  # noqa: F401
    shoot,
    signed_in,
    world,  # noqa: F401
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
]

DAY = date(2026, 1, 31)
FILES = Path(__file__).parents[1] / "files" / "statements"


def barriers(page: Page, complaints: list[str]) -> list[str]:
    """What axe-core finds that keeps somebody out; what it does to the page itself is no complaint."""
    assert complaints == []
    found = [each["id"] for each in Axe().run(page).response["violations"]]
    # One more round trip, so that what axe caused has been heard.
    page.evaluate("1")
    complaints.clear()
    return found


def choose(page: Page, path: Path, *, whose: str) -> None:
    page.select_option("#id_whose", whose)
    page.set_input_files("#id_file", str(path))
    page.click("button.default")
    page.wait_for_selector("code")


def test_staff_uploads_a_statement_and_sees_first_what_it_would_do(
    live_server: Any,
    browser: Browser,  # noqa: F811
    world: World,  # noqa: F811
    pictures: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    world.receive(world.due_charge())
    good, bad = tmp_path / "cis.csv", tmp_path / "bad.csv"
    good.write_text(statement_text(DAY))
    bad.write_text(statement_text(DAY).replace("19.99", "null"))
    page, complaints = signed_in(browser, live_server.url)
    page.goto(f"{live_server.url}/admin/settlements/statementimport/")
    page.click("a:has-text('Upload a statement')")
    found = {"upload": barriers(page, complaints)}
    shoot(page, pictures, "upload")

    choose(page, bad, whose=LANE)
    shoot(page, pictures, "upload-refused")
    found["refused"] = barriers(page, complaints)
    assert "gross 'null' is not an amount" in page.inner_text("#content")
    page.click("a:has-text('Upload another')")

    choose(page, FILES / "mock-bank-day-1.camt.053.001.08.xml", whose="bank")
    shoot(page, pictures, "upload-bank")
    found["bank"] = barriers(page, complaints)
    assert "1,949.22" in page.inner_text(".figures")
    page.click("a:has-text('Upload another')")

    choose(page, good, whose=LANE)
    shoot(page, pictures, "upload-review")
    found["review"] = barriers(page, complaints)
    assert StatementImport.objects.count() == 0
    page.fill("#id_reason", "sent by mail")
    page.click("button:has-text('Import exactly this file')")
    page.wait_for_selector(".messagelist")

    assert "accepted, 19.11 USD" in page.inner_text(".messagelist")
    assert StatementImport.objects.get().imported_by == "ops"
    assert found == {"upload": [], "refused": [], "bank": [], "review": []}
    assert complaints == []
