"""The page of the API: it works without any address outside the site."""

import pytest
from django.conf import settings

from finetune_site.team.services import create_api_key

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page(live_server, browser, client, member):
    """The page, signed in; notes errors and whatever it asks for."""
    client.force_login(member)
    context = browser.new_context(base_url=live_server.url, color_scheme="dark")
    name = settings.SESSION_COOKIE_NAME
    cookie = {"name": name, "value": client.cookies[name].value}
    context.add_cookies([{**cookie, "url": live_server.url}])
    page = context.new_page()
    page.faults, page.asked = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.faults.append(m.text))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto("/docs/api")
    page.get_by_text("/v1/fine_tuning/jobs/{job_id}/cancel").wait_for()
    yield page
    context.close()


def test_it_asks_nobody_else_and_breaks_no_rule(page, live_server):
    outside = [url for url in page.asked if not url.startswith(live_server.url)]
    own = [url for url in outside if not url.startswith("data:")]
    assert (own, page.faults) == ([], [])


def test_it_follows_the_theme(page):
    dark = "document.documentElement.classList.contains('dark-mode')"
    assert page.evaluate(dark)
    page.get_by_role("button", name="Switch between light and dark").click()
    assert not page.evaluate(dark)


def test_a_call_is_tried_with_a_key(page, member):
    key = create_api_key(member=member)
    page.locator(".auth-wrapper .authorize").click()
    page.locator(".modal-ux input").fill(key)
    page.locator(".modal-ux button[type=submit]").click()
    page.locator(".modal-ux .btn-done").click()
    call = page.locator("#operations-Models-list_models")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    call.get_by_role("button", name="Execute").click()
    answer = call.locator(".live-responses-table tr.response")
    answer.get_by_text("200", exact=True).wait_for()
    assert page.faults == []
