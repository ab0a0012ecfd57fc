"""The loss is that of a plain float64 reference that takes one token at a time."""

from pathlib import Path

import pytest
import torch

from jobs.trainer.compute.batches import micro_batches
from jobs.trainer.compute.model import load_model
from jobs.trainer.compute.objective import count_learned, losses_of, sums_of
from jobs.trainer.compute.shortcuts import allow_shortcuts
from jobs.trainer.rows.packing import pack
from jobs.trainer.rows.token_cache import build_token_cache
from tests.support.training import TINY, make_run

EXAMPLES = [
    [("Why?", 0.1), (" Because of the rain.", 0.9)],
    [("Only read.", 0.0)],
    [("Hm", 0.0), (" yes", 2.5), (" no", 0.0)],
    [("A much longer one, which is cut into several pieces by the row.", 1.0)],
]
MAX_TOKENS = 12


@pytest.fixture(scope="module", params=["long way", "short way"])
def model(request):
    model = load_model(TINY, dtype=torch.float64)
    if request.param == "short way":
        assert allow_shortcuts(model)
    return model


@pytest.fixture
def cache(tmp_path):
    run = make_run(tmp_path / "run", EXAMPLES)
    examples = run.path / "train" / "examples.jsonl"
    return build_token_cache(examples, Path(TINY.path), tmp_path / "tokens" / "x")


def reference(model, cache):
    """Returns loss and learned loss, token by token, with each piece alone."""
    packing = pack(cache.lengths, MAX_TOKENS, seed=1)
    weighted, plain, count = 0.0, 0.0, 0
    for row in range(packing.num_rows):
        for example, start, length in packing.row(row):
            begin = int(cache.starts[example]) + start
            ids = torch.tensor(cache.ids[begin : begin + length + 1].astype(int))
            logits = model(input_ids=ids[None, :-1]).logits[0]
            for position in range(length):
                weight = float(cache.weights[begin + position + 1])
                nll = -logits[position].log_softmax(-1)[ids[position + 1]]
                weighted += weight * nll
                plain += nll if weight > 0 else 0
                count += weight > 0
    return weighted / count, plain / count


def packed(model, cache, micro_batch):
    packing = pack(cache.lengths, MAX_TOKENS, seed=1)
    batches = micro_batches(cache, packing, list(range(packing.num_rows)), micro_batch)
    num_learned = count_learned(batches)
    total = None
    for batch in batches:
        sums = sums_of(model, batch)
        if sums is None:
            continue
        (sums.weighted / num_learned).backward()
        total = sums.detach() if total is None else total + sums.detach()
    return losses_of(total, num_learned)


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_packed_losses_equal_the_reference(model, cache, micro_batch):
    loss, learned_loss = reference(model, cache)
    losses = packed(model, cache, micro_batch)
    assert losses.loss == pytest.approx(float(loss), rel=1e-6)
    assert losses.learned_loss == pytest.approx(float(learned_loss), rel=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 8])
def test_gradients_equal_those_of_the_reference(model, cache, micro_batch):
    model.zero_grad()
    reference(model, cache)[0].backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    packed(model, cache, micro_batch)
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max()
        assert (parameter.grad - expected[name]).abs().max() < 1e-5 * scale, name


def test_a_weight_of_a_tenth_on_everything_is_a_tenth_of_the_loss(model, tmp_path):
    losses = []
    for weight in (1.0, 0.1):
        run = make_run(tmp_path / str(weight), [[("What a day.", weight)]])
        cache = build_token_cache(
            run.path / "train" / "examples.jsonl",
            Path(TINY.path),
            run.path / "tokens" / "x",
        )
        losses.append(packed(model, cache, 1))
    assert losses[1].loss == pytest.approx(losses[0].loss / 10, rel=1e-5)
    assert losses[1].learned_loss == pytest.approx(losses[0].learned_loss, rel=1e-5)
