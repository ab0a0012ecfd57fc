"""[torch] What people watch while a job runs: validation losses and completions."""

import hashlib

import torch
from tokenizers import Tokenizer
from torch import nn

from jobs.trainer.batches import MicroBatch
from jobs.trainer.encoding import encode_prompt
from jobs.trainer.events import EventWriter
from jobs.trainer.generation import Sampling, complete
from jobs.trainer.objective import Losses, count_learned, losses_of, sums_of
from jobs.trainer.spec import Spec


@torch.no_grad()
def validation_losses(model: nn.Module, batches: list[MicroBatch]) -> Losses:
    """The losses of section 6 over all validation rows, without dropout."""
    model.eval()
    total = None
    for batch in batches:
        sums = sums_of(model, batch)
        if sums is not None:
            total = sums if total is None else total + sums
    model.train()
    return losses_of(total, count_learned(batches))


def write_completions(
    events: EventWriter,
    model: nn.Module,
    tokenizer: Tokenizer,
    end_id: int,
    spec: Spec,
    step: int,
) -> None:
    """Answer every watched prompt, unless all answers stand in the events already.

    All are made even when some are there: rounding depends on what is answered
    together, and a resumed job must say the same.
    """
    wanted = [
        (number, index)
        for number in range(len(spec.prompts))
        for index in range(spec.num_completions)
    ]
    if all(
        events.has("completion", step=step, prompt_index=number, index=index)
        for number, index in wanted
    ):
        return
    answers = complete(
        model,
        tokenizer,
        [encode_prompt(tokenizer, spec.prompts[n], end_id) for n, _ in wanted],
        Sampling(
            temperature=spec.completion_temperature, max_tokens=spec.completion_tokens
        ),
        end_id,
        seeds=[completion_seed(spec.job, step, *which) for which in wanted],
    )
    for (number, index), answer in zip(wanted, answers, strict=True):
        events.write(
            "completion",
            step=step,
            prompt_index=number,
            prompt=spec.prompts[number],
            index=index,
            text=answer.text,
            finish_reason=answer.finish_reason,
        )


def completion_seed(job: str, step: int, prompt_index: int, index: int) -> int:
    """A function of its arguments, so that a resumed job answers the same."""
    text = f"{job} {step} {prompt_index} {index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
