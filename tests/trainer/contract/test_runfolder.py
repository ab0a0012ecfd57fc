"""The small files of a run folder, and its lock."""

import dataclasses
import json
import os

import pytest

from jobs.trainer.contract.runfolder import Control, RunFolder
from jobs.trainer.contract.spec import (
    DataSource,
    Lora,
    ModelSource,
    Spec,
    SpecError,
)

SPEC = Spec(
    job="ftjob-x",
    model=ModelSource(base_model="tiny", path="/models/tiny"),
    train=DataSource(version="file-x", sha256="0", examples="e", tokens="t"),
    prompts=("a", "b"),
)


def test_the_lock_is_held_until_its_last_copy_is_closed(tmp_path):
    folder = RunFolder(tmp_path)
    descriptor = folder.take_lock()
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert folder.take_lock() is None
    os.close(copy)
    assert folder.lock_is_free()


def test_no_control_file_means_run(tmp_path):
    assert RunFolder(tmp_path).read_control() == Control(want="run")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"wish": "stop"}',
        '{"want": "banana"}',
        '{"want": ["stop"]}',
        '{"snapshot_request": "3"}',
        '{"snapshot_request": true}',
    ],
)
def test_a_control_file_that_cannot_be_read_means_run(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.control.write_text(text)
    assert folder.read_control() == Control(want="run")


def test_control_reads_back(tmp_path):
    control = Control(want="pause", snapshot_request=3)
    RunFolder(tmp_path).write_control(control)
    assert RunFolder(tmp_path).read_control() == control


def test_a_spec_reads_back_the_same(tmp_path):
    SPEC.save(tmp_path / "spec.json")
    assert Spec.load(tmp_path / "spec.json") == SPEC


def test_an_unknown_setting_is_named(tmp_path):
    SPEC.save(tmp_path / "spec.json")
    value = json.loads((tmp_path / "spec.json").read_text()) | {"colour": "red"}
    (tmp_path / "spec.json").write_text(json.dumps(value))
    with pytest.raises(SpecError, match="colour"):
        Spec.load(tmp_path / "spec.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("completions_every", -1),
        ("learning_rate_scale", 0),
        ("base_learning_rate", -1.0),
        ("clip", 0.0),
        ("warmup", 3.0),
        ("schedule", "cosin"),
        ("precision", "fp8"),
        ("early_stop", 2),
        ("seed", -1),
        ("weight_decay", -5.0),
        ("completion_temperature", -1.0),
        ("completion_tokens", 0),
        ("num_completions", 17),
        ("threads", -3),
        ("base_learning_rate", float("nan")),
        ("lora", Lora(dropout=1.5)),
        ("lora", Lora(rank=0)),
    ],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(SpecError, match=name):
        dataclasses.replace(SPEC, **{name: value})
