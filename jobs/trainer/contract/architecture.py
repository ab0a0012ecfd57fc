"""[contract] Reads from a model's config.json how the model may be trained."""

import json
from pathlib import Path
from typing import Any, TypeGuard

from jobs.trainer.contract.runfolder import is_whole

# Architectures that were seen to keep the examples of a packed row apart, by positions
# that begin at 0 in each of them (tests/trainer/compute/test_borders.py). Others may
# ignore these positions: they count by themselves, or carry a state from token to
# token.
PACKING_MODELS = {
    "apertus",
    "arcee",
    "bitnet",
    "codegen",
    "cohere",
    "cohere2",
    "cohere2_moe",
    "cwm",
    "deepseek_v3",
    "diffllama",
    "doge",
    "ernie4_5",
    "exaone4",
    "flex_olmo",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "glm4_moe",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "granite",
    "granitemoe",
    "helium",
    "hunyuan_v1_dense",
    "jetmoe",
    "llama",
    "minimax_m2",
    "ministral",
    "ministral3",
    "mistral",
    "mixtral",
    "modernbert-decoder",
    "nanochat",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "vaultgemma",
}
# The kinds of layers that those may have. Layers of another kind may carry a state.
ATTENTION_LAYERS = {"full_attention", "sliding_attention"}

# The names by which configurations tell how many tokens a row may have.
CONTEXTS = ("max_position_embeddings", "n_positions", "seq_length")
# The names by which they tell the width of a model, and how many layers it has.
HIDDEN_SIZES = ("hidden_size", "n_embd", "d_model", "dim")
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Architectures that are known to take the short way (compute/shortcuts.py). Others may
# take it too, but only a trial with the model itself shows that.
SHORT_WAY_MODELS = {"llama", "olmo2", "qwen2", "qwen3"}


def is_size(value: object) -> TypeGuard[int]:
    """Returns whether a value of a configuration is a number of layers or the like."""
    return is_whole(value) and value > 0


def needs_own_rows(model_folder: Path) -> bool:
    """Returns whether every piece must have a row of its own.

    That is so for a model that is not known to keep the examples of a packed row apart.
    """
    config = read_config(model_folder)
    layers = set(config.get("layer_types") or ())
    is_known = config.get("model_type") in PACKING_MODELS
    return not is_known or not layers <= ATTENTION_LAYERS


def num_known_tokens(model_folder: Path) -> int | None:
    """Returns how many tokens the model has vectors for, or None if it does not say."""
    number = text_config(read_config(model_folder)).get("vocab_size")
    return number if is_size(number) else None


def context_length(model_folder: Path) -> int | None:
    """Returns how many tokens a row may have, or None if the files name no limit."""
    return named_context(read_config(model_folder))


def named_context(config: dict[str, Any]) -> int | None:
    """Returns the same as `context_length`, for a configuration that was read."""
    lengths = (text_config(config).get(name) for name in CONTEXTS)
    return next(filter(is_size, lengths), None)


def takes_short_way(model_folder: Path) -> bool:
    """Returns whether the files alone show that the model takes the short way.

    On the short way logits are made in parts, which takes less memory.
    """
    config = read_config(model_folder)
    if config.get("model_type") not in SHORT_WAY_MODELS:
        return False
    return not config.get("attention_dropout") and not config.get("use_sliding_window")


def read_config(model_folder: Path) -> dict[str, Any]:
    """Returns the model's config.json; raises ValueError if it is not JSON."""
    config: dict[str, Any] = json.loads((model_folder / "config.json").read_bytes())
    return config


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a configuration that is about text, if it has several."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config
