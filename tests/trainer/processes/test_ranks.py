"""Jobs of several processes: real processes that are connected by gloo.

Whole runs are compared in float64: each step makes the rounding of those before it
larger, by more on some processors, and in float32 it comes near what a fault changes.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest

from jobs.trainer import prepare
from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.runfolder import Control
from jobs.trainer.contract.spec import Spec
from jobs.trainer.rows.plan import make_plan
from tests.support import exact_trainer
from tests.support.paths import ROOT
from tests.support.training import (
    HANGS_AFTER_SECONDS,
    RIDDLES,
    make_run,
    make_small_model,
    of_type,
    start_trainer,
    train,
    wait_for_step,
)
from tests.support.warm_starts import WarmPython

pytestmark = pytest.mark.long

# Each example has a row of its own. In steps of two rows, an example that is only read
# leaves a process without a learned token, and the last row of an epoch leaves one
# without a row.
EXAMPLES = [*RIDDLES[:15], *[[("Only read, and not learned at all.", 0.0)]] * 4]
JOB = {
    "validation": RIDDLES[:3],
    "epochs": 2,
    "batch_size": 2,
    "max_tokens": 15,
    "completions_every": 8,
    "snapshots_every": 10,
    # Several threads wait for each other, which is slow beside another job.
    "threads": 1,
}
# float64 rounds at 1e-16, and a fault changes much more.
ROUNDING = 1e-9
TWO = {"processes": 2, "sharding": "never"}
SHARDED = {"processes": 2, "sharding": "always"}

# This trainer runs out of memory in process 1 with more than one row.
SMALL_MEMORY = """
import os, sys, torch
from jobs.trainer import learning, run
real, rank = learning.sums_of, os.environ.get("RANK")
def sums_of(model, batch):
    if len(batch.inputs) > 1 and rank == "1" and torch.is_grad_enabled():
        raise torch.OutOfMemoryError("out of memory")
    return real(model, batch)
learning.sums_of = sums_of
os._exit(run.run(run.Path(sys.argv[1])))
"""


def figures(events):
    """Returns what all numbers of processes must agree on."""
    names = ("loss", "learned_loss", "grad_norm")
    steps = of_type(events, "step") + of_type(events, "validation")
    return [event[name] for event in steps for name in names if name in event]


def start(run):
    return start_trainer(run, module="tests.support.exact_trainer")


def finish(run):
    """Trains a job in processes of its own; returns its events."""
    trainer = start(run)
    assert trainer.wait(timeout=HANGS_AFTER_SECONDS) == 0, run.log.read_text()
    return read_events(run.events)[0]


def run_python(run, argv):
    code = WarmPython(argv, run.log).wait(timeout=HANGS_AFTER_SECONDS)
    assert code == 0, run.log.read_text()


def set_up_anew(run, **settings):
    replace(Spec.load(run.spec), **settings).save(run.spec)


def processes_of(trainer):
    """Returns the first process of a job and those that it has started."""
    first = psutil.Process(trainer.pid)
    return [first, *first.children()]


def wait_until_none_is_left(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


@contextmanager
def held_at(run, step):
    """Trains up to a step, and lets the job go on afterwards; yields its trainer."""
    hold = run.path / "hold"
    hold.write_text(str(step))
    trainer = start(run)
    try:
        wait_for_step(run, step)
        yield trainer
    finally:
        hold.unlink()


def leave(run, step, *, by_pause):
    """Trains up to a step, then pauses, or ends with SIGTERM, all processes."""
    with held_at(run, step) as trainer:
        processes = processes_of(trainer)
        if by_pause:
            run.write_control(Control(want="pause"))
        else:
            trainer.terminate()
    assert trainer.wait(timeout=20) == 0, run.log.read_text()
    wait_until_none_is_left(processes)
    run.write_control(Control(want="run"))


@pytest.fixture(scope="module", autouse=True)
def exact_trainer_here():
    """Loads exact models here too, as in the processes that `start` starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "load_model", exact_trainer.load_exact_model)
        yield


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """Each step of the model that ships would take half a second."""
    return make_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def make_job(small_model):
    def make(folder, **settings):
        return make_run(folder, EXAMPLES, model=small_model, **{**JOB, **settings})

    return make


@pytest.fixture(scope="module")
def alone(make_job, tmp_path_factory):
    """Trains the job with one process; returns its run folder and events."""
    run = make_job(tmp_path_factory.mktemp("alone") / "run")
    return run, train(run)


@pytest.fixture(scope="module")
def adapter_alone(make_job, tmp_path_factory):
    return train(make_job(tmp_path_factory.mktemp("adapter") / "run", method="lora"))


@pytest.fixture(scope="module")
def sharded(make_job, tmp_path_factory):
    run = make_job(tmp_path_factory.mktemp("sharded") / "run", **SHARDED)
    return run, finish(run)


def test_every_example_has_a_row_of_its_own(alone):
    plan = make_plan(Spec.load(alone[0].spec))
    assert plan["rows"] == len(EXAMPLES) == 19
    assert plan["unlearned_examples"] == 4


def test_under_torchrun_two_processes_learn_as_one(make_job, alone, tmp_path):
    run = make_job(tmp_path / "run", sharding="never")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    argv = [*torchrun, "-m", "tests.support.exact_trainer", run.path]
    run_python(run, argv)
    events = read_events(run.events)[0]
    assert figures(events) == pytest.approx(figures(alone[1]), rel=ROUNDING)
    assert run.read_numerics().processes == 2
    set_up_anew(run, processes=2)
    # At its end it is left alone.
    assert finish(run) == events


def test_sharded_processes_learn_as_one(alone, sharded):
    assert figures(sharded[1]) == pytest.approx(figures(alone[1]), rel=ROUNDING)
    assert sharded[0].read_numerics().sharded


def test_sharded_processes_answer_as_one(alone, sharded):
    texts = [
        [e["text"] for e in of_type(ev, "completion")] for _, ev in (alone, sharded)
    ]
    assert texts[0] == texts[1]


def test_the_snapshot_of_a_sharded_job_is_an_ordinary_one(alone, sharded):
    files = [
        {path.name: path.stat().st_size for path in (run.snapshots / "10").iterdir()}
        for run, _ in (alone, sharded)
    ]
    for sizes in files:
        # Numbers that differ in their last digits may differ in length too.
        del sizes["facts.json"]
    assert files[0] == files[1]


@pytest.mark.parametrize("how", [TWO, SHARDED], ids=["whole", "sharded"])
def test_two_processes_train_an_adapter_as_one(make_job, adapter_alone, tmp_path, how):
    run = make_job(tmp_path / "run", **how, method="lora")
    assert figures(finish(run)) == pytest.approx(figures(adapter_alone), rel=ROUNDING)


def test_a_checkpoint_goes_on_in_any_number_of_processes(make_job, alone, tmp_path):
    """The job goes on with 1 process, 2, 2 that share the weights, and 1 again."""
    run = make_job(tmp_path / "run", processes=1)
    leave(run, 3, by_pause=False)
    set_up_anew(run, **TWO)
    leave(run, 7, by_pause=True)
    set_up_anew(run, **SHARDED)
    leave(run, 12, by_pause=False)
    set_up_anew(run, processes=1)
    events = train(run)
    assert figures(events) == pytest.approx(figures(alone[1]), rel=ROUNDING)
    changes = [event["processes"] for event in of_type(events, "autopilot")]
    assert changes == [2, 1]


@pytest.mark.parametrize(("rank", "how"), [(1, TWO), (0, SHARDED)])
def test_with_one_process_all_end_and_the_job_goes_on(
    make_job, alone, tmp_path, rank, how
):
    run = make_job(tmp_path / "run", **how, checkpoint_seconds=0.5)
    with held_at(run, 8) as trainer:
        processes = processes_of(trainer)
        assert len(processes) == 2
        os.kill(processes[rank].pid, signal.SIGKILL)
        assert trainer.wait(timeout=10) != 0
        wait_until_none_is_left(processes)
    set_up_anew(run, processes=1)
    events = train(run)
    assert figures(events) == pytest.approx(figures(alone[1]), rel=ROUNDING)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_too_little_memory_in_one_process_halves_the_rows_of_all(make_job, tmp_path):
    run = make_job(tmp_path / "run", batch_size=4, **SHARDED)
    # This one is started as the site does it, and so are the others of its job, which
    # all start over once.
    argv = [sys.executable, "-c", SMALL_MEMORY, run.path]
    with run.log.open("ab") as log:
        subprocess.run(
            argv, cwd=ROOT, stderr=log, check=True, timeout=HANGS_AFTER_SECONDS
        )
    events = read_events(run.events)[0]
    assert [event["micro_batch"] for event in of_type(events, "autopilot")] == [1]
    assert of_type(events, "status")[-1]["status"] == "succeeded"


@pytest.mark.parametrize("processes", [1, 2])
def test_gradients_equal_those_of_a_float64_reference(small_model, tmp_path, processes):
    """The cases are full and LoRA, each packed, sharded and accumulated, or not."""
    examples = [[("Why?", 0.1), (" Because of the rain.", 0.9)], *EXAMPLES[:5]]
    run = make_run(
        tmp_path / "run",
        examples,
        model=small_model,
        max_tokens=24,
        batch_size=64,
        processes=processes,
        threads=1,
    )
    run_python(run, ["-m", "tests.support.two_processes", run.path])
    errors = json.loads((run.path / "errors.json").read_text())
    assert len(errors) == 8 * processes
    assert {name: error for name, error in errors.items() if error > 1e-5} == {}
