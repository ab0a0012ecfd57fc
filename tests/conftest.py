"""Fixtures that every test file may use."""

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported. Threads that spin while they wait for each other take the
# cores from the tests and trainers beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

from finetune_site.team.models import Member, Role
from jobs.engines import processes
from tests.support import factories
from tests.support.browsing import leave

# `make test ARGS=--hypothesis-profile=long` looks for hours, each time elsewhere.
hypothesis.settings.register_profile("usual", max_examples=40, deadline=None)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile("usual")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory, django_db_modify_db_settings_parallel_suffix
) -> None:
    """Puts SQLite in a file, as the site has it, one for each worker.

    In memory, threads that share it lock each other's tables and do not wait.
    """
    database = connections["default"].settings_dict
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("db") / "test.sqlite3")


@pytest.fixture(scope="session", autouse=True)
def static_files_without_manifest() -> Iterator[None]:
    """Uses files without a manifest, which would have to be built first."""
    backend = "django.contrib.staticfiles.storage.StaticFilesStorage"
    storages = {**settings.STORAGES, "staticfiles": {"BACKEND": backend}}
    with override_settings(STORAGES=storages):
        yield


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path: Path) -> Iterator[Path]:
    """Gives each test a data folder of its own. Trainers end with it."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    yield settings.DATA_DIR
    end_all_trainers(settings.DATA_DIR)


@pytest.fixture
def stand_in(monkeypatch, data_dir: Path) -> Iterator[Callable[[str], None]]:
    """Lets processes run some code in place of trainers, for what no trainer does."""

    def use(code: str) -> None:
        monkeypatch.setattr(
            processes,
            "trainer_argv",
            lambda folder: [sys.executable, "-c", code, str(folder)],
        )

    yield use
    end_all_trainers(data_dir)


def end_all_trainers(data_dir: Path) -> None:
    for started in data_dir.glob("runs/*/trainer.json"):
        processes.end_trainers(started.parent, force=True)


@pytest.fixture
def admin(db) -> Member:
    return factories.make_member("ada.admin", Role.ADMIN)


@pytest.fixture
def member(db) -> Member:
    return factories.make_member("mia.member", Role.MEMBER)


@pytest.fixture
def viewer(db) -> Member:
    return factories.make_member("vic.viewer", Role.VIEWER)


# Browser tests. Playwright's event loop lives as long as the session, and Django would
# refuse every query beside it, in all tests that follow.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
VIEWPORT: ViewportSize = {"width": 1280, "height": 720}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args, browser_type):
    """Uses an installed browser, or else Playwright's own."""
    found = next(
        filter(None, map(shutil.which, BROWSERS)), browser_type.executable_path
    )
    if not Path(found).exists():
        pytest.skip("There is no browser; `make test` installs one.")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    return {**browser_type_launch_args, "executable_path": found, "args": flags}


@pytest.fixture(scope="session")
def warm_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=VIEWPORT)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(warm_page: Page) -> Iterator[Page]:
    """Yields an empty page. What a test leaves in the browser is removed afterwards."""
    yield warm_page
    warm_page.unroute_all(behavior="ignoreErrors")
    warm_page.context.clear_cookies()
    leave(warm_page)
    warm_page.emulate_media(color_scheme="null")
    warm_page.set_viewport_size(VIEWPORT)
    context = warm_page.context
    context.clear_permissions()
    stored = {"origin": "*", "storageTypes": "local_storage,session_storage"}
    devtools = context.new_cdp_session(warm_page)
    devtools.send("Storage.clearDataForOrigin", stored)
    devtools.detach()


@pytest.fixture
def faults(page: Page) -> Iterator[list[str]]:
    """Collects the browser's complaints: scripts that fail, and the CSP above all."""
    found: list[str] = []

    def note_error(error: object) -> None:
        found.append(str(error))

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(f"{page.url}: {message.text}")

    page.on("pageerror", note_error)
    page.on("console", note_message)
    yield found
    page.remove_listener("pageerror", note_error)
    page.remove_listener("console", note_message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Fails a browser test that is skipped, if REQUIRE_BROWSER=1."""
    report = yield
    required = os.environ.get("REQUIRE_BROWSER") == "1"
    if report.skipped and required and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although REQUIRE_BROWSER=1: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Long files come first, so that at the end no worker waits for another.

    Browser tests come last: beside Playwright's event loop Django's test client, which
    runs asynchronous views in a loop of its own, can do nothing.
    """
    items.sort(key=lambda item: (has(item, "browser"), not has(item, "long")))


def pytest_collection_finish():
    # What is imported and collected stays: nobody need look through it for garbage.
    gc.freeze()


def has(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None
