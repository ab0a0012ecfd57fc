"""[contract] What a model's config.json says about how it may be trained."""

import json
from pathlib import Path
from typing import Any

# Architectures seen to keep the examples of a packed row apart, by positions that begin
# anew at each of them (tests/test_borders.py). Others may take no notice of those: they
# count positions by themselves, or carry a state from token to token.
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
# What the layers of those may be. Any other kind may carry a state.
ATTENTION_LAYERS = {"full_attention", "sliding_attention"}

# The names that architectures give to the length of a row.
CONTEXTS = ("max_position_embeddings", "n_positions", "seq_length")
# Architectures known to take the short way (shortcuts.py). Others may as well: for
# them a trial finds out, which needs the model itself.
SHORT_WAY_MODELS = {"llama", "olmo2", "qwen2", "qwen3"}


def needs_own_rows(model_folder: Path) -> bool:
    """Whether a model is trained with every example in a row of its own: any that is
    not known to keep the examples of a packed row apart.
    """
    config = read_config(model_folder)
    layers = set(config.get("layer_types") or ())
    is_known = config.get("model_type") in PACKING_MODELS
    return not is_known or not layers <= ATTENTION_LAYERS


def num_known_tokens(model_folder: Path) -> int | None:
    """None where the files name no number."""
    number = text_config(read_config(model_folder)).get("vocab_size")
    return number if isinstance(number, int) else None


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
