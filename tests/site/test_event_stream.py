"""Server-sent events, however their bytes are cut."""

import pytest

from finetune_site.common import event_stream
from finetune_site.common.event_stream import BrokenStreamError, read_events

# A line end of Unicode, which is none for an event stream.
STREAM = 'data: {"a": "x\u2028y"}\r\n\r\n: alive\n\ndata:{"a": 2}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_the_same_wherever_they_are_cut(size):
    content = STREAM.encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert [event["a"] for event in read_events(pieces)] == ["x\u2028y", 2]


def test_what_comes_after_the_last_event_is_not_read():
    assert list(read_events([b"data: [DONE]\n", b"data: no JSON\n"])) == []


def test_events_come_before_the_stream_ends():
    events = read_events(iter([b'data: {"a": 1}\n', b"data: no JSON\n"]))
    assert next(events) == {"a": 1}


@pytest.mark.parametrize("pieces", [[], [b'data: {"a": 1}\n\n'], [b"data: [DONE]"]])
def test_a_stream_without_its_last_event_is_broken(pieces):
    with pytest.raises(BrokenStreamError):
        list(read_events(pieces))


def test_a_line_without_end_is_not_gathered(monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_LINE_BYTES", 10)
    with pytest.raises(BrokenStreamError):
        list(read_events(iter([b"data: ", b"x" * 10, b"\ndata: [DONE]\n"])))
