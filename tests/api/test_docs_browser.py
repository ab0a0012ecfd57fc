"""The page of the API: it works without any address outside the site."""

import pytest
from django.conf import settings

from finetune_site.team.services import create_api_key

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def asked(page):
    """Collects every address that the browser asks for."""
    found = []
    page.on("request", lambda request: found.append(request.url))
    return found


@pytest.fixture
def docs(page, asked, faults, live_server, client, member):
    """Opens the page, signed in, in the dark theme."""
    client.force_login(member)
    name = settings.SESSION_COOKIE_NAME
    cookie = {"name": name, "value": client.cookies[name].value}
    page.context.add_cookies([{**cookie, "url": live_server.url}])
    page.emulate_media(color_scheme="dark")
    page.goto(f"{live_server.url}/docs/api")
    page.get_by_text("/v1/fine_tuning/jobs/{job_id}/cancel").wait_for()
    return page


def test_it_asks_nobody_else_and_breaks_no_rule(docs, asked, faults, live_server):
    outside = [url for url in asked if not url.startswith(live_server.url)]
    own = [url for url in outside if not url.startswith("data:")]
    assert (own, faults) == ([], [])


def test_it_follows_the_theme(docs):
    dark = "document.documentElement.classList.contains('dark-mode')"
    assert docs.evaluate(dark)
    docs.get_by_role("button", name="Switch between light and dark").click()
    assert not docs.evaluate(dark)


def test_a_call_is_tried_with_a_key(docs, faults, member):
    key = create_api_key(member=member)
    docs.locator(".auth-wrapper .authorize").click()
    docs.locator(".modal-ux input").fill(key)
    docs.locator(".modal-ux button[type=submit]").click()
    docs.locator(".modal-ux .btn-done").click()
    call = docs.locator("#operations-Models-list_models")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    call.get_by_role("button", name="Execute").click()
    answer = call.locator(".live-responses-table tr.response")
    answer.get_by_text("200", exact=True).wait_for()
    assert faults == []
