"""Attention within pieces gives the same as torch's own with a mask of blocks."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from jobs.trainer.compute.attention import (
    SHORT_LENGTH,
    OtherAttentionError,
    attend,
    sort_pieces,
)

SIZE = 8


def random_states(num_tokens, num_heads, num_key_heads):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(
            1, heads, num_tokens, SIZE, dtype=torch.float64, generator=generator
        ).requires_grad_()
        for heads in (num_heads, num_key_heads, num_key_heads)
    ]


def masked(query, key, value, lengths):
    """Returns the reference: attention over the whole row with a mask."""
    piece = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (piece[:, None] == piece[None]).tril()
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3
    )
    return output.transpose(1, 2)


def by_pieces(query, key, value, lengths):
    lengths = np.array(lengths)
    pieces = sort_pieces(np.cumsum(lengths) - lengths, lengths)
    return attend(None, query, key, value, None, pieces=pieces, scaling=0.3)[0]


@pytest.mark.parametrize("num_key_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "lengths", [[1], [24], [5, 1, 30, 17, 16, 64], [3, SHORT_LENGTH + 9, 40]]
)
def test_outputs_and_gradients_are_those_under_a_mask(lengths, num_key_heads):
    states = random_states(sum(lengths), 4, num_key_heads)
    expected = masked(*states, lengths)
    found = by_pieces(*states, lengths)
    assert torch.allclose(found, expected)
    gradient = torch.randn_like(expected)
    for wanted, got in zip(
        torch.autograd.grad(expected, states, gradient),
        torch.autograd.grad(found, states, gradient),
        strict=True,
    ):
        assert torch.allclose(got, wanted)


def test_rows_that_are_one_piece_each_keep_apart():
    states = [states.view(2, 4, 20, SIZE) for states in random_states(40, 4, 4)]
    pieces = sort_pieces(np.array([0, 20]), np.array([20, 20]))
    found = attend(None, *states, None, pieces=pieces, scaling=0.3)[0]
    alone = [by_pieces(*(x[None, row] for x in states), [20]) for row in range(2)]
    assert torch.allclose(found, torch.cat(alone))
    assert torch.allclose(found[1:], masked(*(x[None, 1] for x in states), [20]))


@pytest.mark.parametrize("asked", ["sliding_window", "softcap", "dropout"])
def test_other_kinds_of_attention_are_refused(asked):
    states = random_states(4, 2, 2)
    pieces = sort_pieces(np.array([0]), np.array([4]))
    with pytest.raises(OtherAttentionError, match=asked):
        attend(None, *states, None, pieces=pieces, scaling=1.0, **{asked: 1})
