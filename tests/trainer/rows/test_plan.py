"""The plan of a job tells what the trainer then does."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.trainer.contract.spec import Spec, SpecError
from jobs.trainer.rows.plan import is_due, make_plan, num_times
from jobs.trainer.text.examples import dump_line
from tests.support.training import make_run

RUN_MODULE = "\nimport runpy; runpy.run_module('jobs.trainer', run_name='__main__')"


@pytest.fixture
def spec(tmp_path):
    examples = [[("Once upon a time", 0.0), (" there was", 1.0)]] * 9
    settings = {"epochs": 3, "batch_size": 2, "max_tokens": 16, "snapshots_every": 4}
    return Spec.load(make_run(tmp_path / "run", examples, **settings).spec)


def test_steps_follow_from_rows(spec):
    plan = make_plan(spec)
    assert plan["steps_per_epoch"] == -(-plan["rows"] // 2)
    assert plan["total_steps"] == 3 * plan["steps_per_epoch"]


def test_a_dataset_that_was_changed_since_is_refused(spec):
    with Path(spec.train.examples).open("ab") as file:
        file.write(dump_line([("One more", 1.0)]))
    with pytest.raises(SpecError, match="changed after the job was made"):
        make_plan(spec)


def test_only_tokens_with_a_weight_are_learned(spec):
    plan = make_plan(spec)
    assert 0 < plan["learned_tokens"] < plan["tokens"]


def test_seconds_come_from_a_measured_speed(spec):
    plan = make_plan(replace(spec, tokens_per_second=10.0))
    assert plan["seconds"] == pytest.approx(plan["tokens"] * 3 / 10)
    assert make_plan(spec)["seconds"] is None


def test_an_adapter_takes_less_memory_and_disk(spec):
    whole, adapter = make_plan(spec), make_plan(replace(spec, method="lora"))
    assert adapter["memory_bytes"] < whole["memory_bytes"]
    assert adapter["disk_bytes"] < whole["disk_bytes"] / 10


def test_more_tokens_at_once_take_more_memory(spec):
    parts = make_plan(replace(spec, max_tokens=2048))["memory_parts"]
    assert parts["activations"] > make_plan(spec)["memory_parts"]["activations"]


def test_the_command_prints_the_plan_without_torch(spec, tmp_path):
    """The plan is made in a process that cannot import torch."""
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['', 'plan', %r]"
    path = tmp_path / "run" / "spec.json"
    done = subprocess.run(
        [sys.executable, "-c", code % str(path) + RUN_MODULE],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == make_plan(spec)


@pytest.mark.parametrize(("total", "every"), [(20, 5), (21, 5), (4, 5), (7, 0)])
def test_the_plan_counts_what_the_trainer_does(total, every):
    happens = sum(is_due(step, total, every) for step in range(1, total + 1))
    assert num_times(total, every) == happens
