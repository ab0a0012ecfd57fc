"""Reads what earlier builds left on the disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.base_models.pretraining.errors import BuildError
from jobs.trainer.rows.token_cache import file_sha256


def read_json(path: Path) -> Any:
    """Returns a JSON file's value; raises BuildError, which names a broken file."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise BuildError(f"{path} is broken: it is no JSON.") from None


def digest_of(models: Sequence[Path]) -> str:
    """Returns the digests of the models' weights, wherever their folders are."""
    return " ".join(file_sha256(model / "model.safetensors") for model in models)
