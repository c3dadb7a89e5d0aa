"""SmoothGrad: the mean of gradients over noise that is drawn again by hand, and what it is for."""

import pytest
import torch
from torch import nn

from engram import attribution
from engram.errors import UserError


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 5.0, 0.1]).reshape(
        3, 1, 1, 1
    )


@pytest.mark.parametrize("noise", [0.2, 3.0])  # so much that another class is often the likeliest
def test_it_is_the_mean_gradient_over_the_noise(net: nn.Module, x: torch.Tensor, noise: float) -> None:
    samples, seed = 4, 9
    drawn = torch.randn(samples, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.zeros_like(x)
    for row, one in enumerate(x):
        label = int(net(one[None]).argmax())  # of the picture without noise
        spread = noise * float(one.max() - one.min())
        for each in drawn.float():
            moved = (one + spread * each)[None].requires_grad_()
            (slopes,) = torch.autograd.grad(net(moved)[0, label], moved)
            expected[row] += slopes[0] / samples
    settings = {"noise": noise, "samples": samples, "seed": seed}
    signed = attribution.smooth_grad(net, x, signed=True, **settings)
    torch.testing.assert_close(signed, expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        attribution.smooth_grad(net, x, **settings), expected.abs().amax(1), rtol=1e-4, atol=1e-7
    )


def test_without_noise_it_is_the_gradient(net: nn.Module, x: torch.Tensor) -> None:
    expected = attribution.gradient(net, x, signed=True)
    torch.testing.assert_close(attribution.smooth_grad(net, x, noise=0, samples=3, signed=True), expected)


def test_more_samples_agree_better_and_another_seed_is_another_map(net: nn.Module, x: torch.Tensor) -> None:
    def apart(samples: int) -> float:
        one, other = (attribution.smooth_grad(net, x, 0, samples=samples, seed=seed, signed=True) for seed in (0, 1))
        return float((one - other).norm() / one.norm())

    few, many = apart(4), apart(64)
    assert few > 0.02
    # the mean of n draws is off by 1 / sqrt(n): by a quarter of it here
    assert many < 0.5 * few


@pytest.mark.parametrize("settings", [{"samples": 0}, {"samples": 2.5}, {"noise": -0.1}, {"noise": float("nan")}])
def test_impossible_settings_are_told(net: nn.Module, x: torch.Tensor, settings: dict) -> None:
    with pytest.raises(UserError, match=f"{next(iter(settings))} is"):
        attribution.smooth_grad(net, x, **settings)
