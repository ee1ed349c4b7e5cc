"""Pictures of the main pages for docs/, taken with Chromium of a database that bench.admin_pages' loader filled.

    python -m bench._pictures --charges 1000000       a PostgreSQL of its own
    DATABASE_URL=… python -m bench._pictures --loaded
    … --to FOLDER --only home,month                   elsewhere than docs/pictures; some of them

Each page is taken in light and in dark, as wide as a laptop's screen; docs/ links a handful of them.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from bench.admin_pages import database, set_up
from devstack.ports import free_port

CHROMIUM = "/usr/bin/chromium"
PROJECT = Path(__file__).parents[1]
PASSWORD = "pictures-only"  # noqa: S105  of a database for pictures
VIEW = {"width": 1280, "height": 860}
SCHEMES = ("light", "dark")
PATIENCE_SECONDS = 30
QUICK_MS = 200


class NotServed(Exception):
    """The web server does not answer."""


def main() -> int:
    asked = arguments()
    asked.to.mkdir(parents=True, exist_ok=True)
    with database() as address:
        set_up(address)
        # Its models need the settings, which need the address of the database above.
        from bench import _admin_pages as pages

        if not asked.loaded:
            pages.prepare(charges=asked.charges)
        user = pages.made_ready(PASSWORD)
        wanted = {name: path for name, path in pages.pictured().items() if chosen(name, asked.only)}
        with served(address) as site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            for scheme in SCHEMES:
                take(browser, site, user, scheme, wanted, asked.to)
            browser.close()
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench._pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--charges", type=int, default=1_000_000)
    parser.add_argument("--loaded", action="store_true", help="the database is filled already")
    parser.add_argument("--to", type=Path, default=PROJECT / "docs" / "pictures")
    parser.add_argument("--only", default="", help="names, with commas; default: all")
    return parser.parse_args()


def chosen(name: str, only: str) -> bool:
    return not only or name in only.split(",")


@contextmanager
def served(database: str) -> Iterator[str]:
    """The product's own web server, as the local stack starts it."""
    port = free_port()
    command = ["gunicorn", "config.wsgi:application", "-b", f"127.0.0.1:{port}"]
    options = [
        "--worker-class",
        "gthread",
        "--workers",
        "1",
        "--threads",
        "4",
        "--no-control-socket",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, *options],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": database},
        stderr=subprocess.DEVNULL,
    )
    site = f"http://127.0.0.1:{port}"
    try:
        wait_for(site)
        yield site
    finally:
        process.terminate()
        process.wait()


def wait_for(site: str) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(f"{site}/livez", timeout=1):  # noqa: S310  ours
                return
        except OSError:
            time.sleep(QUICK_MS / 1000)
    raise NotServed(site)


def take(
    browser: Browser, site: str, user: str, scheme: str, wanted: dict[str, str], folder: Path
) -> None:
    """Sign in and take every page in this scheme."""
    context = browser.new_context(color_scheme=scheme, viewport=VIEW)  # type: ignore[arg-type]
    page = context.new_page()
    sign_in(page, site, user)
    for name, path in wanted.items():
        page.goto(f"{site}{path}", wait_until="networkidle")
        file = folder / f"{name}-{scheme}.png"
        page.screenshot(path=str(file))
        print(f"{file}: {file.stat().st_size // 1024} kB")
    context.close()


def sign_in(page: Page, site: str, user: str) -> None:
    page.goto(f"{site}/admin/")
    page.fill("#id_username", user)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_selector("#user-tools")


if __name__ == "__main__":
    sys.exit(main())
