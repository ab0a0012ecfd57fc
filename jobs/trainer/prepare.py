"""[torch] Opens what a job starts from: its data and its model."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from torch import nn

from jobs.trainer.compute.batches import MicroBatch, micro_batches
from jobs.trainer.compute.model import (
    ModelError,
    add_lora,
    any_broken,
    is_adapted,
    load_model,
    merge_adapter,
)
from jobs.trainer.compute.shortcuts import allow_shortcuts, keeps_apart
from jobs.trainer.contract.architecture import context_length, needs_own_rows
from jobs.trainer.contract.runfolder import Numerics, RunFolder, write_json
from jobs.trainer.contract.spec import DataSource, Spec, SpecError
from jobs.trainer.contract.weights_file import weights_sha256
from jobs.trainer.numerics import checkpoint_layers, compile_layers
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.processes.sharding import (
    Learner,
    evenly_many,
    mesh_of,
    sharded,
    warm_up,
)
from jobs.trainer.rows.packing import Packing, row_order
from jobs.trainer.rows.plan import open_tokens, pack_rows
from jobs.trainer.rows.token_cache import CacheFacts, TokenCache

# More validation rows than this would say nothing new and would cost training time.
MAX_VALIDATION_ROWS = 64


class ReplacedError(ModelError):
    """Other weights lie where those lay that the job began with."""


def open_data(
    source: DataSource,
    spec: Spec,
    ranks: Ranks,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[TokenCache, Packing]:
    """Returns the tokens of a dataset version and its packed rows.

    The rows are the same for a spec everywhere. Process 0 calls `meanwhile` again and
    again while it counts tokens.
    """
    # One process makes the cache if there is none, and then all of them open it.
    ranks.first(lambda: bool(open_tokens(source, spec, meanwhile)))
    cache = open_tokens(source, spec)
    return cache, pack_rows(spec, cache)


def refuse_nothing_to_learn(facts: CacheFacts) -> None:
    """Raises SpecError when no token of the dataset has a loss weight above 0."""
    if not facts.targets:
        raise SpecError(
            "All examples of the dataset are empty, so there is nothing to learn. "
            "Upload a version with text in it and start a new job."
        )
    if not facts.learned_targets:
        raise SpecError(
            "Every loss weight in the dataset is 0, so there is nothing to learn. "
            "Give the parts to be learned a weight above 0 and start a new job."
        )


def validation_batches(
    spec: Spec, numerics: Numerics, ranks: Ranks, meanwhile: Callable[[], None]
) -> list[MicroBatch]:
    """Returns the validation rows as micro-batches; empty without a validation dataset.

    They are the same rows every time: the first ones in an order drawn from the job's
    seed. `meanwhile` is the same as in `open_data`.
    """
    if spec.validation is None:
        return []
    cache, packing = open_data(spec.validation, spec, ranks, meanwhile)
    if not cache.facts_for(spec.max_tokens).learned_targets:
        raise SpecError(
            "The validation dataset has no text with a loss weight above 0, so there "
            "is nothing to measure. Give parts of it a weight, or train without it."
        )
    order = row_order(packing.num_rows, spec.seed, epoch=0)
    rows = order[:MAX_VALIDATION_ROWS].tolist()
    batches = batches_for(ranks, numerics, cache, packing, rows)
    return [batch.to(ranks.device) for batch in batches]


def batches_for(
    ranks: Ranks,
    numerics: Numerics,
    cache: TokenCache,
    packing: Packing,
    rows: list[int],
) -> list[MicroBatch]:
    """Returns this process's share of some rows as micro-batches.

    If the model is sharded, every process gets equally many of them.
    """
    share = ranks.share(rows)
    batches = micro_batches(
        cache, packing, share, numerics.micro_batch, alike=numerics.compile
    )
    if not numerics.sharded:
        return batches
    largest = ranks.largest_share(len(rows))
    return evenly_many(batches, math.ceil(largest / numerics.micro_batch))


def note_base(folder: RunFolder, spec: Spec) -> str:
    """Returns the sha256 of the weights that the job starts from, noted at its first
    start.

    Raises ReplacedError if others lie there by now: what the job has learned so far
    means nothing on them.
    """
    found = weights_sha256(Path(spec.model.path))
    if not folder.base.exists():
        write_json(folder.base, {"sha256": found})
    if json.loads(folder.base.read_bytes())["sha256"] != found:
        raise ReplacedError(
            f"The files of {spec.model.base_model} were replaced since this job began. "
            "Put the former files back and resume it, or start a new job."
        )
    return found


def model_to_train(spec: Spec) -> nn.Module:
    """Loads the model of a job, ready for its method of training.

    With method `full` all weights are trained, and an adapter is merged into them
    first. With LoRA an adapter is trained: the snapshot's own, or a new one. Raises
    SpecError for rows that are too long, and ModelError for a model that cannot be
    trained.
    """
    context = context_length(Path(spec.model.path))
    if context and spec.max_tokens > context:
        raise SpecError(
            f"max_tokens is {spec.max_tokens:,}, and {spec.model.base_model} reads at "
            f"most {context:,} tokens"
        )
    wants_lora = spec.method == "lora"
    model = load_model(spec.model, trainable_adapter=wants_lora)
    if wants_lora and not is_adapted(model):
        model = add_lora(model, spec.lora)
    if is_adapted(model) and not wants_lora:
        model = merge_adapter(model)
    check_trainable(model, spec.model.base_model, Path(spec.model.path))
    return model


def check_trainable(model: nn.Module, name: str, folder: Path) -> None:
    """Lets the model take the short way if it can.

    Raises ModelError for weights that are no numbers, and for a model that lets the
    examples of a row see each other though its architecture is known not to.
    """
    if any_broken(model.parameters()):
        raise ModelError(
            "Weights of the model that the job starts from are infinite or no numbers. "
            "Start from another snapshot, or add the base model again."
        )
    may_mix = not allow_shortcuts(model) and not needs_own_rows(folder)
    if may_mix and not keeps_apart(model):
        raise ModelError(
            f"{name} lets the examples in a row see each other, which models of its "
            "architecture do not do as it is known here. What it learned would be "
            "mixed up, so it is not trained; choose another base model."
        )


def _laid_out(spec: Spec, numerics: Numerics) -> nn.Module:
    model = model_to_train(spec)
    if numerics.checkpointing:
        checkpoint_layers(model)
    return model


def learner_of(spec: Spec, numerics: Numerics, ranks: Ranks) -> Learner:
    """Returns the model on this process's device: the whole model, or a part of it."""
    if not numerics.sharded:
        model = _laid_out(spec, numerics).to(ranks.device)
        if numerics.compile:
            compile_layers(model)
        return Learner(model)
    # One process after the other, since each has the whole model in memory for a while.
    mesh = mesh_of(ranks)
    learner = ranks.in_turn(
        lambda: sharded(_laid_out(spec, numerics), mesh, numerics.dtype)
    )
    warm_up(learner, ranks.device)
    return learner
