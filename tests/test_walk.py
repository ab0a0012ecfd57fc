"""The main job in a real browser against the real processes, nothing mocked."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.running_site import ROOT, RunningSite

pytestmark = [pytest.mark.browser, pytest.mark.long]

JOKES = ROOT / "datasets" / "sample_data" / "jokes.jsonl"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with RunningSite(tmp_path_factory.mktemp("walk") / "data") as running:
        yield running


def drawn_steps(page):
    """Returns the steps of the train loss that the chart shows now."""
    return page.evaluate(
        """() => {
            const chart = document.querySelector(".js-plotly-plot");
            const raw = chart?.data?.find((trace) => trace.name === "Train loss");
            return raw ? [...raw.x] : [];
        }"""
    )


def test_from_sign_in_to_an_answer(site, page, faults):
    page.goto(site.sign_in_link())
    page.get_by_role("button", name="Sign in").click()

    page.get_by_role("link", name="Upload a dataset").first.click()
    page.locator("input[type=file]").set_input_files(JOKES)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("240 examples").first).to_be_visible(timeout=20_000)
    expect(page.locator(".examples .segment").nth(1)).to_have_attribute("data-w", "10")

    page.get_by_role("link", name="Train on this").click()
    page.get_by_role("spinbutton", name="Epochs").fill("1")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_text(re.compile(r"Step \d+ of 27")).first).to_be_visible(
        timeout=30_000
    )

    # While it runs the chart grows, in the page as it was loaded.
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')")
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("button", name="Stop").first).to_be_visible()
    page.wait_for_function(
        """() => {
            const chart = document.querySelector(".js-plotly-plot");
            const raw = chart?.data?.find((trace) => trace.name === "Train loss");
            const enough = raw && raw.x.length >= 10;
            const running = document.querySelector("[data-status='running']");
            return enough && running && raw.y[raw.y.length - 1] < raw.y[0];
        }""",
        timeout=60_000,
    )
    expect(page.locator("[data-film] td .text").nth(1)).not_to_be_empty()

    expect(page.locator("h1 .badge")).to_have_text("Succeeded", timeout=120_000)
    assert page.evaluate("window.sameDocument")
    # One for each snapshot (every 20 steps, and the last) and one for the newest.
    expect(page.get_by_role("link", name="Try it")).to_have_count(3)
    assert drawn_steps(page)[-1] == 27

    page.get_by_role("link", name="Try it").first.click()
    page.get_by_role("textbox", name="Prompt").fill("<joke>")
    page.get_by_role("button", name="Answer").click()
    answer = page.locator("[aria-busy='false'] .text").first
    expect(answer).to_contain_text(re.compile(r"<joke>.{10,}"), timeout=60_000)
    assert faults == []
