"""A trainer refuses what it cannot use, and says what, where, and how to mend it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from jobs.trainer.compute.model import ModelError, add_lora, load_model
from jobs.trainer.contract.spec import Lora, ModelSource, Spec, SpecError
from jobs.trainer.rows.plan import make_plan
from jobs.trainer.text.examples import dump_line
from tests.support.paths import ROOT
from tests.support.training import TINY, make_run, of_type, train

GOOD = dump_line([("Who?", 0.0), (" The owl.", 1.0)])


def failure(run):
    events = train(run)
    assert [event["status"] for event in of_type(events, "status")] == ["failed"]
    return events[-1]["message"]


def run_on(folder, lines):
    """Returns a run folder whose dataset file has these bytes."""
    run = make_run(folder)
    (folder / "train" / "examples.jsonl").write_bytes(lines)
    spec = Spec.load(run.spec)
    replace(spec, train=replace(spec.train, sha256="")).save(run.spec)
    return run


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"", "is empty"),
        (GOOD + b"\n" + GOOD, "Line 2 of"),
        (GOOD + b'{"data": {"text_li', "Line 2 of"),
        (GOOD + b'{"data": {"text_list": [5], "loss_weights": [1]}}', "a number"),
        (
            GOOD + b'{"data": {"text_list": [["a"]], "loss_weights": [1]}}',
            "a text in it is none",
        ),
        (GOOD * 3 + dump_line([("a", 1.0), ("b", -1.0)]), "Line 4 of"),
        (dump_line([("", 1.0)]), "All examples of the dataset are empty"),
    ],
)
def test_a_dataset_file_that_is_wrong(lines, words, tmp_path):
    run = run_on(tmp_path / "run", lines)
    assert words in failure(run)


def test_the_shortest_form_of_a_line_is_read(tmp_path):
    plan = make_plan(Spec.load(run_on(tmp_path / "run", b'{"data": "hello"}\n').spec))
    assert plan["examples"] == 1


def test_the_plan_of_an_empty_file_is_words(tmp_path):
    run = run_on(tmp_path / "run", b"")
    argv = [sys.executable, "-m", "jobs.trainer", "plan", str(run.spec)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is empty" in done.stderr


def test_a_model_folder_that_is_not_there(tmp_path):
    gone = ModelSource(base_model="x", path=str(tmp_path / "nowhere"))
    message = failure(make_run(tmp_path / "run", model=gone))
    assert f"{gone.path}, where there is no config.json" in message


def save_small(folder, **shape):
    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": 4096,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "eos_token_id": 0,
            **shape,
        }
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    shutil.copyfile(Path(TINY.path) / "tokenizer.json", folder / "tokenizer.json")
    return ModelSource(base_model="small", path=str(folder))


def test_a_tokenizer_that_does_not_fit_the_weights(tmp_path):
    model = save_small(tmp_path / "small", vocab_size=300)
    message = failure(make_run(tmp_path / "run", model=model))
    assert "The tokenizer of small does not fit its weights" in message
    assert "300 tokens" in message


def test_a_watched_prompt_that_the_model_has_no_tokens_for(tmp_path):
    model = save_small(tmp_path / "small", vocab_size=300)
    run = make_run(tmp_path / "run", [[("a", 1.0)]], model=model, prompts=("The",))
    assert "occurs in a watched prompt" in failure(run)


def test_a_tokenizer_that_cannot_be_read(tmp_path):
    model = save_small(tmp_path / "small")
    (tmp_path / "small" / "tokenizer.json").write_text("{}")
    assert "tokenizer.json cannot be read" in failure(
        make_run(tmp_path / "run", model=model)
    )


def test_an_adapter_of_another_base_model(tmp_path):
    source = save_small(tmp_path / "small")
    add_lora(load_model(source), Lora(rank=4)).save_pretrained(tmp_path / "adapter")
    model = replace(TINY, adapter_path=str(tmp_path / "adapter"))
    message = failure(make_run(tmp_path / "run", model=model, method="lora"))
    assert "made for another base model" in message


def test_words_about_lora_end_once():
    with pytest.raises(ModelError) as refused:
        add_lora(load_model(TINY), Lora(target_modules=("elbow",)))
    assert ".." not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"epochs": "2"}, "epochs is '2'; it must be a whole number"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"epochs": True}, "epochs is True"),
        ({"lora": {"dropout": 1.5}}, "lora.dropout is 1.5"),
        ({"lora": {"rang": 8}}, "unknown settings in lora: rang"),
        ({"lora": 8}, "lora is 8"),
        ({"model": {"path": "x"}}, "missing in model: base_model"),
        ({"train": {"version": 5}}, "missing in train"),
        ({"prompts": "Who?"}, "prompts is 'Who?'"),
        ({"prompts": [5]}, "prompts is (5,)"),
        ({"format": 7}, "is not a spec of format 1"),
    ],
)
def test_a_spec_that_is_wrong(change, words, tmp_path):
    run = make_run(tmp_path / "run")
    run.spec.write_text(json.dumps(json.loads(run.spec.read_text()) | change))
    assert words in failure(run)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_spec_that_is_none(text, tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"spec\.json is not"):
        Spec.load(path)


def test_lora_settings_that_are_not_given_have_their_usual_values(tmp_path):
    run = make_run(tmp_path / "run")
    run.spec.write_text(
        json.dumps(json.loads(run.spec.read_text()) | {"lora": {"rank": 8}})
    )
    assert Spec.load(run.spec).lora == Lora(rank=8)
