"""A form that is sent twice: pressed twice, or its page loaded again."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.db.models import Model
from django.test import Client

from datasets import services as dataset_services
from datasets.models import Dataset, DatasetVersion, DraftChange
from finetune_site.team import one_deed
from finetune_site.team.models import ApiKey, Member, SentForm, SignInLink
from jobs.models import EngineSetting, Job, ModelDownload, Webhook
from jobs.services import counting
from jobs.watching import watcher
from tests.support import factories
from tests.support.hub_server import HUB_ID, running_hub

pytestmark = pytest.mark.django_db(transaction=True)

LINE = b'{"prompt": "a", "completion": " b"}\n'
JOB = {
    "base_model": "tiny",
    "engine": "local",
    "method": "full",
    "epochs": 1,
    "batch_size": 1,
    "max_tokens": 64,
    "learning_rate_scale": "1",
    "seed": 1,
    "snapshots_every": 0,
    "completions_every": 0,
    "num_completions": 1,
    "name": "gentle",
}


TOKEN = re.compile('name="csrfmiddlewaretoken" value="([^"]+)"')
Form = dict[str, Any]


@pytest.fixture(autouse=True)
def uncounted(monkeypatch):
    monkeypatch.setattr(counting, "async_task", lambda *_, **__: None)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with running_hub() as running:
        yield running.url


@pytest.fixture
def browser(admin) -> Client:
    """The browser of an admin, with the site's check of CSRF tokens."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    return client


@pytest.fixture
def places(admin) -> dict[str, object]:
    """What addresses are made of: a dataset with a version, and one with a draft."""
    version = factories.make_dataset("Capitals", [[("a", 1.0), ("b", 1.0)]])
    edited = factories.make_dataset("Edited")
    dataset_services.change_weight(member=admin, version=edited, segment=0, weight=0.5)
    return {
        "admin": admin.pk,
        "data": f"/datasets/{version.dataset_id}/",
        "edited": f"/datasets/{edited.dataset_id}/",
    }


def open_form(browser: Client, page: str) -> Form:
    """Returns the token of a page's form."""
    return {
        "csrfmiddlewaretoken": TOKEN.findall(browser.get(page).content.decode())[-1]
    }


def job() -> Form:
    version = DatasetVersion.objects.first() or factories.make_dataset("Capitals")
    return {**JOB, "dataset_version": version.pk}


def upload(**fields: str) -> Form:
    file = SimpleUploadedFile("a.jsonl", LINE)
    return {"text_split": "lines", "file": file, **fields}


def nina() -> Form:
    return {"username": "nina", "role": "member"}


def engine() -> Form:
    url = "http://127.0.0.1:9/v1"
    return {"name": "lab", "url": url, "key": "k" * 20, "allow_private": "on"}


def webhook() -> Form:
    return {"url": "http://127.0.0.1:9/", "allow_private": "on"}


# The page, where its form is sent, what that holds, and what it makes.
MAKING: list[tuple[str, str, Callable[[], Form], type[Model]]] = [
    ("/jobs/new/", "/jobs/new/", job, Job),
    ("/datasets/new/", "/datasets/new/", lambda: upload(name="New"), Dataset),
    ("{data}upload/", "{data}upload/", upload, DatasetVersion),
    ("/team/", "/team/members/", nina, Member),
    ("/team/", "/team/members/{admin}/link/", dict, SignInLink),
    ("/team/", "/team/keys/", lambda: {"name": "laptop"}, ApiKey),
    ("/team/webhooks/", "/team/webhooks/add/", webhook, Webhook),
    ("/engines/", "/engines/add/", engine, EngineSetting),
    ("/models/", "/models/add/", lambda: {"hub_id": HUB_ID}, ModelDownload),
    (
        "{data}",
        "{data}versions/1/rule/",
        lambda: {"segment": 0, "weight": 0.5},
        DraftChange,
    ),
    ("{edited}", "{edited}versions/1/save/", lambda: {"note": "a"}, DatasetVersion),
    (
        "{data}",
        "{data}versions/1/rejoin/",
        lambda: {"joiner": "new-line"},
        DatasetVersion,
    ),
]


@pytest.mark.parametrize(("page", "address", "form", "made"), MAKING)
def test_second_post_of_a_form_gets_the_answer_of_the_first(
    page, address, form, made, browser, places, hub, settings
):
    settings.HUB_ENDPOINT = hub
    token = open_form(browser, page.format(**places))
    before = made.objects.count()
    first, second = (
        browser.post(address.format(**places), form() | token) for _ in range(2)
    )
    assert first.status_code in {200, 302}
    assert made.objects.count() == before + 1
    assert second.status_code == first.status_code
    assert second.get("Location") == first.get("Location")
    # A key or a link that is shown once is shown on the page that people see.
    assert second.content == first.content


def test_two_posts_at_once_make_one_job(browser, admin):
    form = job() | open_form(browser, "/jobs/new/")
    other = Client(enforce_csrf_checks=True)
    other.cookies = browser.cookies

    def press(client: Client) -> str:
        try:
            return client.post("/jobs/new/", form)["Location"]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(press, (browser, other))
    assert first == second == f"/jobs/{Job.objects.get().pk}/"


def test_form_that_was_changed_or_opened_anew_is_another_deed(browser):
    token = open_form(browser, "/jobs/new/")
    browser.post("/jobs/new/", job() | token)
    browser.post("/jobs/new/", job() | {"name": "harder"} | token)
    browser.post("/jobs/new/", job() | open_form(browser, "/jobs/new/"))
    assert Job.objects.count() == 3


def test_another_file_of_the_same_name_and_size_is_another_deed(browser, places):
    address = f"{places['data']}upload/"
    token = open_form(browser, address)
    for content in (LINE, LINE.replace(b" b", b" c")):
        form = {"file": SimpleUploadedFile("a.jsonl", content), "text_split": "lines"}
        browser.post(address, form | token)
    assert DatasetVersion.objects.filter(dataset__name="Capitals").count() == 3


def test_refused_form_may_be_sent_again(browser, member):
    token = open_form(browser, "/team/")
    taken = {"username": "nina", "role": "member"} | token
    nina = factories.make_member("nina")
    assert browser.post("/team/members/", taken).status_code == 422
    nina.delete()
    assert browser.post("/team/members/", taken).status_code == 200


def test_form_of_a_process_that_died_is_not_taken_again_in_silence(
    browser, admin, monkeypatch
):
    token = open_form(browser, "/jobs/new/")
    browser.post("/jobs/new/", job() | token)
    SentForm.objects.update(answer="")
    monkeypatch.setattr(one_deed, "WAIT_SECONDS", 0.0)
    answer = browser.post("/jobs/new/", job() | token, follow=True)
    assert "See what was made before you send it again" in answer.content.decode()
    assert Job.objects.count() == 1


def test_answers_are_sealed_and_forgotten(browser, monkeypatch):
    token = open_form(browser, "/team/")
    answer = browser.post("/team/keys/", {"name": "laptop"} | token)
    [key] = re.findall(r"sk-[\w-]{20,}", answer.content.decode())[:1]
    assert key not in SentForm.objects.get().answer
    watcher.sweep()
    assert SentForm.objects.count() == 1
    monkeypatch.setattr(one_deed, "KEPT", timedelta(0))
    watcher.sweep()
    assert not SentForm.objects.exists()
