"""A real browser on the admin: signed in as a role, with whatever the console complains of collected."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.factories_roles import user_of

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
# The file of axe-core that the pinned wheel carries: nothing is fetched.
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
_RUN_AXE = """async (rules) => {
  const only = rules.length ? {runOnly: {type: 'rule', values: rules}} : {};
  const found = await axe.run(document, {resultTypes: ['violations'], preload: false, ...only});
  return found.violations.map(v => `${v.id} (${v.impact}): ${v.nodes.map(n => n.target).join(' | ')}`
    + ` ${v.nodes[0].failureSummary}`);
}"""


# "load" does not wait the half second of silence after which Playwright calls the network idle.
Until = Literal["load", "networkidle"]


@dataclass
class Visitor:
    """A page in the browser, and what its console complained of."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        def hear(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                self.complaints.append(message.text)

        self.page.on("console", hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))

    def open(self, path: str, *, until: Until = "networkidle") -> None:
        self.page.goto(f"{self.address}{path}", wait_until=until)

    def violations(self) -> list[str]:
        """What axe-core finds on the page as it stands."""
        before = len(self.complaints)
        self.page.evaluate(AXE)
        found: list[str] = self.page.evaluate(_RUN_AXE, [])
        # What axe-core itself tries while it looks, inline styles too, is not the page's doing.
        del self.complaints[before:]
        return found

    def violations_in_both_schemes(self) -> list[str]:
        """The same, and in the dark what a scheme may change: the contrast of its colours."""
        found = self.violations()
        before = len(self.complaints)
        self.page.emulate_media(color_scheme="dark")
        # Django's links fade from one colour to the other: axe-core would measure what lies between.
        self.page.evaluate("document.getAnimations().forEach(each => each.finish())")
        found += [f"dark: {each}" for each in self.page.evaluate(_RUN_AXE, ["color-contrast"])]
        self.page.emulate_media(color_scheme="light")
        del self.complaints[before:]
        return found

    def shoot(self, folder: Path, name: str) -> None:
        self.page.screenshot(path=str(folder / f"{name}.png"), full_page=True)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Chromium; the caller has set DJANGO_ALLOW_ASYNC_UNSAFE, for the ORM between its calls."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()
        # While the loop runs, Django keeps this thread's connection in another place.
        connections.close_all()


def visitor_of(
    browser: Browser, address: str, *, session: str = "", scheme: str = "light"
) -> Visitor:
    """A page of its own; with the session of somebody who is signed in already, if it is named."""
    context: Any = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 1280, "height": 900},
    )
    if session:
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session, "url": address}
        context.add_cookies([cookie])
    visitor = Visitor(context.new_page(), address)
    visitor.listen()
    return visitor


def signed_in(browser: Browser, address: str, *roles: str, scheme: str = "light") -> Visitor:
    """A member of staff with these roles, at the home page."""
    user: User = user_of(*roles, name="-".join(roles))
    user.set_password("local-only")
    user.save()
    visitor = visitor_of(browser, address, scheme=scheme)
    visitor.open("/admin/")
    visitor.page.fill("#id_username", user.username)
    visitor.page.fill("#id_password", "local-only")
    visitor.page.click("input[type=submit]")
    visitor.page.wait_for_selector("#user-tools")
    return visitor


def pictures_folder(fallback: Path) -> Path:
    """Where screenshots go: the folder SCREENSHOTS names, if it is set."""
    folder = Path(os.environ.get("SCREENSHOTS", fallback))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
