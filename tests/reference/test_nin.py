"""Network in Network against measured per-layer counts, and against perceptrons that slide over the image."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.models.nin import CIFAR, IMAGENET, SMALL, Block, NiN, nin_cifar, nin_small

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]


@pytest.mark.parametrize(
    ("name", "measured"), [("nin_imagenet", "NiN ImageNet (caffe zoo)"), ("nin_cifar", "NiN CIFAR-10 (caffe zoo)")]
)
def test_layer_by_layer(name: str, measured: str) -> None:
    expected = ARCHITECTURES[measured]
    shape = tuple(expected["input"])
    with torch.device("meta"):
        net = models.build(name, shape=shape, num_classes=10 if "CIFAR" in measured else 1000)
    costs = accounting.account(net, shape)
    assert (costs.parameters, costs.macs, costs.buffers) == (expected["params"], expected["macs"], 0)
    kinds = ("Conv2d", "MaxPool2d", "AvgPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert ours == expected["layers"][:-1]  # the last is the mean of each map, which is no module here


def perceptron(p: dict[str, Tensor], block: str, x: Tensor, first: Block, layers: int, normalized: bool) -> Tensor:
    """The same matrices at every patch: patches are rows, a layer is a product."""
    patches = F.unfold(x, first.kernel, padding=first.padding, stride=first.stride)  # (B, C k k, positions)
    y = patches.transpose(1, 2)
    for layer in range(1, layers + 1):
        name = f"{block}.conv{layer}"
        y = y @ p[f"{name}.weight"].flatten(1).T + (0 if normalized else p[f"{name}.bias"])
        if normalized:
            mean, var, gamma, beta = (
                p[f"{block}.norm{layer}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
            )
            y = (y - mean) / (var + 1e-5).sqrt() * gamma + beta
        y = y.clamp_min(0)
    side = (x.shape[2] + 2 * first.padding - first.kernel) // first.stride + 1
    return y.transpose(1, 2).unflatten(2, (side, -1))


@pytest.mark.parametrize(
    ("blocks", "side", "normalized", "rectified"),
    [(SMALL, 32, False, True), (SMALL, 11, True, False), (CIFAR, 10, False, False), (IMAGENET, 43, False, True)],
)
def test_is_its_formula(blocks: tuple[Block, ...], side: int, normalized: bool, rectified: bool) -> None:
    torch.manual_seed(0)
    net = NiN(blocks, num_classes=5, batch_norm=normalized, rectified=rectified).double().eval()
    for tensor in net.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    p = net.state_dict()
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    y = x
    for place, block in enumerate(blocks, 1):
        y = perceptron(p, f"features.mlpconv{place}", y, block, len(block.widths), normalized)
        if block.pool is not None:
            y = pooled(y, block.pool)
    maps = torch.einsum("bchw,kc->bkhw", y, p["head.weight"].flatten(1)) + p["head.bias"].view(-1, 1, 1)
    maps = maps.clamp_min(0) if rectified else maps
    with torch.no_grad():
        torch.testing.assert_close(net(x), maps.mean((2, 3)), rtol=1e-10, atol=1e-10)


def pooled(x: Tensor, kind: str) -> Tensor:
    """Windows of 3 in steps of 2; what hangs over the edge has no part in the largest or the mean."""
    columns = []
    for top in range(0, x.shape[2] - 1, 2):
        windows = [x[:, :, top : top + 3, left : left + 3].flatten(2) for left in range(0, x.shape[3] - 1, 2)]
        columns.append(torch.stack([w.amax(2) if kind == "max" else w.mean(2) for w in windows], 2))
    return torch.stack(columns, 2)


def test_where_values_are_dropped() -> None:
    places = [name for name, module in nin_cifar(drop=0.3).named_modules() if isinstance(module, nn.Dropout)]
    assert places == ["features.drop1", "features.drop2"]
    assert [module.p for module in nin_cifar(drop=0.3).modules() if isinstance(module, nn.Dropout)] == [0.3, 0.3]
    order = list(nin_cifar().features._modules)
    assert order == ["mlpconv1", "pool1", "drop1", "mlpconv2", "pool2", "drop2", "mlpconv3"]
    assert [block.drops for block in IMAGENET] == [False, False, True, False]


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for name, p in nin_cifar().named_parameters():
        if p.dim() == 1:
            assert not p.any(), name
        else:
            expected = ((1 if name == "head.weight" else 2) / p[0].numel()) ** 0.5
            assert abs(p.std().item() / expected - 1) < 5 / (2 * p.numel()) ** 0.5, name


def passes(net: NiN, *shape: int) -> torch.Size:
    with torch.device("meta"):
        return net.to("meta").features(torch.zeros(2, 3, *shape)).shape[2:]


def test_the_smallest_is_the_smallest() -> None:
    net = NiN(IMAGENET)
    assert passes(net, 39, 39) == (1, 1)
    with pytest.raises(RuntimeError, match="too small"):
        passes(net, 39, 38)
    volumes = NiN(SMALL, dimensions=3)
    assert passes(volumes, 6, 6, 6) == (1, 1, 1)
    with pytest.raises(RuntimeError, match="smaller than kernel"):
        passes(volumes, 6, 6, 5)


def test_refuses_a_share_above_one() -> None:
    with pytest.raises(UserError, match="drop cannot be 2"):
        nin_small(drop=2)
