"""What earlier builds left on the disk, read with an error that names the file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.base_models.pretraining.errors import BuildError
from jobs.trainer.rows.token_cache import file_sha256


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise BuildError(f"{path} is broken: it is no JSON.") from None


def digest_of(models: Sequence[Path]) -> str:
    """Of their weights, wherever they lie."""
    return " ".join(file_sha256(model / "model.safetensors") for model in models)
