"""[torch] Attention within pieces: packed rows without a mask, nothing between pieces.

A packed row holds many short examples. Attention over the whole row would mask nearly
all scores away. So the pieces are taken out of their rows and put into buckets with
other pieces of about their length, and attention works on one bucket at a time. For
rows of 256 tokens with pieces of 30 that is an eighth of the work, and it needs no mask
of [rows, tokens, tokens].
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from jobs.trainer.rows.memory import SHORT_LENGTH

# The name that a model's config gives to this attention.
NAME = "pieces"
# Pieces up to this length share one bucket. Each further bucket takes pieces of up to
# twice the length.
MIN_BUCKET_LENGTH = 16
# Arguments by which a model asks for more than plain causal attention.
OTHER_ATTENTION = ("dropout", "sliding_window", "softcap", "s_aux", "position_bias")

Ints = npt.NDArray[np.int64]


class OtherAttentionError(ValueError):
    """Says that a model needs more than plain causal attention, and keeps its own."""


@dataclass(frozen=True)
class Bucket:
    """Pieces of about one length, padded at their ends to the longest of them."""

    # [pieces, slots]: the place of each slot's token in the long row. Padding repeats
    # the last token of its piece.
    tokens: Tensor
    # [padding]: the slots that are padding, counted over the flattened bucket.
    padding: Tensor


@dataclass(frozen=True)
class Layout:
    """Maps vectors in token order to vectors in the order of the buckets, and back.

    In token order they are a tensor of [tokens * heads, size]. In the order of the
    buckets they are sorted by (bucket, piece, head, slot).
    """

    # For each vector of the buckets: which query it is, in token order.
    queries: Tensor
    # The same for keys and values, which several heads may share.
    keys: Tensor
    # The vectors of the buckets that are padding.
    padding: Tensor
    # For each query in token order: which vector of the buckets it became.
    places: Tensor
    # For each bucket (pieces, heads, slots of a piece).
    shapes: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Pieces:
    """The pieces of a micro-batch, whose rows are seen as one long row.

    The slots of all buckets are counted on from one bucket to the next. A token is in
    slot `first + offset`, where `first` is the slot in which its piece begins.
    """

    buckets: list[Bucket]
    # [tokens] each.
    first: Tensor
    offset: Tensor
    # The number of slots that a piece has in the token's bucket.
    length: Tensor
    # By (heads, key heads). Every layer has the same, so it is made once a micro-batch.
    layouts: dict[tuple[int, int], Layout] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Pieces":
        """Returns a copy on the device. The device may still be fetching it."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Pieces(
            [Bucket(moved(b.tokens), moved(b.padding)) for b in self.buckets],
            moved(self.first),
            moved(self.offset),
            moved(self.length),
        )

    def are_rows(self, shape: tuple[int, ...]) -> bool:
        """Returns whether each row is exactly one piece.

        `shape` is the micro-batch's (rows, tokens). The pieces cover all tokens, so
        they are the rows if there are equally many and they have the same length.
        """
        return len(self.buckets) == 1 and self.buckets[0].tokens.shape == shape

    def layout(self, num_heads: int, num_key_heads: int) -> Layout:
        """Returns the layout for so many heads of queries and of keys."""
        key = (num_heads, num_key_heads)
        if key not in self.layouts:
            self.layouts[key] = self._lay_out(num_heads, num_key_heads)
        return self.layouts[key]

    def _lay_out(self, num_heads: int, num_key_heads: int) -> Layout:
        heads = torch.arange(num_heads, device=self.first.device)
        key_heads = heads // (num_heads // num_key_heads)
        places = self.first[:, None] * num_heads
        places = places + heads * self.length[:, None] + self.offset[:, None]
        padding, num_rows = [], 0
        for bucket in self.buckets:
            padding.append(num_rows + _padding_rows(bucket, heads))
            num_rows += bucket.tokens.numel() * num_heads
        tokens = [bucket.tokens for bucket in self.buckets]
        return Layout(
            torch.cat([_rows(t, heads, num_heads) for t in tokens]),
            torch.cat([_rows(t, key_heads, num_key_heads) for t in tokens]),
            torch.cat(padding),
            places.flatten(),
            [(len(t), num_heads, t.shape[1]) for t in tokens],
        )


def _rows(tokens: Tensor, heads: Tensor, num_heads: int) -> Tensor:
    return (tokens[:, None, :] * num_heads + heads[:, None]).flatten()


def _padding_rows(bucket: Bucket, heads: Tensor) -> Tensor:
    length = bucket.tokens.shape[1]
    piece, slot = bucket.padding // length, bucket.padding % length
    rows = (piece[:, None] * len(heads) + heads) * length + slot[:, None]
    return rows.flatten()


def sort_pieces(starts: Ints, lengths: Ints) -> Pieces:
    """Sorts the pieces of a micro-batch into buckets by their length.

    Piece i is the tokens starts[i] to starts[i] + lengths[i] of the long row. The
    pieces must cover it without a gap.
    """
    size = np.maximum(lengths, MIN_BUCKET_LENGTH)
    kinds = np.ceil(np.log2(size)).astype(np.int64)
    where = np.empty((3, lengths.sum()), np.int64)
    buckets = []
    num_slots = 0
    for kind in np.unique(kinds):
        chosen = kinds == kind
        start, real = starts[chosen][:, None], lengths[chosen][:, None]
        slots = np.arange(real.max())[None, :]
        tokens = start + np.minimum(slots, real - 1)
        is_real = slots < real
        here = num_slots + np.arange(len(start))[:, None] * slots.size
        for number, value in enumerate((here, slots, np.array(slots.size))):
            values = np.broadcast_to(value, tokens.shape)
            where[number, tokens[is_real]] = values[is_real]
        num_slots += tokens.size
        padding = np.flatnonzero(~is_real)
        buckets.append(Bucket(torch.from_numpy(tokens), torch.from_numpy(padding)))
    return Pieces(buckets, *torch.from_numpy(where))


class _Take(torch.autograd.Function):
    """Takes vectors from token order into the buckets.

    Its backward pass gathers too, where torch would add up scattered gradients. The
    gradients of padding are left out.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sources: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.num_rows = len(rows)
        return rows.index_select(0, sources)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        taken = gradient.index_select(0, places)
        # A key that several heads share has several gradients.
        shared = taken.view(ctx.num_rows, -1, gradient.shape[1])
        return shared.sum(1) if shared.shape[1] > 1 else taken, None, None


class _PutBack(torch.autograd.Function):
    """Takes vectors from the buckets back into the token order of the queries."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return rows.index_select(0, layout.places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        taken = gradient.index_select(0, ctx.layout.queries)
        return taken.index_fill_(0, ctx.layout.padding, 0), None


class _AttendShort(torch.autograd.Function):
    """Computes causal softmax(Q Kᵀ) V; all tensors are [pieces * heads, slots, size].

    It makes plain products and keeps all probabilities for the backward pass. On CPUs
    torch's own backward pass is several times slower for short pieces.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = torch.bmm(query, key.transpose(1, 2))
        scores += scores.new_full(scores.shape[1:], float("-inf")).triu_(1)
        probabilities = torch.softmax(scores, dim=2)
        ctx.save_for_backward(query, key, value, probabilities)
        return torch.bmm(probabilities, value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, probabilities = ctx.saved_tensors
        d_value = torch.bmm(probabilities.transpose(1, 2), gradient)
        d_probabilities = torch.bmm(gradient, value.transpose(1, 2))
        d_scores = torch._softmax_backward_data(
            d_probabilities, probabilities, 2, probabilities.dtype
        )
        d_query = torch.bmm(d_scores, key)
        return d_query, torch.bmm(d_scores.transpose(1, 2), query), d_value


def _attend_within(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Returns the attention within one bucket: [pieces, heads, slots, size]."""
    # On a CPU and for short pieces, plain products are faster than torch's attention.
    if query.device.type == "cpu" and query.shape[2] <= SHORT_LENGTH:
        flat = (states.flatten(0, 1) for states in (query, key, value))
        output: Tensor = _AttendShort.apply(*flat)
        return output.view(query.shape)
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=1.0
    )


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pieces: Pieces | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Returns the attention within pieces, and None for the weights.

    transformers calls it with query, key and value of [rows, heads, tokens, size]; the
    result is [rows, tokens, heads, size]. Without pieces, as when text is generated, it
    calls transformers' own attention. Raises OtherAttentionError if the model asks for
    more than plain causal attention.
    """
    if pieces is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return result
    for name in OTHER_ATTENTION:
        if kwargs.get(name):
            raise OtherAttentionError(f"the model asks for {name}")
    rows, num_heads, width, size = query.shape
    # Rotary positions may have left queries and keys in another precision.
    parts = [x.to(value.dtype) for x in (query * kwargs["scaling"], key, value)]
    if pieces.are_rows((rows, width)) and num_heads == key.shape[1]:
        return _attend_within(*parts).transpose(1, 2), None
    layout = pieces.layout(num_heads, key.shape[1])
    sources = (layout.queries, layout.keys, layout.keys)
    flat = [states.transpose(1, 2).reshape(-1, size) for states in parts]
    taken = [
        _Take.apply(states, source, layout.places)
        for states, source in zip(flat, sources, strict=True)
    ]
    num_slots = [math.prod(shape) for shape in layout.shapes]
    buckets = zip(*(states.split(num_slots) for states in taken), strict=True)
    outputs = [
        _attend_within(*(part.view(*shape, size) for part in bucket)).reshape(-1, size)
        for bucket, shape in zip(buckets, layout.shapes, strict=True)
    ]
    output = _PutBack.apply(torch.cat(outputs), layout)
    return output.view(rows, width, num_heads, size), None


def leave_uncompiled() -> None:
    """Keeps this attention out of compiled layers.

    Its shapes differ from one micro-batch to the next, so each would be compiled anew.
    """
    AttentionInterface.register(NAME, torch.compiler.disable(attend))


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
