"""A list exported in a real browser: asked for with its filter, made by the worker, downloaded."""

import csv
import hashlib
from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser

from settlements.models import ExportRun, ExportState
from settlements.roles import ANALYST
from tests.browser import CHROMIUM, Visitor, opened_browser, pictures_folder, signed_in
from tests.factories import World
from tests.system.test_export_worker import export_worker

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
]
EXPORTS = "/admin/settlements/exportrun/"


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser() as opened:
        yield opened


def made(folder: Path) -> ExportRun:
    with export_worker(folder, "--once") as worker:
        assert worker.wait(60) == 0
    run = ExportRun.objects.latest("id")
    assert run.state == ExportState.MADE, run.failed_because
    return run


def downloaded(visitor: Visitor) -> tuple[str, bytes]:
    """What the page's one download button hands over."""
    with visitor.page.expect_download() as begun:
        visitor.page.get_by_role("button", name="Download").click()
    return begun.value.suggested_filename, begun.value.path().read_bytes()


def test_an_analyst_takes_a_list_and_the_evidence_along(
    live_server: Any, browser: Browser, settings: Any, tmp_path: Path
) -> None:
    folder, pictures, world = tmp_path / "exports", pictures_folder(tmp_path), World()
    settings.EXPORTS_FOLDER = str(folder)
    world.receive(world.due_charge(price="19.99"))
    owed = world.due_charge(price="100.00")
    analyst = signed_in(browser, live_server.url, ANALYST)
    page = analyst.page

    analyst.open("/admin/checkout/charge/?state__exact=due")
    page.get_by_role("link", name="Export this list").click()
    page.fill("#id_reason", "for the auditors, ticket 882")
    barriers = analyst.violations()
    page.get_by_role("button", name="Ask for the file").click()
    page.wait_for_selector("text=It waits to be made")
    run = made(folder)
    analyst.open(EXPORTS)
    barriers += analyst.violations()
    analyst.shoot(pictures, "exports-made")
    name, content = downloaded(analyst)

    assert name == run.download_name
    assert hashlib.sha256(content).hexdigest() == run.sha256
    (row,) = csv.DictReader(StringIO(content.decode(), newline=""))
    assert (row["charge"], row["amount USD"]) == (str(owed.pk), "100.00")

    analyst.open(f"/admin/checkout/charge/{owed.pk}/proof/")
    page.get_by_role("link", name="Evidence pack of this charge").click()
    page.fill("#id_reason", "the processor asks")
    page.get_by_role("button", name="Ask for the file").click()
    page.wait_for_selector("text=It waits to be made")
    run = made(folder)
    page.get_by_role("link", name="Look again").click()
    page.wait_for_selector("text=SHA-256")
    barriers += analyst.violations()
    analyst.shoot(pictures, "export-evidence")
    name, content = downloaded(analyst)

    assert name == run.download_name
    assert "summary.txt" in ZipFile(BytesIO(content)).namelist()
    assert barriers == []
    # A download ends its navigation; that is no fault of the page.
    assert [each for each in analyst.complaints if "/download/" not in each] == []
