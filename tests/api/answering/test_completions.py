"""/v1/completions and /v1/engines/…/completions, asked of the real model server."""

import asyncio
import json
import socket
from contextlib import aclosing
from urllib.parse import urlsplit

import httpx2
import pytest
from asgiref.sync import sync_to_async

from finetune_site.common.errors import BusyError, LaterError
from finetune_site.common.sealing import seal
from finetune_site.team.services import create_api_key
from jobs.api.answering import asking
from jobs.api.answering.completions import CompletionShape
from jobs.engines import places
from jobs.engines.local import LocalEngine
from jobs.models import EngineSetting
from jobs.selectors.model_names import find_model
from jobs.serving import client
from jobs.serving.client import AwayError
from jobs.trainer.text.encoding import load_tokenizer
from tests.support import factories
from tests.support.asking import post
from tests.support.far_server import KEY, running_far, unknown
from tests.support.model_server import TINY, running_server
from tests.support.running_async import run
from tests.support.running_site import wait_for
from tests.support.web_server import serve

pytestmark = pytest.mark.django_db(transaction=True)

ASK = {
    "model": "tiny",
    "prompt": "Once upon a time",
    "max_tokens": 12,
    "seed": 1,
    "timeout": 20,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("serving")) as socket:
        yield socket


@pytest.fixture
def key(viewer):
    """Viewers may ask: nothing is changed."""
    return create_api_key(member=viewer)


@pytest.fixture
def served(server, monkeypatch):
    monkeypatch.setattr(client, "socket_path", lambda _: server)


@pytest.fixture
def asked(monkeypatch):
    """Returns what reached the engine, which stands in for a model."""
    requests = []

    async def complete(self, snapshot, request):
        requests.append((snapshot, request))
        yield {"index": 0, "text": "a", "finish_reason": "stop", "tokens": 1}
        yield {"done": True, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    monkeypatch.setattr(LocalEngine, "complete", complete)
    return requests


def complete(key, path="/completions", **changes):
    status, answer, _ = post(key, path, ASK | changes)
    assert status == 200, answer
    return answer


def refusal(key, path="/completions", **changes):
    """Returns the status, the field and the words."""
    status, answer, _ = post(key, path, ASK | changes)
    return status, answer["error"]["param"], answer["error"]["message"]


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


def streamed(chunks):
    """Returns the texts by index, of a stream's chunks."""
    found = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found.setdefault(choice["index"], []).append(choice["text"])
    return {index: "".join(parts) for index, parts in found.items()}


def test_a_plain_completion(served, key):
    answer = complete(key)
    [choice] = answer["choices"]
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert (answer["model"], choice["finish_reason"]) == ("tiny", "length")
    assert choice["logprobs"] is None
    assert answer["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 12,
        "total_tokens": 16,
    }


@pytest.mark.parametrize("logprobs", [None, 2])
def test_answer_has_the_shape_of_the_document(served, key, logprobs):
    answer = complete(key, logprobs=logprobs)
    assert CompletionShape(**answer).model_dump() == answer


def test_stream_says_the_same_and_ends_with_done(served, key):
    *chunks, done = complete(key, stream=True)
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert streamed(chunks) == {0: texts(complete(key))[0]}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_usage_comes_last_in_a_stream(served, key):
    options = {"include_usage": True}
    *chunks, last, _ = complete(key, stream=True, stream_options=options)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 16


def test_choices_count_over_prompts_and_answers(served, key):
    prompts = ["Once upon", "The capital of"]
    answer = complete(key, prompt=prompts, n=2)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert texts(answer)[2:] == texts(complete(key, prompt=prompts[1], n=2))
    assert answer["usage"]["completion_tokens"] == 4 * 12


def test_stream_of_several_prompts_has_all_choices(served, key):
    prompts = ["Once upon", "The capital of", "Once upon"]
    *chunks, _ = complete(key, prompt=prompts, n=2, stream=True)
    plain = texts(complete(key, prompt=prompts, n=2))
    assert streamed(chunks) == dict(enumerate(plain))


def test_prompts_as_tokens(served, key):
    ids = load_tokenizer(TINY["path"]).encode(ASK["prompt"]).ids
    expected = texts(complete(key))
    assert texts(complete(key, prompt=ids)) == expected
    assert texts(complete(key, prompt=[ids, ids])) == expected * 2


def test_no_prompt_is_the_end_token(served, key):
    answer = complete(key, prompt=None)
    assert texts(answer) == texts(complete(key, prompt=""))
    assert answer["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_scoring_gives_the_prompts_logprobs(served, key, stream):
    answer = complete(key, max_tokens=0, echo=True, logprobs=2, stream=stream)
    [choice] = answer[0]["choices"] if stream else answer["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "".join(logprobs["tokens"]) == ASK["prompt"]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["text_offset"][0] == 0
    assert len(logprobs["tokens"]) == len(logprobs["top_logprobs"]) == 4


def test_logprobs_join_over_the_whole_answer(served, key):
    [choice] = complete(key, echo=True, logprobs=0)["choices"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["top_logprobs"] is None


def test_best_of_and_stop(served, key):
    answer = complete(key, n=1, best_of=4, temperature=1.2)
    assert answer["usage"]["completion_tokens"] == 48
    stop = texts(complete(key))[0][8:12]
    assert stop not in texts(complete(key, stop=stop))[0]


def test_bias_and_penalties_reach_the_model(served, key):
    biased = complete(key, logit_bias={"7": 100}, max_tokens=4, logprobs=0)
    assert len(set(biased["choices"][0]["logprobs"]["tokens"])) == 1
    punished = complete(
        key, logit_bias={"7": 10}, frequency_penalty=2, logprobs=0, temperature=0
    )
    assert len(set(punished["choices"][0]["logprobs"]["tokens"])) > 1


def test_prompt_beyond_the_context_names_the_field(served, key):
    status, param, message = refusal(key, prompt=[5] * 3000)
    assert (status, param) == (400, "prompt")
    assert "maximum context length is 2048 tokens" in message
    _, answer, _ = post(key, "/completions", ASK | {"prompt": [5] * 3000})
    assert answer["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", []),
        ("prompt", [1, "a"]),
        ("prompt", [-1]),
        ("prompt", [2**40]),
        ("prompt", [[]]),
        ("prompt", {"a": 1}),
        ("prompt", "x" * 100_001),
        ("prompt", "\ud800"),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("top_p", -0.1),
        ("max_tokens", -1),
        ("max_tokens", 10**30),
        ("n", 0),
        ("n", 33),
        ("best_of", 99),
        ("logprobs", 21),
        ("logprobs", True),
        ("stop", ["a"] * 9),
        ("stop", 3),
        ("presence_penalty", 3),
        ("suffix", "the end"),
        ("seed", 10**30),
    ],
)
def test_wrong_value_names_its_field(asked, key, field, value):
    status, param, _ = refusal(key, **{field: value})
    assert (status, param) == (400, field)
    assert not asked


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ["a"] * 256, "n": 2, "max_tokens": 2000}, "max_tokens"),
        ({"max_tokens": 32_768, "logprobs": 20}, "max_tokens"),
        ({"max_tokens": 0, "echo": True, "prompt": [[1] * 90_000] * 7}, "prompt"),
    ],
)
def test_answer_too_long_to_give_at_once_is_refused(asked, key, changes, field):
    assert refusal(key, **changes)[:2] == (400, field)
    assert complete(key, **changes, stream=True)[-1] == "[DONE]"


def test_fewer_best_than_answers_is_refused(asked, key):
    assert refusal(key, n=3, best_of=2)[:2] == (400, "best_of")
    assert refusal(key, best_of=2, stream=True)[:2] == (400, "best_of")


@pytest.mark.parametrize("bias", [{"the": 1}, {"-1": 1}, {"5": 101}, {"5": "1"}, [1]])
def test_bias_of_no_token_is_refused(asked, key, bias):
    assert refusal(key, logit_bias=bias)[:2] == (400, "logit_bias")


def test_null_and_unknown_fields_are_as_if_they_were_not_there(asked, key):
    complete(key, temperature=None, stop=None, n=None, user="me", best_of=None, x=[1])
    [(_, request)] = asked
    assert (request["temperature"], request["n"], request["stop"]) == (1.0, 1, [])


def test_sixteen_tokens_unless_said(asked, key):
    complete(key, max_tokens=None)
    assert asked[0][1]["max_tokens"] == 16


def test_snapshot_is_asked_by_any_of_its_names(asked, key):
    job = factories.make_job(name="Jokes", suffix="funny")
    snapshot = factories.make_snapshot(job)
    for name in (snapshot.uid, "jokes:latest", f"ft:tiny::funny:{job.uid[6:]}"):
        assert complete(key, model=name)["model"] == name
    assert [found for found, _ in asked] == [snapshot] * 3


def test_unknown_model(asked, key):
    assert refusal(key, model="gpt-4")[:2] == (404, "model")


def test_base_model_that_is_not_here_says_what_to_do(asked, key):
    status, param, message = refusal(key, model="Ada")
    assert (status, param) == (400, "model")
    assert "download" in message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"{}"])
def test_body_that_is_no_request(asked, key, body):
    status, answer, _ = post(key, "/completions", body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"


def test_no_key_no_answer(asked, db):
    assert post("sk-none", "/completions", ASK)[0] == 401


def test_engine_in_the_address_and_model_in_the_body(asked, key):
    snapshot = factories.make_snapshot(factories.make_job())
    complete(key, "/engines/local/completions", model=snapshot.uid)
    assert asked[0][0] == snapshot


def test_engine_alone_means_its_newest_snapshot(asked, key):
    path = "/engines/local/completions"
    assert complete(key, path, model=None)["model"] == "tiny"
    snapshot = factories.make_snapshot(factories.make_job())
    assert complete(key, path, model=None)["model"] == snapshot.uid


def test_model_in_place_of_an_engine(asked, key):
    job = factories.make_job(name="my jokes/x")
    snapshot = factories.make_snapshot(job)
    complete(key, "/engines/Tiny/completions", model=None)
    complete(key, "/engines/my+jokes%2Fx%3Alatest/completions", model=None)
    assert [found for found, _ in asked] == [None, snapshot]


def test_neither_engine_nor_model(asked, key):
    path = "/engines/nothing/completions"
    assert refusal(key, path)[:2] == (404, "engine")
    assert refusal(key, path, model=None)[:2] == (404, "engine")


def test_snapshot_of_another_engine_is_said_to_be_there(asked, key):
    EngineSetting.objects.create(name="second", kind=EngineSetting.Kind.LOCAL)
    snapshot = factories.make_snapshot(factories.make_job(engine="second"))
    path = "/engines/local/completions"
    status, param, message = refusal(key, path, model=snapshot.uid)
    assert (status, param) == (400, "model")
    assert "second" in message


def test_latest_at_an_engines_address_is_the_latest_there(asked, key):
    EngineSetting.objects.create(name="second", kind=EngineSetting.Kind.LOCAL)
    here = factories.make_snapshot(factories.make_job())
    factories.make_snapshot(factories.make_job(engine="second"))
    complete(key, "/engines/local/completions", model="tiny:latest")
    assert asked[0][0] == here


@pytest.mark.parametrize("stream", [False, True])
def test_snapshot_that_its_engine_deleted_is_said_to_be_gone(key, stream):
    with running_far() as far:
        EngineSetting.objects.create(
            name="lab",
            kind=EngineSetting.Kind.REMOTE,
            url=far.url,
            sealed_key=seal(KEY),
            allow_private=True,
        )
        far.trouble = unknown("model")
        job = factories.make_job(engine="lab", far_uid="ftjob-1")
        snapshot = factories.make_snapshot(job)
        body = ASK | {"model": snapshot.uid, "stream": stream}
        status, answer, _ = post(key, "/completions", body)
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert "deleted on the engine lab" in answer["error"]["message"]


def test_stream_from_an_engines_address(asked, key):
    assert complete(key, "/engines/local/completions", stream=True)[-1] == "[DONE]"


@pytest.mark.parametrize("action", ["generate", "search", "embeddings"])
def test_other_actions_of_engines_are_refused_in_words(asked, key, action):
    status, answer, _ = post(key, f"/engines/local/{action}", {"context": "x"})
    assert status == 404
    assert "only completions" in answer["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_ends_its_answers(served, key, server, viewer, stream):
    body = json.dumps(ASK | {"max_tokens": 2000, "n": 8, "stream": stream}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with serve() as address:
        with socket.create_connection(("127.0.0.1", urlsplit(address).port)) as gone:
            gone.sendall(head.encode() + body)
            wait_for(lambda: num_open(server) == 1, 10, "the question to arrive")
        wait_for(lambda: num_open(server) == 0, 5, "the answers to end")
        wait_for(lambda: not places.open_questions[viewer.pk], 5, "its place")


def num_open(server):
    transport = httpx2.HTTPTransport(uds=str(server), verify=False)
    with httpx2.Client(transport=transport) as http:
        return http.get("http://model-server/health").json()["open_requests"]


def failing(monkeypatch, *errors):
    """Lets the engine fail with one error after the other, and then answer. Where an
    error is given as (piece, error), that piece of text comes before it.
    """
    left = list(errors)

    async def complete(self, snapshot, request):
        if left:
            piece, error = left.pop(0)
            if piece:
                yield {"index": 0, "text": piece, "finish_reason": None, "tokens": 1}
            raise error
        yield {"index": 0, "text": "b", "finish_reason": "stop", "tokens": 1}
        yield {"done": True, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    monkeypatch.setattr(LocalEngine, "complete", complete)
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)


def test_question_waits_while_the_model_server_is_away(monkeypatch, key):
    failing(monkeypatch, ("", AwayError("away")), ("", AwayError("away")))
    assert texts(complete(key)) == ["b"]


@pytest.mark.parametrize("stream", [False, True])
def test_away_for_too_long_is_503_with_retry_after(monkeypatch, key, stream):
    failing(monkeypatch, *[("", AwayError("It is starting."))] * 50)
    monkeypatch.setattr(asking, "AWAY_SECONDS", 0.05)
    status, answer, headers = post(key, "/completions", ASK | {"stream": stream})
    assert (status, headers["retry-after"]) == (503, "10")
    assert answer["error"]["message"] == "It is starting."


def test_model_that_is_still_loading_is_503(monkeypatch, key):
    failing(monkeypatch, ("", LaterError("still being loaded")))
    assert refusal(key)[0] == 503


def test_busy_is_429_with_retry_after(monkeypatch, key):
    failing(monkeypatch, ("", BusyError("Too many")))
    status, answer, headers = post(key, "/completions", ASK)
    assert (status, headers["retry-after"]) == (429, "2")
    assert answer["error"]["type"] == "rate_limit_error"


def test_error_in_the_middle_of_a_stream_is_its_last_chunk(monkeypatch, key):
    failing(monkeypatch, ("a", LaterError("The model server stopped.")))
    first, last = complete(key, stream=True)
    assert first["choices"][0]["text"] == "a"
    assert last["error"]["message"] == "The model server stopped."


def test_one_member_has_half_of_the_places(monkeypatch, asked, key, viewer, member):
    monkeypatch.setattr(places, "PLACE_SECONDS", 0.05)
    monkeypatch.setitem(places.open_questions, viewer.pk, places.MAX_OPEN_PER_MEMBER)
    assert refusal(key)[0] == 429
    assert texts(complete(create_api_key(member=member))) == ["a"]


def test_engine_hears_who_asks(asked, key, viewer):
    complete(key)
    assert asked[0][1]["asker"] == viewer.pk


def test_nothing_is_taken_from_the_engine_that_nobody_reads(monkeypatch, viewer):
    given = []

    async def complete(self, snapshot, request):
        while True:
            given.append({"index": 0, "text": "a", "finish_reason": None, "tokens": 1})
            yield given[-1]
            await asyncio.sleep(0)

    monkeypatch.setattr(LocalEngine, "complete", complete)

    async def ask():
        choice = await sync_to_async(find_model)("tiny")
        async with aclosing(asking.ask(viewer, LocalEngine(), choice, [{}])) as lines:
            await anext(lines)
            await asyncio.sleep(0.2)

    run(ask())
    assert asking.MAX_UNREAD <= len(given) < asking.MAX_UNREAD + 5


def test_places_are_given_back(asked, key, viewer):
    complete(key, prompt=["a", "b"])
    complete(key, stream=True)
    assert places.open_questions[viewer.pk] == 0


def test_document_tells_of_the_stream(client, db):
    document = json.loads(client.get("/v1/openapi.json").content)
    for path in ("/v1/completions", "/v1/engines/{engine}/completions"):
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        assert set(content) == {"application/json", "text/event-stream"}


def test_engines_are_listed_and_found(client, key):
    headers = {"authorization": f"Bearer {key}"}
    listed = client.get("/v1/engines", headers=headers).json()["data"]
    assert [engine["id"] for engine in listed] == ["local"]
    for name in ("local", "ada", "Tiny"):
        answer = client.get(f"/v1/engines/{name}", headers=headers).json()
        assert (answer["object"], answer["id"]) == ("engine", name)
    assert client.get("/v1/engines/none", headers=headers).status_code == 404
