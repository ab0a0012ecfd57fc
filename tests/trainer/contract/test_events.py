"""Events are appended whole, read whole, and never repeated."""

import pytest

from jobs.trainer.contract.events import EventWriter, read_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_reads_what_was_written(path):
    EventWriter(path, now=lambda: 5.0).write("step", step=1, loss=2.0)
    events, offset = read_events(path)
    assert events == [{"seq": 1, "time": 5.0, "type": "step", "step": 1, "loss": 2.0}]
    assert offset == path.stat().st_size


def test_a_half_written_line_does_not_exist_yet(path):
    EventWriter(path).write("step", step=1)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes() + b'{"seq": 2, "ty')
    assert read_events(path, whole) == ([], whole)


def test_opening_cuts_a_half_written_line_off(path):
    EventWriter(path).write("step", step=1)
    path.write_bytes(path.read_bytes() + b'{"seq": 2, "ty')
    EventWriter(path).write("step", step=2)
    assert [event["seq"] for event in read_events(path)[0]] == [1, 2]


def test_a_resumed_run_repeats_nothing(path):
    EventWriter(path).write("step", step=7)
    again = EventWriter(path)
    assert not again.write("step", step=7)
    assert again.write("step", step=8)


def test_answers_to_a_prompt_are_told_apart(path):
    writer = EventWriter(path)
    assert writer.write("completion", step=1, prompt_index=0, index=0)
    assert writer.write("completion", step=1, prompt_index=0, index=1)
    assert writer.has("completion", step=1, prompt_index=0, index=1)


def test_log_lines_may_be_the_same(path):
    writer = EventWriter(path)
    assert writer.write("log", message="x") and writer.write("log", message="x")


def test_remembers_the_last_status(path):
    EventWriter(path).write("status", status="paused")
    assert EventWriter(path).last_status == "paused"
