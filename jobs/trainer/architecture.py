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


def crosses_borders(model_folder: Path) -> bool:
    """Whether a state would pass from one example to the next in a packed row.

    Such a model is trained with every example in a row of its own.
    """
    config: dict[str, Any] = json.loads((model_folder / "config.json").read_bytes())
    layers = set(config.get("layer_types") or ())
    return config.get("model_type") in CARRYING_MODELS or bool(layers & CARRYING_LAYERS)
