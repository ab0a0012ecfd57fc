"""How long a question waits for its model."""

import asyncio

import pytest

from jobs.serving import app
from jobs.serving.inbox import MAX_UNREAD_LINES, UNREAD, Asked
from jobs.serving.request import parse
from tests.support.model_server import TINY
from tests.support.running_async import run


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(app, "WAIT_SECONDS", 0.05)


def first_line(prepare):
    async def ask():
        asked = Asked(parse({"model": TINY}))
        prepare(asked)
        return await app._first_line(asked)

    return run(ask())


def test_model_that_is_not_loaded_in_time_is_told():
    error = first_line(lambda asked: None)["error"]
    assert error["kind"] == "loading"
    assert app.STATUS_OF_KIND["loading"] == 503


def test_answer_that_has_begun_may_take_its_time():
    def prepare(asked):
        asked.begun = True
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, asked.put, {"done": True})

    assert first_line(prepare) == {"done": True}


def test_answer_within_the_time_is_passed_on():
    assert first_line(lambda asked: asked.put({"index": 0})) == {"index": 0}


def test_answer_that_nobody_reads_ends():
    async def ask():
        asked = Asked(parse({"model": TINY}))
        for number in range(MAX_UNREAD_LINES + 100):
            asked.put({"index": number})
        lines = [await asked.next_line() for _ in range(MAX_UNREAD_LINES + 1)]
        return asked.cancelled, lines, asked._lines.empty()

    cancelled, lines, empty = run(ask())
    assert cancelled and empty
    assert lines[-1]["error"]["message"] == UNREAD
    assert all("error" not in line for line in lines[:-1])


def test_answer_that_is_read_never_ends():
    async def ask():
        asked = Asked(parse({"model": TINY}))
        for number in range(MAX_UNREAD_LINES + 100):
            asked.put({"index": number})
            await asked.next_line()
        return asked.cancelled

    assert not run(ask())
