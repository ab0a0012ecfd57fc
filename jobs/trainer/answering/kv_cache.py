"""[torch] The cache of keys and values, with one row for each answer.

Rows may be added and removed while the answers grow.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

# A buffer grows by so many tokens, or by one ROOM_SHARE-th of its length if that is
# more.
ROOM_TOKENS = 64
ROOM_SHARE = 4


class RoomyLayer(DynamicLayer):
    """Writes the keys and values of new tokens into a buffer that has free room.

    The layer of transformers copies all earlier keys and values for every token, which
    halves the speed of a few rows of 600 tokens.
    """

    keys: Tensor
    values: Tensor
    buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends new keys and values, [rows, heads, tokens, size]; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, num_new = self.get_seq_length(), key_states.shape[-2]
        end = start + num_new
        if self.buffers is None or end > self.buffers[0].shape[-2]:
            self.buffers = (
                _with_room(self.keys, key_states, start, end),
                _with_room(self.values, value_states, start, end),
            )
        keys, values = self.buffers
        keys.narrow(-2, start, num_new).copy_(key_states)
        values.narrow(-2, start, num_new).copy_(value_states)
        self.keys, self.values = keys.narrow(-2, 0, end), values.narrow(-2, 0, end)
        return self.keys, self.values


def _with_room(old: Tensor, new: Tensor, start: int, end: int) -> Tensor:
    room = max(ROOM_TOKENS, end // ROOM_SHARE)
    buffer = new.new_empty(*new.shape[:-2], end + room, new.shape[-1])
    if start:
        buffer.narrow(-2, 0, start).copy_(old)
    return buffer


def new_cache() -> Cache:
    """Returns an empty cache."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def stacked(upper: Cache, lower: Cache, copies: int) -> Cache:
    """Returns the rows of `upper`, followed by the one row of `lower` `copies` times.

    The shorter rows are padded on the left.
    """
    joined = new_cache()
    for number, layer in enumerate(lower.layers):
        keys = layer.keys.expand(copies, -1, -1, -1)
        values = layer.values.expand(copies, -1, -1, -1)
        if upper.layers:
            above = upper.layers[number]
            keys = _below(above.keys, keys)
            values = _below(above.values, values)
        joined.update(keys, values, number)
    return joined


def _below(upper: Tensor, lower: Tensor) -> Tensor:
    width = max(upper.shape[-2], lower.shape[-2])
    return torch.cat([_padded(upper, width), _padded(lower, width)])


def _padded(states: Tensor, width: int) -> Tensor:
    missing = width - states.shape[-2]
    return pad(states, (0, 0, missing, 0)) if missing else states


def selected(cache: Cache, places: Sequence[int], length: int) -> Cache:
    """Returns the last `length` tokens of the rows at these places."""
    kept = new_cache()
    for number, layer in enumerate(cache.layers):
        index = torch.tensor(places, device=layer.keys.device)
        keys = layer.keys.narrow(-2, layer.keys.shape[-2] - length, length)
        values = layer.values.narrow(-2, layer.values.shape[-2] - length, length)
        kept.update(keys[index], values[index], number)
    return kept
