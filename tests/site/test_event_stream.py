"""Server-sent events, however their bytes are cut."""

import pytest

from finetune_site.common import event_stream
from finetune_site.common.event_stream import (
    LAST_EVENT,
    SIGN_OF_LIFE,
    BrokenStreamError,
    read_event_stream,
    write_event,
)

# A line end of Unicode, which is none for an event stream.
STREAM = 'data: {"a": "x\u2028y"}\r\n\r\n: alive\n\ndata:{"a": 2}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_the_same_wherever_they_are_cut(size):
    content = STREAM.encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert [event["a"] for event in read_event_stream(pieces)] == ["x\u2028y", 2]


def test_what_is_written_is_read_again():
    texts = ["a\nb", "x\u2028y", "ä"]
    events = [write_event({"a": text}, number) for number, text in enumerate(texts)]
    assert events[0] == b'id: 0\ndata: {"a":"a\\nb"}\n\n'
    told = read_event_stream([*events, SIGN_OF_LIFE, LAST_EVENT])
    assert [event["a"] for event in told] == texts


def test_what_comes_after_the_last_event_is_not_read():
    assert list(read_event_stream([b"data: [DONE]\n", b"data: no JSON\n"])) == []


def test_events_come_before_the_stream_ends():
    events = read_event_stream(iter([b'data: {"a": 1}\n', b"data: no JSON\n"]))
    assert next(events) == {"a": 1}


@pytest.mark.parametrize("pieces", [[], [b'data: {"a": 1}\n\n'], [b"data: [DONE]"]])
def test_a_stream_without_its_last_event_is_broken(pieces):
    with pytest.raises(BrokenStreamError):
        list(read_event_stream(pieces))


def test_a_line_without_end_is_not_gathered(monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_LINE_BYTES", 10)
    with pytest.raises(BrokenStreamError):
        list(read_event_stream(iter([b"data: ", b"x" * 10, b"\ndata: [DONE]\n"])))
