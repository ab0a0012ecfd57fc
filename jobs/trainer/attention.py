"""[torch] Attention within pieces: packed rows without a mask, nothing between pieces.

A packed row holds many short examples. Over the whole row nearly all scores would be
masked away, so the pieces are taken out, laid side by side with others of about their
length, and attended to alone: for rows of 256 tokens with pieces of 30 that is an
eighth of the work, and no mask of (rows, tokens, tokens) exists.
"""

from collections.abc import Iterator
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

# The name that a model's config gives to this attention.
NAME = "pieces"
# Pieces up to this length go together; longer ones with those up to twice as long.
SHORTEST_BUCKET = 16
# Queries of a head at a time, each with all keys up to it.
QUERIES_AT_ONCE = 256
# Scores at a time: they are gone over several times, so they should stay in a cache.
SCORES_AT_ONCE = 2**21
# Up to this length the probabilities are kept for the backward pass; beyond it they
# take more room than queries, keys and values, and are made again.
KEPT_LENGTH = 128

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bucket:
    """Pieces of about one length, padded at their ends to the longest."""

    # (pieces, length): the token in each slot. Padding repeats a piece's last token.
    tokens: Tensor
    # Slots that are padding, counted over the flat bucket.
    padding: Tensor


@dataclass(frozen=True)
class Layout:
    """Where rows of (tokens * heads, head size) lie in the buckets, and back."""

    # A bucket each: the source of every row, in the order (piece, head, slot).
    queries: list[Tensor]
    # The same of keys and values, of which several heads may share one.
    keys: list[Tensor]
    # A bucket each: rows that are padding.
    padding: list[Tensor]
    # The row of all buckets, one behind the other, that each row became.
    places: Tensor
    # Slots of a piece in each bucket.
    lengths: list[int]

    def take(self, number: int, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value in a bucket: (pieces * heads, length, size)."""
        query, key, value = tensors
        queries, keys = self.queries[number], self.keys[number]
        sources = ((query, queries), (key, keys), (value, keys))
        q, k, v = (self._shaped(number, x.index_select(0, i)) for x, i in sources)
        return q, k, v

    def take_gradient(self, number: int, gradient: Tensor) -> Tensor:
        """The output's gradient in a bucket; padding had no part in it."""
        taken = gradient.index_select(0, self.queries[number])
        return self._shaped(number, taken.index_fill_(0, self.padding[number], 0))

    def put_back(self, parts: list[Tensor]) -> Tensor:
        """All buckets as (tokens * heads, size) again."""
        rows = [part.flatten(0, 1) for part in parts]
        return torch.cat(rows).index_select(0, self.places)

    def _shaped(self, number: int, rows: Tensor) -> Tensor:
        return rows.view(-1, self.lengths[number], rows.shape[1])


@dataclass(frozen=True)
class Pieces:
    """Where the pieces of a micro-batch lie; its rows are seen as one long row.

    A token is in slot `first + offset` of all buckets, one behind the other, where
    `first` is the slot in which its piece begins.
    """

    buckets: list[Bucket]
    first: Tensor
    offset: Tensor
    # Slots of a piece in the token's bucket.
    length: Tensor
    # Every layer has the same heads: made once a micro-batch.
    layouts: dict[tuple[int, int], Layout] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Pieces":
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Pieces(
            [Bucket(moved(b.tokens), moved(b.padding)) for b in self.buckets],
            moved(self.first),
            moved(self.offset),
            moved(self.length),
        )

    def layout(self, num_heads: int, num_key_heads: int) -> Layout:
        key = (num_heads, num_key_heads)
        if key not in self.layouts:
            self.layouts[key] = self._lay_out(num_heads, num_key_heads)
        return self.layouts[key]

    def _lay_out(self, num_heads: int, num_key_heads: int) -> Layout:
        heads = torch.arange(num_heads, device=self.first.device)
        key_heads = heads // (num_heads // num_key_heads)
        places = self.first[:, None] * num_heads
        places = places + heads * self.length[:, None] + self.offset[:, None]
        return Layout(
            [_rows(b.tokens, heads, num_heads) for b in self.buckets],
            [_rows(b.tokens, key_heads, num_key_heads) for b in self.buckets],
            [_padding_rows(b, heads) for b in self.buckets],
            places.flatten(),
            [b.tokens.shape[1] for b in self.buckets],
        )


def _rows(tokens: Tensor, heads: Tensor, num_heads: int) -> Tensor:
    return (tokens[:, None, :] * num_heads + heads[:, None]).flatten()


def _padding_rows(bucket: Bucket, heads: Tensor) -> Tensor:
    length = bucket.tokens.shape[1]
    piece, slot = bucket.padding // length, bucket.padding % length
    rows = (piece[:, None] * len(heads) + heads) * length + slot[:, None]
    return rows.flatten()


def sort_pieces(starts: Ints, lengths: Ints) -> Pieces:
    """Pieces that cover a micro-batch without a gap: piece i has tokens
    starts[i] to starts[i] + lengths[i] of the long row.
    """
    size = np.maximum(lengths, SHORTEST_BUCKET)
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


class _Attend(torch.autograd.Function):
    """softmax(Q Kᵀ) V within each piece and head, causal.

    All of (tokens * heads, size). Written out with its backward pass: on CPUs torch's
    own is several times slower for short pieces, and gathering both ways needs no
    scattered sums.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout
    ) -> Tensor:
        kept: list[Tensor] = []
        outputs = []
        for number in range(len(layout.queries)):
            q, k, v = layout.take(number, query, key, value)
            output = torch.empty_like(q)
            for block in _blocks(q):
                p = block.probabilities(q, k)
                torch.bmm(p, block.keys(v), out=block.queries(output))
                if q.shape[1] <= KEPT_LENGTH:
                    kept.append(p)
            outputs.append(output)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.layout = layout
        return layout.put_back(outputs)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        layout = ctx.layout
        parts = []
        for number in range(len(layout.queries)):
            q, k, v = layout.take(number, query, key, value)
            d_out = layout.take_gradient(number, d_output)
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for block in _blocks(q):
                short = q.shape[1] <= KEPT_LENGTH
                p = kept.pop(0) if short else block.probabilities(q, k)
                d_block = block.queries(d_out)
                block.keys(dv).baddbmm_(p.transpose(1, 2), d_block)
                dp = torch.bmm(d_block, block.keys(v).transpose(1, 2))
                ds = torch._softmax_backward_data(dp, p, 2, p.dtype)
                torch.bmm(ds, block.keys(k), out=block.queries(dq))
                block.keys(dk).baddbmm_(ds.transpose(1, 2), block.queries(q))
            parts.append((dq, dk, dv))
        dq, dk, dv = (layout.put_back(list(part)) for part in zip(*parts, strict=True))
        return dq, _summed(dk, key), _summed(dv, value), None


@dataclass(frozen=True)
class _Block:
    """Some queries of some heads, with all keys up to the last of the queries."""

    heads: slice
    start: int
    end: int

    def queries(self, rows: Tensor) -> Tensor:
        return rows[self.heads, self.start : self.end]

    def keys(self, rows: Tensor) -> Tensor:
        return rows[self.heads, : self.end]

    def probabilities(self, query: Tensor, key: Tensor) -> Tensor:
        """(heads, queries, keys)"""
        scores = torch.bmm(self.queries(query), self.keys(key).transpose(1, 2))
        # Only the last keys come after some of the queries.
        corner = scores[:, :, self.start :]
        corner += query.new_full(corner.shape[1:], float("-inf")).triu_(1)
        return torch.softmax(scores, dim=2)


def _blocks(query: Tensor) -> Iterator[_Block]:
    """Blocks of a bucket's (pieces * heads, length, size), small enough for a cache."""
    num_heads, length, _ = query.shape
    heads = max(1, SCORES_AT_ONCE // (min(length, QUERIES_AT_ONCE) * length))
    for head in range(0, num_heads, heads):
        for start in range(0, length, QUERIES_AT_ONCE):
            end = min(start + QUERIES_AT_ONCE, length)
            yield _Block(slice(head, head + heads), start, end)


def _summed(gradient: Tensor, source: Tensor) -> Tensor:
    """Over the heads that share a key or value."""
    if gradient.shape == source.shape:
        return gradient
    return gradient.view(len(source), -1, source.shape[1]).sum(1)


def _attend_with_torch(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout
) -> Tensor:
    """The same by torch's own kernels, which on GPUs are the faster ones."""
    outputs = []
    for number in range(len(layout.queries)):
        q, k, v = layout.take(number, query, key, value)
        output = functional.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=True, scale=1.0
        )
        outputs.append(output[0])
    return layout.put_back(outputs)


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
    """Attention as transformers calls it, with all of (rows, heads, tokens, size).

    Without pieces, as when text is generated, it is transformers' own.
    """
    if pieces is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return result
    rows, num_heads, width, size = query.shape
    # Rotary positions may have left queries and keys in another precision.
    scaled = query * kwargs["scaling"]
    q, k, v = (
        x.transpose(1, 2).reshape(-1, size).to(value.dtype)
        for x in (scaled, key, value)
    )
    layout = pieces.layout(num_heads, key.shape[1])
    way = _Attend.apply if query.device.type == "cpu" else _attend_with_torch
    output = way(q, k, v, layout)
    return output.view(rows, width, num_heads, size), None


def leave_uncompiled() -> None:
    """When layers are compiled: pieces differ from one micro-batch to the next."""
    AttentionInterface.register(NAME, torch.compiler.disable(attend))


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
