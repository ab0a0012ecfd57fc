"""[torch] FSDP2: each process keeps a part of every weight, if one device is too small.

The weights of a layer come together while it runs, so all processes must run the model
equally often. Saved are whole tensors, as in a job of one process.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from jobs.trainer.compute.attention import sort_pieces
from jobs.trainer.compute.batches import MicroBatch, find_learned
from jobs.trainer.compute.model import decoder_layers
from jobs.trainer.compute.objective import count_learned
from jobs.trainer.processes.ranks import Ranks

T = TypeVar("T")

# A process that has no row left runs this while others have rows: one token, whose loss
# is multiplied by 0.
IDLE = MicroBatch(
    inputs=torch.zeros((1, 1), dtype=torch.int64),
    positions=torch.zeros((1, 1), dtype=torch.int64),
    targets=torch.zeros((1, 1), dtype=torch.int64),
    weights=torch.ones((1, 1)),
    learned=find_learned(torch.ones((1, 1))),
    num_tokens=0,
    pieces=sort_pieces(np.array([0]), np.array([1])),
)


class Learner(nn.Module):
    """Runs any function on its model within its own call, where FSDP2 has its hooks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[nn.Module], T]) -> T:
        return work(self.model)


def mesh_of(ranks: Ranks) -> DeviceMesh:
    """Returns the devices of all processes in one line, as FSDP2 wants them."""
    return init_device_mesh(ranks.device.type, (ranks.size,))


def sharded(model: nn.Module, mesh: DeviceMesh, dtype: str) -> Learner:
    """Returns the model with every weight divided over the processes.

    `dtype` is the precision of products: "float32" or "bfloat16".
    """
    # The gathered weights have the precision of the products. Autocast alone would keep
    # a copy of every layer until the backward pass.
    types = (
        {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
        if dtype == "bfloat16"
        else {}
    )
    policy = MixedPrecisionPolicy(**types, cast_forward_inputs=False)
    learner = Learner(model)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # Without `reshard_after_forward` the outer weights would stay gathered after a
    # validation, and the optimiser would then change other tensors than these.
    fully_shard(learner, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            # Gradients are added, because losses are divided by N of all processes.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return learner


def warm_up(learner: Learner, device: torch.device) -> None:
    """Runs the model once without gradients, in all processes together.

    The first run makes FSDP2's buffers. Those of a run for completions would not fit
    training.
    """
    with torch.no_grad():
        learner(lambda model: _idle(model, device))


def _idle(model: nn.Module, device: torch.device) -> None:
    batch = IDLE.to(device)
    model(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False)


def evenly_many(batches: list[MicroBatch], num_runs: int) -> list[MicroBatch]:
    """Returns `num_runs` micro-batches, with IDLE where nothing is learned."""
    batches = [batch if count_learned([batch]) else IDLE for batch in batches]
    return batches + [IDLE] * (num_runs - len(batches))


def num_learned(batches: list[MicroBatch]) -> int:
    """Returns the number of tokens with a weight above 0, without those of IDLE."""
    return count_learned([batch for batch in batches if batch.num_tokens])


def lead(learner: Learner, ranks: Ranks, work: Callable[[nn.Module], None]) -> None:
    """Lets process 0 do the work while the others run the model as often as it does.

    The others do not repeat the work: if they chose one token differently, they might
    run the model more or less often, and all would hang.
    """
    learner(partial(_lead if ranks.is_first else _follow, ranks=ranks, work=work))


def _lead(model: nn.Module, ranks: Ranks, work: Callable[[nn.Module], None]) -> None:
    def announce(*_: object) -> None:
        ranks.first(lambda: True)

    hook = model.register_forward_pre_hook(announce)
    try:
        work(model)
    finally:
        hook.remove()
        ranks.first(lambda: False)


@torch.no_grad()
def _follow(model: nn.Module, ranks: Ranks, work: object) -> None:
    while ranks.first(bool):
        _idle(model, ranks.device)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a whole tensor, of which each process may have a part.

    All processes must call it together.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the part of a tensor that this process keeps."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Returns the part of a whole tensor `value` that belongs to this process.

    It is divided as `parameter` is, and lies on the same device.
    """
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value, parameter.device_mesh, parameter.placements, src_data_rank=None
    )
