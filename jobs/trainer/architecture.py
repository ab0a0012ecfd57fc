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

# The names that architectures give to the length of a row.
CONTEXTS = ("max_position_embeddings", "n_positions", "seq_length")
# Architectures known to take the short way (shortcuts.py). Others may as well: for
# them a trial finds out, which needs the model itself.
SHORT_WAY_MODELS = {"llama", "olmo2", "qwen2", "qwen3"}


def crosses_borders(model_folder: Path) -> bool:
    """Whether a state would pass from one example to the next in a packed row.

    Such a model is trained with every example in a row of its own.
    """
    config = read_config(model_folder)
    # A model that also sees or hears describes the part that reads text by itself.
    return any(_carries(part) for part in (config, text_config(config)))


def _carries(config: dict[str, Any]) -> bool:
    layers = set(config.get("layer_types") or ())
    return config.get("model_type") in CARRYING_MODELS or bool(layers & CARRYING_LAYERS)


def context_length(model_folder: Path) -> int | None:
    """How many tokens a row may have; None where the files name no limit."""
    return named_context(read_config(model_folder))


def named_context(config: dict[str, Any]) -> int | None:
    lengths = (text_config(config).get(name) for name in CONTEXTS)
    return next((length for length in lengths if isinstance(length, int)), None)


def takes_short_way(model_folder: Path) -> bool:
    """Whether it is certain, from the files alone, that logits are made in parts."""
    config = read_config(model_folder)
    if config.get("model_type") not in SHORT_WAY_MODELS:
        return False
    return not config.get("attention_dropout") and not config.get("use_sliding_window")


def read_config(model_folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((model_folder / "config.json").read_bytes())
    return config


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part on text, where a configuration has several."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config
