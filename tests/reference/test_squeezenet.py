"""SqueezeNet against measured per-layer counts, the library's layers in a row, and its bypasses against a formula."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models, registry
from engram.errors import UserError
from engram.models.squeezenet import Fire, squeezenet1_0, squeezenet_small
from engram.training.pretrained import renamed

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]
WIDTHS = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
"""The paper's table 1: maps of each Fire module's squeeze, and of each of its two expansions."""


def test_layer_by_layer() -> None:
    expected = ARCHITECTURES["squeezenet1_0"]
    with torch.device("meta"):
        net = models.build("squeezenet1_0", shape=(3, 224, 224), num_classes=1000)
    costs = accounting.account(net, (3, 224, 224))
    assert (costs.parameters, costs.macs, costs.buffers) == (expected["params"], expected["macs"], 0)
    kinds = ("Conv2d", "MaxPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert ours == expected["layers"][:-1]  # the last is the mean of each map, which is no module here


class LibraryFire(nn.Module):
    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def library(pools_before: tuple[int, ...], stem: tuple[int, int]) -> nn.Module:
    """The layers under the numbers that the library gives them; `pools_before` are Fire modules, counted from 2."""
    layers: list[nn.Module] = [nn.Conv2d(3, *stem, stride=2), nn.ReLU()]
    channels = stem[0]
    for place, (squeezed, expanded) in enumerate(WIDTHS, 2):
        if place in pools_before:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.append(LibraryFire(channels, squeezed, expanded))
        channels = 2 * expanded
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    net.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return net.eval()


@pytest.mark.parametrize(
    ("name", "pools_before", "stem"),
    [("squeezenet1_0", (2, 5, 9), (96, 7)), ("squeezenet1_1", (2, 4, 6), (64, 3))],
)
@pytest.mark.parametrize("side", [21, 54])
def test_is_the_librarys_layers_in_a_row(
    name: str, pools_before: tuple[int, ...], stem: tuple[int, int], side: int
) -> None:
    torch.manual_seed(0)
    theirs = library(pools_before, stem).double()
    for p in theirs.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, std=0.1)
    entry = registry.find("model", name)
    ours = models.build(name, shape=(3, side, side), num_classes=5).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict(), entry.facts["renamed"]))
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs.classifier(theirs.features(x)).flatten(1))


@pytest.mark.parametrize(
    ("bypass", "identities", "added"),
    [
        (None, [], 0),
        ("simple", [3, 5, 7, 9], 0),
        ("complex", [3, 5, 7, 9], 96 * 128 + 128 + 128 * 256 + 256 + 256 * 384 + 384 + 384 * 512 + 512),
    ],
)
def test_bypasses(bypass: str | None, identities: list[int], added: int) -> None:
    net = squeezenet1_0(bypass=bypass)
    fires = {int(name.removeprefix("fire")): module for name, module in net.features.named_children() if "fire" in name}
    assert [place for place, fire in fires.items() if isinstance(fire.bypass, nn.Identity)] == identities
    assert sum(p.numel() for p in net.parameters()) == 1_248_424 + added


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("path", [None, nn.Identity(), nn.Conv2d(16, 16, 1)])
def test_a_fire_module_is_its_formula(path: nn.Module | None, normalized: bool) -> None:
    torch.manual_seed(0)
    fire = Fire(16, 2, 2, path, normalized).double().eval()
    for tensor in fire.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    x = torch.randn(2, 16, 5, 6, dtype=torch.float64)

    def norm(layer: str, y: Tensor) -> Tensor:
        if not normalized:
            return y
        p = fire.state_dict()
        mean, var, gamma, beta = (
            p[f"{layer}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * gamma + beta

    s = norm("norm1", F.conv2d(x, fire.squeeze.weight, fire.squeeze.bias)).clamp_min(0)
    one = F.conv2d(s, fire.expand1x1.weight, fire.expand1x1.bias)
    three = F.conv2d(F.pad(s, (1, 1, 1, 1)), fire.expand3x3.weight, fire.expand3x3.bias)
    expected = norm("norm2", torch.cat([one, three], 1)).clamp_min(0)
    if path is not None:
        expected = expected + (x if isinstance(path, nn.Identity) else F.conv2d(x, path.weight, path.bias))
    torch.testing.assert_close(fire(x), expected)


def test_the_last_maps_are_dropped_rectified_and_averaged() -> None:
    torch.manual_seed(0)
    for rectified in (False, True):
        net = squeezenet_small(rectified=rectified, drop=0.3).eval()
        read: list[Tensor] = []
        net.head.register_forward_hook(lambda module, x, y, read=read: read.extend((x[0], y)))
        scores = net(torch.randn(2, 3, 32, 32))
        maps = read[1].clamp_min(0) if rectified else read[1]
        assert maps.shape == (2, 10, 4, 4)
        torch.testing.assert_close(scores, maps.mean((2, 3)))
    net.train()
    net.features = nn.Identity()
    net(torch.ones(8, 512, 8, 8))
    share = (read[2] == 0).double().mean().item()
    assert abs(share - 0.3) <= 5 * (0.3 * 0.7 / read[2].numel()) ** 0.5


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for name, p in squeezenet1_0(bypass="complex").named_parameters():
        if p.dim() == 1:
            assert not p.any(), name
        else:
            expected = 0.01 if name == "head.weight" else (2 / p[0].numel()) ** 0.5
            assert abs(p.std().item() / expected - 1) < 5 / (2 * p.numel()) ** 0.5, name


def test_the_small_form_normalises_before_every_relu() -> None:
    names = [name for name, module in squeezenet_small().named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert names[0] == "features.relu1.0"
    assert len(names) == 1 + 2 * 8


@pytest.mark.parametrize(("name", "smallest"), [("squeezenet1_0", 21), ("squeezenet1_1", 17), ("squeezenet_small", 8)])
def test_the_smallest_is_the_smallest(name: str, smallest: int) -> None:
    with torch.device("meta"):
        net = models.build(name, shape=(3, smallest, smallest), num_classes=5)
        assert net.features(torch.zeros(2, 3, smallest, smallest)).shape[2:] == (1, 1)
        with pytest.raises(RuntimeError, match="too small"):
            net.features(torch.zeros(2, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"drop": 2}, "drop cannot be 2"), ({"bypass": "simpel"}, "did you mean: simple")],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        squeezenet_small(**settings)
    assert message in str(refusal.value)
