"""Settings that suit a dataset and a base model, for a form or in place of a person."""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from django.utils import timezone

from datasets.models import DatasetVersion
from jobs.base_models.catalogue import BaseModel
from jobs.models import Job
from jobs.selectors.base_models import get_base_model, models_dir
from jobs.trainer.contract.settings import FULL, LORA, SETTINGS, SUGGESTED
from jobs.trainer.rows.token_cache import cache_folder, open_token_cache
from jobs.trainer.text.bulk_encoding import BulkEncoder
from jobs.trainer.text.encoding import load_encoder
from jobs.trainer.text.examples import iter_examples

# With fewer steps an epoch a job teaches little and shows little.
MIN_STEPS_PER_EPOCH = 20
# With so many steps an epoch, each may as well learn from more rows.
MANY_STEPS_PER_EPOCH = 500
SMALLEST_MAX_TOKENS = 64
# Above this many parameters the optimiser of the whole model fits few machines.
LORA_PARAMETERS = 1_000_000_000
# So many examples stand for a dataset whose tokens have not been counted.
SAMPLE_EXAMPLES = 300


def choose_settings(job: Job) -> None:
    """Sets what `job.auto` names. The dataset must be there; nothing is saved."""
    if not job.auto:
        return
    given = {name: getattr(job, name) for name in SUGGESTED if name not in job.auto}
    suited = suggest_settings(job.dataset_version, job.base_model, given)
    for name in job.auto:
        setattr(job, name, suited[name])
    job.auto = []


def next_seed(job: Job) -> int:
    """Returns a seed that gives another order of rows than the job's."""
    return (job.settings.seed + 1) % (int(SETTINGS["seed"].high) + 1)


def default_name(version: DatasetVersion) -> str:
    return f"{version.dataset.name}, {timezone.localtime():%d %b %H:%M}"[:120]


def suggest_settings(
    version: DatasetVersion, base_model: str, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns settings by name that suit this dataset and model.

    Settings that are `given` stay as they are, and the others suit them. Raises
    UserError when there is no such base model.
    """
    given = given or {}
    model = get_base_model(base_model)
    lengths, num_targets = _target_lengths(version, model)
    max_tokens = given.get("max_tokens") or _suggest_max_tokens(
        model, lengths, num_targets // given.get("batch_size", 1)
    )
    steps = math.ceil(num_targets / max_tokens)
    batch_size = given.get("batch_size") or _suggest_batch_size(steps)
    epochs = given.get("epochs", SETTINGS["epochs"].default)
    total_steps = math.ceil(steps / batch_size) * epochs
    suited = {
        "method": LORA if model.parameters > LORA_PARAMETERS else FULL,
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "completions_every": max(10, total_steps // 50),
        "snapshots_every": max(20, total_steps // 20),
    }
    defaults = {name: SETTINGS[name].default for name in SUGGESTED}
    return {**defaults, **suited, **given}


def _suggest_batch_size(steps: int) -> int:
    batch_size = 1
    while batch_size < 16 and steps / (batch_size * 2) >= MANY_STEPS_PER_EPOCH:
        batch_size *= 2
    return batch_size


def _suggest_max_tokens(
    model: BaseModel, lengths: np.ndarray[Any, Any], num_targets: int
) -> int:
    """Returns the model's default, or less, so that a small file makes enough steps.

    Nearly all examples keep fitting into a row; where many are cut anyway, it may
    shrink as far as it likes.
    """
    most = model.default_max_tokens
    common = int(np.percentile(lengths, 95)) if len(lengths) else 0
    least = SMALLEST_MAX_TOKENS if common > most else max(SMALLEST_MAX_TOKENS, common)
    size = most
    while num_targets < size * MIN_STEPS_PER_EPOCH and size // 2 >= least:
        size //= 2
    return size


def _target_lengths(
    version: DatasetVersion, model: BaseModel
) -> tuple[np.ndarray[Any, Any], int]:
    """Returns the targets of each example, or of the first ones, and their number."""
    folder = model.folder(models_dir())
    if not model.is_ready(models_dir()):
        return np.array([]), version.num_bytes // 4
    cache = open_token_cache(cache_folder(version.folder, folder))
    if cache is not None:
        return cache.lengths.astype(np.int64) - 1, cache.facts.targets
    sample = list(islice(iter_examples(version.examples_path), SAMPLE_EXAMPLES))
    lengths = BulkEncoder(load_encoder(folder)).encode(sample).lengths - 1
    share = version.num_examples / max(1, len(sample))
    return lengths, int(lengths.sum() * share)
