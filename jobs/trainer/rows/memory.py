"""[contract] Estimates a job's memory from its model's files, and how to need less."""

from dataclasses import replace
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from jobs.trainer.contract.architecture import (
    HIDDEN_SIZES,
    LAYER_COUNTS,
    read_config,
    takes_short_way,
    text_config,
)
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.contract.weights_file import num_parameters

# The memory of the process with its libraries, as measured.
PROGRAM_BYTES = 420_000_000
# A torch that was built for GPUs loads their libraries even where there is no GPU.
GPU_LIBRARIES_BYTES = 600_000_000
FLOAT_BYTES = 4
# Numbers that are kept for the backward pass, for each token and layer: at most this
# many vectors of the model's width, and of its feed-forward width. They were counted.
KEPT_HIDDEN = 13
KEPT_FEED_FORWARD = 4
# How much more memory is taken than kept, as measured, by method. Freed memory lies
# between what is kept, and an adapter makes twice as much that is freed soon.
TAKEN_SHARE = {"full": 1.25, "lora": 2.0}
# Attention over up to so many tokens keeps all its probabilities
# (compute/attention.py).
SHORT_LENGTH = 512
# The logits, their float32 copy, their gradient, and a transposed copy of the gradient.
KEPT_LOGITS = 4
# The logits that exist at once on the short way (compute/output_loss.py): 128 MB in
# float32. With fewer, the output layer's gradient would be added up more often.
LOGITS_AT_ONCE = 2**25
# The short way also keeps the output layer's gradient and a part that is added to it,
# and for each learned token its hidden state in two precisions and its gradient.
KEPT_OUTPUTS = 2
KEPT_LEARNED = 3
LORA_SHARE = 0.02


def memory_parts(
    model_folder: Path,
    *,
    method: str,
    tokens_at_once: int,
    max_tokens: int,
    learned_share: float,
) -> dict[str, int]:
    """Returns bytes of memory by purpose: an upper estimate for models like Llama.

    `tokens_at_once` tokens go through the model together, in rows of `max_tokens`, and
    a share of them, `learned_share`, needs logits.
    """
    config = text_config(read_config(model_folder))
    parameters = num_parameters(model_folder)
    trained = int(parameters * LORA_SHARE) if method == "lora" else parameters
    hidden = _number(config, HIDDEN_SIZES, 1024)
    layers = _number(config, LAYER_COUNTS, 24)
    feed_forward = _number(config, ("intermediate_size", "d_ff"), 4 * hidden)
    heads = _number(config, ("num_attention_heads", "n_head", "n_heads"), 0)
    kept = KEPT_HIDDEN * hidden + KEPT_FEED_FORWARD * feed_forward
    kept += heads * min(max_tokens, SHORT_LENGTH)
    numbers = {
        "weights": parameters,
        "gradients": trained,
        "optimizer": 2 * trained,
        "activations": int(tokens_at_once * layers * kept * TAKEN_SHARE[method]),
        "logits": _logits(
            int(tokens_at_once * learned_share),
            vocabulary=_number(config, ("vocab_size",), 150_000),
            hidden=hidden,
            in_parts=takes_short_way(model_folder),
        ),
    }
    sizes = {name: number * FLOAT_BYTES for name, number in numbers.items()}
    return {"program": _program_bytes(), **sizes}


@cache
def _program_bytes() -> int:
    """Returns the memory that the installed torch takes with its libraries, in bytes.

    It finds the build by its files, because importing torch takes seconds.
    """
    libraries = Path(str(distribution("torch").locate_file("torch/lib")))
    for_gpus = any(
        next(libraries.glob(f"libtorch_{kind}.*"), None) for kind in ("cuda", "hip")
    )
    return PROGRAM_BYTES + for_gpus * GPU_LIBRARIES_BYTES


def _number(config: dict[str, Any], names: tuple[str, ...], usual: int) -> int:
    """Returns a size by the first of the names that the configuration has.

    Returns `usual` if it has none of them. If layers have different sizes, the largest
    counts.
    """
    for name in names:
        value = config.get(name)
        if isinstance(value, list):
            value = max(value, default=None)
        if isinstance(value, int) and value:
            return value
    return usual


def _logits(learned: int, *, vocabulary: int, hidden: int, in_parts: bool) -> int:
    """Returns how many numbers the logits and loss of `learned` tokens take at most."""
    if not in_parts:
        return learned * vocabulary * KEPT_LOGITS
    part = min(learned, max(1, LOGITS_AT_ONCE // vocabulary))
    beside = KEPT_OUTPUTS * vocabulary + KEPT_LEARNED * learned
    return part * vocabulary * KEPT_LOGITS + beside * hidden


def with_less_memory(numerics: Numerics, rows: int) -> Numerics | None:
    """Returns numerics that need less memory, or None if there are none.

    First they take half of the `rows` that went through at once. Once that is one row,
    they take gradient checkpointing: layers compute twice instead of keeping.
    """
    if rows > 1:
        fewer = max(1, numerics.answers_at_once // 2)
        return replace(numerics, micro_batch=rows // 2, answers_at_once=fewer)
    if numerics.checkpointing:
        return None
    return replace(
        numerics, micro_batch=1, answers_at_once=1, checkpointing=True, compile=False
    )


def less_memory_words(numerics: Numerics) -> str:
    """Returns the words that say how the job goes on, for the autopilot's message."""
    rows = numerics.micro_batch
    if numerics.checkpointing:
        return (
            "one row at a time, of which the layers keep next to nothing and compute "
            "it a second time instead; a step takes about a third longer"
        )
    at_a_time = "1 row" if rows == 1 else f"{rows} rows"
    return (
        f"{at_a_time} at a time, which needs less memory; a step still learns from "
        "as many"
    )


def micro_batch_rows(batch_size: int, max_tokens: int, max_tokens_at_once: int) -> int:
    """Returns how many rows go through the model at once, at least 1.

    They have at most `max_tokens_at_once` tokens together, unless one row has more.
    """
    return min(batch_size, max(1, max_tokens_at_once // max_tokens))
