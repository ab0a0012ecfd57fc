"""[torch] How a job is computed: precision, threads, and whether it is compiled.

The first start decides this from the spec and the machine alone, never from a clock, so
that the same job on the same machine has the same losses.
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

# Compiling a model's layers takes half a minute and makes a step a third faster, which
# pays for jobs of some minutes. The unit is floating-point operations: a small machine
# makes about 5e11 of them in a second.
COMPILE_FROM_OPERATIONS = 2e14
# The operations of the forward and backward pass, for each weight and each token.
OPERATIONS_PER_WEIGHT = 6


def choose_numerics(
    folder: RunFolder, spec: Spec, num_targets: int, size: int = 1
) -> Numerics:
    """Returns the numerics of the first start: a resume must round the same way.

    Only the number of processes may change: they share the rows of a step anew.
    `num_targets` is the number of targets in an epoch, and `size` is the number of
    processes. The numerics are written to the run folder.
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
    """Returns bfloat16 if the machine multiplies in it by hardware, else float32."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    has = torch.cpu.get_capabilities()
    fast = has.get("amx_bf16") or has.get("avx512_bf16")
    return "bfloat16" if fast else "float32"


def num_cores() -> int:
    """Returns the number of cores that this process may use.

    In a container that may be fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def autocast(numerics: Numerics, device: torch.device) -> torch.autocast:
    """Returns the context that sets the precision of products.

    The weights stay in float32.
    """
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=numerics.dtype == "bfloat16"
    )


# ----- compiling


def pays_to_compile(spec: Spec, num_targets: int) -> bool:
    """Returns whether the job is long enough to compile, and the machine is able to.

    `num_targets` is the number of targets in an epoch.
    """
    if torch.cuda.is_available() or not has_compiler():
        return False
    if not takes_short_way(Path(spec.model.path)):
        return False
    weights = num_parameters(Path(spec.model.path))
    operations = OPERATIONS_PER_WEIGHT * weights * num_targets * spec.epochs
    return operations >= COMPILE_FROM_OPERATIONS


def has_compiler() -> bool:
    """Returns whether the machine has a C++ compiler, which compiling needs."""
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    return any(name and shutil.which(name) for name in names)


def compile_layers(model: nn.Module) -> None:
    """Makes the layers of a model run compiled. The first run compiles them.

    All layers share the code of one layer. Code that cannot be compiled runs as it is.
    """
    if not takes_shortcuts(model):
        return
    # The import takes a second, so only a job that compiles makes it.
    from torch import _dynamo, _inductor

    _dynamo.config.suppress_errors = True
    # A pool of processes would not pay for a handful of functions.
    _inductor.config.compile_threads = 1
    attention.leave_uncompiled()
    for layer in decoder_layers(model):
        # All micro-batches of a compiled job have one shape. Code for any shape would
        # depend on which shape came first.
        layer.compile(dynamic=False)


def checkpoint_layers(model: Any) -> None:
    """Makes each layer keep its inputs only (gradient checkpointing).

    The backward pass computes everything else again. A model that does not support this
    stays as it is.
    """
    if model.supports_gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})


@contextmanager
def uncompiled(numerics: Numerics) -> Iterator[None]:
    """Runs layers uncompiled within the context.

    It is for work that is rare or has many shapes: validation and completions.
    """
    if not numerics.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
