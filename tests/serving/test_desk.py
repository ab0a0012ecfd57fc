"""One model's requests answered together, without a server around them."""

import asyncio
from collections import Counter

import pytest

from jobs.serving import desk
from jobs.serving.inbox import Asked
from jobs.serving.loaded import load
from jobs.serving.request import RequestError, parse
from jobs.trainer.contract.spec import ModelSource
from tests.support.model_server import TINY
from tests.support.running_async import run

ASK = {"model": TINY, "prompt": "Once upon a time", "max_tokens": 10, "seed": 1}


@pytest.fixture(scope="module")
def tiny():
    return load(ModelSource(**TINY))


def lines_of(loaded, *requests):
    """Returns the lines of each request, once all are answered."""

    async def answer():
        place = desk.Desk(loaded)
        every = [Asked(parse(ASK | request)) for request in requests]
        for asked in every:
            place.add(asked)
        while not place.is_idle:
            place.turn()
        return [[line async for line in until_done(asked)] for asked in every]

    return run(answer())


async def until_done(asked):
    while True:
        line = await asked.next_line()
        yield line
        if "done" in line:
            return


def told(lines):
    """Returns texts, tokens and their logprobs by index."""
    found = {}
    for line in lines[:-1]:
        text, logprobs = found.setdefault(line["index"], ([], []))
        text.append(line["text"])
        logprobs += line["logprobs"]["token_logprobs"]
    return {
        index: ("".join(text), logprobs) for index, (text, logprobs) in found.items()
    }


@pytest.mark.parametrize("best_of", [3, 5])
def test_answers_for_which_there_is_no_room_follow_one_by_one(
    tiny, monkeypatch, best_of
):
    ask = {"n": 3, "best_of": best_of, "echo": True, "logprobs": 0}
    [together] = lines_of(tiny, ask)
    monkeypatch.setattr(desk, "MAX_CACHE_BYTES", 1)
    [apart] = lines_of(tiny, ask)
    assert told(together).keys() == told(apart).keys() == {0, 1, 2}
    for index, (text, logprobs) in told(together).items():
        assert told(apart)[index][0] == text
        assert told(apart)[index][1][0] is None
        assert told(apart)[index][1][1:] == pytest.approx(logprobs[1:], abs=1e-3)
    assert apart[-1]["usage"] == together[-1]["usage"]


def test_neighbours_of_all_kinds_change_nothing(tiny):
    requests = [
        {"logprobs": 2},
        {"frequency_penalty": 1.0, "n": 2, "logprobs": 0},
        {"max_tokens": 0, "echo": True, "logprobs": 1},
        {"prompt": [5, 6, 7], "logit_bias": {"9": 50}, "logprobs": 0},
    ]
    together = lines_of(tiny, *requests)
    for request, lines in zip(requests, together, strict=True):
        [alone] = lines_of(tiny, request)
        texts = {index: text for index, (text, _) in told(alone).items()}
        assert {index: text for index, (text, _) in told(lines).items()} == texts


def test_one_asker_never_keeps_the_others_waiting(tiny):
    async def ask():
        place = desk.Desk(tiny)
        for _ in range(8):
            many = {"n": 32, "max_tokens": 2000, "asker": 1}
            place.add(Asked(parse(ASK | many)))
        while len(place.batch.answers) < 32:
            place.turn()
        other = Asked(parse(ASK | {"max_tokens": 1, "asker": 2}))
        place.add(other)
        place.turn()
        return [line async for line in until_done(other)]

    assert run(asyncio.wait_for(ask(), 20))[-1]["usage"]["completion_tokens"] == 1


def test_answers_that_end_make_room_for_whoever_has_fewer(tiny):
    async def ask():
        place = desk.Desk(tiny)
        for asker in (1, 1, 2, 2):
            many = {"n": 32, "max_tokens": 2000, "asker": asker}
            place.add(Asked(parse(ASK | many)))
        for _ in range(20):
            place.turn()
        return Counter(
            place.answers[answer.index].asked.asker for answer in place.batch.answers
        )

    growing = run(ask())
    assert growing[1] == growing[2] == 16


def test_request_that_the_model_cannot_take_is_refused_alone(tiny):
    async def add():
        desk.Desk(tiny).add(Asked(parse(ASK | {"prompt": [4096]})))

    with pytest.raises(RequestError, match="0 to 4,095"):
        run(add())
