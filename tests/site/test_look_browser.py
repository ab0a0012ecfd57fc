"""What every page keeps to: it fits, is accessible, stays fresh, breaks no rule."""

import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.utils import timezone

from jobs.models import EngineSetting, Job
from tests.support.factories import make_dataset, make_job, make_snapshot

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCREENS = [(1440, "light"), (390, "dark")]
PART = {"segments": 4, "characters": 50}
SHARES = [
    {"position": 0, "last": False, "weight": 0.1, **PART},
    {"position": 1, "last": True, "weight": 0.9, **PART},
]


@pytest.fixture
def addresses(admin):
    """Returns every page there is, with something on it."""
    problems = [{"line": 3, "message": "This is no JSON.", "text": "hello"}]
    version = make_dataset(
        "Capitals",
        shares=SHARES,
        created_by=admin,
        source_name="capitals.jsonl",
        problems=problems,
        num_bad=1,
    )
    now = timezone.now()
    fields = {"first_learned_loss": 4.0, "learned_loss": 1.0, "finished_at": now}
    done = make_job(version, status="succeeded", created_by=admin, **fields)
    make_snapshot(done, best=True)
    make_job(version, status="failed", status_message="No room.", finished_at=now)
    make_job(version, name="Waits")
    EngineSetting.objects.create(
        name="lab",
        kind=EngineSetting.Kind.REMOTE,
        url="https://lab.example.org/v1",
        trouble="The engine lab does not accept the key.",
        created_by=admin,
    )
    dataset, job = f"/datasets/{version.dataset_id}", f"/jobs/{done.pk}"
    return [
        "/",
        "/help/",
        "/help/moving-from-openai/",
        "/team/",
        "/team/audit/",
        "/team/webhooks/",
        "/models/",
        "/engines/",
        "/snapshots/",
        "/playground/",
        "/datasets/",
        "/datasets/new/",
        f"{dataset}/",
        f"{dataset}/?edit=1",
        f"{dataset}/versions/",
        f"{dataset}/report/",
        "/jobs/",
        "/jobs/new/",
        f"{job}/",
        f"{job}/settings/",
    ]


@pytest.fixture
def open_page(page, faults, live_server, client, admin):
    """Opens an address, signed in, in a window of that width."""
    client.force_login(admin)
    name = settings.SESSION_COOKIE_NAME
    value = client.cookies[name].value
    page.context.add_cookies([{"name": name, "value": value, "url": live_server.url}])

    def open_(address, width=1440, scheme="light"):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        page.goto(live_server.url + address)
        return page

    return open_


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.05)


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_every_page_fits_and_is_accessible(open_page, addresses, faults, width, scheme):
    axe = Axe()
    for address in addresses:
        page = open_page(address, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        found = axe.run(page).response["violations"]
        assert [fault["id"] for fault in found] == [], address
    assert faults == []


def test_home_follows_a_job_without_a_reload(open_page, faults):
    job = make_job(name="Gentle", status="running", step=3, total_steps=10)
    page = open_page("/")
    link = page.locator("#home-running").get_by_role("link", name="Gentle")
    link.focus()
    Job.objects.filter(pk=job.pk).update(step=7)
    page.locator("#home-running").get_by_text("Step 7 of 10").wait_for()
    page.locator("#side-job").get_by_text("Step 7 of 10").wait_for()
    assert link.evaluate("link => link === document.activeElement")
    assert faults == []


def test_theme_stays_as_chosen(open_page):
    page = open_page("/help/", scheme="light")
    page.get_by_role("button", name="Switch between light and dark").click()
    page = open_page("/models/", scheme="light")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_snapshot_id_can_be_copied(open_page, addresses):
    page = open_page("/snapshots/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("[data-copy]").first
    button.click()
    wait_until(lambda: page.locator("[data-say]").inner_text() == "Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == button.get_attribute("data-copy")
