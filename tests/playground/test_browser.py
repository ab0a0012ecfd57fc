"""The playground in a real browser, on the real site with its model server."""

import pytest

from tests.support.running_site import RunningSite

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with RunningSite(tmp_path_factory.mktemp("playground") / "data") as running:
        running.link = running.sign_in_link()
        yield running


@pytest.fixture(scope="module")
def cookies(site, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    yield context.cookies()
    context.close()


@pytest.fixture
def playground(page, site, cookies):
    """Opens the playground on `tiny`; a fault in the browser fails the test."""
    faults: list[str] = []
    page.context.add_cookies(cookies)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{site.url}/playground/?model=tiny")
    yield page
    assert faults == []


def test_answer_streams_in(playground):
    playground.get_by_label("Prompt").fill("Once upon a time")
    playground.get_by_label("Max tokens").fill("200")
    playground.get_by_label("Prompt").press("Control+Enter")
    playground.get_by_text("tokens so far").wait_for()
    early = playground.locator("[data-text]").inner_text()
    playground.get_by_text("The answer is complete.").wait_for(state="attached")
    whole = playground.locator("[data-text]").inner_text()
    assert 0 < len(early) < len(whole)
    assert whole.startswith(early)
    assert (
        playground.locator(".answer[aria-busy]").get_attribute("aria-busy") == "false"
    )


def test_stop_keeps_what_has_come(playground):
    playground.get_by_label("Max tokens").fill("2000")
    playground.get_by_label("Answers from each").fill("8")
    playground.get_by_role("button", name="Answer", exact=True).click()
    playground.get_by_text("tokens so far").first.wait_for()
    playground.get_by_role("button", name="Stop").click()
    playground.get_by_text("Stopped", exact=True).wait_for()
    assert playground.locator("[data-text]").first.inner_text()
    assert playground.get_by_role("button", name="Answer", exact=True).is_visible()


def test_two_columns_answer_and_stand_in_the_address(playground):
    playground.get_by_role("button", name="Add a snapshot").click()
    playground.get_by_role("button", name="Answer", exact=True).click()
    playground.get_by_text("All answers are complete.").wait_for(state="attached")
    assert playground.get_by_text("Done", exact=True).count() == 2
    assert playground.url.endswith("?model=tiny&model=tiny")


def test_bad_value_is_told_beside_its_field(playground):
    playground.get_by_label("Max tokens").fill("0")
    playground.get_by_role("button", name="Answer", exact=True).click()
    playground.get_by_text("from 1 to 2,048").wait_for()
    field = playground.get_by_label("Max tokens")
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("4")
    playground.get_by_role("button", name="Answer", exact=True).click()
    playground.get_by_text("The answer is complete.").wait_for(state="attached")
    assert playground.get_by_text("from 1 to 2,048").count() == 0
