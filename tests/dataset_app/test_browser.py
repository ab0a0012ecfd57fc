"""Uploading and weighing in a real browser."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import Page, expect

from datasets import services
from datasets.models import DatasetVersion, DraftChange
from tests.support import factories
from tests.support.browsing import leave
from tests.support.web_server import serve

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LINE = '{"data": {"text_list": ["2 + 2 =", " 4"], "loss_weights": [0.1, 1]}}\n'

DROP = """([content]) => {
  const data = new DataTransfer();
  data.items.add(new File([content], "easy_sums.jsonl"));
  const drop = new DragEvent("drop", {dataTransfer: data, cancelable: true});
  document.querySelector("[data-drop]").dispatchEvent(drop);
}"""


@pytest.fixture
def signed_in(page: Page, client, member) -> Iterator[Page]:
    client.force_login(member)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    with serve() as address:
        page.context.add_cookies([{"name": "sessionid", "value": key, "url": address}])
        page.goto(address + reverse("datasets"))
        yield page
        leave(page)
    assert faults == []


@pytest.fixture
def editing(signed_in) -> Page:
    """Opens the capitals, with the weights of example 2 open."""
    version = factories.make_dataset("Capitals")
    url = reverse("dataset", args=[version.dataset_id])
    signed_in.goto(signed_in.url.replace(reverse("datasets"), f"{url}?edit=2"))
    return signed_in


def drop_file(page: Page, content: str) -> None:
    page.get_by_role("link", name="Upload a dataset").first.click()
    page.wait_for_url("**/datasets/new/", wait_until="load")
    page.evaluate(DROP, [content])


def changes() -> list[tuple[int | None, int, float]]:
    rows = DraftChange.objects.order_by("id")
    return list(rows.values_list("example", "segment", "weight"))


def test_a_dropped_file_is_uploaded_and_its_page_turns_ready(signed_in):
    drop_file(signed_in, LINE * 3)
    expect(signed_in.get_by_label("Name")).to_have_value("Easy sums")
    signed_in.get_by_role("button", name="Upload").click()
    expect(signed_in.get_by_text("Importing easy_sums.jsonl")).to_be_visible()
    services.import_version(version_id=DatasetVersion.objects.get().pk)
    expect(signed_in.locator(".examples li")).to_have_count(3)


def test_a_mistake_is_said_without_losing_the_file(signed_in):
    factories.make_dataset("Taken")
    drop_file(signed_in, LINE)
    signed_in.get_by_label("Name").fill("taken")
    signed_in.get_by_role("button", name="Upload").click()
    expect(signed_in.get_by_role("alert")).to_contain_text("named taken already")
    signed_in.get_by_label("Name").fill("Free")
    signed_in.get_by_role("button", name="Upload").click()
    expect(signed_in.get_by_role("heading", name="Free")).to_be_visible()


def test_the_slider_weighs_and_the_tokens_follow(editing):
    slider = editing.get_by_label("Loss weight of segment 1", exact=True)
    slider.focus()
    slider.press("ArrowRight")
    expect(editing.get_by_text("Draft on version 1")).to_be_visible()
    # Before the first token of the text stands the one behind which it is learned.
    expect(editing.locator(".token").first).to_have_attribute("data-w", "0")
    expect(editing.locator(".token").nth(1)).to_have_attribute("data-w", "2")
    expect(slider).to_be_focused()
    assert changes() == [(1, 0, 0.15)]


def test_what_is_typed_while_an_answer_comes_stays(editing):
    first = editing.get_by_label("Loss weight of segment 1 as a number")
    second = editing.get_by_label("Loss weight of segment 2 as a number")
    first.fill("0.7")
    second.focus()
    second.press("ControlOrMeta+a")
    second.press_sequentially("0.25", delay=150)
    second.press("Tab")
    expect(editing.get_by_text("Undo the last change")).to_be_visible()
    expect(second).to_have_value("0.25")
    assert changes() == [(1, 0, 0.7), (1, 1, 0.25)]


def test_typing_that_is_taken_back_stops_no_change(editing):
    first = editing.get_by_label("Loss weight of segment 1 as a number")
    second = editing.get_by_label("Loss weight of segment 2 as a number")
    first.fill("0.7")
    second.focus()
    second.press("End")
    second.press("5")
    second.press("Backspace")
    second.press("Tab")
    expect(editing.get_by_text("Undo the last change")).to_be_visible()
    assert changes() == [(1, 0, 0.7)]


def test_a_change_waits_until_the_one_before_has_arrived(editing):
    held = []
    editing.route("**/examples/*/", lambda route: held.append(route), times=1)
    field = editing.get_by_label("Loss weight of segment 1 as a number")
    for weight in ["0.7", "0.8"]:
        field.fill(weight)
        field.press("Enter")
    editing.wait_for_timeout(300)
    assert changes() == []
    held[0].continue_()
    expect(editing.get_by_text("Undo the last change")).to_be_visible()
    assert changes() == [(1, 0, 0.7), (1, 0, 0.8)]


def test_undo_brings_the_weight_back(editing):
    field = editing.get_by_label("Loss weight of segment 2 as a number")
    field.fill("0.5")
    field.press("Enter")
    editing.get_by_role("button", name="Undo the last change").click()
    expect(field).to_have_value("0.9")
    assert changes() == []


@pytest.mark.parametrize(("button", "joiner"), [("A space", " "), ("A new line", "\n")])
def test_segments_are_joined_by_a_press(editing, button, joiner):
    DatasetVersion.objects.update(num_unspaced=60)
    editing.reload()
    editing.get_by_role("button", name=button).click()
    expect(editing.get_by_text("Writing version 2")).to_be_visible()
    assert DatasetVersion.objects.get(number=2).joiner == joiner


def test_a_draft_is_saved_from_its_dialog(editing):
    services.change_weight(
        member=None, version=DatasetVersion.objects.get(), segment=0, weight=0
    )
    editing.reload()
    editing.get_by_role("button", name="Save as version 2").click()
    editing.get_by_label("What changed?").fill("Questions are only read")
    editing.get_by_role("button", name="Save", exact=True).click()
    expect(editing.get_by_text("Writing version 2")).to_be_visible()
    services.import_version(version_id=DatasetVersion.objects.get(number=2).pk)
    expect(editing.get_by_text("Questions are only read")).to_be_visible()
