"""L2 pooling against torch's LPPool, and where it differs: at zeros, of means, in half precision."""

import pytest
import torch
import torch.nn.functional as F

from engram.errors import UserError
from engram.layers.l2_pool import L2Pool

TORCHS = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}


@pytest.mark.parametrize(("side", "stride"), [(2, None), (3, 2), (2, 3)])
@pytest.mark.parametrize("sides", [(11,), (9, 8), (6, 5, 7)])
def test_values_and_gradients_are_torch_s(sides: tuple[int, ...], side: int, stride: int | None) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *sides, dtype=torch.float64, generator=rng, requires_grad=True)
    ours = L2Pool(side, stride, dimensions=len(sides))(x)
    torchs = TORCHS[len(sides)](x, 2, side, stride)
    torch.testing.assert_close(ours, torchs)
    upstream = torch.randn(ours.shape, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, torchs)))


def test_the_mean_does_not_grow_with_the_window() -> None:
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(L2Pool(4, mean=True)(x), L2Pool(4)(x) / 4)
    torch.testing.assert_close(L2Pool(4, mean=True)(torch.full((1, 1, 4, 4), -3.0)), torch.tensor([[[[3.0]]]]))


def test_a_window_of_zeros_has_the_gradient_zero() -> None:
    x = torch.tensor([[[0.0, 0.0, 3.0, 4.0]]], requires_grad=True)
    y = L2Pool(2, dimensions=1)(x)
    y.sum().backward()
    assert y.tolist() == [[[0.0, 5.0]]]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[[0.0, 0.0, 0.6, 0.8]]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_full(dtype: torch.dtype) -> None:
    x = torch.full((1, 1, 16, 16), 300.0, dtype=dtype)  # 300 squared is no float16
    y = L2Pool(16)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), torch.full((1, 1, 1, 1), 4800.0), rtol=2**-8, atol=0)


def test_refuses() -> None:
    for side, stride in ((0, None), (2, 0)):
        with pytest.raises(UserError, match=f"windows of {side} pixels"):
            L2Pool(side, stride)
    with pytest.raises(UserError, match="4 spatial axes"):
        L2Pool(2, dimensions=4)
