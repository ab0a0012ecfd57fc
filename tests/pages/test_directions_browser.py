"""Texts that run from the right, in a browser, on each page that shows texts."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import Page

from tests.support import factories
from tests.support.browsing import leave
from tests.support.web_server import serve

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HEBREW = "מתי הרכבת ל-Haifa? 3."
ARABIC = "ما رقم الباب؟ 12."
ENGLISH = "Say שלום to me."
TEXTS = [HEBREW, ARABIC, ENGLISH]

# Where the first and the last letter of a text stand, as the browser draws them: for
# each text of one line, "right" if it begins right of its end.
SIDES = """(texts) => {
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const edge = (node, at) => {
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    return range.getBoundingClientRect().left;
  };
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const text = texts.find((one) => node.data.includes(one));
    if (!text || !node.parentElement.checkVisibility()) continue;
    const start = node.data.indexOf(text);
    const sides = edge(node, start) > edge(node, start + text.length - 1);
    (found[text] ??= new Set()).add(sides ? "right" : "left");
  }
  return texts.map((text) => [...(found[text] ?? [])].sort().join());
}"""
FIELDS = """() => [...document.querySelectorAll("textarea, input[type=text]")]
  .filter((field) => getComputedStyle(field).unicodeBidi !== "plaintext")
  .map((field) => field.name)"""


@pytest.fixture
def signed_in(page: Page, client, member) -> Iterator[Page]:
    client.force_login(member)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    with serve() as address:
        page.context.add_cookies([{"name": "sessionid", "value": key, "url": address}])
        page.goto(address + reverse("datasets"))
        yield page
        leave(page)


@pytest.fixture
def version():
    return factories.make_dataset(
        HEBREW, [[(text, 0.1), (" 9:00", 1)] for text in TEXTS]
    )


def open_page(page: Page, path: str) -> None:
    page.goto(page.evaluate("location.origin") + path)


def test_examples_and_their_editor(signed_in, version):
    url = reverse("dataset", args=[version.dataset_id])
    for number in range(1, 4):
        open_page(signed_in, f"{url}?edit={number}")
        assert signed_in.evaluate(SIDES, TEXTS) == ["right", "right", "left"]
    assert signed_in.locator(".tokens").get_attribute("dir") == "auto"


def test_prompts_answers_log_and_names_of_a_job(signed_in, version):
    job = factories.make_job(
        version, name=HEBREW, status="running", prompts=TEXTS, completions_every=1
    )
    for index, text in enumerate(TEXTS):
        job.events.create(
            seq=index + 1,
            time="2026-11-22T12:00Z",
            type="completion",
            step=1,
            data={"prompt_index": index, "prompt": text, "index": 0, "text": text},
        )
    job.events.create(
        seq=4,
        time="2026-11-22T12:00Z",
        type="log",
        data={"level": "info", "message": HEBREW},
    )
    job.last_seq, job.step = 4, 1
    job.save()
    for name in ("job", "job-settings"):
        open_page(signed_in, reverse(name, args=[job.pk]))
        assert signed_in.evaluate(SIDES, TEXTS) == ["right", "right", "left"]
    open_page(signed_in, reverse("home"))
    assert signed_in.evaluate(SIDES, [HEBREW]) == ["right"]


def test_lines_of_the_report(signed_in, version):
    version.num_bad = 1
    version.problems = [{"line": 2, "message": "bad", "text": HEBREW}]
    version.save()
    open_page(signed_in, reverse("dataset-report", args=[version.dataset_id]))
    assert signed_in.evaluate(SIDES, [HEBREW]) == ["right"]


def test_fields_for_texts(signed_in, version):
    for path in (
        reverse("job-new"),
        reverse("playground"),
        reverse("dataset-new"),
        reverse("dataset", args=[version.dataset_id]),
    ):
        open_page(signed_in, path)
        assert signed_in.evaluate(FIELDS) == []
