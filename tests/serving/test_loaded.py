"""Which models stay in memory, and what adapters share with their base."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.base_models.catalogue import CATALOGUE
from jobs.serving.loaded import LoadedModels, key_of
from jobs.trainer.compute.model import ModelError, add_lora, load_model
from jobs.trainer.contract.spec import Lora, ModelSource
from jobs.trainer.contract.weights_file import weights_sha256
from tests.support.paths import TINY
from tests.support.training import make_small_model, shake

BASE = ModelSource(base_model="tiny", path=str(TINY))
# In float32.
TINY_BYTES = 4 * CATALOGUE["tiny"].parameters


def copy_of_tiny(folder: Path) -> ModelSource:
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).symlink_to(path)
    return ModelSource(base_model="tiny", path=str(folder))


@pytest.fixture
def adapter(tmp_path):
    """Writes a LoRA folder whose addition is not zero."""
    model = add_lora(load_model(BASE), Lora(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    model.save_pretrained(tmp_path / "adapter")
    return ModelSource(
        base_model="tiny", path=str(TINY), adapter_path=str(tmp_path / "adapter")
    )


def test_least_recently_used_leaves_first(tmp_path):
    models = LoadedModels(max_bytes=TINY_BYTES * 2 + 1_000_000)
    first, second, third = (copy_of_tiny(tmp_path / name) for name in "abc")
    for source in (first, second, first, third):
        models.get(source)
    kept = [key_of(source) in models.loaded for source in (first, second, third)]
    assert kept == [True, False, True]


def test_model_in_use_stays(tmp_path):
    models = LoadedModels(max_bytes=1)
    source = copy_of_tiny(tmp_path / "a")
    models.get(source)
    models.get(BASE, in_use=[key_of(source)])
    assert key_of(source) in models.loaded


def test_same_model_is_loaded_once():
    models = LoadedModels()
    assert models.get(BASE) is models.get(BASE)


def test_adapter_shares_the_weights_and_leaves_the_base_alone(adapter):
    models = LoadedModels()
    base, adapted = models.get(BASE), models.get(adapter)
    ids = torch.tensor([[1, 2, 3]])
    shared = {tensor.data_ptr() for tensor in base.model.parameters()}
    assert shared <= {tensor.data_ptr() for tensor in adapted.model.parameters()}
    assert adapted.num_bytes < base.num_bytes / 10
    plain = load_model(BASE)(ids).logits
    assert torch.equal(base.model(ids).logits, plain)
    assert not torch.allclose(adapted.model(ids).logits, plain)


def test_folder_that_is_gone_is_said_in_words(tmp_path):
    with pytest.raises(ModelError, match="gone"):
        LoadedModels().get(ModelSource(base_model="x", path=str(tmp_path / "none")))


def first_logits(models: LoadedModels, source: ModelSource) -> torch.Tensor:
    return models.get(source).model(torch.tensor([[1, 2, 3]])).logits


def test_files_that_replace_others_are_served_at_once(tmp_path):
    models = LoadedModels()
    source = make_small_model(tmp_path / "house")
    before = first_logits(models, source)
    shake(tmp_path / "house")
    after = first_logits(models, source)
    assert not torch.equal(after, before)
    assert torch.equal(after, load_model(source)(torch.tensor([[1, 2, 3]])).logits)
    # What nobody can ask for any more takes no memory.
    assert len(models.loaded) == 1


def test_replaced_files_stay_while_an_answer_is_under_way(tmp_path):
    models = LoadedModels()
    source = make_small_model(tmp_path / "house")
    models.get(source)
    under_way = key_of(source)
    shake(tmp_path / "house")
    models.get(source, in_use=[under_way])
    assert set(models.loaded) == {under_way, key_of(source)}


def test_adapter_is_refused_on_other_weights_than_its_own(tmp_path):
    source = make_small_model(tmp_path / "house")
    trained_on = weights_sha256(tmp_path / "house")
    add_lora(load_model(source), Lora(rank=2)).save_pretrained(tmp_path / "adapter")
    adapted = replace(
        source, adapter_path=str(tmp_path / "adapter"), base_sha256=trained_on
    )
    models = LoadedModels()
    models.get(adapted)
    shake(tmp_path / "house")
    # The same in a server that runs on, in one started anew, and in a trainer.
    for look in (models.get, LoadedModels().get, load_model):
        with pytest.raises(ModelError, match="files of small were replaced"):
            look(adapted)
    assert models.get(source)
    # Nothing is known of what older adapters were trained on.
    assert models.get(replace(adapted, base_sha256=""))
