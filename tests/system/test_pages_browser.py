"""Each page of the admin as each role that may open it, in a real browser: axe-core, a silent console.

A page is looked at as the role that sees most, and as each other role that finds something more on it,
a button or a link; what a role only does not see was looked at. Set SCREENSHOTS to a folder to keep the
pictures. Skipped, by name, where no Chromium is installed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse
from playwright.sync_api import Browser

from settlements.roles import ANALYST, APPROVER, OPERATOR, ROLES, VIEWER
from tests import pages
from tests.browser import CHROMIUM, Visitor, opened_browser, pictures_folder, visitor_of
from tests.factories import World
from tests.factories_pages import a_row_for_every_page
from tests.factories_roles import pages_at, user_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
# What differs from one answer to the next though the page is the same: tokens, names, seconds. And
# Django's list of all models at the side, which is longer for operators on every page alike.
_PASSING: Final = re.compile(
    r'name="csrfmiddlewaretoken" value="\w+"|nonce="[^"]*"|\b(viewer|analyst|approver|operator)\b'
    r'|\d\d:\d\d(:\d\d(\.\d+)?)?|<nav class="sticky" id="nav-sidebar".*?</nav>',
    re.DOTALL,
)
# Who sees most comes first; the others' pages are looked at where they differ.
HOME: Final = "finance_home"
IN_TURN: Final = (ANALYST, OPERATOR, APPROVER, VIEWER)


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World()
    a_row_for_every_page(world, tmp_path)
    with pages_at(world.clock):
        yield world


@dataclass
class Member:
    """A person of one role: as a client that reads markup, and in the browser."""

    role: str
    user: User
    client: Client
    visitor: Visitor


@dataclass
class Walk:
    """What was found on which page, and which markup has been looked at."""

    folder: Path
    seen: dict[str, set[str]] = field(default_factory=dict)
    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    opened: dict[str, set[str]] = field(default_factory=dict)

    def look(self, member: Member, name: str, path: str) -> None:
        """Open it if the role may, and finds a line on it that nobody before found."""
        answer = member.client.get(path, follow=True)
        if answer.status_code != 200 or answer.redirect_chain:
            return
        self.opened.setdefault(name, set()).add(member.role)
        lines = set(map(str.strip, _PASSING.sub("", answer.content.decode()).splitlines()))
        if name != HOME and lines <= self.seen.get(path, set()):
            return
        self.seen.setdefault(path, set()).update(lines)
        member.visitor.open(path, until="load")
        self.judge(member, path)

    def judge(self, member: Member, what: str) -> None:
        """In light; and at the first look at it, what the dark may change: the contrast."""
        if "SCREENSHOTS" in os.environ:
            member.visitor.shoot(self.folder, f"page-{len(self.found):03}-{member.role}")
        is_first = what not in {each for _, each in self.found}
        look = member.visitor.violations_in_both_schemes if is_first else member.visitor.violations
        self.found[member.role, what] = look()


def members(browser: Browser, address: str) -> list[Member]:
    found = []
    for role in IN_TURN:
        user, client = user_of(role, name=role), Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        found.append(Member(role, user, client, visitor_of(browser, address, session=cookie)))
    return found


def test_each_page_is_accessible_and_silent_to_each_role(
    live_server: Any, browser: Browser, world: World, tmp_path: Path
) -> None:
    """0 violations by axe-core in light and dark, 0 console errors under the policy; actions too.

    A page that nobody told tests/pages.py about fails first.
    """
    found = pages.addresses(world)
    nothing_is_forgotten(found)
    walk = Walk(pictures_folder(tmp_path))
    team = members(browser, live_server.url)
    for name, paths in found.items():
        for path in paths:
            for member in team:
                walk.look(member, name, path)
    for member in team:
        look_at_actions(walk, member)
    stranger = visitor_of(browser, live_server.url)
    stranger.open(reverse("admin:login"))

    assert {page: bad for page, bad in walk.found.items() if bad} == {}
    assert stranger.violations_in_both_schemes() == []
    assert [each.visitor.complaints for each in team] == [[]] * len(team)
    assert set(found) - set(walk.opened) == set()
    assert may_see() - {(n, r) for n, roles in walk.opened.items() for r in roles} == set()


def nothing_is_forgotten(found: dict[str, list[str]]) -> None:
    """Each address below /admin/ is walked, or exempt with a reason; and none is told that is not there."""
    walked = {*found, "admin:login"}
    exempt = {name for name in pages.names() if pages.why_exempt(name)}
    assert pages.names() - walked - exempt == set(), "tell tests/pages.py of them"
    assert walked & exempt == set()
    assert (walked | set(pages.ANSWERS)) - pages.names() == set()
    assert [name for name, paths in found.items() if not paths] == []


def may_see() -> set[tuple[str, str]]:
    """Each list and each row's page, by the roles that have the right to look."""
    return {
        (f"admin:{app}_{model}_{page}", role)
        for role, rights in ROLES.items()
        for app, model, action in rights
        for page in ("changelist", "change")
        if action == "view" and pages.has_desk(app, model)
    }


def look_at_actions(walk: Walk, member: Member) -> None:
    """The page that asks for a reason, of each action that the role finds in a list."""
    request = RequestFactory().get("/admin/")
    request.user = member.user
    for model in pages.models():
        for action in admin.site._registry[model].get_actions(request):
            path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            page = member.visitor.page
            member.visitor.open(path, until="load")
            page.locator("input.action-select").first.check()
            page.select_option("select[name=action]", action)
            with page.expect_navigation():
                page.click("button[name=index]")
            assert page.locator("#id_reason").count() == 1, (member.role, path, action)
            walk.judge(member, f"{path} {action}")
