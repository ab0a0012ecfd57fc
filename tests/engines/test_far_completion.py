"""Answers of snapshots that lie on another server."""

import asyncio
import time
from contextlib import suppress

import pytest

from finetune_site.common.errors import BusyError, UserError
from jobs.engines import far_completion
from jobs.engines.base import EngineTroubleError
from jobs.engines.far_api import FarApi
from jobs.engines.places import MAX_OPEN_PER_MEMBER
from tests.support.far_server import KEY, refusal, running_far
from tests.support.running_async import run
from tests.support.running_site import wait_for

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
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    far.completion = [{**chunk("Paris", finish_reason="stop"), "usage": usage}]
    line, last = ask(far, prompt="a", n=1, best_of=3)
    assert far.bodies[0][1]["best_of"] == 3
    assert "stream" not in far.bodies[0][1]
    assert (line["text"], last["usage"]) == ("Paris", usage)


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([chunk("Par")], "stopped while it answered"),
        ([chunk("Par"), {"error": {"message": "Out of luck."}}], "Out of luck."),
        ([chunk("Par"), {"choices": 7}], "is not this API"),
        (DONE, "is not this API"),
        ([chunk("Par"), "[DONE]"], "is not this API"),
        ([chunk("Par"), {"usage": {"total_tokens": 5}}, "[DONE]"], "is not this API"),
    ],
)
def test_an_answer_that_breaks_off_may_be_asked_for_again(far, chunks, words):
    far.completion = chunks
    with pytest.raises(EngineTroubleError, match=words):
        ask(far, prompt="a")


def test_a_whole_answer_without_choices_is_no_answer(far):
    far.completion = [{"choices": [], "usage": DONE[0]["usage"]}]
    with pytest.raises(EngineTroubleError, match="is not this API"):
        ask(far, prompt="a", n=1, best_of=3)


def test_a_refusal_is_passed_on(far):
    far.trouble = refusal(404, "This snapshot was deleted.")
    with pytest.raises(UserError, match="This snapshot was deleted."):
        ask(far, prompt="a")


@pytest.mark.alone
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
    monkeypatch.setattr(far_completion, "MAX_PER_ENGINE", 1)
    far.hang_seconds = 0.2

    async def two() -> list:
        async def one() -> list:
            lines = far_completion.complete(connect(far), UID, {"prompt": "a"})
            return [line async for line in lines]

        return await asyncio.gather(one(), one(), return_exceptions=True)

    answers = run(two())
    assert sum(isinstance(answer, BusyError) for answer in answers) == 1
    wait_for(lambda: not far_completion.places.taken.total(), 10, "the thread's end")
    assert len(ask(far, prompt="a")) == 3


def leave_early(far, name: str = "lab") -> None:
    """Asks an engine that says nothing yet, and goes."""

    async def leave() -> None:
        api = FarApi(name, far.url, KEY, allow_private=True)
        lines = far_completion.complete(lambda: api, UID, {"prompt": "a"})
        with suppress(TimeoutError):
            await asyncio.wait_for(anext(aiter(lines)), 0.2)

    run(leave())


@pytest.fixture
def silent(far, monkeypatch):
    monkeypatch.setattr(far_completion, "MAX_PER_ENGINE", 2)
    far.silent_seconds = 2.0
    yield far
    wait_for(lambda: not far_completion.places.taken.total(), 10, "the threads' end")


def test_answers_that_nobody_waits_for_keep_their_places(silent):
    leave_early(silent)
    leave_early(silent)
    with pytest.raises(BusyError, match="answers of the engine lab are under way"):
        leave_early(silent)


def test_an_engine_that_hangs_leaves_room_for_others(silent):
    leave_early(silent)
    leave_early(silent)
    leave_early(silent, "other")
    assert far_completion.places.taken == {"lab": 2, "other": 1}


def test_a_member_cannot_ask_one_engine_for_all_it_may():
    assert (
        min(MAX_OPEN_PER_MEMBER, far_completion.MAX_STREAMS)
        > far_completion.MAX_PER_ENGINE
    )
