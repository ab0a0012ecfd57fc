"""The live page in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import Page, expect

from jobs.models import Job
from tests.support import factories
from tests.support.browsing import leave
from tests.support.web_server import serve

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
def job() -> Job:
    return factories.make_job(status="running", total_steps=100)


@pytest.fixture
def live(page: Page, client, member, job) -> Iterator[Page]:
    """Yields the live page, open and connected."""
    with open_live(page, client, member, job):
        yield page


@contextmanager
def open_live(page: Page, client, member, job) -> Iterator[None]:
    client.force_login(member)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    with serve() as address:
        page.context.add_cookies([{"name": "sessionid", "value": key, "url": address}])
        page.goto(address + reverse("job", args=[job.pk]))
        yield
        leave(page)


def add_step(job: Job, step: int, text: str = "an answer") -> None:
    """Adds what a trainer's step and an answer leave in the rows."""
    for type_, data in (
        ("step", {"loss": 3.0 / step, "learned_loss": 3.0 / step, "lr": 0.001}),
        ("completion", {"prompt_index": 0, "prompt": "a", "index": 0, "text": text}),
    ):
        job.last_seq += 1
        job.events.create(
            seq=job.last_seq,
            time="2026-11-22T12:00Z",
            type=type_,
            step=step,
            data=data,
        )
    job.step = step
    job.save()


def test_rows_appear_without_a_reload(live, job):
    add_step(job, 7, "hello there")
    expect(live.locator(".progress-head")).to_contain_text("Step 7 of 100")
    expect(live.locator(".film")).to_contain_text("hello there")
    expect(live.locator("[data-chart] .main-svg").first).to_be_visible()
    add_step(job, 8)
    expect(live.locator("[data-chart]")).to_have_attribute(
        "aria-label", "Train loss was 0.43 at step 7 and is 0.38 at step 8."
    )


def test_open_dialog_and_focus_stay(live, job):
    live.get_by_role("button", name="Stop", exact=True).click()
    keep = live.get_by_role("button", name="Let it go on")
    keep.focus()
    add_step(job, 9)
    expect(live.locator(".progress-head")).to_contain_text("Step 9 of 100")
    expect(keep).to_be_focused()
    expect(keep).to_be_visible()


def test_selected_text_stays_selected(live, job):
    add_step(job, 10, "words to copy")
    cell = live.locator(".film td .text").first
    cell.select_text()
    add_step(job, 20)
    expect(live.locator(".film")).to_contain_text("Step 20")
    assert live.evaluate("getSelection().toString()") == "words to copy"


def test_polling_takes_over_where_no_stream_comes_through(live, job):
    live.route("**/live?*", lambda route: route.abort())
    live.reload()
    add_step(job, 11)
    expect(live.locator(".progress-head")).to_contain_text("Step 11", timeout=10_000)


@pytest.fixture
def live_by_another_clock(browser, client, member, job) -> Iterator[Page]:
    """Yields a page in a context of its own, because its pages share one clock."""
    page = browser.new_page()
    with open_live(page, client, member, job):
        page.clock.install()
        yield page


def test_after_some_polls_a_stream_is_tried_again(live_by_another_clock, job):
    live = live_by_another_clock
    live.route("**/live?*", lambda route: route.abort())
    live.reload()
    for _ in range(2):
        live.clock.run_for(1000)
    live.unroute("**/live?*")
    streams = []
    live.on("request", lambda sent: streams.append(sent) if "/live?" in sent.url else 0)
    # A poll takes real time, however fast the clock runs.
    for _ in range(100):
        live.clock.run_for(1000)
        live.wait_for_timeout(150)
        if streams:
            break
    add_step(job, 11)
    expect(live.locator(".progress-head")).to_contain_text("Step 11 of 100")


def test_hiding_during_a_poll_leaves_one_loop(live, job):
    live.route("**/live?*", lambda route: route.abort())
    held = []
    live.route("**/parts.json*", lambda route: held.append(route))
    with live.expect_request("**/parts.json*"):
        live.reload()
    for hidden in (True, False):
        set_hidden(live, hidden)
    live.unroute("**/parts.json*")
    for route in held:
        route.continue_()
    asked = []
    live.on("request", lambda request: asked.append("parts.json" in request.url))
    live.wait_for_timeout(2500)
    assert 1 <= sum(asked) <= 3


def test_hidden_tab_waits_and_then_catches_up(live, job):
    set_hidden(live, True)
    add_step(job, 12)
    live.wait_for_timeout(1000)
    expect(live.locator(".progress-head")).to_contain_text("Step 0 of 100")
    set_hidden(live, False)
    expect(live.locator(".progress-head")).to_contain_text("Step 12 of 100")


def set_hidden(page: Page, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            const value = { value: hidden, configurable: true };
            Object.defineProperty(document, "hidden", value);
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_hostile_answer_is_only_text(live, job):
    add_step(job, 13, HOSTILE)
    expect(live.locator(".film")).to_contain_text("onerror")
    assert live.locator(".film img").count() == 0
    assert live.title().startswith("Step 13 of 100")


def test_button_works_without_leaving_the_page(live, job):
    live.get_by_role("button", name="Snapshot now").click()
    expect(live.locator("[data-say]")).to_contain_text("A snapshot is taken")
    job.refresh_from_db()
    assert job.snapshot_requests == 1


def test_page_is_clean_under_its_policy(live, job):
    errors = []
    live.on("console", lambda message: errors.append(message.text))
    live.on("pageerror", lambda error: errors.append(str(error)))
    live.reload()
    add_step(job, 14)
    expect(live.locator("[data-chart] .main-svg").first).to_be_visible()
    assert errors == []


def test_double_click_acts_once_and_shows_no_error(live, job):
    asked = []
    live.on("request", lambda request: asked.append(request.method))
    live.get_by_role("button", name="Pause", exact=True).dblclick()
    expect(live.locator("[data-part=status]")).to_contain_text("Pausing")
    assert asked.count("POST") == 1
    expect(live.locator(".flash.danger")).to_have_count(0)


def test_error_goes_when_the_status_changes(live, job):
    live.route(
        "**/pause/", lambda route: route.fulfill(json={"ok": False, "message": "No."})
    )
    pause = live.get_by_role("button", name="Pause", exact=True)
    pause.click()
    pause.click()
    expect(live.locator(".flash.danger")).to_have_count(1)
    Job.objects.filter(pk=job.pk).update(status="paused", last_seq=1)
    expect(live.locator(".flash.danger")).to_have_count(0)


def test_figure_is_asked_for_again_when_it_did_not_come(live, job):
    live.route("**/figure.json*", lambda route: route.abort(), times=2)
    live.reload()
    expect(live.locator("[data-chart] .main-svg").first).to_be_visible(timeout=8_000)


def test_job_that_did_no_step_has_no_chart(live, job):
    Job.objects.filter(pk=job.pk).update(status="failed", last_seq=1)
    expect(live.locator("main")).to_contain_text("No step was done")
    expect(live.locator("[data-chart]")).to_be_hidden()
    expect(live.locator(".stats")).to_have_count(0)
