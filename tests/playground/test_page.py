"""The playground's page and its stream, with an engine that needs no model."""

import json

import pytest
from django.test import AsyncClient, Client
from django.urls import reverse

from finetune_site.common.errors import UserError
from jobs.engines import places
from jobs.engines.local import LocalEngine
from jobs.playground import choices as play
from tests.support import factories
from tests.support.running_async import run

PAGE = "/playground/"
ANSWER = "/playground/answer/"
VALUES = {
    "model": "tiny",
    "prompt": "Tell me ",
    "temperature": "0.7",
    "top_p": "0.9",
    "max_tokens": "16",
    "n": "1",
    "stop": "",
    "seed": "",
}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def asked(monkeypatch):
    """Returns what reached the engine, which answers with hostile text."""
    requests = []

    async def complete(self, snapshot, request):
        requests.append((snapshot, request))
        yield {"index": 0, "text": HOSTILE, "finish_reason": None, "tokens": 2}
        yield {"index": 0, "text": " end", "finish_reason": "stop", "tokens": 1}
        yield {"done": True, "usage": {}, "prompt_cut": False, "seconds": 0.1}

    monkeypatch.setattr(LocalEngine, "complete", complete)
    return requests


@pytest.fixture
def snapshot(member):
    job = factories.make_job(name="Jokes, gentle", prompts=["<joke> Why "])
    return factories.make_snapshot(job, 40, learned_loss=1.5, best=True)


def post(who, accept="application/jsonl", **changes):
    """Returns the response, and its body."""

    async def ask():
        client = AsyncClient()
        await client.aforce_login(who)
        response = await client.post(
            ANSWER, VALUES | changes, headers={"Accept": accept}
        )
        if not response.streaming:
            return response, response.content
        return response, b"".join([part async for part in response])

    return run(ask())


def post_for_lines(who, **changes):
    return [json.loads(line) for line in post(who, **changes)[1].splitlines()]


def test_signed_out_goes_to_sign_in(client, db):
    for response in (client.get(PAGE), client.post(ANSWER, VALUES)):
        assert response.status_code == 302
        assert response.url.startswith(reverse("sign-in"))


def test_newest_snapshot_is_chosen_with_its_watched_prompt(client, member, snapshot):
    client.force_login(member)
    response = client.get(PAGE)
    assert response.context["columns"][0]["chosen"].value == snapshot.uid
    assert response.context["form"].initial["prompt"] == "<joke> Why "
    assert b"Step 40, learned loss 1.50, best" in response.content


def test_base_model_stands_in_while_there_is_no_snapshot(client, member):
    client.force_login(member)
    [column] = client.get(PAGE).context["columns"]
    assert column["chosen"].value == "tiny"


def test_address_names_several_columns(client, member, snapshot):
    client.force_login(member)
    response = client.get(PAGE, {"snapshot": snapshot.uid, "model": "tiny"})
    values = [column["chosen"].value for column in response.context["columns"]]
    assert values == [snapshot.uid, "tiny"]


@pytest.mark.parametrize("query", ["snapshot=none", "model=ada", "model=../x"])
def test_unknown_snapshot_or_model_is_not_found(client, member, query):
    client.force_login(member)
    assert client.get(f"{PAGE}?{query}").status_code == 404


def test_nothing_to_ask_says_what_to_do(client, member, monkeypatch):
    monkeypatch.setattr(play, "base_models", list)
    client.force_login(member)
    assert "There is no model to ask yet" in client.get(PAGE).content.decode()


def test_snapshots_of_one_job_stand_together(member):
    first, second = factories.make_job(name="first"), factories.make_job(name="second")
    for job, step in ((first, 20), (second, 20), (first, 40)):
        factories.make_snapshot(job, step)
    groups = play.read_groups()
    counts = [(group.title, len(group.choices)) for group in groups]
    assert counts == [("first", 2), ("second", 1), ("Base models", 1)]


@pytest.mark.django_db(transaction=True)
def test_viewer_may_ask_and_gets_a_stream(asked, viewer):
    response, body = post(viewer)
    lines = [json.loads(line) for line in body.splitlines()]
    assert response["Content-Type"] == "application/jsonl"
    assert [line.get("text") for line in lines] == [HOSTILE, " end", None]


@pytest.mark.django_db(transaction=True)
def test_prompt_and_stops_reach_the_engine_exactly(asked, member):
    post(member, prompt=" a\r\nb ", stop=".\r\n\\n", seed="7")
    [(snapshot, request)] = asked
    assert snapshot is None
    assert request == {
        "base_model": "tiny",
        "prompt": " a\nb ",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 16,
        "n": 1,
        "stop": [".", "\n"],
        "seed": 7,
    }


@pytest.mark.django_db(transaction=True)
def test_snapshot_is_looked_up_by_its_uid(asked, member, snapshot):
    post(member, model=snapshot.uid)
    assert asked[0][0] == snapshot


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "2.1"),
        ("temperature", "nan"),
        ("top_p", "1.1"),
        ("max_tokens", "2049"),
        ("max_tokens", ""),
        ("n", "9"),
        ("seed", "-1"),
        ("stop", "a\nb\nc\nd\ne"),
        ("prompt", "x" * 100_001),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_bad_value_is_told_beside_its_field(asked, member, field, value):
    response, body = post(member, **{field: value})
    assert response.status_code == 422
    assert list(json.loads(body)["errors"]) == [field]
    assert not asked


@pytest.mark.django_db(transaction=True)
def test_unknown_snapshot_cannot_be_asked(asked, member):
    assert post(member, model="tiny:2026.snap-x")[0].status_code == 404
    assert post(member, model="/etc/passwd")[0].status_code == 404
    assert not asked


@pytest.mark.django_db(transaction=True)
def test_server_away_is_told_in_the_stream(monkeypatch, member):
    async def away(self, snapshot, request):
        raise UserError("The model server is starting.")
        yield

    monkeypatch.setattr(LocalEngine, "complete", away)
    assert post_for_lines(member) == [
        {"error": {"message": "The model server is starting."}}
    ]


@pytest.mark.django_db(transaction=True)
def test_without_a_script_the_page_has_the_escaped_answer(asked, member):
    page = post(member, accept="text/html")[1].decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; end" in page
    assert HOSTILE not in page


@pytest.mark.django_db(transaction=True)
def test_without_a_script_errors_stand_beside_their_fields(asked, member):
    response, body = post(member, accept="text/html", max_tokens="0")
    assert response.status_code == 422
    assert "Max tokens is a whole number from 1 to 2,048" in body.decode()


def test_answer_needs_a_token(member):
    client = Client(enforce_csrf_checks=True)
    client.force_login(member)
    assert client.post(ANSWER, VALUES).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_fault_within_an_answer_is_said(member, monkeypatch):
    async def complete(self, snapshot, request):
        yield {"index": 0, "text": "Once", "finish_reason": None, "tokens": 1}
        raise RuntimeError("a fault")

    monkeypatch.setattr(LocalEngine, "complete", complete)
    last = post_for_lines(member)[-1]
    assert last["error"]["message"].startswith("The site met an error")


@pytest.mark.django_db(transaction=True)
def test_answers_count_like_those_of_the_api(asked, member, monkeypatch):
    monkeypatch.setattr(places, "PLACE_SECONDS", 0.2)
    most = places.MAX_OPEN_PER_MEMBER
    monkeypatch.setitem(places.open_questions, member.pk, most)
    [line] = post_for_lines(member)
    assert "of your questions are being answered already" in line["error"]["message"]
    assert not asked
    monkeypatch.setitem(places.open_questions, member.pk, most - 1)
    assert "done" in post_for_lines(member)[-1]
    assert places.open_questions[member.pk] == most - 1
