"""[contract] What a model folder's safetensors files hold, read without torch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

# Weights in formats that are never loaded: most of them are pickles, which run code.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pickle", ".pkl", ".h5", ".msgpack")
# The format's own limit: a longer header is none.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class WeightShape:
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def weight_shapes(folder: Path) -> dict[str, WeightShape]:
    """Every weight in the folder by name: the headers alone are read."""
    shapes: dict[str, WeightShape] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(path).items():
            if name != "__metadata__":
                shapes[name] = WeightShape(entry["dtype"], tuple(entry["shape"]))
    return shapes


def num_parameters(folder: Path) -> int:
    return sum(weight.size for weight in weight_shapes(folder).values())


def _header(path: Path) -> dict[str, dict]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, MAX_HEADER_BYTES):
            raise ValueError(f"{path.name} is no safetensors file, or was cut off")
        return json.loads(file.read(length))
