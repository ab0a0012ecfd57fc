"""The loss computed in parts equals torch's cross entropy over all logits."""

import pytest
import torch
from torch.nn import functional

from jobs.trainer.compute import output_loss
from jobs.trainer.compute.output_loss import weighted_loss

VOCABULARY, WIDTH, TOKENS = 50, 16, 23


@pytest.fixture(params=[1, 7, 1000], ids=lambda n: f"{n} tokens at once")
def parts(request, monkeypatch):
    monkeypatch.setattr(output_loss, "LOGITS_AT_ONCE", request.param * VOCABULARY)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)
    output = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, generator=generator)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    weights = torch.rand(TOKENS, dtype=torch.float64, generator=generator) * 3
    return hidden.requires_grad_(), output.requires_grad_(), targets, weights


def plain(hidden, output, targets, weights):
    nll = functional.cross_entropy(hidden @ output.T, targets, reduction="none")
    return (weights * nll).sum(), nll.sum()


def test_sums_and_gradients_are_those_of_all_logits(parts, inputs):
    expected, expected_plain = plain(*inputs)
    found, found_plain, _ = weighted_loss(*inputs)
    assert torch.allclose(found, expected)
    assert torch.allclose(found_plain, expected_plain)
    for wanted, got in zip(
        torch.autograd.grad(expected / 7, inputs[:2]),
        torch.autograd.grad(found / 7, inputs[:2]),
        strict=True,
    ):
        assert torch.allclose(got, wanted)


def test_of_equal_choices_the_first_one_counts():
    hidden, output = torch.zeros(9, 4), torch.zeros(5, 4)
    found = weighted_loss(hidden, output, torch.arange(9) % 5, torch.ones(9))
    assert found[2] == 2


def test_an_output_layer_that_is_not_trained_costs_nothing(inputs):
    hidden, output, *rest = inputs
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor
    ):
        weighted_loss(hidden, output.detach(), *rest)
    assert output.shape not in kept


def test_counts_targets_that_are_the_first_choice(parts, inputs):
    hidden, output, targets, weights = inputs
    best = (hidden @ output.T).argmax(1)
    targets = torch.where(torch.arange(TOKENS) < 9, best, (best + 1) % VOCABULARY)
    assert weighted_loss(hidden, output, targets, weights)[2] == 9


def test_without_gradients_none_is_made(inputs):
    with torch.no_grad():
        assert not weighted_loss(*inputs)[0].requires_grad


def test_under_autocast_the_loss_is_taken_in_float32(inputs):
    hidden, output, targets, weights = (
        x.float() if x.is_floating_point() else x for x in inputs
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weighted_loss(hidden, output, targets, weights)[0]
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(plain(*inputs)[0]), rel=1e-2)


def test_in_bfloat16_parts_add_up_in_float32(inputs, monkeypatch):
    """The sum of any number of parts is rounded only once."""
    hidden, output, targets, weights = (
        x.detach().float() if x.is_floating_point() else x for x in inputs
    )
    hidden, targets, weights = (
        x.repeat(20, *[1] * (x.ndim - 1)) for x in (hidden, targets, weights)
    )
    rounded = output.bfloat16().requires_grad_()
    exact = rounded.detach().float().requires_grad_()
    plain(hidden, exact, targets, weights)[0].backward()
    monkeypatch.setattr(output_loss, "LOGITS_AT_ONCE", VOCABULARY)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weighted_loss(hidden, rounded, targets, weights)[0].backward()
    error = (rounded.grad.float() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.01
