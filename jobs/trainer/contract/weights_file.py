"""[contract] Reads without torch what a model folder's safetensors files hold."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

# Formats of weights that are never loaded. Most of them are pickles, which can run
# code.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pickle", ".pkl", ".h5", ".msgpack")
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


def weight_shapes(folder: Path) -> dict[str, WeightShape]:
    """Returns the shape of every weight in a folder by name; only headers are read.

    Raises ValueError for a file that is not safetensors.
    """
    shapes: dict[str, WeightShape] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(path).items():
            if name != "__metadata__":
                shapes[name] = WeightShape(entry["dtype"], tuple(entry["shape"]))
    return shapes


def num_parameters(folder: Path) -> int:
    """Returns the number of parameters in a model folder."""
    return sum(weight.size for weight in weight_shapes(folder).values())


def _header(path: Path) -> dict[str, dict]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, MAX_HEADER_BYTES):
            raise ValueError(f"{path.name} is no safetensors file, or was cut off")
        return json.loads(file.read(length))
