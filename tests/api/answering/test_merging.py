"""Several streams read as one."""

import asyncio
from contextlib import aclosing

import pytest

from jobs.api.answering.merging import merge
from tests.support.running_async import run


class Streams:
    """Makes streams, and knows how many are open and how many were at most."""

    def __init__(self):
        self.num_open = self.most_open = 0

    async def stream(self, *items, error=None):
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            for item in items:
                await asyncio.sleep(0)
                yield item
            if error:
                raise error
        finally:
            self.num_open -= 1


@pytest.fixture
def made():
    return Streams()


def read(streams, *, until=None, max_at_once=8, max_unread=8):
    """Returns the merged items up to the number `until`, and the error at their end."""
    got = []

    async def collect():
        merged = merge(streams, max_at_once=max_at_once, max_unread=max_unread)
        async with aclosing(merged):
            async for item in merged:
                got.append(item)
                if len(got) == until:
                    return

    try:
        run(collect())
    except ValueError as error:
        return got, error
    return got, None


def test_every_item_comes_with_the_position_of_its_stream(made):
    got, _ = read([made.stream("a", "b"), made.stream("c")])
    assert sorted(got) == [(0, "a"), (0, "b"), (1, "c")]
    assert [item for position, item in got if position == 0] == ["a", "b"]


def test_no_streams_have_no_items():
    assert read([]) == ([], None)


def test_an_error_comes_after_the_items_before_it(made):
    error = ValueError("broken")
    assert read([made.stream("a", "b", error=error)]) == ([(0, "a"), (0, "b")], error)


def test_an_error_of_one_stream_ends_the_others(made):
    endless = made.stream(*range(1_000_000))
    got, error = read([endless, made.stream(error=ValueError("broken"))])
    assert str(error) == "broken"
    assert len(got) < 100
    assert made.num_open == 0


def test_streams_are_closed_when_nobody_reads_on(made):
    streams = [made.stream(*range(1_000_000)) for _ in range(3)]
    assert len(read(streams, until=5)[0]) == 5
    assert made.num_open == 0


def test_only_so_many_streams_are_read_at_once(made):
    got, _ = read([made.stream(1, 2, 3) for _ in range(7)], max_at_once=2)
    assert (len(got), made.most_open) == (21, 2)


def test_full_room_holds_up_no_end(made):
    got, _ = read([made.stream(1, 2) for _ in range(3)], max_unread=1)
    assert len(got) == 6
