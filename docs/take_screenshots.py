"""Takes pictures of the pages of a running site.

python docs/take_screenshots.py "$(python manage.py sign_in_link admin)" FOLDER
python docs/take_screenshots.py LINK --readme      writes docs/screenshot.png
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin

from playwright.sync_api import Browser, Page, StorageState, sync_playwright

WIDTHS = {1440: 900, 390: 844}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
# Name → address; where the address is a pattern, the first such link of the page before
# the arrow is followed.
PAGES = {
    "home": "/",
    "datasets": "/datasets/",
    "dataset": r"/datasets/ -> ^/datasets/\d+/$",
    "jobs": "/jobs/",
    "job": r"/jobs/ -> ^/jobs/\d+/$",
    "job-new": "/jobs/new/",
    "snapshots": "/snapshots/",
    "playground": "/playground/",
    "models": "/models/",
    "engines": "/engines/",
    "team": "/team/",
    "help": "/help/",
}
# Live pages never fall silent, so "load" and a moment for the charts must do.
SETTLE_MILLISECONDS = 1500
OVERFLOW = """
    document.documentElement.scrollWidth - document.documentElement.clientWidth
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
README_PICTURE = Path(__file__).parent / "screenshot.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link", help="a sign-in link, as manage.py prints it")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--page", action="append", choices=sorted(PAGES))
    options = parser.parse_args()
    link = options.link.removeprefix("Sign in:").strip()
    if not (options.folder or options.readme):
        parser.error("Say where the pictures go: a folder, or --readme.")
    with sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        site, state = urljoin(link, "/"), sign_in(browser, link)
        if options.readme:
            take(browser, site, state, "job", 1440, "light", README_PICTURE)
        for name, width, scheme in combinations(options.page) if options.folder else ():
            path = options.folder / f"{name}-{width}-{scheme}.png"
            take(browser, site, state, name, width, scheme, path, whole=True)
        browser.close()


def combinations(names: list[str] | None) -> Iterator[tuple[str, int, Scheme]]:
    for name in names or PAGES:
        for width in WIDTHS:
            for scheme in SCHEMES:
                yield name, width, scheme


def sign_in(browser: Browser, link: str) -> StorageState:
    """Returns the cookies of a signed-in browser."""
    page = browser.new_page()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state()
    state = page.context.storage_state()
    page.context.close()
    if not any(cookie.get("name") == "sessionid" for cookie in state["cookies"]):
        sys.exit("The link did not sign in; it may have been used. Make a new one.")
    return state


def take(
    browser: Browser,
    site: str,
    state: StorageState,
    name: str,
    width: int,
    scheme: Scheme,
    path: Path,
    whole: bool = False,
) -> None:
    """Takes a picture of what fits the window; of the page to its end if `whole`."""
    context = browser.new_context(
        base_url=site,
        storage_state=state,
        viewport={"width": width, "height": WIDTHS[width]},
        color_scheme=scheme,
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    if go(page, PAGES[name]):
        page.wait_for_timeout(SETTLE_MILLISECONDS)
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, full_page=whole)
        overflow = page.evaluate(OVERFLOW)
        notes = [f"{overflow} px too wide"] if overflow > 0 else []
        print(path, *notes, *faults, sep="; ")
    else:
        print(f"{name}: there is none yet")
    context.close()


def go(page: Page, address: str) -> bool:
    start, _, pattern = address.partition(" -> ")
    page.goto(start)
    if not pattern:
        return True
    for link in page.locator("main a[href]").all():
        target = link.get_attribute("href") or ""
        if re.match(pattern, target):
            page.goto(target)
            return True
    return False


if __name__ == "__main__":
    main()
