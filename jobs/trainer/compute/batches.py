"""[torch] Rows of a packing as tensors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.trainer.compute.attention import Bucket, Pieces, sort_pieces
from jobs.trainer.rows.packing import Packing
from jobs.trainer.rows.token_cache import TokenCache


@dataclass(frozen=True)
class Learned:
    """Where a micro-batch has a weight above 0: flat positions, in order.

    Found before it goes to a device, which would have to wait for the answer.
    """

    # Among (rows, tokens).
    tokens: Tensor
    # Columns in which some row learns, and the tokens among (rows, those columns).
    columns: Tensor
    in_columns: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Rows that go through the model at once; tensors are (rows, longest row).

    Positions restart at every piece. A model that knows no pieces takes the borders
    from them alone: an attention mask beside them would switch that off.
    """

    inputs: Tensor
    positions: Tensor
    targets: Tensor
    # 0 where nothing is learned, padding included.
    weights: Tensor
    learned: Learned
    # Pairs in it without padding.
    num_tokens: int
    pieces: Pieces

    def to(self, device: torch.device) -> "MicroBatch":
        pieces = self.pieces.to(device)
        return self._changed(lambda t: t.to(device, non_blocking=True), pieces)

    def pinned(self) -> "MicroBatch":
        """In memory from which a device can fetch it while it computes."""
        pieces = self.pieces
        buckets = [
            Bucket(bucket.tokens.pin_memory(), bucket.padding.pin_memory())
            for bucket in pieces.buckets
        ]
        pinned = Pieces(
            buckets,
            pieces.first.pin_memory(),
            pieces.offset.pin_memory(),
            pieces.length.pin_memory(),
        )
        return self._changed(lambda tensor: tensor.pin_memory(), pinned)

    def _changed(
        self, change: Callable[[Tensor], Tensor], pieces: Pieces
    ) -> "MicroBatch":
        learned = self.learned
        return MicroBatch(
            change(self.inputs),
            change(self.positions),
            change(self.targets),
            change(self.weights),
            Learned(
                change(learned.tokens),
                change(learned.columns),
                change(learned.in_columns),
            ),
            self.num_tokens,
            pieces,
        )


def find_learned(weights: Tensor) -> Learned:
    """`weights`: (rows, tokens), on the CPU."""
    rows, tokens = (weights > 0).nonzero(as_tuple=True)
    columns, places = tokens.unique(return_inverse=True)
    return Learned(
        rows * weights.shape[1] + tokens, columns, rows * len(columns) + places
    )


def micro_batches(
    cache: TokenCache,
    packing: Packing,
    rows: list[int],
    micro_batch: int,
    *,
    alike: bool = False,
) -> list[MicroBatch]:
    """The rows of one step, `micro_batch` of them at a time.

    `alike`: all of one shape, with empty rows and room at the end where need be.
    """
    shape = (micro_batch, packing.max_tokens) if alike else None
    return [
        _micro_batch(cache, packing, rows[first : first + micro_batch], shape)
        for first in range(0, len(rows), micro_batch)
    ]


def _micro_batch(
    cache: TokenCache,
    packing: Packing,
    rows: list[int],
    shape: tuple[int, int] | None,
) -> MicroBatch:
    pieces = [packing.row(row) for row in rows]
    lengths = [sum(length for _, _, length in row) for row in pieces]
    if shape is None:
        shape = (len(rows), max(lengths))
    pieces += [[]] * (shape[0] - len(rows))
    inputs = np.zeros(shape, dtype=np.int64)
    targets = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    # Padding counts on from 0 too: for the attention it is one more piece.
    positions = np.broadcast_to(np.arange(shape[1]), shape).copy()
    borders = []
    for number, row in enumerate(pieces):
        begin = end = 0
        for example, start, length in row:
            begin, end = end, end + length
            borders.append(number * shape[1] + begin)
            source = int(cache.starts[example]) + start
            inputs[number, begin:end] = cache.ids[source : source + length]
            targets[number, begin:end] = cache.ids[source + 1 : source + length + 1]
            weights[number, begin:end] = cache.weights[source + 1 : source + length + 1]
            positions[number, begin:end] = np.arange(length)
        positions[number, end:] = np.arange(shape[1] - end)
        if end < shape[1]:
            borders.append(number * shape[1] + end)
    starts = np.array(borders)
    return MicroBatch(
        torch.from_numpy(inputs),
        torch.from_numpy(positions),
        torch.from_numpy(targets),
        torch.from_numpy(weights),
        find_learned(torch.from_numpy(weights)),
        sum(lengths),
        sort_pieces(starts, np.diff(starts, append=inputs.size)),
    )
