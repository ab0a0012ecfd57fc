"""Folders of base models that people copied into the data folder are checked."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from jobs.base_models.catalogue import CATALOGUE, default_rates
from jobs.base_models.model_folder import fault_of
from jobs.base_models.registry import base_model, base_models, broken_folders
from jobs.trainer.compute.model import ModelError, load_model
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.contract.weights_file import num_parameters, weight_shapes
from tests.support import factories

WEIGHTS = "model.safetensors"


@pytest.fixture
def models_dir(data_dir: Path) -> Path:
    (data_dir / "models").mkdir()
    return data_dir / "models"


@pytest.fixture
def copied(models_dir) -> Path:
    return shutil.copytree(SHIPPED / "tiny", models_dir / "our-model")


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def test_copied_folder_is_a_base_model(models_dir, copied):
    (copied / "README.md").write_text("---\nlicense:\n- mit\n---\n")
    change_config(copied, max_position_embeddings=128)
    model = base_model("our-model", models_dir)
    assert (model.context, model.default_max_tokens, model.licence) == (128, 128, "mit")
    weights = load_file(copied / WEIGHTS)
    assert model.parameters == sum(map(torch.numel, weights.values()))
    assert model in base_models(models_dir)


def test_an_adapter_beside_the_model_is_refused(copied):
    (copied / "adapter_config.json").write_text("{}")
    assert "Remove the adapter's files" in fault_of(copied)
    with pytest.raises(ModelError, match="an adapter too"):
        load_model(ModelSource(base_model="our-model", path=str(copied)))


def test_an_adapter_alone_is_called_one(models_dir):
    folder = models_dir / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert "an adapter alone" in fault_of(folder)


def test_only_the_weights_that_are_loaded_count(models_dir, copied):
    expected = base_model("our-model", models_dir).parameters
    shutil.copy(copied / WEIGHTS, copied / "copy-of-model.safetensors")
    assert not fault_of(copied)
    assert base_model("our-model", models_dir).parameters == expected


def test_masks_in_old_files_are_no_weights(tmp_path):
    config = GPTNeoConfig(
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        attention_types=[[["global"], 1]],
        vocab_size=64,
        max_position_embeddings=32,
    )
    GPTNeoForCausalLM(config).save_pretrained(tmp_path)
    expected, path = num_parameters(tmp_path), tmp_path / WEIGHTS
    masks = {
        "bias": torch.ones(1, 1, 32, 32, dtype=torch.bool),
        "masked_bias": torch.tensor(-1e9),
    }
    named = {f"transformer.h.0.attn.attention.{n}": mask for n, mask in masks.items()}
    save_file(load_file(path) | named, path, metadata={"format": "pt"})
    assert num_parameters(tmp_path) == expected
    assert load_model(ModelSource(base_model="neo", path=str(tmp_path)))


def test_an_index_names_the_files_of_this_folder_only(copied):
    (copied / WEIGHTS).rename(copied / "part.safetensors")
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    assert not fault_of(copied)
    index.write_text(json.dumps({"weight_map": {"a": "../part.safetensors"}}))
    assert "is no file of this folder" in fault_of(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_position_embeddings": -1}, "-1, which is no number of tokens"),
        ({"max_position_embeddings": "many"}, "'many', which is no number of tokens"),
        ({"max_position_embeddings": True}, "True, which is no number of tokens"),
        ({"max_position_embeddings": 7}, "It reads 7 tokens at a time"),
        ({"num_hidden_layers": 10**9}, "tells of 1,000,000,000 layers"),
        ({"hidden_size": 0}, "does not say hidden_size"),
    ],
)
def test_sizes_that_cannot_be(copied, change, words):
    change_config(copied, **change)
    assert words in fault_of(copied)


@pytest.mark.parametrize("name", ["README.md", "config.json", "x.lock"])
def test_a_pipe_is_refused_and_never_read(copied, name):
    (copied / name).unlink(missing_ok=True)
    os.mkfifo(copied / name)
    assert f"It holds {name}, which is a pipe" in fault_of(copied)


def test_a_link_to_nowhere_hides_no_change(copied):
    (copied / "x.lock").symlink_to(copied / "nowhere")
    assert not fault_of(copied)
    (copied / WEIGHTS).write_bytes(b"junk")
    assert "no safetensors file" in fault_of(copied)


def test_a_tokenizer_at_which_the_library_gives_up_is_refused(copied):
    path = copied / "tokenizer.json"
    value = json.loads(path.read_bytes())
    value["model"]["continuing_subword_prefix"] = "text"
    path.write_text(json.dumps(value))
    with pytest.raises(BaseException) as caught:
        Tokenizer.from_file(str(path))
    assert not isinstance(caught.value, Exception)
    assert "tokenizer.json cannot be read (range end index" in fault_of(copied)


@pytest.mark.parametrize("form", ["NFKC", "Lowercase", "Strip"])
def test_a_tokenizer_that_changes_letters_is_refused(copied, form):
    path = copied / "tokenizer.json"
    value = json.loads(path.read_bytes())
    more = {"strip_left": True, "strip_right": True} if form == "Strip" else {}
    value["normalizer"] = {"type": form, **more}
    path.write_text(json.dumps(value))
    assert "does not give back what it is given" in fault_of(copied)


def test_copied_folder_without_a_card_states_no_licence(models_dir, copied):
    assert base_model("our-model", models_dir).licence == "not stated"


def test_copied_folder_of_a_catalogued_name_makes_it_ready(models_dir, copied):
    assert not CATALOGUE["ada"].is_ready(models_dir)
    factories.mark_tried(copied.rename(models_dir / "ada"))
    assert CATALOGUE["ada"].is_ready(models_dir)
    assert len(base_models(models_dir)) == len(CATALOGUE)


def test_folder_becomes_usable_once_it_is_whole(models_dir, copied):
    weights = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(weights[:-1])
    [broken] = broken_folders(models_dir)
    assert broken.name == "our-model"
    assert "If it is still being copied, wait" in broken.fault
    assert base_model("our-model", models_dir) is None
    (copied / WEIGHTS).write_bytes(weights)
    assert broken_folders(models_dir) == []
    assert base_model("our-model", models_dir)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        (WEIGHTS, "no safetensors weights"),
    ],
)
def test_folder_that_lacks_a_file(copied, missing, words):
    (copied / missing).unlink()
    assert words in fault_of(copied)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b"{", "is no JSON"),
        ("config.json", b"[]", "no JSON object"),
        ("tokenizer.json", b"{}", "tokenizer.json cannot be read"),
        (WEIGHTS, b"\x02\0\0\0\0\0\0\0{}", "weights files are empty"),
        (WEIGHTS, b"<html>", "no safetensors file"),
        ("pytorch_model.bin", b"", "holds pytorch_model.bin"),
    ],
)
def test_folder_with_a_bad_file(copied, name, content, words):
    (copied / name).write_bytes(content)
    assert words in fault_of(copied)


def test_folder_that_lacks_a_shard(copied):
    (copied / WEIGHTS).rename(copied / "model-00001-of-00002.safetensors")
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {f"weight{at}": name for at, name in enumerate(shards)}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"{shards[1]} is missing" in fault_of(copied)


def test_folder_whose_second_shard_was_cut_off(copied):
    whole = (copied / WEIGHTS).rename(copied / "model-00001-of-00002.safetensors")
    cut = copied / "model-00002-of-00002.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1])
    index = {"weight_map": {"a": whole.name, "b": cut.name}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"{cut.name} is no safetensors file, or was cut off" in fault_of(copied)


def test_model_that_was_cut_off_is_not_loaded(copied):
    weights = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(weights[:-1])
    with pytest.raises(ModelError, match="The model in our-model cannot be read"):
        load_model(ModelSource(base_model="our-model", path=str(copied)))


def test_header_longer_than_the_format_allows_is_not_read(tmp_path):
    with (tmp_path / WEIGHTS).open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(100_000_100)
    with pytest.raises(ValueError, match="is no safetensors file"):
        weight_shapes(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b'{"eos_token_id": -1}',
        b'{"eos_token_id": Infinity}',
        b'{"eos_token_id": [[]]}',
        b"[" * 100_000,
        b"[]",
        b"\xff",
    ],
)
def test_folder_with_an_odd_generation_config(copied, content):
    (copied / "generation_config.json").write_bytes(content)
    assert fault_of(copied)


def test_folder_whose_list_of_end_tokens_is_empty(copied):
    (copied / "generation_config.json").write_text('{"eos_token_id": []}')
    change_config(copied, eos_token_id=[])
    assert "does not say which token ends a text" in fault_of(copied)


def test_card_that_never_ends_is_read_quickly(models_dir, copied):
    (copied / "README.md").write_text("---" + "\n" * 100_000)
    before = time.process_time()
    assert base_model("our-model", models_dir).licence == "not stated"
    assert time.process_time() - before < 2


def test_file_whose_name_is_no_utf8_can_be_shown(copied):
    (copied / os.fsdecode(b"\xff.bin")).write_bytes(b"")
    assert "It holds ?.bin" in fault_of(copied)


def test_folder_that_names_no_end_token(copied):
    (copied / "generation_config.json").unlink()
    change_config(copied, eos_token_id=None)
    assert "eos_token_id" in fault_of(copied)


@pytest.mark.parametrize("name", ["my model", "snapshot", "a:b"])
def test_folder_whose_name_cannot_be_used(models_dir, copied, name):
    copied.rename(models_dir / name)
    [broken] = broken_folders(models_dir)
    assert "Rename the folder" in broken.fault
    assert base_model(name, models_dir) is None


@pytest.mark.parametrize("name", ["..", "../tiny", "", "no-such", ".downloads"])
def test_name_leads_nowhere_else(models_dir, name):
    assert base_model(name, models_dir) is None


@pytest.mark.parametrize("model", CATALOGUE.values(), ids=list(CATALOGUE))
def test_default_rates_go_through_those_of_the_catalogue(model):
    rates = (model.full_learning_rate, model.lora_learning_rate)
    assert default_rates(model.parameters) == pytest.approx(rates)


def test_default_rates_fall_with_size():
    rates = [default_rates(size)[0] for size in (1, 10**7, 10**8, 10**9, 10**11)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == CATALOGUE["tiny"].full_learning_rate
