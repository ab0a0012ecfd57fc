"""[contract] Computes before a job starts what it will do, without torch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.trainer.contract.architecture import (
    needs_own_rows,
    num_known_tokens,
    read_config,
)
from jobs.trainer.contract.runfolder import MICRO_BATCH_TOKENS
from jobs.trainer.contract.spec import DataSource, Spec, SpecError
from jobs.trainer.rows.memory import memory_parts, micro_batch_rows
from jobs.trainer.rows.packing import Packing, one_by_one, pack
from jobs.trainer.rows.token_cache import CacheFacts, TokenCache, build_token_cache


def make_plan(
    spec: Spec,
    *,
    cache: TokenCache | None = None,
    packing: Packing | None = None,
) -> dict[str, Any]:
    """Returns the job in numbers, as JSON can hold them.

    A cache or packing that is not given is made. `tokens` counts the targets of one
    epoch, and `learned_tokens` those with a loss weight above 0. `seconds` is None
    without a measured speed. The trainer packs the same rows, so the plan is exact.
    """
    cache = cache or open_tokens(spec.train, spec)
    packing = packing or pack_rows(spec, cache)
    steps_per_epoch = math.ceil(packing.num_rows / spec.batch_size)
    total_steps = steps_per_epoch * spec.epochs
    num_snapshots = num_times(total_steps, spec.snapshots_every)
    facts = cache.facts_for(spec.max_tokens)
    parts = _memory(spec, facts)
    seconds = None
    if spec.tokens_per_second:
        seconds = facts.targets * spec.epochs / spec.tokens_per_second
    return {
        "examples": facts.examples,
        "tokens": facts.targets,
        "learned_tokens": facts.learned_targets,
        "unlearned_examples": facts.unlearned_examples,
        "rows": packing.num_rows,
        "padding_share": round(packing.padding_share, 4),
        "pieces_cut": packing.num_cut,
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total_steps,
        "completions": _num_completions(spec, total_steps),
        "snapshots": num_snapshots,
        # A snapshot holds the trained weights, which are as many as the gradients.
        "disk_bytes": num_snapshots * parts["gradients"],
        "memory_bytes": sum(parts.values()),
        "memory_parts": parts,
        "seconds": seconds,
    }


def open_tokens(
    source: DataSource, spec: Spec, meanwhile: Callable[[], None] = lambda: None
) -> TokenCache:
    """Returns the tokens of a dataset version, and counts them now if nobody has yet.

    `meanwhile` is called again and again while they are counted. Raises SpecError when
    there are none, when the dataset file is not the one that the job names, or when the
    model does not know a token.
    """
    check_model_folder(spec)
    cache = _counted(source, spec, meanwhile)
    if not cache.facts.examples:
        raise SpecError(
            f"The dataset's file {source.examples} is empty. Upload a version with "
            "examples, and start a new job."
        )
    counted = cache.facts.sha256
    if source.sha256 and counted and counted != source.sha256:
        raise SpecError(
            f"The dataset's file {source.examples} was changed after the job was made: "
            f"its sha256 is {counted[:12]}…, and the job is to learn from "
            f"{source.sha256[:12]}…. Upload it as a new version, and start a new job."
        )
    check_known(cache.largest_id(), spec, "the dataset")
    return cache


def _counted(
    source: DataSource, spec: Spec, meanwhile: Callable[[], None]
) -> TokenCache:
    try:
        return build_token_cache(
            Path(source.examples),
            Path(spec.model.path),
            Path(source.tokens),
            progress=lambda num_examples: meanwhile(),
            waiting=meanwhile,
        )
    except FileNotFoundError as error:
        raise SpecError(
            f"The dataset's file {error.filename} is gone. Upload it again, and start "
            "a new job."
        ) from None


def check_model_folder(spec: Spec) -> None:
    """Raises SpecError if the model's folder has no readable config or tokenizer."""
    folder = Path(spec.model.path)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SpecError(
                f"The model {spec.model.base_model} is to be in {folder}, where there "
                f"is no {name}. Add the model again, and start a new job."
            )
    try:
        read_config(folder)
    except ValueError as error:
        raise SpecError(f"{folder / 'config.json'} is not JSON: {error}") from None


def check_known(token_id: int, spec: Spec, where: str) -> None:
    """Raises SpecError if the model has no vector for a token.

    `where` says in words where the token was found.
    """
    known = num_known_tokens(Path(spec.model.path))
    if known is not None and token_id >= known:
        raise SpecError(
            f"The tokenizer of {spec.model.base_model} does not fit its weights: token "
            f"{token_id:,} occurs in {where}, and the model knows {known:,} tokens, "
            "from 0 on. Put the model's own tokenizer.json into its folder, or choose "
            "another base model."
        )


def pack_rows(spec: Spec, cache: TokenCache) -> Packing:
    """Returns the rows of a dataset, which are the same in the plan and the trainer."""
    alone = needs_own_rows(Path(spec.model.path))
    return rows_of(cache, spec.max_tokens, spec.seed, alone=alone)


def rows_of(cache: TokenCache, max_tokens: int, seed: int, *, alone: bool) -> Packing:
    """Returns packed rows, or with `alone` rows of one piece each."""
    bare = cache.bare(max_tokens)
    if alone:
        return one_by_one(cache.lengths, max_tokens, bare)
    return pack(cache.lengths, max_tokens, seed, bare)


def num_times(total_steps: int, every: int) -> int:
    """Returns how often something happens that comes every N steps and at the end.

    With 0 it comes at the end only.
    """
    if not every:
        return 1
    return math.ceil(total_steps / every)


def is_due(step: int, total_steps: int, every: int) -> bool:
    """Returns whether what comes every N steps and at the end comes after this step."""
    return step == total_steps or bool(every) and step % every == 0


def _num_completions(spec: Spec, total_steps: int) -> int:
    """Returns how many completions are made.

    They are made before the first step, every N steps, and after the last one.
    """
    if not spec.completions_every:
        return 0
    times = 1 + num_times(total_steps, spec.completions_every)
    return times * len(spec.prompts) * spec.num_completions


def _memory(spec: Spec, facts: CacheFacts) -> dict[str, int]:
    rows = micro_batch_rows(spec.batch_size, spec.max_tokens, MICRO_BATCH_TOKENS)
    return memory_parts(
        Path(spec.model.path),
        method=spec.method,
        tokens_at_once=rows * spec.max_tokens,
        max_tokens=spec.max_tokens,
        learned_share=facts.learned_targets / max(1, facts.targets),
    )
