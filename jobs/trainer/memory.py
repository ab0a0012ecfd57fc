"""[contract] How much memory a job will need, from its model's files alone."""

import json
from pathlib import Path
from typing import Any

from jobs.trainer.weights_file import num_parameters

# The process itself with its libraries, as measured.
PROGRAM_BYTES = 350_000_000
FLOAT_BYTES = 4
# Numbers kept for the backward pass, a token and a layer: about this many vectors of
# the model's width and of its feed-forward width.
KEPT_HIDDEN = 10
KEPT_FEED_FORWARD = 4
# Logits, their float32 copy and their gradient.
KEPT_LOGITS = 3
LORA_SHARE = 0.02


def memory_parts(
    model_folder: Path,
    *,
    method: str,
    tokens_at_once: int,
    learned_share: float,
) -> dict[str, int]:
    """Bytes by what they are for; an estimate from above for models like Llama.

    `tokens_at_once` go through the model together; `learned_share` of them need logits.
    """
    config: dict[str, Any] = json.loads((model_folder / "config.json").read_bytes())
    config = config.get("text_config", config)
    parameters = num_parameters(model_folder)
    trained = int(parameters * LORA_SHARE) if method == "lora" else parameters
    hidden = config.get("hidden_size") or config["n_embd"]
    layers = config.get("num_hidden_layers") or config["n_layer"]
    feed_forward = config.get("intermediate_size") or 4 * hidden
    kept = KEPT_HIDDEN * hidden + KEPT_FEED_FORWARD * feed_forward
    numbers = {
        "weights": parameters,
        "gradients": trained,
        "optimizer": 2 * trained,
        "activations": tokens_at_once * layers * kept,
        "logits": int(
            tokens_at_once * learned_share * config["vocab_size"] * KEPT_LOGITS
        ),
    }
    sizes = {name: number * FLOAT_BYTES for name, number in numbers.items()}
    return {"program": PROGRAM_BYTES, **sizes}


def micro_batch_rows(batch_size: int, max_tokens: int, most_tokens: int) -> int:
    """Rows at a time, so that no more than `most_tokens` go through at once."""
    return min(batch_size, max(1, most_tokens // max_tokens))
