"""When the disk is full, a job says so and pauses, and later goes on where it was."""

import errno
import os
import resource
from contextlib import contextmanager

import pytest

from jobs.trainer.contract.events import EventWriter, read_events
from jobs.trainer.contract.runfolder import RESERVE_BYTES, RunFolder
from jobs.trainer.endings import say_ending
from tests.support.training import (
    RIDDLES,
    make_run,
    of_type,
    train,
    without_clocks,
)

PAUSED = {"status": "paused", "message": "There is too little room.", "forced": True}
# This text has more tokens than a small file can hold.
MANY = RIDDLES * 160


@contextmanager
def files_up_to(num_bytes):
    """Makes writing beyond this file size fail, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("examples", "asked"),
    [
        (MANY, {}),
        (RIDDLES, {"checkpoint_seconds": 1e-6}),
        (RIDDLES, {"snapshots_every": 3}),
    ],
    ids=["tokens", "checkpoint", "snapshot"],
)
def test_a_file_that_does_not_fit_pauses_the_job(examples, asked, tmp_path):
    run = make_run(tmp_path / "run", examples, completions_every=0, **asked)
    with files_up_to(RESERVE_BYTES + 1000):
        status = of_type(train(run), "status")[-1]
    assert (status["status"], status["forced"]) == ("paused", True)
    assert "too little room on the disk" in status["message"]
    assert not run.reserve.exists()


def test_it_goes_on_as_if_nothing_had_been(tmp_path):
    settings = {"snapshots_every": 3, "checkpoint_seconds": 1000}
    whole = train(make_run(tmp_path / "whole", **settings))
    run = make_run(tmp_path / "run", **settings)
    with files_up_to(RESERVE_BYTES + 1000):
        train(run)
    assert without_clocks(train(run)) == without_clocks(whole)


def test_an_event_that_does_not_fit_leaves_nothing_of_itself(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write("step", step=1)
    whole = (tmp_path / "events.jsonl").stat().st_size
    with files_up_to(whole + 20), pytest.raises(OSError, match="File too large"):
        writer.write("step", step=2)
    assert (tmp_path / "events.jsonl").stat().st_size == whole
    writer.write("step", step=2)
    events, _ = read_events(tmp_path / "events.jsonl")
    assert [event["seq"] for event in events] == [1, 2]


@pytest.fixture
def full_disk(tmp_path, monkeypatch):
    """Makes a run folder on a disk that is full but for the folder's reserve."""
    folder = RunFolder(tmp_path)
    folder.take_reserve()
    write = os.write

    def write_if_room(file, data):
        if folder.reserve.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr(os, "write", write_if_room)
    return folder


def test_the_last_words_have_room(full_disk):
    events = EventWriter(full_disk.events)
    assert say_ending(full_disk, events, PAUSED) == 0
    assert read_events(full_disk.events)[0][-1]["status"] == "paused"


def test_words_without_any_room_are_in_the_log(full_disk, monkeypatch, caplog):
    monkeypatch.setattr(full_disk, "give_reserve", lambda: None)
    assert say_ending(full_disk, EventWriter(full_disk.events), PAUSED) == 1
    assert "There is too little room." in caplog.text
