"""[contract] Reads without torch what a model folder's safetensors files hold."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp

# Formats of weights that are never loaded. Most of them are pickles, which can run
# code.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pickle", ".pkl", ".h5", ".msgpack")
# One file holds all weights, or an index names the files that hold a part each.
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# The two files of an adapter.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Older files of GPT-2, GPT-J, GPT-Neo, GPT-NeoX and CodeGen also hold what the code
# makes by itself: the causal mask, the number in its place, and the positions.
MADE_BY_CODE = re.compile(
    r"(^|\.)(attn|attention)(\.attention)?\.((masked_)?bias|rotary_emb\.inv_freq)$"
)
MASK_RANKS = (0, 4)
# The limit that the format itself sets for a header.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class WeightShape:
    """The type and shape of one weight. `dtype` is as safetensors names it: `F32`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of numbers in the weight."""
        return math.prod(self.shape)


def weights_files(folder: Path) -> list[Path]:
    """Returns the files from which a model's weights are loaded.

    Other files may lie beside them: copies, or weights in another layout. Raises
    ValueError for an index that is none. A file that it names may be missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        index = json.loads((folder / INDEX).read_bytes())
        names = sorted(set(index["weight_map"].values()))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{INDEX} is no index of weights") from None
    odd = next((n for n in names if not isinstance(n, str) or "/" in n), None)
    if odd is not None:
        raise ValueError(f"{INDEX} names {odd!r}, which is no file of this folder")
    return [folder / name for name in names]


def weights_sha256(folder: Path) -> str:
    """Returns one digest of the files that `weights_files` names, in their order.

    The files are read again only when the folder has changed.
    """
    return _sha256_at(folder, folder_stamp(folder))


@lru_cache(maxsize=64)
def _sha256_at(folder: Path, stamp: Stamp) -> str:
    return files_sha256(weights_files(folder))


def files_sha256(paths: list[Path]) -> str:
    """Returns one digest of all files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def weight_shapes(folder: Path) -> dict[str, WeightShape]:
    """Returns the shape of every weight of a model by name; only headers are read.

    Raises ValueError for a file that is not safetensors, and FileNotFoundError for one
    that is missing.
    """
    shapes: dict[str, WeightShape] = {}
    for path in weights_files(folder):
        for name, entry in _header(path).items():
            if name != "__metadata__":
                shapes[name] = WeightShape(entry["dtype"], tuple(entry["shape"]))
    return shapes


def num_parameters(folder: Path) -> int:
    """Returns the number of parameters in a model folder, without masks."""
    return sum(
        weight.size
        for name, weight in weight_shapes(folder).items()
        if not (MADE_BY_CODE.search(name) and len(weight.shape) in MASK_RANKS)
    )


def _header(path: Path) -> dict[str, dict]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, MAX_HEADER_BYTES):
            raise ValueError(f"{path.name} is no safetensors file, or was cut off")
        return json.loads(file.read(length))
