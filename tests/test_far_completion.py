"""Answers of snapshots that lie on another server."""

import asyncio
import time

import pytest

from finetune_site.errors import UserError
from jobs.engines import far_completion
from jobs.engines.far_api import FarApi
from tests.far_server import KEY, refusal, running_far
from tests.running_async import run

UID = "tiny:2026-11-23.snap-" + "1" * 24
DONE = [
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    "[DONE]",
]


@pytest.fixture
def far():
    with running_far() as far:
        far.completion = [chunk("Par"), chunk("is", finish_reason="stop"), *DONE]
        yield far


def chunk(text: str, index: int = 0, **more) -> dict:
    choice = {"index": index, "text": text, "finish_reason": None, "logprobs": None}
    return {"choices": [{**choice, **more}]}


def connect(far):
    return lambda: FarApi("lab", far.url, KEY, allow_private=True)


def ask(far, **request) -> list[dict]:
    async def collect() -> list[dict]:
        lines = far_completion.complete(connect(far), UID, request)
        return [line async for line in lines]

    return run(collect())


def test_chunks_become_lines(far):
    first, second, last = ask(far, prompt="The capital of France is ")
    assert (first["index"], first["text"], first["finish_reason"]) == (0, "Par", None)
    assert (second["text"], second["finish_reason"]) == ("is", "stop")
    assert last["done"]
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}


def test_settings_go_along_and_unset_ones_do_not(far):
    ask(far, prompt="a", temperature=0, stop=["\n"], seed=None, base_model="tiny")
    (_, body) = far.bodies[0]
    assert (body["model"], body["temperature"], body["stop"]) == (UID, 0, ["\n"])
    assert "seed" not in body
    assert "base_model" not in body


def test_log_probabilities_come_along(far):
    logprobs = {"tokens": ["P", "ar"], "token_logprobs": [-1.0, -2.0]}
    far.completion = [chunk("Par", logprobs=logprobs), *DONE]
    line = ask(far, prompt="a", logprobs=1)[0]
    assert (line["logprobs"], line["tokens"]) == (logprobs, 2)


def test_the_best_of_several_come_whole(far):
    far.completion = [
        {**chunk("Paris", finish_reason="stop"), "usage": {"completion_tokens": 9}}
    ]
    line, last = ask(far, prompt="a", n=1, best_of=3)
    assert far.bodies[0][1]["best_of"] == 3
    assert "stream" not in far.bodies[0][1]
    assert (line["text"], last["usage"]) == ("Paris", {"completion_tokens": 9})


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([chunk("Par")], "stopped while it answered"),
        ([chunk("Par"), {"error": {"message": "Out of luck."}}], "Out of luck."),
        ([chunk("Par"), {"choices": 7}], "is not this API"),
    ],
)
def test_an_answer_that_breaks_off(far, chunks, words):
    far.completion = chunks
    with pytest.raises(UserError, match=words):
        ask(far, prompt="a")


def test_a_refusal_is_passed_on(far):
    far.trouble = refusal(404, "This snapshot was deleted.")
    with pytest.raises(UserError, match="This snapshot was deleted."):
        ask(far, prompt="a")


def test_a_reader_that_leaves_ends_the_far_answer(far):
    far.completion = [chunk("x") for _ in range(200)]
    far.hang_seconds = 0.05

    async def read_one() -> None:
        lines = far_completion.complete(connect(far), UID, {"prompt": "a"})
        async for _ in lines:
            break
        await lines.aclose()

    started = time.monotonic()
    run(read_one())
    assert time.monotonic() - started < 2


def test_too_many_at_once_are_refused(far, monkeypatch):
    monkeypatch.setattr(
        far_completion, "streams", far_completion.threading.BoundedSemaphore(1)
    )
    far.hang_seconds = 0.2

    async def two() -> list:
        async def one() -> list:
            lines = far_completion.complete(connect(far), UID, {"prompt": "a"})
            return [line async for line in lines]

        return await asyncio.gather(one(), one(), return_exceptions=True)

    answers = run(two())
    assert sum(isinstance(answer, UserError) for answer in answers) == 1
    assert len(ask(far, prompt="a")) == 3
