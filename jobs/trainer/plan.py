"""[contract] What a job will do, known before it starts: no torch, no training."""

import math
from typing import Any

from jobs.trainer.packing import Packing
from jobs.trainer.token_cache import TokenCache


def make_plan(
    cache: TokenCache,
    packing: Packing,
    *,
    epochs: int,
    batch_size: int,
    completions_every: int,
    num_completions: int,
    num_prompts: int,
    snapshots_every: int,
    snapshot_bytes: int = 0,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """The job in numbers, as JSON can hold them.

    `tokens` counts targets, those of one epoch; `learned_tokens` the ones with a loss
    weight above 0. `seconds` is None without a measured speed. `packing` is what the
    trainer makes too (`rows_for`), so the plan is the job.
    """
    steps_per_epoch = math.ceil(packing.num_rows / batch_size)
    total_steps = steps_per_epoch * epochs
    num_snapshots = num_times(total_steps, snapshots_every)
    num_watches = 1 + num_times(total_steps, completions_every)
    watches = num_watches if completions_every else 0
    seconds = None
    if tokens_per_second:
        seconds = cache.facts.targets * epochs / tokens_per_second
    return {
        "examples": cache.facts.examples,
        "tokens": cache.facts.targets,
        "learned_tokens": cache.facts.learned_targets,
        "unlearned_examples": cache.facts.unlearned_examples,
        "rows": packing.num_rows,
        "padding_share": round(packing.padding_share, 4),
        "pieces_cut": packing.num_cut,
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total_steps,
        "completions": watches * num_prompts * num_completions,
        "snapshots": num_snapshots,
        "disk_bytes": num_snapshots * snapshot_bytes,
        "seconds": seconds,
    }


def num_times(total_steps: int, every: int) -> int:
    """How often something happens that comes every N steps and after the last one."""
    if not every:
        return 1
    return math.ceil(total_steps / every)


def is_due(step: int, total_steps: int, every: int) -> bool:
    """Whether it comes after this step."""
    return step == total_steps or bool(every) and step % every == 0
