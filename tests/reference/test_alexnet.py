"""AlexNet against measured per-layer counts, the paper's wiring, and the same network with grouped convolutions."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.layers.local_response_norm import local_response_norm
from engram.models.alexnet import RENAMED, SMALL, WEIRD_TRICK, AlexNet, Layout, alexnet_small, crossings
from engram.training.pretrained import renamed

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]
MEASURED = {
    "alexnet": "AlexNet 2012 two-tower (groups=2)",
    "alexnet_merged": "AlexNet no groups",
    "alexnet_torchvision": "AlexNet torchvision (OWT)",
}
THIN = Layout(widths=(8, 12, 20, 16, 8), hidden=24)


def on_meta(name: str, shape: tuple[int, ...]) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, shape=shape, num_classes=1000)


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def shaken(layout: Layout, size: tuple[int, ...], **settings: Any) -> AlexNet:
    """A network whose biases are felt, too, in float64 and in evaluation mode."""
    torch.manual_seed(0)
    net = AlexNet(layout, size, num_classes=5, **settings)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(p)
    return net.double().eval()


@pytest.mark.parametrize("name", MEASURED)
def test_layer_by_layer(name: str) -> None:
    """Of two towers, both together: maps, weights and multiply-adds add up."""
    expected = ARCHITECTURES[MEASURED[name]]
    shape = tuple(expected["input"])
    costs = accounting.account(on_meta(name, shape), shape)
    assert (costs.parameters, costs.macs, costs.buffers) == (expected["params"], expected["macs"], 0)
    layers: OrderedDict[str, list[Any]] = OrderedDict()
    for row in costs.rows:
        if row.kind not in ("Conv2d", "Linear", "MaxPool2d", "AdaptiveAvgPool2d"):
            continue
        total = layers.setdefault(row.name.rpartition(".")[2], [row.kind, [0, *row.output[1:]], 0, 0])
        total[1][0] += row.output[0]
        total[2] += row.parameters
        total[3] += row.macs
    assert list(layers.values()) == expected["layers"]


def test_what_crosses_between_the_cards() -> None:
    net = on_meta("alexnet", (3, 227, 227))
    assert crossings(net, (3, 227, 227)) == {"conv3": 21_632, "fc6": 4_608, "fc7": 2_048, "fc8": 2_048}
    assert "exchange" not in vars(net)
    alone = on_meta("alexnet_merged", (3, 227, 227))
    assert crossings(alone, (3, 227, 227)) == {"conv3": 0, "fc6": 0, "fc7": 0, "fc8": 0}


def grouped(state: dict[str, Tensor], x: Tensor, layout: Layout) -> Tensor:
    """One network with groups, its weights those of the towers one after the other."""

    def both(layer: str, kind: str) -> Tensor:
        return torch.cat([state[f"towers.{tower}.{layer}.{kind}"] for tower in range(layout.towers)])

    def conv(layer: str, x: Tensor, groups: int = 1, **settings: int) -> Tensor:
        return F.conv2d(x, both(layer, "weight"), both(layer, "bias"), groups=groups, **settings).clamp_min(0)

    def norm(x: Tensor) -> Tensor:  # up to the seam, not across
        return torch.cat([local_response_norm(half) for half in x.chunk(layout.towers, 1)], 1)

    groups = layout.towers
    x = conv("lower.conv1", x, stride=layout.stride, padding=layout.padding)
    x = F.max_pool2d(norm(x), 3, 2)
    x = F.max_pool2d(norm(conv("lower.conv2", x, groups, padding=2)), 3, 2)
    x = conv("upper.conv3", x, padding=1)
    x = conv("upper.conv5", conv("upper.conv4", x, groups, padding=1), groups, padding=1)
    x = F.max_pool2d(x, 3, 2).flatten(1)
    x = F.linear(x, both("fc6", "weight"), both("fc6", "bias")).clamp_min(0)
    x = F.linear(x, both("fc7", "weight"), both("fc7", "bias")).clamp_min(0)
    return F.linear(x, state["head.weight"], state["head.bias"])


@pytest.mark.parametrize("layout", [THIN, replace(THIN, towers=1), SMALL, replace(SMALL, towers=1)])
def test_two_towers_are_grouped_convolutions(layout: Layout) -> None:
    side = 227 if layout.stride == 4 else 32
    net = shaken(layout, (side, side))
    x = 20 * values(2, 3, side, side).requires_grad_()
    expected = grouped(dict(net.named_parameters()), x, layout)
    ours = net(x)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11 * expected.abs().max().item())
    upstream = values(2, 5)
    wanted = (x, *net.parameters())
    for one, other in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11 * other.abs().max().item())


def test_a_tower_sees_the_other_from_conv3_on() -> None:
    net = shaken(SMALL, (32, 32))
    x = values(1, 3, 32, 32)
    before = {}
    for name in ("lower.conv2", "upper.conv3", "upper.conv4"):
        layer = net.towers[0].get_submodule(name)
        layer.register_forward_hook(lambda module, x, y, name=name: before.setdefault(name, []).append(y))
    net(x)
    with torch.no_grad():
        net.towers[1].lower.conv1.weight.mul_(2)
    net(x)
    same = {name: torch.equal(*outputs) for name, outputs in before.items()}
    assert same == {"lower.conv2": True, "upper.conv3": False, "upper.conv4": False}


def test_224_pixels_are_the_papers_227() -> None:
    small, large = shaken(THIN, (224, 224)), shaken(THIN, (227, 227))
    large.load_state_dict(small.state_dict())
    x = values(1, 3, 224, 224)
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 1, 2, 1))))


def test_torchvisions_is_its_layers_in_a_row() -> None:
    """The library's layers under the library's names, narrower behind the convolutions; its weights fit ours."""
    torch.manual_seed(0)
    theirs = nn.Module()
    theirs.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    theirs.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)
    )
    theirs.eval()
    for side in (63, 96):
        ours = AlexNet(replace(WEIRD_TRICK, hidden=40), (side, side), num_classes=5).eval()
        ours.load_state_dict(renamed(theirs.state_dict(), RENAMED))
        x = torch.randn(2, 3, side, side)
        maps = F.adaptive_avg_pool2d(theirs.features(x), 6)
        torch.testing.assert_close(ours(x), theirs.classifier(maps.flatten(1)))


@pytest.mark.parametrize(
    ("layout", "dropped"),
    [(SMALL, {"fc6": 0, "fc7": 0.3, "head": 0.3}), (WEIRD_TRICK, {"fc6": 0.3, "fc7": 0.3, "head": 0})],
)
def test_where_units_are_dropped(layout: Layout, dropped: dict[str, float]) -> None:
    """With every activation 1, a share of zeros within five standard deviations of what is asked."""
    layout = replace(layout, hidden=512)
    side = layout.smallest
    torch.manual_seed(0)
    net = AlexNet(layout, (side, side), num_classes=3, drop=0.3).train()
    read: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
            place = name.rpartition(".")[2]
            module.register_forward_pre_hook(lambda module, x, place=place: read.setdefault(place, []).append(x[0]))
    net(torch.zeros(64, 3, side, side))
    for place, drop in dropped.items():
        x = read[place][0]
        spread = 5 * (drop * (1 - drop) / x.numel()) ** 0.5
        assert abs((x == 0).double().mean().item() - drop) <= spread, place
        torch.testing.assert_close(x.max().item(), 1 / (1 - drop))


def test_the_papers_initial_weights() -> None:
    torch.manual_seed(0)
    net = alexnet_small(initial="paper")
    for name, p in net.named_parameters():
        layer, kind = name.split(".")[-2:]
        if kind == "weight":
            assert abs(p.std().item() / 0.01 - 1) < 5 / (2 * p.numel()) ** 0.5, name
            assert abs(p.mean().item()) < 5 * 0.01 / p.numel() ** 0.5, name
        else:
            expected = 1.0 if layer in {"conv2", "conv4", "conv5", "fc6", "fc7"} else 0.0
            assert torch.equal(p, torch.full_like(p, expected)), name


def test_he_s_initial_weights_are_the_default() -> None:
    torch.manual_seed(0)
    net = alexnet_small()
    for name, p in net.named_parameters():
        if p.dim() == 1:
            assert not p.any(), name
        else:
            gain = 1 if name == "head.weight" else 2
            expected = (gain / p[0].numel()) ** 0.5
            assert abs(p.std().item() / expected - 1) < 5 / (2 * p.numel()) ** 0.5, name


def test_settings_of_the_small_form() -> None:
    """One tower has more weights in conv2, conv4 and conv5 only; normalisation has none and changes the answer."""
    two, one = alexnet_small(), alexnet_small(towers=1)
    more = 25 * 24 * 128 + 9 * 96 * 192 + 9 * 96 * 128
    assert sum(p.numel() for p in one.parameters()) - sum(p.numel() for p in two.parameters()) == more
    plain = alexnet_small(norm=False)
    plain.load_state_dict(two.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(plain.eval()(x), two.eval()(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"towers": 3}, "allowed: 1 or 2"),
        ({"drop": 1.5}, "drop cannot be 1.5"),
        ({"initial": "papier"}, "did you mean: paper"),
        ({"image_size": (14, 32)}, "at least 15 pixels"),
    ],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        alexnet_small(**settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize("layout", [Layout(), WEIRD_TRICK, SMALL])
def test_the_smallest_leaves_one_pixel(layout: Layout) -> None:
    assert layout.last(layout.smallest) == 1
    assert layout.last(layout.smallest - 1) == 0
