"""[torch] Turns rows of tokens into a micro-batch of the trainer."""

from functools import lru_cache

import numpy as np
import torch

from jobs.base_models.pretraining.rows import Ids
from jobs.trainer.compute.attention import Pieces, sort_pieces
from jobs.trainer.compute.batches import Learned, MicroBatch, find_learned


def batch_of(rows: Ids) -> MicroBatch:
    """Returns rows, [rows, length + 1], as a micro-batch of inputs and targets.

    Attention reaches over a whole row.
    """
    tokens = torch.from_numpy(rows.astype(np.int64))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    positions, weights, learned, pieces = _whole_rows(*inputs.shape)
    return MicroBatch(
        inputs, positions, targets, weights, learned, inputs.numel(), pieces
    )


@lru_cache(maxsize=1)
def _whole_rows(
    num_rows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor, Learned, Pieces]:
    """Returns what all batches of one shape share: positions, weights and so on."""
    weights = torch.ones(num_rows, length)
    starts = np.arange(num_rows) * length
    return (
        torch.arange(length).expand(num_rows, -1).contiguous(),
        weights,
        find_learned(weights),
        sort_pieces(starts, np.full(num_rows, length)),
    )
