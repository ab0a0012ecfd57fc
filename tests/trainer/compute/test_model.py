"""Model folders that cannot be used are refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.trainer.compute.model import ModelError, load_model
from jobs.trainer.contract.spec import ModelSource
from tests.support.training import TINY


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY.path, tmp_path / "model")


def source(folder):
    return ModelSource(base_model="tiny", path=str(folder))


def test_a_pickle_is_refused(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="Only safetensors"):
        load_model(source(folder))


def test_remote_code_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="run code of its own"):
        load_model(source(folder))


def test_a_missing_weight_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing keys"):
        load_model(source(folder))


def test_a_foreign_weight_is_refused(folder):
    weights = load_file(folder / "model.safetensors") | {"odd": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="unexpected keys"):
        load_model(source(folder))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match="no model folder nowhere"):
        load_model(source(tmp_path / "nowhere"))


def test_an_adapter_without_its_weights_is_refused(tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match="holds no adapter_model.safetensors"):
        load_model(
            ModelSource(
                base_model="tiny",
                path=TINY.path,
                adapter_path=str(tmp_path / "adapter"),
            )
        )
