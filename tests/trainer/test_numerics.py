"""How a job is computed is decided once, and changes rounding only."""

import shutil
from statistics import mean

import pytest
import torch

from jobs.trainer import numerics
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.contract.spec import Spec
from jobs.trainer.numerics import choose_numerics, pays_to_compile
from tests.support.training import make_run, of_type, train

MANY_TARGETS = 10**10


def a_spec(tmp_path, **settings):
    return Spec.load(make_run(tmp_path / "run", **settings).spec)


def losses(events):
    return [event["loss"] for event in of_type(events, "step")]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_spec_may_say_the_precision(tmp_path, precision):
    run = make_run(tmp_path / "run", precision=precision)
    assert choose_numerics(run, Spec.load(run.spec), 100).dtype == precision


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [({"amx_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")],
)
def test_else_the_machine_says_it(tmp_path, monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = make_run(tmp_path / "run", precision="auto")
    assert choose_numerics(run, Spec.load(run.spec), 100).dtype == dtype


def test_a_resume_keeps_what_was_chosen(tmp_path):
    run = make_run(tmp_path / "run", precision="bfloat16")
    first = choose_numerics(run, Spec.load(run.spec), 100)
    assert choose_numerics(run, a_spec(tmp_path / "other"), MANY_TARGETS) == first


def test_only_a_long_job_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(numerics, "has_compiler", lambda: True)
    spec = a_spec(tmp_path)
    assert not pays_to_compile(spec, 1_000_000)
    assert pays_to_compile(spec, MANY_TARGETS)


def test_nothing_is_compiled_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not pays_to_compile(a_spec(tmp_path), MANY_TARGETS)


def test_a_bfloat16_job_learns_what_a_float32_one_does(tmp_path):
    exact = losses(train(make_run(tmp_path / "a", epochs=2)))
    rounded = losses(train(make_run(tmp_path / "b", epochs=2, precision="bfloat16")))
    # Single steps drift apart, by more on some processors; on the whole they may not.
    assert rounded[:3] == pytest.approx(exact[:3], rel=0.01)
    assert mean(rounded) == pytest.approx(mean(exact), rel=0.02)
    assert rounded != exact


@pytest.mark.skipif(
    not shutil.which("g++") and not shutil.which("clang++"),
    reason="this machine has no C++ compiler, so jobs are not compiled on it",
)
def test_a_compiled_job_has_the_losses_of_any_other(tmp_path, monkeypatch):
    """The job has validation, completions, and a last micro-batch that is not full."""
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    settings = {"batch_size": 3, "epochs": 2}
    plain = train(make_run(tmp_path / "plain", **settings))
    run = make_run(tmp_path / "run", **settings)
    run.write_numerics(
        Numerics(threads=1, dtype="float32", compile=True, micro_batch=2)
    )
    counters.clear()
    compiled = train(run)
    assert counters["stats"]["unique_graphs"] > 0
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert of_type(compiled, "status")[-1]["status"] == "succeeded"
