"""ResNeXt against published counts, and its block against the sum of paths that it stands for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram import accounting, models, registry
from engram.errors import UserError
from engram.layers.drop_path import DropPath
from engram.models.preact_resnet import PreactBottleneck, PreactResNet
from engram.models.resnet import Bottleneck
from engram.models.resnext import resnext29_8x64d, resnext29_16x64d, resnext_small

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures_residual.json").read_text())["architectures"]


def test_layer_by_layer() -> None:
    expected = ARCHITECTURES["resnext50_32x4d"]
    with torch.device("meta"):
        costs = accounting.account(
            models.build("resnext50_32x4d", shape=(3, 224, 224), num_classes=1000), (3, 224, 224)
        )
    assert (costs.parameters, costs.macs, costs.buffers) == (
        expected["params"],
        expected["macs"],
        expected["buffers"],
    )
    kinds = ("Conv2d", "Linear", "MaxPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert sorted(ours) == sorted(row for row in expected["layers"] if row[0] in kinds)


@pytest.mark.parametrize(
    ("name", "parameters", "billions"),
    [
        ("resnext50_32x4d", 25_028_904, 4.23),
        ("resnext101_32x8d", 88_791_336, 16.414),
        ("resnext101_64x4d", 83_455_272, 15.46),
    ],
)
def test_counts_are_those_torchvision_prints(name: str, parameters: int, billions: float) -> None:
    facts = registry.find("model", name).facts
    assert facts["parameters"] == parameters
    assert facts["macs"] / 1e9 == pytest.approx(billions, abs=5e-4)


def test_101_layers_are_50_and_17_blocks_more_in_the_third_stage() -> None:
    """A block there: 1024 to 512 channels, 3x3 in 32 groups, back to 1024, each normalised."""
    more, less = (registry.find("model", f"resnext{depth}_32x4d").facts for depth in (101, 50))
    weights = 1024 * 512 + 9 * 512 * 512 // 32 + 512 * 1024
    assert more["parameters"] - less["parameters"] == 17 * (weights + 2 * (512 + 512 + 1024))
    assert more["macs"] - less["macs"] == 17 * weights * 14 * 14


def by_hand(width: int, inner: int, paths: int, preactivated: bool) -> tuple[int, int]:
    """Parameters of a network with 29 layers and 10 classes, and its multiply-adds on 32 pixels."""
    parameters, macs, channels = 27 * width + 2 * width, 27 * width * 1024, width
    for stage, side in enumerate((32, 16, 8)):
        inside, out = inner * 2**stage, 4 * width * 2**stage
        for position in range(3):
            first = position == 0
            reads = side * 2 if first and stage else side  # the 3x3 convolution takes the stride
            parts = [(channels * inside, reads), (9 * inside * inside // paths, side), (inside * out, side)]
            if first:
                parts.append((channels * out, side))
            parameters += sum(weights for weights, _ in parts) + 4 * inside
            macs += sum(weights * at * at for weights, at in parts)
            if preactivated:  # one in front, but for the network's first block
                parameters += 0 if first and not stage else 2 * channels
            else:
                parameters += 2 * out * (1 + first)
            channels = out
    return parameters + (2 * channels if preactivated else 0) + channels * 10 + 10, macs + channels * 10


@pytest.mark.parametrize("preactivated", [False, True])
@pytest.mark.parametrize(
    ("build", "width", "inner", "paths"),
    [(resnext29_8x64d, 64, 512, 8), (resnext29_16x64d, 64, 1024, 16), (resnext_small, 16, 32, 8)],
)
def test_the_ones_for_small_images_by_hand(build: Any, width: int, inner: int, paths: int, preactivated: bool) -> None:
    with torch.device("meta"):
        costs = accounting.account(build(preactivated=preactivated), (3, 32, 32))
    assert (costs.parameters, costs.macs) == by_hand(width, inner, paths, preactivated)


def norm(state: dict[str, Tensor], name: str, x: Tensor, channels: slice = slice(None)) -> Tensor:
    mean, var, gamma, beta = (
        state[f"{name}.{key}"][channels].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gamma + beta


def shaken(block: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    for tensor in block.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return block.double().eval()


def test_a_block_is_the_sum_of_its_paths() -> None:
    """Form (a): each path convolves its own few channels and returns to all, and the returns are added."""
    block = shaken(Bottleneck(16, 4, 2, 2, "projection", "v1.5", widen=3, groups=4))
    p, x = block.state_dict(), torch.randn(2, 16, 6, 8, dtype=torch.float64)
    total = torch.zeros(2, 16, 3, 4, dtype=torch.float64)
    for path in range(4):
        own = slice(3 * path, 3 * path + 3)  # 12 channels inside, 3 a path
        y = norm(p, "norm1", F.conv2d(x, p["conv1.weight"][own]), own).clamp_min(0)
        y = norm(p, "norm2", F.conv2d(y, p["conv2.weight"][own], stride=2, padding=1), own).clamp_min(0)
        total += F.conv2d(y, p["conv3.weight"][:, own])
    shortcut = norm(p, "shortcut.1", F.conv2d(x, p["shortcut.0.weight"], stride=2))
    torch.testing.assert_close(block(x), (norm(p, "norm3", total) + shortcut).clamp_min(0))


def test_a_preactivated_block_is_the_sum_of_its_paths() -> None:
    block = shaken(PreactBottleneck(16, 4, 1, 2, "projection", "v1.5", widen=3, groups=4))
    p, x = block.state_dict(), torch.randn(2, 16, 6, 8, dtype=torch.float64)
    total, read = x.clone(), norm(p, "norm1", x).clamp_min(0)
    for path in range(4):
        own = slice(3 * path, 3 * path + 3)
        y = norm(p, "norm2", F.conv2d(read, p["conv1.weight"][own]), own).clamp_min(0)
        y = norm(p, "norm3", F.conv2d(y, p["conv2.weight"][own], padding=1), own).clamp_min(0)
        total += F.conv2d(y, p["conv3.weight"][:, own])
    torch.testing.assert_close(block(x), total)


@pytest.mark.parametrize(
    ("name", "paths", "inside"),
    [
        ("resnext50_32x4d", 32, 128),
        ("resnext101_32x4d", 32, 128),
        ("resnext101_32x8d", 32, 256),
        ("resnext101_64x4d", 64, 256),
        ("resnext29_8x64d", 8, 512),
        ("resnext29_16x64d", 16, 1024),
        ("resnext_small", 8, 32),
    ],
)
def test_paths_and_widths_are_those_of_the_name(name: str, paths: int, inside: int) -> None:
    facts = registry.find("model", name).facts
    with torch.device("meta"):
        net = models.build(name, shape=facts["input"], num_classes=5)
    blocks = [block for stage in net.stages for block in stage]
    assert {block.conv2.groups for block in blocks} == {paths}
    for stage, first in enumerate(stage[0] for stage in net.stages):
        assert first.conv2.in_channels == first.conv2.out_channels == inside * 2**stage
    assert sum(isinstance(module, DropPath) for module in net.modules()) == len(blocks)


def test_preactivated_is_the_papers_form() -> None:
    with torch.device("meta"):
        assert isinstance(resnext_small(preactivated=True), PreactResNet)


def test_refuses_what_makes_no_sense() -> None:
    with pytest.raises(UserError, match="did you mean: projection"):
        resnext_small(shortcut="projektion")
