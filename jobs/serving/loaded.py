"""[torch] The models in memory, of which the least recently used leave first."""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer

from jobs.trainer.compute.model import ModelError, load_model, with_adapter
from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.contract.weights_file import weights_files
from jobs.trainer.text.encoding import TextEncoder, TokenizerError, load_encoder

# Models whose files are smaller are served in full precision, which is faster on CPU.
SMALL_MODEL_BYTES = 800_000_000
MIN_MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Key:
    """Tells models apart by their folders and by the files that lay there."""

    path: str
    stamp: Stamp
    adapter: tuple[str, Stamp] | None = None

    @property
    def base(self) -> "Key":
        """The key of the model without the adapter."""
        return Key(self.path, self.stamp)


@dataclass(frozen=True)
class Loaded:
    """A model in memory. `num_bytes` are those that it alone takes."""

    model: Any
    encoder: TextEncoder
    num_bytes: int

    @property
    def tokenizer(self) -> Tokenizer:
        return self.encoder.tokenizer

    @property
    def end_id(self) -> int:
        return self.encoder.end_id


def key_of(source: ModelSource) -> Key:
    """Returns what tells a model from others."""
    base = Key(source.path, folder_stamp(Path(source.path)))
    if source.adapter_path is None:
        return base
    adapter = source.adapter_path, folder_stamp(Path(source.adapter_path))
    return replace(base, adapter=adapter)


class LoadedModels:
    """Loads models on demand, and keeps them within a number of bytes."""

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes or default_max_bytes()
        # In the order of their last use. A base model counts as used after its
        # adapters, so that it never leaves before them: they share its weights.
        self.loaded: OrderedDict[Key, Loaded] = OrderedDict()

    def get(self, source: ModelSource, in_use: Collection[Key] = ()) -> Loaded:
        """Returns a model, after loading it if need be. Raises ModelError.

        Models that are in use stay in memory, whatever the limit.
        """
        key = key_of(source)
        if key not in self.loaded:
            self.loaded[key] = self._load(source)
        for used in (key, key.base):
            if used in self.loaded:
                self.loaded.move_to_end(used)
        self._leave({key, *in_use})
        return self.loaded[key]

    def _load(self, source: ModelSource) -> Loaded:
        if source.adapter_path is None:
            return load(source)
        base = self.get(ModelSource(base_model=source.base_model, path=source.path))
        return _adapted(base, source)

    def _leave(self, staying: set[Key]) -> None:
        staying |= {key.base for key in staying}
        stamps = {key.path: key.stamp for key in staying}
        for key in [key for key in self.loaded if key not in staying]:
            is_replaced = stamps.get(key.path, key.stamp) != key.stamp
            if is_replaced or self._num_bytes() > self.max_bytes:
                del self.loaded[key]

    def _num_bytes(self) -> int:
        return sum(one.num_bytes for one in self.loaded.values())


def default_max_bytes() -> int:
    """Returns a quarter of the memory, in bytes: of the GPU's where there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory) // 4
    return max(MIN_MEMORY_BYTES, psutil.virtual_memory().total // 4)


def load(source: ModelSource) -> Loaded:
    """Returns a model without an adapter, read from its folder. Raises ModelError."""
    folder = Path(source.path)
    if not folder.is_dir():
        raise ModelError("The files of this model are gone.")
    stored = sum(path.stat().st_size for path in weights_files(folder))
    dtype = torch.float32 if stored < SMALL_MODEL_BYTES else torch.bfloat16
    model = load_model(source, dtype=dtype).to(_device()).eval().requires_grad_(False)
    try:
        return Loaded(model, load_encoder(folder), _num_bytes(model))
    except TokenizerError as error:
        raise ModelError(str(error)) from None


def _adapted(base: Loaded, source: ModelSource) -> Loaded:
    """Returns the base model with an adapter: new modules over the same weights."""
    weights = itertools.chain(base.model.parameters(), base.model.buffers())
    shared = {id(tensor): tensor for tensor in weights}
    model = with_adapter(copy.deepcopy(base.model, shared), source, trainable=False)
    model = model.to(_device()).eval().requires_grad_(False)
    num_bytes = _num_bytes(model) - base.num_bytes
    return Loaded(model, base.encoder, num_bytes)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _num_bytes(model: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
