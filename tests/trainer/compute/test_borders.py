"""Examples in one row never see each other, in any architecture that packs them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from jobs.trainer import prepare
from jobs.trainer.compute.batches import find_learned, micro_batches
from jobs.trainer.compute.model import ModelError
from jobs.trainer.compute.objective import sums_of
from jobs.trainer.compute.shortcuts import allow_shortcuts, keeps_apart
from jobs.trainer.contract.architecture import (
    PACKING_MODELS,
    SHORT_WAY_MODELS,
    needs_own_rows,
)
from jobs.trainer.contract.spec import Spec
from jobs.trainer.rows.packing import pack
from tests.support.training import make_run

# Each size stands here under all names that architectures have for it.
SMALL = {
    "vocab_size": 96,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    # It is far less than a row.
    **dict.fromkeys(("sliding_window", "window_size"), 6),
    "attention_types": [[["global", "local"], 1]],
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_experts_per_tok": 2,
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
OWN = {"deepseek_v3": {"num_key_value_heads": 4}}
# The tokens of each example. All examples share a row, in this order.
LENGTHS = np.array([20, 12, 9, 5], dtype=np.uint32)
FIRST = int(LENGTHS[0]) - 1


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Uses one thread: several would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_model(kind):
    known = CONFIG_MAPPING[kind]()
    shape = {name: value for name, value in SMALL.items() if hasattr(known, name)}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        CONFIG_MAPPING[kind](**{**shape, **OWN.get(kind, {})}), dtype=torch.float32
    )
    # New weights are so small that any attention would look alike.
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model


class Tokens:
    """Returns the examples as a token cache has them."""

    lengths = LENGTHS
    ids = np.random.default_rng(0).integers(3, 90, LENGTHS.sum()).astype(np.uint32)
    weights = np.ones(LENGTHS.sum(), dtype=np.float32)
    starts = np.cumsum(LENGTHS, dtype=np.int64) - LENGTHS


def one_row():
    packing = pack(LENGTHS, int(LENGTHS.sum()), seed=0)
    assert [e for e, *_ in packing.row(0)] == [0, 1, 2, 3]
    return micro_batches(Tokens(), packing, [0], 1)[0]


def gradients_at_the_row(model, batch):
    """Returns how the loss depends on each token that the model was given."""
    seen = []

    def keep(module, inputs, output):
        output.retain_grad()
        seen.append(output)

    hook = model.get_input_embeddings().register_forward_hook(keep)
    sums_of(model, batch).weighted.backward()
    hook.remove()
    return seen[0].grad[0].abs().amax(1)


def loss_of_each_alone(model):
    """Makes the model use nothing but its own code."""
    total = 0.0
    for start, length in zip(Tokens.starts, LENGTHS, strict=True):
        ids = torch.tensor(Tokens.ids[start : start + length].astype(int))
        logits = model(input_ids=ids[None, :-1]).logits[0].float()
        total += functional.cross_entropy(logits, ids[1:], reduction="sum").item()
    return total


def assert_keeps_apart(model):
    batch = one_row()
    weights = batch.weights.clone()
    weights[0, :FIRST] = 0
    later = replace(batch, weights=weights, learned=find_learned(weights))
    gradients = gradients_at_the_row(model, later)
    assert gradients[:FIRST].max() == 0 < gradients[FIRST:].min()
    with torch.no_grad():
        packed = sums_of(model, batch).weighted.item()
        assert packed == pytest.approx(loss_of_each_alone(model), rel=1e-5)


@pytest.mark.parametrize("kind", sorted(PACKING_MODELS))
def test_examples_that_share_a_row_do_not_see_each_other(kind):
    """Tries both ways through the model, if it may take the short one."""
    model = tiny_model(kind).eval()
    assert_keeps_apart(model)
    if allow_shortcuts(model):
        assert_keeps_apart(model.eval())


@pytest.mark.parametrize("kind", ["opt", "bloom", "gpt_oss", "mpt"])
def test_examples_that_would_see_each_other_get_own_rows(kind, tmp_path):
    model = tiny_model(kind).eval()
    model.config.save_pretrained(tmp_path)
    assert needs_own_rows(tmp_path)
    with pytest.raises(AssertionError):
        assert_keeps_apart(model)


@pytest.mark.parametrize(
    ("kind", "apart"), [("mistral", True), ("opt", False), ("mpt", False)]
)
def test_a_trial_finds_models_that_mix_examples(kind, apart):
    assert keeps_apart(tiny_model(kind)) == apart


def test_a_model_that_mixes_examples_after_all_is_refused(tmp_path, monkeypatch):
    """A later release of a known architecture's code may be like that."""
    model = tiny_model("opt")
    model.config.model_type = "mistral"
    monkeypatch.setattr(prepare, "load_model", lambda *args, **kwargs: model)
    spec = Spec.load(make_run(tmp_path / "run").spec)
    with pytest.raises(ModelError, match="see each other"):
        prepare.model_to_train(spec)


def test_models_of_the_short_way_keep_examples_apart():
    assert SHORT_WAY_MODELS <= PACKING_MODELS
