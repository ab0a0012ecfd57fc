"""What is read about jobs and snapshots."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.utils import timezone

from datasets.models import DatasetVersion
from finetune_site.errors import UserError
from jobs.base_models import registry
from jobs.base_models.catalogue import BaseModel
from jobs.curves import Point, best_point
from jobs.models import Job, Snapshot
from jobs.trainer.encoding import encode_examples, end_of_text_id, load_tokenizer
from jobs.trainer.examples import iter_examples
from jobs.trainer.spec import ModelSource
from jobs.trainer.token_cache import cache_folder, open_token_cache

# Fewer steps an epoch than this teach little and show little.
MIN_STEPS_PER_EPOCH = 20
# From here on a step may as well learn from more rows.
MANY_STEPS_PER_EPOCH = 500
SMALLEST_MAX_TOKENS = 64
SUGGESTED_EPOCHS = 4
# Above this many parameters the optimiser of the whole model fits few machines.
LORA_PARAMETERS = 1_000_000_000
# Examples that stand for a dataset whose tokens have not been counted.
SAMPLE_EXAMPLES = 300
# Watched prompts of a job for which nobody gave any.
NUM_DEFAULT_PROMPTS = 3
LOG_TAIL_LINES = 12


def models_dir() -> Path:
    return Path(settings.DATA_DIR) / "models"


def base_models() -> list[BaseModel]:
    """All that are known, whether ready or not."""
    return registry.base_models(models_dir())


def find_base_model(name: str) -> BaseModel | None:
    return registry.base_model(name, models_dir())


def get_base_model(name: str) -> BaseModel:
    """UserError: it was removed."""
    model = find_base_model(name)
    if model is None:
        raise UserError(
            f"The base model {name} is no longer on this machine. Add it again, or "
            "choose another one.",
            field="base_model",
        )
    return model


def model_source(base_model: str, snapshot: Snapshot | None) -> ModelSource:
    """The folders a model is loaded from.

    An adapter lies over what its own job started from: the base model, or a snapshot of
    the whole model somewhere up its family.
    """
    if snapshot is None:
        folder = get_base_model(base_model).folder(models_dir())
        return ModelSource(base_model=base_model, path=str(folder))
    if snapshot.method == Job.Method.FULL:
        return ModelSource(base_model=base_model, path=str(snapshot.folder))
    below = model_source(base_model, snapshot.job.parent_snapshot)
    return ModelSource(
        base_model=base_model, path=below.path, adapter_path=str(snapshot.folder)
    )


def base_learning_rate(model: BaseModel, method: str) -> float:
    """What learning-rate scale 1 means."""
    if method == Job.Method.LORA:
        return model.lora_learning_rate
    return model.full_learning_rate


def default_name(version: DatasetVersion) -> str:
    return f"{version.dataset.name}, {timezone.localtime():%d %b %H:%M}"[:120]


def suggest_settings(
    version: DatasetVersion, base_model: str, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings of a new job that suit this dataset and model, by field.

    Those that are `given` stay as they are, and the others suit them.
    """
    given = given or {}
    model = get_base_model(base_model)
    lengths, num_targets = _target_lengths(version, model)
    max_tokens = given.get("max_tokens") or _suggest_max_tokens(
        model, lengths, num_targets // given.get("batch_size", 1)
    )
    steps = math.ceil(num_targets / max_tokens)
    batch_size = given.get("batch_size") or _suggest_batch_size(steps)
    epochs = given.get("epochs", SUGGESTED_EPOCHS)
    total_steps = math.ceil(steps / batch_size) * epochs
    large = model.parameters > LORA_PARAMETERS
    suggested = {
        "method": Job.Method.LORA.value if large else Job.Method.FULL.value,
        "epochs": epochs,
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "learning_rate_scale": 1.0,
        "seed": 1,
        "completions_every": max(10, total_steps // 50),
        "num_completions": 1,
        "snapshots_every": max(20, total_steps // 20),
    }
    return suggested | dict(given)


def _suggest_batch_size(steps: int) -> int:
    batch_size = 1
    while batch_size < 16 and steps / (batch_size * 2) >= MANY_STEPS_PER_EPOCH:
        batch_size *= 2
    return batch_size


def _suggest_max_tokens(
    model: BaseModel, lengths: np.ndarray[Any, Any], num_targets: int
) -> int:
    """The model's default, or less, so that a small file still makes enough steps.

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
    """Targets of each example, at least of the first ones, and of all together."""
    folder = model.folder(models_dir())
    if not model.is_ready(models_dir()):
        return np.array([]), version.num_bytes // 4
    cache = open_token_cache(cache_folder(version.folder, folder))
    if cache is not None:
        return cache.lengths.astype(np.int64) - 1, cache.facts.targets
    sample = list(islice(iter_examples(version.examples_path), SAMPLE_EXAMPLES))
    encoded = encode_examples(load_tokenizer(folder), sample, end_of_text_id(folder))
    lengths = np.array([len(example.ids) - 1 for example in encoded])
    share = version.num_examples / max(1, len(sample))
    return lengths, int(lengths.sum() * share)


@dataclass(frozen=True)
class Advice:
    """One sentence about a job that names a step and a number."""

    text: str
    step: int


def advice(job: Job, validation: list[Point]) -> Advice | None:
    """What a person who watches the job should know; None when nothing stands out."""
    return _validation_advice(validation) or _divergence_advice(job)


def _validation_advice(points: list[Point]) -> Advice | None:
    if len(points) < 4:
        return None
    best, last = best_point(points), points[-1]
    num_later = sum(point.step > best.step for point in points)
    # One or two worse measurements are noise.
    if num_later < 3 or last.value < best.value * 1.02:
        return None
    return Advice(
        f"Validation loss has risen for {last.step - best.step} steps, from "
        f"{best.value:.2f} to {last.value:.2f}; the best was step {best.step}. "
        "What follows is learned by heart: use a snapshot from about there.",
        best.step,
    )


def _divergence_advice(job: Job) -> Advice | None:
    first, last = job.first_learned_loss, job.learned_loss
    if first is None or last is None or job.step < 20 or last < first * 1.3:
        return None
    return Advice(
        f"Learned loss is {last:.2f} at step {job.step}, above {first:.2f} at the "
        f"beginning. Try a learning-rate scale of {job.learning_rate_scale / 4:g}.",
        job.step,
    )


def log_tail(job: Job) -> str:
    """The last lines a trainer wrote to its log."""
    try:
        with (job.folder / "trainer.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8_000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LOG_TAIL_LINES:])
