"""Our pooling against torch's: the same values to the last bit, the same gradient wherever one value is the largest."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.layers import max_pool
from engram.layers.max_pool import HalvingMaxPool


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 6, 8, 10), (2, 1, 2, 2), (2, 7, 28, 28)])
def test_equals_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randperm(torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0)).view(shape)
    x = (x / 64 - 3).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    x2 = x.detach().clone().requires_grad_()
    assert max_pool._is_quick_by_rows(x)
    y, y2 = HalvingMaxPool()(x), F.max_pool2d(x2, 2)
    assert torch.equal(y, y2)
    assert y.is_contiguous(memory_format=torch.channels_last)
    if dtype is torch.bfloat16:
        return  # so few bits make ties
    g = torch.randn_like(y2)
    y.backward(g)
    y2.backward(g)
    assert torch.equal(x.grad, x2.grad)


def test_ties_send_the_gradient_to_one_of_the_largest() -> None:
    x = torch.randint(0, 3, (4, 3, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = HalvingMaxPool()(x)
    y.sum().backward()
    windows = F.unfold(x.grad.flatten(0, 1)[:, None], 2, stride=2)  # (B C, 4, windows)
    assert torch.equal(windows.sum(1), torch.ones_like(windows[:, 0]))
    assert torch.equal((x.grad * x.detach()).sum(), y.detach().sum())


def test_gradient_and_its_gradient() -> None:
    x = images(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(HalvingMaxPool(), x)
    assert torch.autograd.gradgradcheck(HalvingMaxPool(), x)


@pytest.mark.parametrize(
    ("shape", "dimensions"),
    [((2, 16, 8, 8), 2), ((2, 3, 7, 8), 2), ((2, 3, 8, 7), 2), ((2, 3, 8), 1), ((2, 3, 4, 4, 4), 3), ((3, 8, 8), 2)],
)
def test_leaves_to_torch_what_is_quick_or_odd(shape: tuple[int, ...], dimensions: int) -> None:
    x = torch.randn(shape)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    assert not max_pool._is_quick_by_rows(x)
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dimensions]
    assert torch.equal(HalvingMaxPool(dimensions)(x), pool(x, 2))


def test_leaves_contiguous_memory_to_torch() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert not max_pool._is_quick_by_rows(x)
    assert torch.equal(HalvingMaxPool()(x), F.max_pool2d(x, 2))


def test_works_under_function_transforms() -> None:
    x = images(5, 3, 4, 4)
    single = torch.func.vmap(torch.func.grad(lambda image: HalvingMaxPool()(image[None]).square().sum()))(x)
    x.requires_grad_()
    HalvingMaxPool()(x).square().sum().backward()
    torch.testing.assert_close(single, x.grad)


def test_not_a_number_comes_through() -> None:
    x = images(1, 2, 4, 4)
    x[0, 1, 2, 3] = torch.nan
    assert torch.equal(HalvingMaxPool()(x).isnan(), F.max_pool2d(x, 2).isnan())
