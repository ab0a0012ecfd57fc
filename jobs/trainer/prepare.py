"""[torch] What a job starts from: its data, its model, its numerics."""

import os

import torch
from torch import nn

from jobs.trainer.batches import MicroBatch, micro_batches
from jobs.trainer.memory import micro_batch_rows
from jobs.trainer.model import add_lora, is_adapted, load_model, merge_adapter
from jobs.trainer.packing import Packing, row_order
from jobs.trainer.plan import open_tokens, pack_rows
from jobs.trainer.runfolder import MICRO_BATCH_TOKENS, Numerics, RunFolder
from jobs.trainer.spec import DataSource, Spec
from jobs.trainer.token_cache import TokenCache

# Validation over more rows than this says nothing new and costs training time.
MAX_VALIDATION_ROWS = 64


def open_data(source: DataSource, spec: Spec) -> tuple[TokenCache, Packing]:
    """A version's tokens and its rows, the same for a spec everywhere."""
    cache = open_tokens(source, spec)
    return cache, pack_rows(spec, cache)


def validation_batches(
    spec: Spec, numerics: Numerics, device: torch.device
) -> list[MicroBatch]:
    """The same rows every time: the first in an order drawn from the job's seed."""
    if spec.validation is None:
        return []
    cache, packing = open_data(spec.validation, spec)
    order = row_order(packing.num_rows, spec.seed, epoch=0)
    rows = order[:MAX_VALIDATION_ROWS].tolist()
    return [
        batch.to(device)
        for batch in micro_batches(cache, packing, rows, numerics.micro_batch)
    ]


def autocast(numerics: Numerics, device: torch.device) -> torch.autocast:
    """The precision of products; weights stay in float32."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=numerics.dtype == "bfloat16"
    )


def model_to_train(spec: Spec) -> nn.Module:
    """Full: all weights, with an adapter merged in. LoRA: an adapter, old or new."""
    wants_lora = spec.method == "lora"
    model = load_model(spec.model, trainable_adapter=wants_lora)
    if wants_lora:
        return model if is_adapted(model) else add_lora(model, spec.lora)
    return merge_adapter(model) if is_adapted(model) else model


def num_cores() -> int:
    """Those this process may use, which in a container are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_numerics(folder: RunFolder, spec: Spec) -> Numerics:
    """Those of the first start; a resume must round the same way."""
    if (numerics := folder.read_numerics()) is not None:
        return numerics
    rows = micro_batch_rows(spec.batch_size, spec.max_tokens, MICRO_BATCH_TOKENS)
    numerics = Numerics(
        threads=spec.threads or num_cores(),
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        compile=False,
        micro_batch=rows,
    )
    folder.write_numerics(numerics)
    return numerics
