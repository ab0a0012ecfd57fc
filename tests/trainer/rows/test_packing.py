"""Packed rows lose nothing, mix nothing up, and follow the guide's arithmetic."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.trainer.contract.architecture import needs_own_rows
from jobs.trainer.rows import packing as packing_module
from jobs.trainer.rows.packing import one_by_one, pack, row_order

LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=80)


def lengths_of(values):
    return np.array(values, dtype=np.uint32)


def lengths_that_fit(max_tokens):
    lengths = st.lists(st.integers(1, max_tokens), max_size=120)
    return st.tuples(st.just(max_tokens), lengths)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 3))
@settings(deadline=None)
def test_every_pair_of_every_example_stands_in_one_row(lengths, max_tokens, seed):
    packing = pack(lengths_of(lengths), max_tokens, seed)
    found = sorted(
        (example, pair)
        for row in range(packing.num_rows)
        for example, start, length in packing.row(row)
        for pair in range(start, start + length)
    )
    assert found == [(e, p) for e, n in enumerate(lengths) for p in range(n - 1)]


@given(LENGTHS, st.integers(1, 40))
@settings(deadline=None)
def test_no_row_is_overfull(lengths, max_tokens):
    packing = pack(lengths_of(lengths), max_tokens, seed=1)
    for row in range(packing.num_rows):
        assert 0 < sum(n for _, _, n in packing.row(row)) <= max_tokens


def fills_by_plain_best_fit(lengths, max_tokens):
    """Returns how full each row gets when every piece is tried in every row."""
    fills = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, fill in enumerate(fills) if fill + length <= max_tokens]
        if fitting:
            fills[max(fitting, key=fills.__getitem__)] += length
        else:
            fills.append(length)
    return sorted(fills)


def fills_of(packing):
    rows = map(packing.row, range(packing.num_rows))
    return sorted(sum(length for _, _, length in row) for row in rows)


@given(st.integers(1, 40).flatmap(lengths_that_fit))
@settings(deadline=None)
def test_rows_get_as_full_as_by_looking_at_every_row(case):
    max_tokens, lengths = case
    packing = pack(lengths_of(lengths) + 1, max_tokens, seed=1)
    assert fills_of(packing) == fills_by_plain_best_fit(lengths, max_tokens)


def test_many_pieces_of_few_lengths_are_packed_the_same_way():
    lengths = np.random.default_rng(1).integers(22, 41, size=3000).tolist()
    packing = pack(lengths_of(lengths) + 1, 256, seed=1)
    assert fills_of(packing) == fills_by_plain_best_fit(lengths, 256)


def test_how_many_are_sorted_at_once_changes_nothing(monkeypatch):
    lengths = np.random.default_rng(1).integers(2, 70, size=500).astype(np.uint32)
    whole = pack(lengths, 32, seed=1)
    monkeypatch.setattr(packing_module, "SORTED_AT_ONCE", 7)
    assert pack(lengths, 32, seed=1).examples.tolist() == whole.examples.tolist()


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 8), (2, 4)])
def test_16384_tokens_make_8_rows_of_2048(batch_size, steps):
    packing = pack(lengths_of([16384 + 1]), 2048, seed=1)
    assert -(-packing.num_rows // batch_size) == steps


def test_long_examples_are_cut_and_counted():
    packing = pack(lengths_of([11, 5, 4]), 4, seed=1)
    assert packing.num_cut == 1
    assert packing.padding_share == pytest.approx(1 - 17 / 20)


def test_the_same_seed_packs_the_same():
    lengths = lengths_of([9, 9, 9, 5, 5, 3, 3, 2])
    first, second = pack(lengths, 10, seed=3), pack(lengths, 10, seed=3)
    assert first.examples.tolist() == second.examples.tolist()


def test_another_seed_puts_other_examples_together():
    lengths = lengths_of([9] * 50)
    first, second = pack(lengths, 16, seed=3), pack(lengths, 16, seed=4)
    assert first.examples.tolist() != second.examples.tolist()


def test_unpacked_rows_hold_one_piece_each():
    packing = one_by_one(lengths_of([5, 11]), 4)
    assert [len(packing.row(row)) for row in range(packing.num_rows)] == [1] * 4


@pytest.mark.parametrize(
    ("config", "own_rows"),
    [
        ({"model_type": "llama"}, False),
        ({"model_type": "gemma3_text", "layer_types": ["sliding_attention"]}, False),
        ({"model_type": "llama", "layer_types": ["linear_attention"]}, True),
        ({"model_type": "mamba"}, True),
        ({"model_type": "opt"}, True),
        ({"model_type": "never heard of"}, True),
        ({"model_type": "sees", "text_config": {"model_type": "llama"}}, True),
        ({}, True),
    ],
)
def test_only_known_models_have_several_examples_in_a_row(config, own_rows, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert needs_own_rows(tmp_path) == own_rows


def test_epochs_shuffle_rows_differently_and_repeatably():
    first, second = row_order(50, seed=1, epoch=0), row_order(50, seed=1, epoch=1)
    assert first.tolist() != second.tolist()
    assert sorted(second.tolist()) == list(range(50))
    assert row_order(50, seed=1, epoch=1).tolist() == second.tolist()
