"""A trainer leaves soon, whatever it is doing, and later makes what it left out."""

import shutil
import time

import pytest

from jobs.trainer import watched_prompts
from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.runfolder import Control
from tests.support.training import (
    HANGS_AFTER_SECONDS,
    RIDDLES,
    make_run,
    make_small_model,
    of_type,
    shake,
    start_trainer,
    train,
    without_clocks,
)

# There are 4 answers before the first step, and 4 after every fourth step.
JOB = {
    "prompts": ("Who?", "Where?"),
    "num_completions": 2,
    "validation": RIDDLES[:4],
    "snapshots_every": 4,
    "checkpoint_seconds": 1000,
}


def make_job(folder):
    return make_run(folder, **JOB)


@pytest.fixture
def two_at_once(monkeypatch):
    """Makes answers in pairs."""
    plain = watched_prompts.WatchedPrompts.__init__

    def init(self, events, spec, answers_at_once, is_to_end):
        plain(self, events, spec, 2, is_to_end)

    monkeypatch.setattr(watched_prompts.WatchedPrompts, "__init__", init)


def ask_at_call(number, run, want, monkeypatch):
    """Lets people want something else while the group of that number is answered."""
    complete, calls = watched_prompts.complete, []
    monkeypatch.setattr(watched_prompts, "LOOK_SECONDS", 0.0)

    def asked(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            run.write_control(Control(want=want))
        return complete(*args, **kwargs)

    monkeypatch.setattr(watched_prompts, "complete", asked)


# The trainer is interrupted before the first step, between two groups after a step, and
# after the last step.
@pytest.mark.parametrize(("number", "num_answers"), [(1, 0), (4, 6), (6, 10)])
def test_a_pause_amid_completions_leaves_none_out(
    number, num_answers, two_at_once, tmp_path, monkeypatch
):
    whole = train(make_job(tmp_path / "whole"))
    run = make_job(tmp_path / "run")
    with monkeypatch.context() as patched:
        ask_at_call(number, run, "pause", patched)
        events = train(run)
    assert events[-1]["status"] == "paused"
    assert len(of_type(events, "completion")) == num_answers
    run.write_control(Control(want="run"))
    assert without_clocks(train(run)) == without_clocks(whole)


def test_a_pause_amid_completions_keeps_the_steps(tmp_path, monkeypatch):
    run = make_job(tmp_path / "run")
    ask_at_call(2, run, "pause", monkeypatch)
    train(run)
    assert [path.name for path in run.checkpoint.iterdir()] == ["4"]


def test_a_stop_amid_completions_keeps_a_snapshot(tmp_path, monkeypatch):
    run = make_job(tmp_path / "run")
    ask_at_call(2, run, "stop", monkeypatch)
    events = train(run)
    assert events[-1]["status"] == "cancelled"
    assert [event["step"] for event in of_type(events, "snapshot")] == [4]
    assert not run.checkpoint.exists()


def wait_for(found, run):
    deadline = time.monotonic() + HANGS_AFTER_SECONDS
    while not found():
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.05)


def seconds_to_leave(trainer):
    began = time.monotonic()
    trainer.terminate()
    assert trainer.wait(timeout=30) == 0
    return time.monotonic() - began


def test_sigterm_amid_long_completions(tmp_path):
    run = make_run(tmp_path / "run", completion_tokens=1500, num_completions=16)
    trainer = start_trainer(run)
    wait_for(lambda: read_events(run.events)[0], run)
    assert seconds_to_leave(trainer) < 10
    assert not of_type(read_events(run.events)[0], "completion")


@pytest.mark.parametrize(
    ("want", "status"), [("pause", "paused"), ("stop", "cancelled")]
)
def test_people_need_not_wait_for_the_count_of_tokens(want, status, tmp_path):
    run = make_run(tmp_path / "run", RIDDLES * 100)
    run.write_control(Control(want=want))
    events = train(run)
    assert [event["status"] for event in events] == [status]
    assert not list((run.path / "train" / "tokens").glob("*/facts.json"))


def test_a_job_paused_before_its_tokens_were_counted_says_what_it_learns(tmp_path):
    run = make_run(tmp_path / "run", [*RIDDLES, [("Only read.", 0.0)]])
    run.write_control(Control(want="pause"))
    train(run)
    run.write_control(Control(want="run"))
    events = train(run)
    statuses = [event["status"] for event in of_type(events, "status")]
    assert statuses == ["paused", "running", "succeeded"]
    message = of_type(events, "log")[0]["message"]
    assert message.endswith("are read. In 1 example nothing is learned")


def test_sigterm_amid_the_count_of_tokens(tmp_path):
    run = make_run(tmp_path / "run", RIDDLES * 20_000)
    trainer = start_trainer(run)
    wait_for(lambda: list(run.path.glob("train/tokens/.x.*/ids.bin")), run)
    assert seconds_to_leave(trainer) < 10
    assert [path.name for path in (run.path / "train" / "tokens").iterdir()] == [
        "x.lock"
    ]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_job_does_not_go_on_upon_other_weights(method, tmp_path, monkeypatch):
    house, kept = tmp_path / "house", tmp_path / "kept"
    job = JOB | {"model": make_small_model(house), "method": method}
    whole = train(make_run(tmp_path / "whole", **job))
    run = make_run(tmp_path / "run", **job)
    ask_at_call(2, run, "pause", monkeypatch)
    train(run)
    monkeypatch.undo()
    run.write_control(Control())
    shutil.copytree(house, kept)
    shake(house)
    last = train(run)[-1]
    assert last["status"] == "paused"
    assert last["forced"]
    assert last["message"].startswith("The files of small were replaced since")
    shutil.copy(kept / "model.safetensors", house)
    assert without_clocks(train(run)) == without_clocks(whole)
