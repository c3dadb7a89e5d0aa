"""LeNet-5 against measured per-layer counts, and against the paper's layers written out."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram import accounting
from engram.errors import UserError
from engram.models.lenet import LeNet5, lenet5

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]


@pytest.mark.parametrize("measured", ["LeNet-5 modern 32x32x1", "LeNet CIFAR (RGB)"])
def test_layer_by_layer(measured: str) -> None:
    expected = ARCHITECTURES[measured]
    channels, *size = expected["input"]
    pool = "average" if "modern" in measured else "max"
    costs = accounting.account(lenet5(in_channels=channels, image_size=size, pool=pool), (channels, *size))
    assert (costs.parameters, costs.macs) == (expected["params"], expected["macs"])
    ours = [(list(row.output), row.parameters, row.macs) for row in costs.rows if row.macs]
    assert ours == [
        ([side for side in out if side > 1], *counts) for _, out, *counts in expected["layers"] if counts[1]
    ]


def test_28_pixels_are_the_papers_32() -> None:
    small, large = lenet5(image_size=(28, 28)), lenet5(image_size=(32, 32))
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize(
    ("pool", "activation"), [("max", "relu"), ("average", "tanh"), ("max", "gelu"), ("average", "relu")]
)
def test_is_its_formula(pool: str, activation: str) -> None:
    net = lenet5(image_size=(32, 32), pool=pool, activation=activation).double()
    p = net.state_dict()
    f = getattr(F, activation, torch.tanh)
    shrink = F.max_pool2d if pool == "max" else F.avg_pool2d
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    y = shrink(f(F.conv2d(x, p["c1.weight"], p["c1.bias"])), 2)  # the activation first, as in the paper
    y = shrink(f(F.conv2d(y, p["c3.weight"], p["c3.bias"])), 2)
    kernel = p["c5.weight"].view(120, 5, 5, 16).permute(0, 3, 1, 2)
    y = f(F.conv2d(y, kernel, p["c5.bias"])).flatten(1)  # C5 is a convolution whose window is the whole map
    y = f(F.linear(y, p["f6.weight"], p["f6.bias"]))
    torch.testing.assert_close(net(x), F.linear(y, p["head.weight"], p["head.bias"]))


@pytest.mark.parametrize(
    ("size", "c5"), [((16, 16), 16), ((64, 48), 16 * 13 * 9), ((40,), 16 * 7), ((16, 18, 32), 16 * 5)]
)
def test_other_sizes_and_dimensions(size: tuple[int, ...], c5: int) -> None:
    net = lenet5(image_size=size, in_channels=2, num_classes=3)
    assert net.c5.in_features == c5
    assert net(torch.randn(2, 2, *size)).shape == (2, 3)


def test_the_smallest_is_the_smallest() -> None:
    assert lenet5(image_size=(16, 16))(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    with pytest.raises(UserError, match="at least 16"):
        lenet5(image_size=(15, 40))


def test_memory_layout_does_not_change_the_answer() -> None:
    net, x = lenet5(image_size=(28, 28)), torch.randn(2, 1, 28, 28)
    last = net(x).detach()
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(as_channels_last(x)), last)


def as_channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def test_initial_weights_keep_the_scale() -> None:
    torch.manual_seed(0)
    signal = [torch.randn(64, 1, 32, 32)]
    net = LeNet5((32, 32))
    for layer in (net.c1, net.c3, net.c5, net.f6):
        layer.register_forward_hook(lambda module, x, y: signal.append(y))
    net(signal[0])
    powers = [tensor.square().mean().item() for tensor in signal]
    assert all(0.3 < after / before < 5 for before, after in pairwise(powers))


def test_unknown_pool() -> None:
    with pytest.raises(UserError, match="pool 'maxx'"):
        lenet5(pool="maxx")
