"""Stochastic pooling: the chance of every value, the expected value, the gradient, windows against torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.errors import UserError
from engram.layers.stochastic_pool import StochasticPool, draw_from_windows, weight_windows, windows

MANY = 40_000


def test_each_value_is_drawn_in_proportion_to_itself() -> None:
    torch.manual_seed(0)
    a = torch.tensor([1.0, 0.0, 3.0, 4.0, -2.0])
    drawn = draw_from_windows(a.expand(MANY, 5))
    for value, chance in ((0.0, 0.0), (1.0, 1 / 8), (3.0, 3 / 8), (4.0, 4 / 8), (-2.0, 0.0)):
        share = (drawn == value).float().mean().item()
        assert abs(share - chance) <= 5 * (chance * (1 - chance) / MANY) ** 0.5


def test_windows_draw_each_for_themselves() -> None:
    torch.manual_seed(0)
    y = StochasticPool(2)(torch.tensor([1.0, 2.0]).repeat(MANY // 2)[None, None, None].expand(1, 1, 2, MANY))[0, 0, 0]
    second = (y == 2).float()
    assert abs(second.mean() - 2 / 3) < 5 * (2 / 9 / len(y)) ** 0.5
    assert abs((second[1:] * second[:-1]).mean() - 4 / 9) < 5 * (20 / 81 / len(y)) ** 0.5


@pytest.mark.parametrize(("side", "stride"), [(2, None), (3, 2), (2, 3)])
@pytest.mark.parametrize("sides", [(9,), (8, 7), (5, 6, 7)])
def test_judging_gives_the_mean_of_the_draws(sides: tuple[int, ...], side: int, stride: int | None) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 2, *sides) + 0.1
    pool = StochasticPool(side, stride)
    drawn = pool.train()(x.expand(4_000, *x.shape[1:]))
    judged = pool.eval()(x)
    bound = 5 * (drawn.var(0) / 4_000).sqrt() + 1e-5
    assert ((drawn.mean(0) - judged[0]).abs() < bound).all()
    step = side if stride is None else stride
    assert judged.shape[2:] == tuple((length - side) // step + 1 for length in sides)


def test_windows_are_torch_s() -> None:
    x = torch.randn(2, 3, 7, 8)
    ours = windows(x, 3, 2)  # (2, 3, 3, 3, 9)
    torchs = F.unfold(x, 3, stride=2).view(2, 3, 9, 3, 3).movedim(2, -1)
    assert torch.equal(ours, torchs)
    assert torch.equal(ours.amax(-1), F.max_pool2d(x, 3, 2))
    assert torch.equal(windows(x[:, :, 0], 3, 2).amax(-1), F.max_pool1d(x[:, :, 0], 3, 2))


def test_the_expected_value_is_the_formula() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(weight_windows(a), torch.tensor([14 / 6, 0.0, 2.0], dtype=torch.float64))
    positive = (a[:1] + 1).requires_grad_()
    assert torch.autograd.gradcheck(weight_windows, positive)


def test_the_gradient_goes_to_the_drawn_value_alone() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 4, 6).requires_grad_()
    y = StochasticPool(2)(x)
    y.backward(torch.full_like(y, 7.0))
    assert x.grad is not None
    given = windows(x.grad, 2, 2)
    assert torch.equal(given.sort(-1).values[..., :3], torch.zeros(1, 1, 2, 3, 3))
    assert torch.equal(windows(x.detach(), 2, 2)[given == 7], y.detach().flatten())


@pytest.mark.parametrize("training", [True, False])
def test_a_window_of_zeros_is_zero_and_has_a_finite_gradient(training: bool) -> None:
    x = torch.tensor([[[0.0, 0.0, -3.0, -1.0]]], requires_grad=True)
    y = StochasticPool(2).train(training)(x)
    y.sum().backward()
    assert y.tolist() == [[[0.0, 0.0]]]
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_half_precision_comes_out_as_it_went_in() -> None:
    x = torch.rand(2, 3, 6, 6).bfloat16()
    y = StochasticPool(2)(x)
    assert y.dtype == torch.bfloat16
    assert all((windows(x, 2, 2) == y[..., None]).any(-1).flatten())


def test_refuses() -> None:
    for side, stride in ((0, None), (2, 0)):
        with pytest.raises(UserError, match=f"windows of {side} pixels"):
            StochasticPool(side, stride)


def test_its_repr_says_its_windows() -> None:
    pooled: Tensor = StochasticPool(3, 2).eval()(torch.ones(1, 1, 5, 5))
    assert torch.equal(pooled, torch.ones(1, 1, 2, 2))
    assert repr(StochasticPool(3, 2)) == "StochasticPool(side=3, stride=2)"
