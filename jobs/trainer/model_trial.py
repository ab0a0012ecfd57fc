"""[torch] Tries a base model: whether it learns, and whether it answers.

`python -m jobs.trainer.model_trial FOLDER` prints what is wrong with it as JSON, or "".
Configurations hold what no list of rules foresees. So the model's own code is run on
them, on a few tokens, in a process whose memory is limited.
"""

import json
import logging
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from jobs.trainer.contract.quick_imports import quick_imports

with quick_imports():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from jobs.trainer.answering.answer import Sampling
    from jobs.trainer.answering.generation import complete
    from jobs.trainer.compute.model import ModelError, any_broken, load_model
    from jobs.trainer.compute.objective import sums_of
    from jobs.trainer.compute.out_of_memory import is_out_of_memory
    from jobs.trainer.compute.shortcuts import trial_batch
    from jobs.trainer.contract.spec import ModelSource
    from jobs.trainer.contract.weights_file import num_parameters
    from jobs.trainer.prepare import check_trainable
    from jobs.trainer.text.encoding import (
        TextEncoder,
        encode_prompt,
        is_fault,
        load_encoder,
    )

# Weights and their gradients are numbers of 4 bytes, and one more is for copies.
BYTES_PER_PARAMETER = 3 * 4
# Beside the weights: the code's own objects, and what threads reserve.
SPARE_BYTES = 4 * 10**9
# Weights that are tied count once in the code, and perhaps twice in the files; what the
# code makes by itself may be missing there. More than this is another model.
MAX_TIMES_STORED = 1.5
MAX_REASON_CHARACTERS = 300
PROMPT = "Once upon a time"
NUM_ANSWER_TOKENS = 3

logger = logging.getLogger(__name__)


def try_model(folder: Path) -> str:
    """Returns in words why the model cannot be trained or asked, or "" if it can be.

    A model that is too large for the memory of this machine is only built, without its
    weights.
    """
    try:
        _try(folder)
    except ModelError as error:
        return f"{str(error).rstrip('.')}."
    except BaseException as error:  # whatever the code makes of the configuration
        if not is_fault(error):
            raise
        logger.info("The model does not work", exc_info=True)
        if is_out_of_memory(error):
            return (
                "Building it takes more memory than its weights explain. A size in "
                "its config.json is wrong, or the machine was short of memory; copy "
                "the file again."
            )
        return (
            f"It was tried and does not work ({_reason(error)}). A value in its "
            "config.json is wrong, or this version of transformers does not know "
            "models of its kind; copy the files again."
        )
    return ""


def _try(folder: Path) -> None:
    stored = num_parameters(folder)
    _check_size(folder, stored)
    if psutil.virtual_memory().available < BYTES_PER_PARAMETER * stored:
        return
    model = load_model(ModelSource(base_model=folder.name, path=str(folder)))
    encoder = load_encoder(folder)
    _check_tokens(encoder, _num_rows(model))
    _learn(model)
    check_trainable(model, folder.name, folder)
    _answer(model, encoder)


def _check_size(folder: Path, stored: int) -> None:
    """Builds the model without memory for its weights, and counts them."""
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    built = sum(parameter.numel() for parameter in model.parameters())
    if built > MAX_TIMES_STORED * stored:
        raise ModelError(
            f"Its config.json describes {built:,} parameters, and its weights files "
            f"hold {stored:,}. Copy the files of one model"
        )


def _num_rows(model: Any) -> int:
    """Returns how many tokens the model has vectors for."""
    return len(model.get_input_embeddings().weight)


def _check_tokens(encoder: TextEncoder, known: int) -> None:
    """Raises ModelError if the tokenizer makes tokens that the model does not know.

    Tokens that were added beside the vocabulary may be without a vector: no text but
    their own name becomes one of them.
    """
    vocabulary = encoder.tokenizer.get_vocab(with_added_tokens=False)
    ids = [*vocabulary.values(), *encoder.end_ids, encoder.context_id]
    if max(ids) >= known:
        raise ModelError(
            f"Its tokenizer makes tokens up to number {max(ids):,}, and its weights "
            f"know {known:,}, from 0 on. Copy the tokenizer.json of the same model"
        )


def _learn(model: Any) -> None:
    """Takes the loss and its gradients of a few tokens."""
    model.train()
    sums = sums_of(model, trial_batch(model))
    if sums is None:
        raise ModelError("It learned nothing from a few tokens")
    sums.weighted.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if any_broken([sums.weighted.detach(), *gradients]):
        raise ModelError(
            "Its loss on a few tokens is infinite or no number. A value in its "
            "config.json is wrong; copy the file again"
        )
    model.zero_grad(set_to_none=True)


def _answer(model: Any, encoder: TextEncoder) -> None:
    model.eval()
    complete(
        model,
        encoder.tokenizer,
        [encode_prompt(encoder, PROMPT)],
        Sampling(temperature=0, max_tokens=NUM_ANSWER_TOKENS),
        encoder.end_id,
    )


def _reason(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    if len(words) > MAX_REASON_CHARACTERS:
        return f"{words[:MAX_REASON_CHARACTERS]}…"
    return words.rstrip(".")


def _limit_memory(folder: Path) -> None:
    """Has what is too large fail here, before it takes the memory of the machine."""
    stored = num_parameters(folder)
    taken = psutil.Process().memory_info().vms
    most = taken + BYTES_PER_PARAMETER * stored + SPARE_BYTES
    # Not every system knows this limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(arguments: Sequence[str]) -> int:
    [folder] = map(Path, arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _limit_memory(folder)
    sys.stdout.write(json.dumps(try_model(folder)))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
    # Shutting torch down takes time, and a broken library may hang there.
    os._exit(0)
