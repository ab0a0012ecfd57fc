"""Run folders for tests of the trainer: real ones, of the model that ships."""

import hashlib
import json
import shutil
import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.trainer import run as trainer
from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import DataSource, ModelSource, Spec
from jobs.trainer.text.examples import dump_line
from tests.support.warm_starts import WarmPython

TINY = ModelSource(base_model="tiny", path=str(SHIPPED / "tiny"))

RIDDLES = [
    [("Who?", 0.0), (f" The {who} of the {place}.", 1.0)]
    for who in ("baker", "sailor", "owl", "cook", "painter", "mouse")
    for place in ("harbour", "old mill", "library", "moon")
]
# What differs in a model that is small.
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_hidden_layers": 2,
}
# A memory that is too small for some of what goes through the model.
SUMS_OF = """
import os, sys, torch
from jobs.trainer import learning, run
real = learning.sums_of
def sums_of(model, batch):
%s
    return real(model, batch)
learning.sums_of = sums_of
os._exit(run.run(run.Path(sys.argv[1])))
"""
# A trainer that takes longer hangs. On a machine that is busy with other things one can
# take twenty times as long as on an idle one, being the first to give way.
HANGS_AFTER_SECONDS = 400
# What differs between two runs of the same job.
CLOCKS = ("time", "seq", "tokens_per_second", "memory_bytes")


def make_run(
    folder: Path,
    examples: list[list[tuple[str, float]]] | None = None,
    validation: list[list[tuple[str, float]]] | None = None,
    **settings: Any,
) -> RunFolder:
    """Makes a run folder with its spec, as the launcher leaves it."""
    folder.mkdir(parents=True)
    spec = Spec(
        **{
            "job": "ftjob-test",
            "model": TINY,
            "train": _source(folder / "train", examples or RIDDLES),
            "validation": validation and _source(folder / "validation", validation),
            "max_tokens": 32,
            "epochs": 1,
            "prompts": ("Who?",),
            "completion_tokens": 8,
            "completions_every": 4,
            "snapshots_every": 0,
            # The same on every machine; what rounds more is tested on purpose.
            "precision": "float32",
            "threads": 1,
            **settings,
        }
    )
    run = RunFolder(folder)
    spec.save(run.spec)
    return run


def make_small_model(folder: Path) -> ModelSource:
    """A model of few weights, which are drawn by chance, with the tokens of tiny."""
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(TINY.path, **SMALL)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    shutil.copy(Path(TINY.path) / "tokenizer.json", folder)
    return ModelSource(base_model="small", path=str(folder))


def shake(folder: Path) -> None:
    """Puts other weights in the place of a model's: as many, in a file as long."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    for value in weights.values():
        value.add_(0.01)
    save_file(weights, folder / "draft", metadata={"format": "pt"})
    (folder / "draft").replace(path)


def _source(folder: Path, examples: list[list[tuple[str, float]]]) -> DataSource:
    folder.mkdir()
    path = folder / "examples.jsonl"
    path.write_bytes(b"".join(map(dump_line, examples)))
    return DataSource(
        version=folder.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        examples=str(path),
        tokens=str(folder / "tokens" / "x"),
    )


def start_trainer(run: RunFolder, module: str = "jobs.trainer") -> WarmPython:
    return WarmPython(["-m", module, run.path], run.log)


def wait_for_step(run: RunFolder, step: int) -> None:
    """Waits until the trainer has written that step."""
    deadline = time.monotonic() + HANGS_AFTER_SECONDS
    while time.monotonic() < deadline:
        steps = of_type(read_events(run.events)[0], "step")
        if steps and steps[-1]["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step}: {run.log.read_text()}")


def train(run: RunFolder) -> list[dict[str, Any]]:
    """Runs the trainer to its end, within the test's process. Returns its events."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        trainer.run(run.path)
    finally:
        # The trainer's own would keep the tests from ending when they are told to.
        signal.signal(signal.SIGTERM, on_sigterm)
    return read_events(run.events)[0]


def train_with(run: RunFolder, sums_of: str) -> list[dict[str, Any]]:
    """Trains in a process of its own whose function `sums_of` has this body. `real` is
    the one that it stands in for.
    """
    return run_code(SUMS_OF % textwrap.indent(textwrap.dedent(sums_of), "    "), run)


def run_code(code: str, run: RunFolder) -> list[dict[str, Any]]:
    """Runs this code in a process of its own, with the run folder as its argument."""
    WarmPython(["-c", code, run.path], run.log).wait(HANGS_AFTER_SECONDS)
    return read_events(run.events)[0]


def of_type(events: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == type_]


def without_clocks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what two runs of the same job must have in common."""
    return [
        {key: value for key, value in event.items() if key not in CLOCKS}
        for event in events
        if event["type"] in {"step", "validation", "completion", "snapshot"}
    ]


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())
