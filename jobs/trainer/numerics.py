"""[torch] How a job is computed: precision, threads, compiled or not.

Decided once, at the first start, from the spec and the machine alone, never from a
clock: the same job on the same machine has the same losses.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from jobs.trainer.compute import attention
from jobs.trainer.compute.model import decoder_layers
from jobs.trainer.compute.shortcuts import takes_shortcuts
from jobs.trainer.contract.architecture import takes_short_way
from jobs.trainer.contract.runfolder import (
    MICRO_BATCH_TOKENS,
    Numerics,
    RunFolder,
)
from jobs.trainer.contract.spec import Spec
from jobs.trainer.contract.weights_file import num_parameters
from jobs.trainer.processes.launch import is_sharded
from jobs.trainer.rows.memory import micro_batch_rows

# Compiling a model's layers takes half a minute and makes a step a third faster: worth
# it for jobs of some minutes. In floating-point operations, of which a small machine
# makes about 5e11 a second.
COMPILE_FROM_OPERATIONS = 2e14
# Forward and backward, for each weight and token.
OPERATIONS_PER_WEIGHT = 6


def choose_numerics(
    folder: RunFolder, spec: Spec, num_targets: int, size: int = 1
) -> Numerics:
    """Those of the first start; a resume must round the same way.

    But by as many processes as there are now: a step's rows may be shared anew.
    `num_targets` are those of an epoch.
    """
    shared: dict[str, Any] = {
        "threads": max(1, (spec.threads or num_cores()) // size),
        "processes": size,
        "sharded": is_sharded(spec, size),
    }
    if (numerics := folder.read_numerics()) is not None:
        if numerics.processes == size and numerics.sharded == shared["sharded"]:
            return numerics
        numerics = replace(numerics, **shared)
        folder.write_numerics(numerics)
        return numerics
    numerics = Numerics(
        **shared,
        dtype=_dtype(spec),
        compile=not shared["sharded"] and pays_to_compile(spec, num_targets),
        micro_batch=micro_batch_rows(
            spec.batch_size, spec.max_tokens, MICRO_BATCH_TOKENS
        ),
    )
    folder.write_numerics(numerics)
    return numerics


def _dtype(spec: Spec) -> Literal["float32", "bfloat16"]:
    return fast_dtype() if spec.precision == "auto" else spec.precision


def fast_dtype() -> Literal["float32", "bfloat16"]:
    """bfloat16 where the machine multiplies in it."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    has = torch.cpu.get_capabilities()
    fast = has.get("amx_bf16") or has.get("avx512_bf16")
    return "bfloat16" if fast else "float32"


def num_cores() -> int:
    """Those this process may use, which in a container are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def autocast(numerics: Numerics, device: torch.device) -> torch.autocast:
    """The precision of products; weights stay in float32."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=numerics.dtype == "bfloat16"
    )


# ----- compiling


def pays_to_compile(spec: Spec, num_targets: int) -> bool:
    """Whether the job is long, and the machine has the C++ compiler that it takes."""
    if torch.cuda.is_available() or not has_compiler():
        return False
    if not takes_short_way(Path(spec.model.path)):
        return False
    weights = num_parameters(Path(spec.model.path))
    operations = OPERATIONS_PER_WEIGHT * weights * num_targets * spec.epochs
    return operations >= COMPILE_FROM_OPERATIONS


def has_compiler() -> bool:
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    return any(name and shutil.which(name) for name in names)


def compile_layers(model: nn.Module) -> None:
    """From now on layers run compiled; the first ones to run are compiled then.

    All layers share the code of one. What cannot be compiled runs as it is.
    """
    if not takes_shortcuts(model):
        return
    # The import takes a second, which only who compiles is to pay.
    from torch import _dynamo, _inductor

    _dynamo.config.suppress_errors = True
    # No pool of processes for a handful of functions.
    _inductor.config.compile_threads = 1
    attention.leave_uncompiled()
    for layer in decoder_layers(model):
        # Micro-batches of a compiled job have all one shape, and code for any shape
        # would depend on which came first.
        layer.compile(dynamic=False)


def checkpoint_layers(model: Any) -> None:
    """From now on layers keep their inputs alone, and compute again what the backward
    pass needs. A model that cannot do so stays as it is.
    """
    if model.supports_gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})


@contextmanager
def uncompiled(numerics: Numerics) -> Iterator[None]:
    """For what runs seldom or in many shapes: validation and completions."""
    if not numerics.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
