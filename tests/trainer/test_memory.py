"""When the memory is full, trainer or site let a job do the same step with less."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.engines.local import LocalEngine
from jobs.engines.processes import ENVIRONMENT
from jobs.models import Event, Job
from jobs.trainer.compute.batches import micro_batches
from jobs.trainer.compute.model import trained_parameters
from jobs.trainer.compute.objective import sums_of
from jobs.trainer.compute.shortcuts import takes_shortcuts
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import Numerics, RunFolder
from jobs.trainer.contract.spec import Spec
from jobs.trainer.numerics import checkpoint_layers
from jobs.trainer.prepare import model_to_train, open_data
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.rows.memory import (
    LOGITS_AT_ONCE,
    memory_parts,
    with_less_memory,
)
from jobs.trainer.rows.plan import make_plan
from tests.support import factories
from tests.support.paths import ROOT
from tests.support.training import (
    TINY,
    make_run,
    of_type,
    run_code,
    train,
    train_with,
)
from tests.support.watching import watch

ODD_CONFIGS = [
    {"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": 2},
    {"model_type": "gemma3n", "text_config": {"intermediate_size": [64, 32]}},
    {},
]
ONE_ROW = Numerics(threads=1, dtype="float32", compile=True, micro_batch=1)


def first_rows(spec):
    cache, packing = open_data(spec.train, spec, Ranks())
    return micro_batches(cache, packing, [0, 1, 2], 3)[0]


def forward(model, batch):
    """Returns the loss, and the bytes that are kept for the backward pass."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = sums_of(model, batch).weighted
    return loss, sum(kept.values())


@pytest.fixture(params=["full", "lora"])
def model_and_batch(request, tmp_path):
    torch.manual_seed(1)
    spec = Spec.load(make_run(tmp_path / "run", method=request.param).spec)
    model = model_to_train(spec).train()
    assert takes_shortcuts(model)
    for name, parameter in trained_parameters(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model, first_rows(spec)


def test_layers_that_compute_twice_give_the_same_gradients(model_and_batch):
    model, batch = model_and_batch
    results = []
    for _ in ("once", "twice"):
        model.zero_grad(set_to_none=True)
        loss, _ = forward(model, batch)
        loss.backward()
        grads = [p.grad for p in trained_parameters(model).values()]
        results.append((loss.item(), grads))
        checkpoint_layers(model)
    (loss, expected), (found_loss, found) = results
    assert found_loss == pytest.approx(loss, rel=1e-6)
    assert len(found) == len(expected) > 0
    for gradient, wanted in zip(found, expected, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_layers_that_compute_twice_keep_little(model_and_batch):
    model, batch = model_and_batch
    _, before = forward(model, batch)
    checkpoint_layers(model)
    _, after = forward(model, batch)
    assert after < before / 4


def test_first_half_the_rows_then_layers_that_compute_twice_then_nothing():
    assert with_less_memory(ONE_ROW, 5).micro_batch == 2
    less = with_less_memory(ONE_ROW, 1)
    assert (less.checkpointing, less.compile) == (True, False)
    assert with_less_memory(less, 1) is None


def test_a_row_that_hardly_fits_is_trained_by_layers_that_compute_twice(tmp_path):
    calm = train(make_run(tmp_path / "calm"))
    events = train_with(
        make_run(tmp_path / "run"),
        """
        if not model.is_activation_checkpointing:
            raise torch.OutOfMemoryError("out of memory")
        """,
    )
    (change,) = of_type(events, "autopilot")
    assert change["checkpointing"]
    assert "compute it a second time" in change["message"]
    losses, expected = (
        [event["loss"] for event in of_type(those, "step")] for those in (events, calm)
    )
    assert losses == pytest.approx(expected, rel=1e-6)


# This memory is too small for more than two answers at once.
TWO_ANSWERS = """
import os, sys, torch
from jobs.trainer import run, watched_prompts
real = watched_prompts.complete
def complete(model, tokenizer, prompts, *rest, **more):
    if len(prompts) > 2:
        raise torch.OutOfMemoryError("out of memory")
    return real(model, tokenizer, prompts, *rest, **more)
watched_prompts.complete = complete
os._exit(run.run(run.Path(sys.argv[1])))
"""


def test_too_little_memory_for_completions_makes_fewer_at_once(tmp_path):
    run = make_run(tmp_path / "run", batch_size=4, num_completions=4)
    numerics = replace(ONE_ROW, compile=False, micro_batch=4, answers_at_once=4)
    run.write_numerics(numerics)
    events = run_code(TWO_ANSWERS, run)
    (change,) = of_type(events, "autopilot")
    assert "The memory was full at step 0" in change["message"]
    assert run.read_numerics().answers_at_once == 2
    assert len(of_type(events, "completion")) == 8
    assert events[-1]["status"] == "succeeded"


# Allocations fail as soon as the model is loaded.
NO_ROOM = """
import os, resource, sys
import psutil
from jobs.trainer import run, trainer
real = trainer.learner_of
def learner_of(*args):
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = psutil.Process().memory_info().vms + 8_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    return real(*args)
trainer.learner_of = learner_of
os._exit(run.run(run.Path(sys.argv[1])))
"""


def test_a_model_that_the_memory_does_not_hold_fails_in_words(tmp_path):
    events = run_code(NO_ROOM, make_run(tmp_path / "run", threads=1))
    assert events[-1]["status"] == "failed"
    assert "memory does not hold the model" in events[-1]["message"]


def test_a_job_that_the_memory_no_longer_holds_is_paused(tmp_path):
    run = make_run(tmp_path / "run", threads=1)
    EventWriter(run.events).write("step", step=1, learned_loss=1.0)
    status = run_code(NO_ROOM, run)[-1]
    assert (status["status"], status["forced"]) == ("paused", True)
    assert "Nothing is lost" in status["message"]


def test_the_site_turns_to_layers_that_compute_twice(db):
    job = factories.make_job()
    folder = RunFolder(job.folder)
    folder.path.mkdir(parents=True)
    folder.write_numerics(ONE_ROW)
    assert "one row at a time" in LocalEngine().ease(job)
    assert folder.read_numerics().checkpointing
    assert LocalEngine().ease(job) == ""


# ----- the estimate

# It has 64 rows of 128 tokens, which are nearly full.
LONG_TEXTS = [[("Say:", 0.0), (" the cat sat on the mat" * 20, 1.0)]] * 64


# The peak of a new process begins with that of its parent, so a small parent starts it.
PEAK_OF = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
assert status == 0
print(usage.ru_maxrss)
"""


def peak_bytes(argv):
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF, *argv],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_job_takes_less_than_its_plan_says(tmp_path, method):
    run = make_run(
        tmp_path / "run",
        LONG_TEXTS[:32],
        method=method,
        max_tokens=128,
        batch_size=32,
        completions_every=0,
    )
    peak = peak_bytes([sys.executable, "-m", "jobs.trainer", str(run.path)])
    estimate = make_plan(Spec.load(run.spec))["memory_bytes"]
    assert estimate / 3 < peak < estimate


def test_logits_are_few_where_the_short_way_is_certain(tmp_path):
    config = json.loads((Path(TINY.path) / "config.json").read_text())
    config["vocab_size"] = 150_000
    parts = {}
    for kind in ("llama", "gpt_neox"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
        parts[kind] = memory_parts(
            tmp_path,
            method="full",
            tokens_at_once=8192,
            max_tokens=256,
            learned_share=1.0,
        )["logits"]
    assert parts["gpt_neox"] == 8192 * 150_000 * 4 * 4
    assert LOGITS_AT_ONCE * 4 * 4 < parts["llama"] < 1e9


# ----- real limits, with all of the site around the trainer. Jobs compute in float32 on
# every machine, so that a limit lies between what two ways take.

READY = """
import os, resource, signal, sys, threading, time
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import psutil, torch
from jobs.trainer.compute.model import load_model
from jobs.trainer.run import Path, run
from jobs.trainer.contract.spec import Spec
torch.cpu.get_capabilities = dict
folder = Path(sys.argv[1])
load_model(Spec.load(folder / "spec.json").model)
memory = psutil.Process().memory_info
"""
# Allocations fail once they exceed what the model takes.
LIMITED = """
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (memory().vms + 700_000_000, hard))
os._exit(run(folder))
"""
# The process is killed once it exceeds what the model takes, as the kernel does it. A
# peak that was over before the guard looked is seen all the same.
KILLED = """
def peak():
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return memory().rss
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
most = peak() + 320_000_000
def guard():
    while peak() < most:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=guard, daemon=True).start()
os._exit(run(folder))
"""


def finish(examples, epochs=1, **settings):
    """Lets a job of one step an epoch succeed; returns its first autopilot event."""
    job = factories.make_job(
        factories.make_dataset(examples=examples),
        epochs=epochs,
        prompts=[],
        completions_every=0,
        snapshots_every=0,
        **settings,
    )
    watch(job, lambda job: job.is_final)
    assert job.status == Job.Status.SUCCEEDED, job.status_message
    return job, Event.objects.filter(job=job, type="autopilot")[0].data


def test_a_job_whose_allocations_fail_ends_with_fewer_rows_at_a_time(db, stand_in):
    stand_in(READY + LIMITED)
    job, change = finish(LONG_TEXTS, max_tokens=128, batch_size=64)
    assert change["micro_batch"] == 32
    # The trainer started over by itself.
    assert json.loads((job.folder / "trainer.json").read_text())["attempt"] == 1


def test_a_job_that_is_killed_for_its_memory_ends_with_less(db, stand_in):
    stand_in(READY + KILLED)
    long_row = [[(" the cat sat on the mat" * 330, 1.0)]]
    _, change = finish(long_row, max_tokens=2048, batch_size=1)
    assert change["checkpointing"]
    assert "ended without saying why" in change["message"]


@pytest.mark.parametrize("config", ODD_CONFIGS)
def test_an_estimate_is_made_for_any_architecture(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    parts = memory_parts(
        tmp_path, method="full", tokens_at_once=64, max_tokens=32, learned_share=0.5
    )
    assert parts["activations"] > 0
