"""Match by hand in a real browser: by keyboard, accessible, silent under the policy (R43)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import Browser

from checkout.models import AttemptOutcome
from settlements.models import Discrepancy, Proposal
from settlements.roles import ANALYST, APPROVER
from tests.browser import CHROMIUM, opened_browser, pictures_folder, signed_in
from tests.factories import World
from tests.factories_matches import doubtful, proposed_match, told

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_pages_are_accessible_and_silent(
    live_server: Any, browser: Browser, tmp_path: Path, scheme: str
) -> None:
    """0 violations by axe-core and 0 console errors, with a difference and without."""
    world = World()
    attempt, other = doubtful(world), doubtful(world, "5.00")
    line, short, _ = told(world, tmp_path, "199.00", "4.97", "7.00")
    with transaction.atomic():
        proposal = proposed_match(world, [short], [other])
    found = Discrepancy.objects.get(fingerprint=f"statement:unmatched:{line.pk}")
    pages = {
        "match": f"/admin/match/?line={line.pk}&attempt={attempt.pk}",
        "match-refused": f"/admin/match/?line={line.pk}",
        "match-proposed": f"/admin/settlements/proposal/{proposal.pk}/change/",
        "match-offered": f"/admin/settlements/discrepancy/{found.pk}/change/",
        "match-doubt": "/admin/in-doubt/",
    }
    folder = pictures_folder(tmp_path)
    visitor = signed_in(browser, live_server.url, ANALYST, scheme=scheme)
    seen = {}
    for name, path in pages.items():
        visitor.open(path)
        visitor.shoot(folder, f"{name}-{scheme}")
        seen[name] = visitor.violations()
    assert seen == {name: [] for name in pages}
    assert visitor.complaints == []


def test_a_pair_is_matched_from_the_in_doubt_desk(
    live_server: Any, browser: Browser, tmp_path: Path
) -> None:
    """An analyst follows the link, says why and proposes; an approver approves what he sees."""
    world = World()
    attempt = doubtful(world)
    told(world, tmp_path, "199.00")
    analyst = signed_in(browser, live_server.url, ANALYST)
    page = analyst.page

    analyst.open("/admin/in-doubt/")
    page.get_by_role("link", name="match them by hand").press("Enter")
    page.get_by_label("Reason").fill("support named the line")
    page.get_by_role("button", name="Propose this match").press("Enter")
    page.get_by_text("waits for another person").first.wait_for()
    proposal = Proposal.objects.get()
    approver = signed_in(browser, live_server.url, APPROVER)
    approver.open(f"/admin/settlements/proposal/{proposal.pk}/change/")
    approver.page.get_by_label("Reason").fill("seen the same mail")
    approver.page.get_by_role("button", name="Match these 2, 199.00 USD").press("Enter")
    approver.page.get_by_text("is approved").first.wait_for()

    attempt.refresh_from_db()
    assert attempt.outcome == AttemptOutcome.CAPTURED
    assert (analyst.complaints, approver.complaints) == ([], [])
