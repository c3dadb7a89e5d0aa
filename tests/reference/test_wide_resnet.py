"""Wide residual networks against measured counts, and their blocks and dropout against formulas."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models, registry
from engram.errors import UserError
from engram.layers.drop_path import DropPath
from engram.models.preact_resnet import PreactBasicBlock, PreactResNet
from engram.models.resnet import Bottleneck
from engram.models.wide_resnet import wide_resnet_10_2, wide_resnet_28_10
from engram.training.pretrained import renamed

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures_residual.json").read_text())["architectures"]
SIZES = ((16, 4), (16, 8), (16, 10), (22, 8), (28, 10), (28, 12), (40, 1), (40, 2), (40, 4), (40, 8))
NAMES = {f"WRN-{depth}-{widen}": f"wide_resnet_{depth}_{widen}" for depth, widen in SIZES}
NAMES |= {name: name for name in ("wide_resnet50_2", "wide_resnet101_2")}
LAYERED = {measured: name for measured, name in NAMES.items() if "layers" in ARCHITECTURES[measured]}


@pytest.mark.parametrize(("measured", "name"), NAMES.items())
def test_costs_are_the_measured_ones(measured: str, name: str) -> None:
    """The contract counts them; here is what they must come to."""
    facts, expected = registry.find("model", name).facts, ARCHITECTURES[measured]
    assert (facts["parameters"], facts["macs"]) == (expected["params"], expected["macs"])
    assert list(facts["input"]) == expected["input"]


@pytest.mark.parametrize(("measured", "name"), LAYERED.items())
def test_layer_by_layer(measured: str, name: str) -> None:
    expected, facts = ARCHITECTURES[measured], registry.find("model", name).facts
    with torch.device("meta"):
        net = models.build(name, shape=facts["input"], num_classes=facts["num_classes"])
    costs = accounting.account(net, facts["input"])
    assert costs.buffers == expected["buffers"]
    assert sum(row.parameters for row in costs.rows if row.kind == "BatchNorm2d") == expected["bn_params"]
    kinds = ("Conv2d", "Linear", "MaxPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert sorted(ours) == sorted(row for row in expected["layers"] if row[0] in kinds)  # measured shortcuts first


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnext50_32x4d"])
def test_torchvisions_names_are_those_of_its_resnet50(name: str) -> None:
    """Widths and groups change shapes alone; that the scores are torchvision's, bench/torchvision_equality shows."""
    recorded = json.loads((Path(__file__).parent / "data/torchvision_resnets.json").read_text())
    theirs = dict.fromkeys(recorded["networks"]["resnet50"]["names"], torch.zeros(0))
    with torch.device("meta"):
        net = models.build(name, shape=(3, 224, 224), num_classes=1000)
    assert list(renamed(theirs, registry.find("model", name).facts["renamed"])) == list(net.state_dict())


@pytest.mark.parametrize("widen", [1, 2])
def test_narrow_ones_that_have_no_name(widen: int) -> None:
    with torch.device("meta"):
        net = PreactResNet(PreactBasicBlock, (2, 2, 2), 16 * widen, stem_width=16, num_classes=10, stem="small")
    costs, expected = accounting.account(net, (3, 32, 32)), ARCHITECTURES[f"WRN-16-{widen}"]
    assert (costs.parameters, costs.macs, costs.buffers) == (
        expected["params"],
        expected["macs"],
        expected["buffers"],
    )


def test_the_small_one_by_hand() -> None:
    """Three blocks of 32, 64 and 128 channels, at 32, 16 and 8 pixels, with a projection each."""
    sides, widths = (1024, 256, 64), (16, 32, 64, 128)
    weights = [9 * a * b + 9 * b * b + a * b for a, b in pairwise(widths)]
    norms = 2 * (16 + 32 + (32 + 64) + (64 + 128) + 128)  # the first block reads what the stem has normalised
    facts = registry.find("model", "wide_resnet_10_2").facts
    assert facts["parameters"] == 27 * 16 + sum(weights) + norms + 1290
    assert facts["macs"] == 27 * 16 * 1024 + sum(w * s for w, s in zip(weights, sides, strict=True)) + 1280


@pytest.mark.parametrize("training", [False, True])
def test_a_block_is_its_formula(training: bool) -> None:
    """By running statistics and by the batch's own; the projection reads what the convolutions read."""
    torch.manual_seed(0)
    block = PreactBasicBlock(3, 4, 2, 2, "projection", "v1.5").double().train(training)
    p = block.state_dict()
    for tensor in p.values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    x = torch.randn(5, 3, 6, 8, dtype=torch.float64)

    def activated(name: str, x: Tensor) -> Tensor:
        mean, var = (p[f"{name}.running_{key}"].view(-1, 1, 1) for key in ("mean", "var"))
        if training:
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scaled = (x - mean) / (var + 1e-5).sqrt()
        return (scaled * p[f"{name}.weight"].view(-1, 1, 1) + p[f"{name}.bias"].view(-1, 1, 1)).clamp_min(0)

    read = activated("norm1", x)
    y = activated("norm2", F.conv2d(read, p["conv1.weight"], stride=2, padding=1))
    expected = F.conv2d(y, p["conv2.weight"], padding=1) + F.conv2d(read, p["shortcut.weight"], stride=2)
    torch.testing.assert_close(block(x), expected)


def test_dropout_stands_between_the_convolutions() -> None:
    """Of what the second convolution reads, beyond the ReLU's zeros, the share within 5 standard deviations."""
    torch.manual_seed(0)
    net = wide_resnet_10_2(drop=0.3)
    drops = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in drops] == [0.3] * 3
    assert [name for name, _ in net.named_modules() if name.endswith(".drop")] == [
        f"stages.{stage}.0.drop" for stage in range(3)
    ]
    block, seen = net.stages[1][0], {}
    block.norm2.register_forward_hook(lambda module, x, y: seen.update(before=y.relu()))
    block.conv2.register_forward_hook(lambda module, x, y: seen.update(after=x[0]))
    block(torch.randn(8, 32, 16, 16))
    before, after = (seen[key] for key in ("before", "after"))
    alive = before > 0
    share = (after[alive] == 0).double().mean().item()
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / alive.sum().item()) ** 0.5
    kept = after > 0
    torch.testing.assert_close(after[kept], before[kept] / 0.7)
    block.eval()
    block(torch.randn(2, 32, 16, 16))
    assert torch.equal(seen["after"], seen["before"])


def test_bottlenecks_are_wide_inside_only() -> None:
    thin, wide = (Bottleneck(64, 16, 1, 2, "projection", "v1.5", widen=widen) for widen in (1, 2))
    shapes = [tuple(wide.state_dict()[f"conv{number}.weight"].shape) for number in (1, 2, 3)]
    assert shapes == [(32, 64, 1, 1), (32, 32, 3, 3), (64, 32, 1, 1)]
    assert wide(torch.zeros(1, 64, 4, 4)).shape == thin(torch.zeros(1, 64, 4, 4)).shape


@pytest.mark.parametrize(("name", "blocks"), [("wide_resnet_28_10", 12), ("wide_resnet50_2", 16)])
def test_every_block_can_be_left_out(name: str, blocks: int) -> None:
    facts = registry.find("model", name).facts
    with torch.device("meta"):
        net = models.build(name, shape=facts["input"], num_classes=5)
    assert sum(len(stage) for stage in net.stages) == blocks
    assert sum(isinstance(module, DropPath) for module in net.modules()) == blocks


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"drop": 1.5}, "drop cannot be 1.5"), ({"shortcut": "projektion"}, "did you mean: projection")],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal, torch.device("meta"):
        wide_resnet_28_10(**settings)
    assert message in str(refusal.value)
