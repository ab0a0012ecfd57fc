"""Architectures of all kinds take the short way only where it changes nothing."""

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from jobs.trainer.compute.attention import sort_pieces
from jobs.trainer.compute.batches import MicroBatch, find_learned
from jobs.trainer.compute.model import add_lora
from jobs.trainer.compute.objective import sums_of
from jobs.trainer.compute.shortcuts import allow_shortcuts, takes_shortcuts
from jobs.trainer.contract.architecture import SHORT_WAY_MODELS, takes_short_way
from jobs.trainer.contract.spec import Lora

SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def small(kind, **settings):
    torch.manual_seed(2)
    config = CONFIG_MAPPING[kind](**{**SMALL, **settings})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # New weights are so small that any attention would look alike.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def a_batch():
    ids = torch.arange(LENGTHS.sum()).view(2, -1) * 31 % 90
    positions = np.concatenate([np.arange(length) for length in LENGTHS])
    return MicroBatch(
        ids,
        torch.from_numpy(positions).view(2, -1),
        ids.roll(-1),
        (ids % 3).float(),
        find_learned((ids % 3).float()),
        ids.numel(),
        sort_pieces(np.cumsum(LENGTHS) - LENGTHS, LENGTHS),
    )


def loss_and_gradients(model):
    model.zero_grad()
    loss = sums_of(model, a_batch()).weighted
    loss.backward()
    return loss.item(), {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


LENGTHS = np.array([9, 23, 2, 30])
SLIDING = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
# Settings that some kinds of models name differently, or have in addition.
OWN = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0},
    "mistral": {"sliding_window": None},
}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert (found[name] - gradient).abs().max() < 1e-4 * scale, name


@pytest.mark.parametrize(
    "kind", ["llama", "qwen2", "qwen3", "mistral", "gpt2", "olmo2"]
)
def test_the_short_way_gives_the_numbers_of_the_long_one(kind):
    model = small(kind, **OWN.get(kind, {})).eval()
    loss, gradients = loss_and_gradients(model)
    assert allow_shortcuts(model)
    model.eval()
    short_loss, short_gradients = loss_and_gradients(model)
    assert short_loss == pytest.approx(loss, rel=1e-5)
    assert_close(short_gradients, gradients)


@pytest.mark.parametrize("kind", sorted(SHORT_WAY_MODELS))
def test_what_is_certain_from_the_files_is_so(kind, tmp_path):
    model = small(kind)
    model.config.save_pretrained(tmp_path)
    assert takes_short_way(tmp_path)
    assert allow_shortcuts(model)


def test_an_adapter_goes_along():
    model = add_lora(small("llama"), Lora(rank=4))
    # A new adapter changes nothing yet, and half of its gradients are 0.
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    loss, gradients = loss_and_gradients(model)
    assert allow_shortcuts(model)
    short_loss, short_gradients = loss_and_gradients(model)
    assert short_loss == pytest.approx(loss, rel=1e-5)
    assert_close(short_gradients, gradients)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 0.3}),
        ("gemma2", {}),
        ("mistral", {"sliding_window": 8}),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        ),
        ("llama", {"attention_dropout": 0.1}),
    ],
)
def test_a_model_with_ways_of_its_own_keeps_them(kind, shape, tmp_path):
    model = small(kind, **shape)
    model.config.save_pretrained(tmp_path)
    assert not takes_short_way(tmp_path)
    used = model.config._attn_implementation
    assert not allow_shortcuts(model)
    assert not takes_shortcuts(model)
    assert model.config._attn_implementation == used
