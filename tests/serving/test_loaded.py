"""Which models stay in memory, and what adapters share with their base."""

from pathlib import Path

import pytest
import torch

from jobs.base_models.catalogue import CATALOGUE
from jobs.serving.loaded import LoadedModels, key_of
from jobs.trainer.compute.model import ModelError, add_lora, load_model
from jobs.trainer.contract.spec import Lora, ModelSource
from tests.support.paths import TINY

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
