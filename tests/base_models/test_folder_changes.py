"""A good model folder that something happened to: it works, or is refused in words.

Whatever would be "Ready" is trained from. `make test ARGS=--hypothesis-profile=long`
draws thousands of changes.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from finetune_site.common.errors import UserError
from jobs.base_models.model_folder import known_facts
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.model_trial import try_model
from tests.support.training import RIDDLES, make_run, make_small_model, of_type, train

Change = Callable[[Path, random.Random], str]

VALUES = [None, 0, -1, 1, 3, 7, 10**9, 0.5, "", "text", True, [], [1], {}, {"a": 1}]
NAMES = [
    ".x",
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "tokenizer_config.json",
    "vocab.json",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "small"
    make_small_model(folder)
    return folder


def any_file(folder: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(p for p in folder.iterdir() if p.is_file()))


def lose(folder: Path, chance: random.Random) -> str:
    path = any_file(folder, chance)
    path.unlink()
    return f"without {path.name}"


def cut(folder: Path, chance: random.Random) -> str:
    path = any_file(folder, chance)
    data = path.read_bytes()
    length = chance.randrange(len(data) + 1)
    path.write_bytes(data[:length])
    return f"{path.name} cut at {length}"


def rename(folder: Path, chance: random.Random) -> str:
    path = any_file(folder, chance)
    name = chance.choice([*NAMES, f"{path.name}.bak", path.name.upper()])
    path.rename(folder / name)
    return f"{path.name} is {name}"


def add(folder: Path, chance: random.Random) -> str:
    name = chance.choice(NAMES)
    content = chance.choice([b"", b"{}", b"[]", b"\x80\x04", b'{"a": 1}', b"text"])
    (folder / name).write_bytes(content)
    return f"{name} added: {content!r}"


def stray(folder: Path, chance: random.Random) -> str:
    """Lays the weights there a second time, or a folder, or a link to nowhere."""
    kind = chance.choice(["copy", "folder", "link"])
    name = chance.choice(NAMES)
    path = folder / name
    if path.exists():
        path.unlink()
    if kind == "copy":
        shutil.copy(folder / "model.safetensors", path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "nowhere")
    return f"{name} is a {kind}"


def change_json(name: str, below: tuple[str, ...] = ()) -> Change:
    """Returns a change of one key of a JSON file."""

    def change(folder: Path, chance: random.Random) -> str:
        path = folder / name
        value = json.loads(path.read_bytes())
        place = value
        for key in below:
            place = place[key]
        if not isinstance(place, dict) or not place:
            return "nothing"
        key = chance.choice(sorted(place))
        if chance.random() < 0.3:
            del place[key]
            done = "gone"
        else:
            place[key] = chance.choice(VALUES)
            done = repr(place[key])
        path.write_text(json.dumps(value))
        return f"{name}: {'.'.join((*below, key))} is {done}"

    return change


def change_weights(folder: Path, chance: random.Random) -> str:
    path = folder / "model.safetensors"
    weights: dict[str, Any] = load_file(path)
    name = chance.choice(sorted(weights))
    match chance.choice(["lose", "rename", "shape", "type", "add", "flat"]):
        case "lose":
            del weights[name]
        case "rename":
            weights[f"other.{name}"] = weights.pop(name)
        case "shape":
            weights[name] = weights[name][: len(weights[name]) // 2].clone()
        case "type":
            kind = chance.choice([torch.float16, torch.bfloat16, torch.int64])
            weights[name] = weights[name].to(kind)
        case "add":
            weights["one.more"] = torch.ones(3)
        case "flat":
            weights[name] = weights[name].flatten()
    save_file(weights, path, metadata={"format": "pt"})
    return f"weights: {name}"


CHANGES: list[Change] = [
    lose,
    cut,
    rename,
    add,
    stray,
    change_weights,
    *[change_json("config.json")] * 3,
    change_json("generation_config.json"),
    change_json("tokenizer.json"),
    change_json("tokenizer.json", ("model",)),
]


@given(seed=st.integers(0, 2**32))
@settings(
    # Each of them trains, which takes a second.
    max_examples=settings.default.max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_changed_folder_works_or_is_refused_in_words(good, seed):
    chance = random.Random(seed)  # noqa: S311 (nothing secret)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "small"
        shutil.copytree(good, folder)
        made = chance.choice(CHANGES)(folder, chance)
        facts = known_facts(folder)
        if isinstance(facts, UserError):
            assert facts.message.endswith(".")
            assert "Traceback" not in facts.message
            return
        if fault := try_model(folder):
            assert fault.endswith("."), (made, fault)
            return
        run = make_run(
            Path(place) / "run",
            RIDDLES[:4],
            model=ModelSource(base_model="small", path=str(folder)),
            max_tokens=min(16, facts.context),
            completion_tokens=2,
        )
        last = of_type(train(run), "status")[-1]
        assert last["status"] == "succeeded", (made, last, run.log.exists())
