"""The form of a new job in a real browser."""

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from jobs.models import Job
from jobs.services import counting
from tests.support import factories
from tests.support.browsing import leave
from tests.support.web_server import serve

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def form(page: Page, client, member, monkeypatch) -> Iterator[Page]:
    """Opens the form with two datasets, whose tokens are counted."""
    monkeypatch.setattr(counting, "async_task", lambda task, *ids, **_: count(*ids))
    counting.cache.clear()
    factories.make_dataset("Stories", examples=[[("one more word " * 20, 1.0)]] * 120)
    factories.make_dataset("Capitals")
    client.force_login(member)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    with serve() as address:
        page.context.add_cookies([{"name": "sessionid", "value": key, "url": address}])
        page.goto(address + "/jobs/new/")
        yield page
        leave(page)


def count(version_id: int, base_model: str) -> None:
    counting.count_version(version_id, base_model)


def test_plan_follows_the_fields(form):
    plan = form.locator("[data-plan]")
    expect(plan).to_contain_text("4 steps")
    form.get_by_role("radio", name="Thorough").check()
    expect(form.locator("#id_epochs")).to_have_value("10")
    expect(plan).to_contain_text("10 steps")


def test_another_dataset_brings_its_name_but_keeps_what_was_typed(form):
    form.get_by_label("Seed").evaluate("field => field.closest('details').open = true")
    form.get_by_label("Seed").fill("7")
    form.get_by_label("Dataset", exact=True).select_option(
        label="Stories, version 1 (120 examples)"
    )
    expect(form.get_by_label("Name")).to_have_value(re.compile("^Stories"))
    # Enough text for long rows.
    expect(form.locator("#id_max_tokens")).to_have_value("256")
    expect(form.get_by_label("Seed")).to_have_value("7")


def test_slider_writes_the_scale(form):
    form.locator("[data-scale-slider]").fill("-10")
    expect(form.locator("#id_learning_rate_scale")).to_have_value("0.1")


def test_stopping_early_waits_for_a_validation_dataset(form):
    early_stop = form.locator("#id_early_stop")
    expect(early_stop).to_be_disabled()
    form.get_by_label("Validation dataset").select_option(index=1)
    expect(early_stop).to_be_enabled()


def test_prompts_come_and_go_and_start_takes_them(form):
    form.get_by_label("Watched prompt").first.fill("The capital of Chad is ")
    form.get_by_role("button", name="Add a prompt").click()
    form.get_by_label("Watched prompt").last.fill("gone")
    form.get_by_role("button", name="Remove this prompt").last.click()
    form.get_by_role("button", name="Start the job").click()
    form.wait_for_url("**/jobs/*/")
    assert Job.objects.get().prompts == ["The capital of Chad is "]


def test_double_click_on_start_makes_one_job(form):
    sent: list[tuple[str, str]] = []
    form.on("request", lambda request: sent.append((request.method, request.url)))
    form.get_by_role("button", name="Start the job").dblclick()
    form.wait_for_url(re.compile(r"/jobs/\d+/$"))
    assert Job.objects.count() == 1
    posts = [url for method, url in sent if method == "POST"]
    assert len(posts) == 1, posts


def test_start_answers_with_errors_beside_fields(form):
    form.locator("#id_epochs").fill("0")
    form.get_by_role("button", name="Start the job").click()
    expect(form.locator("#id_epochs_error")).to_contain_text("from 1 to 1,000")
    expect(form.locator("#id_epochs")).to_be_focused()


def test_start_waits_while_it_would_be_refused(form):
    start = form.get_by_role("button", name="Start the job")
    form.get_by_label("Max tokens").fill("5000")
    expect(form.locator("[data-plan-sum]")).to_contain_text("at most 2,048 tokens")
    expect(start).to_be_disabled()
    form.get_by_label("Max tokens").fill("64")
    expect(start).to_be_enabled()
