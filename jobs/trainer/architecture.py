"""[contract] What a model's config.json says about how it may be trained."""

import json
from pathlib import Path
from typing import Any

# Layers that carry a state from token to token, which attention masks do not stop.
CARRYING_LAYERS = {"conv", "linear_attention", "mamba", "recurrent", "hybrid"}
# Architectures made of such layers without saying so in `layer_types`.
CARRYING_MODELS = {
    "bamba",
    "falcon_h1",
    "falcon_mamba",
    "granitemoehybrid",
    "jamba",
    "lfm2",
    "mamba",
    "mamba2",
    "nemotron_h",
    "olmo_hybrid",
    "qwen3_next",
    "recurrent_gemma",
    "rwkv",
    "xlstm",
    "zamba",
    "zamba2",
}

# Architectures known to take the short way (shortcuts.py). Others may as well: for
# them a trial finds out, which needs the model itself.
SHORT_WAY_MODELS = {"llama", "olmo2", "qwen2", "qwen3"}


def crosses_borders(model_folder: Path) -> bool:
    """Whether a state would pass from one example to the next in a packed row.

    Such a model is trained with every example in a row of its own.
    """
    config = _config(model_folder)
    layers = set(config.get("layer_types") or ())
    return config.get("model_type") in CARRYING_MODELS or bool(layers & CARRYING_LAYERS)


def takes_short_way(model_folder: Path) -> bool:
    """Whether it is certain, from the files alone, that logits are made in parts."""
    config = _config(model_folder)
    if config.get("model_type") not in SHORT_WAY_MODELS:
        return False
    return not config.get("attention_dropout") and not config.get("use_sliding_window")


def _config(model_folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((model_folder / "config.json").read_bytes())
    return config
