"""Jobs of the real trainer on the model that ships. Killing really kills a process."""

import math
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig

from jobs.trainer import watch
from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.runfolder import Control
from jobs.trainer.contract.spec import Lora, ModelSource, Spec
from jobs.trainer.rows.plan import make_plan
from tests.support.training import (
    HANGS_AFTER_SECONDS,
    RIDDLES,
    TINY,
    facts_of,
    make_run,
    make_small_model,
    of_type,
    start_trainer,
    train,
    train_with,
    wait_for_step,
    without_clocks,
)
from tests.support.warm_starts import WarmPython

pytestmark = pytest.mark.long

ALL_CORES = 0
LONG = {"epochs": 40, "completions_every": 0, "checkpoint_seconds": 0.2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trains a whole job with everything on; returns its run folder and events."""
    run = make_run(
        tmp_path_factory.mktemp("finished") / "run",
        validation=RIDDLES[:4],
        epochs=2,
        snapshots_every=5,
        threads=ALL_CORES,
    )
    return run, train(run)


def test_a_job_ends_succeeded(finished):
    assert of_type(finished[1], "status")[-1]["status"] == "succeeded"


def test_steps_are_those_of_the_plan(finished):
    run, events = finished
    spec = Spec.load(run.spec)
    plan = make_plan(spec)
    steps = [event["step"] for event in of_type(events, "step")]
    assert steps == list(range(1, plan["total_steps"] + 1))
    assert len(of_type(events, "completion")) == plan["completions"]
    assert len(of_type(events, "snapshot")) == plan["snapshots"]


def test_the_loss_falls(finished):
    losses = [event["learned_loss"] for event in of_type(finished[1], "step")]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_the_best_snapshot_has_the_lowest_validation_loss(finished):
    snapshots = of_type(finished[1], "snapshot")
    best = [snapshot for snapshot in snapshots if snapshot["best"]][-1]
    assert best["validation_loss"] == min(s["validation_loss"] for s in snapshots)


def test_a_snapshot_names_no_path_of_this_machine(finished):
    run, events = finished
    folder = run.path / of_type(events, "snapshot")[-1]["path"]
    for name in ("facts.json", "config.json"):
        assert str(TINY.path) not in (folder / name).read_text()
    assert facts_of(folder)["base_model"] == "tiny"


def test_a_finished_job_is_left_alone(finished):
    run, events = finished
    assert start_trainer(run).wait(timeout=HANGS_AFTER_SECONDS) == 0
    assert read_events(run.events)[0] == events


def test_killed_and_resumed_equals_undisturbed(finished, tmp_path):
    run = make_run(
        tmp_path / "run",
        validation=RIDDLES[:4],
        epochs=2,
        snapshots_every=5,
        checkpoint_seconds=0.1,
        threads=ALL_CORES,
    )
    for step in (1, 6, 14):
        trainer = start_trainer(run)
        wait_for_step(run, step)
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.wait()
    events = train(run)
    assert without_clocks(events) == without_clocks(finished[1])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_sigterm_leaves_a_checkpoint_and_no_status(tmp_path):
    run = make_run(tmp_path / "run", **LONG | {"checkpoint_seconds": 1000})
    trainer = start_trainer(run)
    wait_for_step(run, 5)
    trainer.terminate()
    assert trainer.wait(timeout=10) == 0
    events = read_events(run.events)[0]
    assert [event["status"] for event in of_type(events, "status")] == ["running"]
    last = of_type(events, "step")[-1]["step"]
    assert [path.name for path in run.checkpoint.iterdir()] == [str(last)]


def test_pauses_and_goes_on(tmp_path):
    run = make_run(tmp_path / "run", **LONG | {"epochs": 6})
    trainer = start_trainer(run)
    wait_for_step(run, 3)
    run.write_control(Control(want="pause"))
    assert trainer.wait(timeout=20) == 0
    assert of_type(read_events(run.events)[0], "status")[-1]["status"] == "paused"
    run.write_control(Control(want="run"))
    statuses = [event["status"] for event in of_type(train(run), "status")]
    assert statuses == ["running", "paused", "running", "succeeded"]


def test_stop_keeps_a_last_snapshot(tmp_path):
    run = make_run(tmp_path / "run", **LONG)
    trainer = start_trainer(run)
    wait_for_step(run, 3)
    run.write_control(Control(want="stop"))
    assert trainer.wait(timeout=20) == 0
    events = read_events(run.events)[0]
    assert of_type(events, "status")[-1]["status"] == "cancelled"
    step = of_type(events, "step")[-1]["step"]
    assert (run.snapshots / str(step) / "model.safetensors").is_file()


def test_a_stop_after_a_death_keeps_what_was_learned(tmp_path):
    """There is no checkpoint yet, so steps are repeated before the last snapshot."""
    run = make_run(tmp_path / "run", **LONG | {"checkpoint_seconds": 1000})
    trainer = start_trainer(run)
    wait_for_step(run, 6)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    last = of_type(read_events(run.events)[0], "step")[-1]["step"]
    run.write_control(Control(want="stop"))
    events = train(run)
    assert of_type(events, "status")[-1]["status"] == "cancelled"
    assert [event["step"] for event in of_type(events, "snapshot")] == [last]


def test_takes_a_snapshot_when_asked(tmp_path):
    run = make_run(tmp_path / "run", **LONG)
    run.write_control(Control(want="run", snapshot_request=1))
    trainer = start_trainer(run)
    wait_for_step(run, 6)
    run.write_control(Control(want="stop", snapshot_request=1))
    trainer.wait(timeout=20)
    assert len(of_type(read_events(run.events)[0], "snapshot")) == 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_trains_further_from_a_snapshot(finished, tmp_path, method):
    """The child's first loss is about its parent's last one, not the base model's."""
    run, events = finished
    snapshot = of_type(events, "snapshot")[-1]
    source = ModelSource(base_model="tiny", path=str(run.path / snapshot["path"]))
    child = train(make_run(tmp_path / "child", method=method, model=source))
    first = of_type(child, "step")[0]["learned_loss"]
    assert first < 0.7 * of_type(events, "step")[0]["learned_loss"]


def test_an_adapter_trains_further_as_either_kind(tmp_path):
    lora = {"method": "lora", "base_learning_rate": 4e-3, "epochs": 4}
    parent = make_run(tmp_path / "parent", **lora)
    snapshot = of_type(train(parent), "snapshot")[-1]
    adapter = parent.path / snapshot["path"]
    assert not (adapter / "model.safetensors").exists()
    source = replace(TINY, adapter_path=str(adapter))
    first = [
        of_type(train(make_run(tmp_path / method, method=method, model=source)), "step")
        for method in ("full", "lora")
    ]
    losses = [steps[0]["learned_loss"] for steps in first]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] < 3.5


def test_says_that_it_keeps_the_rank_of_an_adapter(tmp_path):
    small = {"method": "lora", "lora": Lora(rank=4, alpha=8), "epochs": 1}
    parent = make_run(tmp_path / "parent", **small)
    snapshot = of_type(train(parent), "snapshot")[-1]
    source = replace(TINY, adapter_path=str(parent.path / snapshot["path"]))
    events = train(make_run(tmp_path / "child", method="lora", model=source))
    messages = [line["message"] for line in of_type(events, "log")]
    assert any("adapter of rank 4 and alpha 8" in message for message in messages)


def test_refuses_a_dataset_with_nothing_to_learn(tmp_path):
    run = make_run(tmp_path / "run", [[("Only read.", 0.0)]])
    status = of_type(train(run), "status")[-1]
    assert status["status"] == "failed"
    assert "Every loss weight in the dataset is 0" in status["message"]


def test_a_loss_that_is_no_number_is_tried_again_once_then_fails(tmp_path):
    run = make_run(tmp_path / "run", base_learning_rate=1e12, epochs=4, clip=1e30)
    events = train(run)
    assert "half the learning rate" in of_type(events, "autopilot")[0]["message"]
    assert len(of_type(events, "autopilot")) == 1
    status = of_type(events, "status")[-1]
    assert status["status"] == "failed"
    assert "learning-rate scale of a tenth" in status["message"]


# The only update breaks the weights, and no later loss shows it.
BREAKING = {
    "batch_size": 32,
    "base_learning_rate": 1e38,
    "schedule": "constant",
    "warmup": 0.0,
    "clip": 1e30,
    "prompts": (),
    "completions_every": 0,
}


@pytest.mark.parametrize(
    "asked",
    [{}, {"epochs": 2, "checkpoint_seconds": 1e-6}],
    ids=["snapshot", "checkpoint"],
)
def test_weights_that_are_no_numbers_are_not_kept(asked, tmp_path):
    run = make_run(tmp_path / "run", validation=RIDDLES[:4], **BREAKING | asked)
    events = train(run)
    assert (
        "Weights became infinite or no numbers at step 1"
        in (of_type(events, "autopilot")[0]["message"])
    )
    assert events[-1]["status"] == "failed"
    assert "Weights became infinite or no numbers" in events[-1]["message"]
    assert not run.snapshots.exists()
    assert not run.checkpoint.exists()


def test_a_model_whose_weights_are_no_numbers_is_refused(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(TINY.path)
    model.lm_head.weight.data[5, 5] = math.nan
    model.save_pretrained(tmp_path / "broken")
    source = Path(TINY.path) / "tokenizer.json"
    shutil.copyfile(source, tmp_path / "broken" / "tokenizer.json")
    broken = ModelSource(base_model="broken", path=str(tmp_path / "broken"))
    # The weights of the adapter itself are fine.
    events = train(make_run(tmp_path / "run", model=broken, method="lora"))
    assert events[-1]["status"] == "failed"
    assert "the job starts from are infinite or no numbers" in events[-1]["message"]


def test_a_validation_loss_that_is_no_number_is_never_the_best(tmp_path, monkeypatch):
    real = watch.validation_losses

    def broken(learner, batches, ranks):
        return replace(real(learner, batches, ranks), loss=math.nan)

    monkeypatch.setattr(watch, "validation_losses", broken)
    run = make_run(tmp_path / "run", validation=RIDDLES[:4])
    (snapshot,) = of_type(train(run), "snapshot")
    assert (snapshot["best"], snapshot["validation_loss"]) == (False, None)
    assert facts_of(run.path / snapshot["path"])["validation_loss"] is None


def test_too_little_memory_halves_what_goes_through_at_once(tmp_path):
    """The step learns from as many rows, and only the rounding differs."""
    whole = train(make_run(tmp_path / "whole", batch_size=4))
    run = make_run(tmp_path / "run", batch_size=4)
    events = train_with(
        run,
        """
        if len(batch.inputs) > 1:
            raise torch.OutOfMemoryError("out of memory")
        """,
    )
    assert [event["micro_batch"] for event in of_type(events, "autopilot")] == [2, 1]
    assert run.read_numerics().micro_batch == 1
    losses = [event["loss"] for event in of_type(events, "step")]
    assert losses == pytest.approx(
        [e["loss"] for e in of_type(whole, "step")], rel=1e-3
    )


def test_a_row_that_does_not_fit_fails_in_words(tmp_path):
    full = 'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory: 9 bytes")'
    status = of_type(train_with(make_run(tmp_path / "run"), full), "status")[-1]
    assert "does not hold even one row" in status["message"]


def test_a_full_disk_pauses_and_the_job_goes_on_later(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", snapshots_every=3)
    with monkeypatch.context() as full:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        full.setattr("shutil.disk_usage", lambda folder: usage)
        status = of_type(train(run), "status")[-1]
    assert (status["status"], status["forced"]) == ("paused", True)
    assert "too little room on the disk (a snapshot takes" in status["message"]
    assert list(run.snapshots.glob("*")) == []
    assert of_type(train(run), "status")[-1]["status"] == "succeeded"


def test_an_example_without_weight_does_not_disturb(tmp_path):
    run = make_run(tmp_path / "run", [*RIDDLES, [("Only read. " * 20, 0.0)]])
    steps = of_type(train(run), "step")
    assert all(math.isfinite(event["loss"]) for event in steps)


# Learning the riddles does not help with these, and soon does harm.
OTHERS = [[("Say: ", 0.0), (text, 1.0)] for text in ("zebra quilt", "42, 43 and 44")]
STOPPING = {
    "validation": OTHERS,
    "epochs": 20,
    "snapshots_every": 3,
    "completions_every": 0,
    "early_stop": 2,
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Returns the events of a job that ended early."""
    return train(make_run(tmp_path_factory.mktemp("stopped") / "run", **STOPPING))


def test_stops_early_when_validation_no_longer_improves(stopped):
    snapshots = of_type(stopped, "snapshot")
    losses = [snapshot["validation_loss"] for snapshot in snapshots]
    assert losses.index(min(losses)) == len(losses) - 3
    assert [s["step"] for s in snapshots if s["best"]][-1] == snapshots[-3]["step"]
    step = of_type(stopped, "step")[-1]["step"]
    assert step == snapshots[-1]["step"]
    status = of_type(stopped, "status")[-1]
    assert status["status"] == "succeeded"
    assert f"Ended early at step {step} of " in status["message"]


def test_stops_early_at_the_same_step_after_kills(stopped, tmp_path):
    run = make_run(tmp_path / "run", **STOPPING, checkpoint_seconds=0.1)
    last = of_type(stopped, "step")[-1]["step"]
    kill_at(run, [2, last - 1])
    assert without_clocks(read_events(run.events)[0]) == without_clocks(stopped)


@pytest.mark.parametrize(
    ("losses", "stalled"),
    [([], False), ([3, 3], False), ([3, 2, 2, 2], True), ([3, 2, 4, 1], False)],
)
def test_stalled_means_none_of_the_last_is_better(losses, stalled):
    assert watch.is_stalled(losses, patience=2) is stalled


def kill_at(run, steps):
    """Kills a job's trainer once it has done these steps, then lets the job end."""
    argv = ["-m", "tests.support.forked_kills", run.path, *map(str, steps)]
    assert WarmPython(argv, run.log).wait() == 0, run.log.read_text()


def test_killed_at_20_random_steps_equals_undisturbed(tmp_path):
    model = make_small_model(tmp_path / "small")
    job = {"model": model, "epochs": 60, "completions_every": 0, "threads": 1}
    undisturbed = train(make_run(tmp_path / "undisturbed", **job))
    last = of_type(undisturbed, "step")[-1]["step"]
    steps = sorted(random.Random(20).sample(range(1, last), 20))
    run = make_run(tmp_path / "run", **job, checkpoint_seconds=0.1)
    kill_at(run, steps)
    events = read_events(run.events)[0]
    assert without_clocks(events) == without_clocks(undisturbed)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_two_trainers_do_not_share_a_run_folder(tmp_path):
    run = make_run(tmp_path / "run", **LONG)
    first = start_trainer(run)
    wait_for_step(run, 1)
    second = start_trainer(run)
    assert second.wait() == 1
    first.terminate()
    assert first.wait() == 0
    seqs = [event["seq"] for event in read_events(run.events)[0]]
    assert seqs == list(range(1, len(seqs) + 1))


def test_rows_longer_than_the_model_reads_are_refused(tmp_path):
    events = train(make_run(tmp_path / "run", max_tokens=4096))
    assert events[-1]["status"] == "failed"
    assert "2,048" in events[-1]["message"]


def test_a_validation_dataset_that_measures_nothing_is_refused(tmp_path):
    nothing = [[("Only read.", 0.0)]]
    events = train(make_run(tmp_path / "run", validation=nothing))
    assert events[-1]["status"] == "failed"
    assert "validation dataset" in events[-1]["message"]


def test_an_adapter_for_layers_that_are_not_there_is_refused(tmp_path):
    lora = Lora(target_modules=("elbow",))
    events = train(make_run(tmp_path / "run", method="lora", lora=lora))
    assert events[-1]["status"] == "failed"
    assert "elbow" in events[-1]["message"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_state_space_model_is_trained_with_all_that_comes_with_it(method, tmp_path):
    torch.manual_seed(5)
    config = MambaConfig(
        vocab_size=4096,
        hidden_size=32,
        state_size=8,
        num_hidden_layers=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    folder = tmp_path / "mamba"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    shutil.copyfile(Path(TINY.path) / "tokenizer.json", folder / "tokenizer.json")
    model = ModelSource(base_model="mamba", path=str(folder))
    events = train(make_run(tmp_path / "run", model=model, method=method))
    assert of_type(events, "status")[-1]["status"] == "succeeded"
    assert len(of_type(events, "step")) == len(RIDDLES)
    assert of_type(events, "completion")
