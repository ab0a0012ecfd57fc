"""[torch] Turns the rows of a packing into tensors."""

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
    """Where a micro-batch has a weight above 0, as ascending flat positions.

    They are found on the CPU: a GPU would have to wait for the result.
    """

    # The positions within the flattened [rows, tokens].
    tokens: Tensor
    # The columns in which at least one row has a weight above 0, and the positions
    # within the flattened [rows, these columns].
    columns: Tensor
    in_columns: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Rows that go through the model at once; the tensors are [rows, longest row].

    Positions begin at 0 again in every piece. A model that does not know pieces finds
    their borders by these positions, but only if it gets no attention mask.
    """

    inputs: Tensor
    positions: Tensor
    targets: Tensor
    # Loss weights: 0 where nothing is learned, and in padding.
    weights: Tensor
    learned: Learned
    # The number of (input, target) pairs without padding.
    num_tokens: int
    pieces: Pieces

    def to(self, device: torch.device) -> "MicroBatch":
        """Returns a copy on the device. The device may still be fetching it."""
        pieces = self.pieces.to(device)
        return self._changed(lambda t: t.to(device, non_blocking=True), pieces)

    def pinned(self) -> "MicroBatch":
        """Returns a copy in memory from which a GPU can fetch it while it computes."""
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
    """Finds where weights are above 0; they are [rows, tokens] on the CPU."""
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
    """Returns the rows of one step, `micro_batch` of them at a time.

    With `alike` all have the shape [micro_batch, max_tokens]; rows and tokens that are
    missing become padding.
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
    # Positions of padding begin at 0 too: for the attention it is one more piece.
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
