"""Local response normalisation against torch's operator and against the paper's formula, value by value."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.errors import UserError
from engram.layers.local_response_norm import LocalResponseNorm, local_response_norm

STRONG = {"alpha": 0.3, "beta": 0.6, "k": 1.3}  # constants under which every part of the formula is felt


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(2, 9, 7), (2, 9, 4, 5), (2, 9, 2, 3, 4), (2, 3, 4, 4)])
@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_across_channels_is_torch_with_alpha_times_n(shape: tuple[int, ...], size: int) -> None:
    x = values(*shape).requires_grad_()
    ours = local_response_norm(x, size, **STRONG)
    torchs = F.local_response_norm(x, size, alpha=0.3 * size, beta=0.6, k=1.3)
    torch.testing.assert_close(ours, torchs)
    upstream = values(*shape)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, torchs)))


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 6, 5), (1, 2, 4, 3, 5)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_within_channels_is_the_formula(shape: tuple[int, ...], size: int) -> None:
    x = values(*shape)
    expected = torch.empty_like(x)
    for place in product(*map(range, shape)):
        image, channel, *pixel = place
        window = tuple(slice(max(0, at - size // 2), at + (size - 1) // 2 + 1) for at in pixel)
        around = x[(image, channel, *window)].square().sum()
        expected[place] = x[place] / (1.3 + 0.3 * around) ** 0.6
    torch.testing.assert_close(local_response_norm(x, size, within=True, **STRONG), expected)


def test_the_papers_constants_are_the_default() -> None:
    x = 100 * values(1, 96, 3, 3)
    expected = torch.empty_like(x)
    for channel in range(96):
        energy = x[:, max(0, channel - 2) : channel + 3].square().sum(1)
        expected[:, channel] = x[:, channel] / (2 + 1e-4 * energy) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(x), expected)
    torch.testing.assert_close(local_response_norm(x), expected)


def test_the_layer_hands_its_constants_on() -> None:
    x = values(2, 6, 5, 5)
    for within in (False, True):
        layer = LocalResponseNorm(3, within=within, **STRONG)
        assert torch.equal(layer(x), local_response_norm(x, 3, within=within, **STRONG))
    assert repr(layer) == "LocalResponseNorm(3 pixels, alpha=0.3, beta=0.6, k=1.3)"


def test_bfloat16_keeps_a_small_energy_beside_k() -> None:
    """The scale, not only its leading bits: 2 + 0.004 is 2 in bfloat16."""
    x = torch.full((1, 512, 1, 1), 2.0)
    y = local_response_norm(x.bfloat16(), 5, alpha=2e-4, beta=100.0)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), local_response_norm(x, 5, alpha=2e-4, beta=100.0), rtol=2**-8, atol=0)


def test_refuses_what_has_no_neighbours() -> None:
    with pytest.raises(UserError, match="size cannot be 0"):
        local_response_norm(torch.zeros(1, 2, 3), 0)
    with pytest.raises(UserError, match="2 axes"):
        local_response_norm(torch.zeros(1, 2))
