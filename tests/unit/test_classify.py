"""Losses per example against torch's own and against one-hot targets in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.tasks.classify import correct, losses


def batch(size: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return (
        4 * torch.randn(size, classes, generator=rng, dtype=torch.float64),
        torch.randint(0, classes, (size,), generator=rng),
        torch.randperm(size, generator=rng),
        torch.rand(size, generator=rng, dtype=torch.float64),
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(2, 9), st.floats(0, 0.99), st.integers(0, 1000))
def test_it_is_the_cross_entropy_with_the_whole_target_written_out(size, classes, smoothing, seed):
    logits, y, partner, weight = batch(size, classes, seed)
    scores, own = logits.numpy(), np.eye(classes)[y.numpy()]
    target = weight.numpy()[:, None] * own + (1 - weight.numpy())[:, None] * own[partner.numpy()]
    target = (1 - smoothing) * target + smoothing / classes
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(target * logs).sum(axis=1)
    found = losses(logits, y, smoothing=smoothing, other=y[partner], weight=weight)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_it_is_torch_s_cross_entropy(smoothing):
    logits, y, _, _ = batch(32, 7)
    expected = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses(logits, y, smoothing=smoothing), expected, rtol=0, atol=1e-12)


def test_its_gradient_is_that_of_soft_targets():
    logits, y, partner, weight = batch(8, 5)
    own = F.one_hot(y, 5).double()
    target = weight[:, None] * own + (1 - weight[:, None]) * own[partner.numpy()]
    gradients = []
    for compute in (
        lambda z: losses(z, y, smoothing=0.1, other=y[partner], weight=weight),
        lambda z: F.cross_entropy(z, target, reduction="none", label_smoothing=0.1),
    ):
        z = logits.clone().requires_grad_()
        compute(z).square().sum().backward()
        gradients.append(z.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_worked_out_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    y, partner, weight = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0])
    assert losses(logits, y).tolist() == pytest.approx([np.log(2), -np.log(0.8)], abs=1e-6)
    mixed = losses(logits, y, other=y[partner], weight=weight)
    assert mixed.tolist() == pytest.approx([0.75 * np.log(2) + 0.25 * np.log(4), -np.log(0.8)], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_16_bit_logits_give_32_bit_losses(dtype):
    logits, y, partner, weight = batch(16, 10)
    found = losses(logits.to(dtype), y, smoothing=0.1, other=y[partner], weight=weight.float())
    assert found.dtype == torch.float32
    exact = losses(logits.to(dtype).double(), y, smoothing=0.1, other=y[partner], weight=weight)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)


def test_a_batch_keeps_its_examples_apart():
    logits, y, _, _ = batch(6, 4)
    alone = torch.cat([losses(logits[i : i + 1], y[i : i + 1], smoothing=0.2) for i in range(6)])
    torch.testing.assert_close(losses(logits, y, smoothing=0.2), alone)
    assert alone.shape == (6,)


def test_a_partner_without_its_weight_is_a_mistake_of_the_caller():
    logits, y, partner, _ = batch(6, 4)
    with pytest.raises(ValueError, match="another class comes with a weight"):
        losses(logits, y, other=y[partner])


def test_logits_of_any_size_are_finite():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    assert losses(logits, torch.tensor([0, 0]), smoothing=0.1).isfinite().all()


def test_correct_says_which():
    logits, y, _, _ = batch(64, 4)
    expected = [int(np.argmax(row)) == int(label) for row, label in zip(logits.numpy(), y, strict=True)]
    assert correct(logits, y).tolist() == expected
    assert 0 < sum(expected) < 64
