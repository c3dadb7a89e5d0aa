"""Pre-activation networks against measured counts, counts by hand, and the same networks written out as formulas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models, registry
from engram.errors import UserError
from engram.initializers import apply
from engram.layers.drop_path import DropPath, add_stochastic_depth
from engram.models.preact_resnet import PreactBasicBlock, PreactBottleneck, PreactResNet

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures_residual.json").read_text())["architectures"]


def build(name: str, *, classes: int = 5, shape: tuple[int, ...] = (3, 32, 32), **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, shape=shape, num_classes=classes, settings=settings)


@pytest.mark.parametrize(
    ("measured", "name"),
    [
        ("CIFAR PreAct-ResNet-110 (A)", "preact_resnet_110"),
        ("CIFAR PreAct-ResNet-164 bottleneck", "preact_resnet_164"),
    ],
)
def test_layer_by_layer(measured: str, name: str) -> None:
    expected = ARCHITECTURES[measured]
    with torch.device("meta"):
        costs = accounting.account(build(name, classes=10), (3, 32, 32))
    assert (costs.parameters, costs.macs, costs.buffers) == (
        expected["params"],
        expected["macs"],
        expected["buffers"],
    )
    assert sum(row.parameters for row in costs.rows if row.kind == "BatchNorm2d") == expected["bn_params"]
    kinds = ("Conv2d", "Linear")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert sorted(ours) == sorted(row for row in expected["layers"] if row[0] in kinds)  # measured shortcuts first


def test_a_thousand_layers() -> None:
    """The contract counts them; here is what they must come to."""
    expected, facts = ARCHITECTURES["CIFAR PreAct-ResNet-1001 bottleneck"], registry.find("model", "preact_resnet_1001")
    assert (facts.facts["parameters"], facts.facts["macs"]) == (expected["params"], expected["macs"])


@pytest.mark.parametrize(
    ("name", "sister", "projections"),
    [
        ("preact_resnet_20", "resnet20", ()),
        ("preact_resnet_56", "resnet56", ()),
        ("preact_resnet_18", "resnet18", (128, 256, 512)),
        ("preact_resnet_50", "resnet50", (256, 512, 1024, 2048)),
        ("preact_resnet_152", "resnet152", (256, 512, 1024, 2048)),
    ],
)
def test_costs_what_its_sister_costs_without_normalised_projections(
    name: str, sister: str, projections: tuple[int, ...]
) -> None:
    ours, theirs = registry.find("model", name).facts, registry.find("model", sister).facts
    assert ours["macs"] == theirs["macs"]
    assert ours["parameters"] == theirs["parameters"] - 2 * sum(projections)


def test_200_layers_are_152_and_16_blocks_more_in_the_second_stage() -> None:
    """A block there: 512 to 128 channels, 3x3, back to 512, with normalisation of 512, 128 and 128."""
    more, less = (registry.find("model", f"preact_resnet_{depth}").facts for depth in (200, 152))
    weights = 512 * 128 + 9 * 128 * 128 + 128 * 512
    assert more["parameters"] - less["parameters"] == 16 * (weights + 2 * (512 + 128 + 128))
    assert more["macs"] - less["macs"] == 16 * weights * 28 * 28


def test_the_authors_program_strides_in_the_first_convolution() -> None:
    """Two blocks read a map of twice the side with their first 1x1 convolution in v1.5 only."""
    with torch.device("meta"):
        costs = accounting.account(build("preact_resnet_164", classes=10, version="v1"), (3, 32, 32))
    facts = registry.find("model", "preact_resnet_164").facts
    saved = 64 * 32 * (32**2 - 16**2) + 128 * 64 * (16**2 - 8**2)
    assert (costs.parameters, costs.macs) == (facts["parameters"], facts["macs"] - saved)


# The networks once more, as formulas on a state dict.


def formula(
    state: dict[str, Tensor], x: Tensor, *, stem: str = "small", version: str = "v1.5", training: bool = False
) -> Tensor:
    """`training` normalises by the batch's own statistics."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def normalized(name: str, x: Tensor) -> Tensor:
        mean, var, gamma, beta = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        if training:
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return ((x - mean) / (var + 1e-5).sqrt() * gamma + beta).clamp_min(0)

    x = normalized("stem.1", conv("stem.0", x, 2 if stem == "large" else 1))
    if stem == "large":
        x = F.max_pool2d(x, 3, 2, padding=1)
    places = sorted({tuple(map(int, key.split(".")[1:3])) for key in state if key.startswith("stages.")})
    for stage, place in places:
        block = f"stages.{stage}.{place}"
        stride = 2 if stage and not place else 1
        count = 3 if f"{block}.conv3.weight" in state else 2
        strided = 1 if count == 2 or version == "v1" else 2
        y = x if stage == place == 0 else normalized(f"{block}.norm1", x)
        if f"{block}.shortcut.weight" in state:
            x = conv(f"{block}.shortcut", y, stride)
        elif stride > 1 or state[f"{block}.conv{count}.weight"].shape[0] != x.shape[1]:
            wider = state[f"{block}.conv{count}.weight"].shape[0]
            padded = x.new_zeros(len(x), wider, *x[:, :, ::stride, ::stride].shape[2:])
            padded[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
            x = padded
        for number in range(1, count + 1):
            y = y if number == 1 else normalized(f"{block}.norm{number}", y)
            y = conv(f"{block}.conv{number}", y, stride if number == strided else 1)
        x = x + y
    return normalized("norm", x).mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


def shaken(net: nn.Module) -> nn.Module:
    """Normalisation and head as if they had been trained, in float64 and in evaluation mode."""
    rng = torch.Generator().manual_seed(3)
    for tensor in net.state_dict().values():
        if tensor.dim() == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))
    return net.double().eval()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("preact_resnet_20", {}),
        ("preact_resnet_20", {"shortcut": "projection"}),
        ("preact_resnet_20", {"shortcut": "all_projection"}),
        ("preact_resnet_20", {"stem": "large"}),
        ("preact_resnet_164", {}),
        ("preact_resnet_164", {"version": "v1"}),
        ("preact_resnet_50", {}),
        ("preact_resnet_50", {"shortcut": "A", "version": "v1"}),
    ],
)
def test_is_its_formula(name: str, settings: dict[str, Any]) -> None:
    net = shaken(build(name, **settings))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stem = settings.get("stem", "large" if name == "preact_resnet_50" else "small")
    expected = formula(net.state_dict(), x, stem=stem, version=settings.get("version", "v1.5"))
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_is_its_formula_while_training() -> None:
    net = shaken(build("preact_resnet_20")).train()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x), formula(net.state_dict(), x, training=True))


def test_a_deeper_value_is_a_shallower_one_plus_a_sum() -> None:
    """Equation 4, on the second stage behind its first block: nothing stands between the sums."""
    net = shaken(build("preact_resnet_20"))
    with torch.no_grad():
        x = net.stages[1][0](net.stages[0](net.stem(torch.randn(2, 3, 16, 16, dtype=torch.float64))))
        y, total = x, torch.zeros_like(x)
        for block in net.stages[1][1:]:
            total += block.branch(block.norm1(y).clamp_min(0))
            y = block(y)
        torch.testing.assert_close(y, x + total)
        assert (y < 0).any()  # in the first residual networks a ReLU would have cut these off


@pytest.mark.parametrize("letter", ["A", "B", "C"])
def test_the_letters_are_the_options(letter: str) -> None:
    word = {"A": "identity", "B": "projection", "C": "all_projection"}[letter]
    for name in (letter, word):
        state = build("preact_resnet_20", shortcut=name).state_dict()
        assert len([key for key in state if "shortcut" in key]) == {"A": 0, "B": 2, "C": 9}[letter]


def test_every_block_can_be_left_out() -> None:
    """With everything but shortcuts gone, the value is the stem's; normalisation in front of a shortcut still runs."""
    net = build("preact_resnet_20")
    assert sum(isinstance(module, DropPath) for module in net.modules()) == 9
    add_stochastic_depth(net, 1 - 1e-9, decay="constant")
    x = net.stem(torch.randn(2, 3, 8, 8))
    y = net.stages(x)
    assert torch.equal(y[:, :16], x[:, :, ::4, ::4])
    assert not y[:, 16:].any()


def test_blocks_start_as_the_identity_by_their_last_convolution() -> None:
    net = build("preact_resnet_164")
    apply(net, "zero_gamma")
    x = torch.randn(2, 64, 8, 8)
    for block in net.stages[0][1:]:
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("block", [PreactBasicBlock, PreactBottleneck])
def test_initial_weights(block: type[PreactBasicBlock | PreactBottleneck]) -> None:
    """He's rule over the outgoing connections; normalisation starts as the identity, and the head without bias."""
    torch.manual_seed(0)
    net = PreactResNet(block, (1, 2), 64, num_classes=5, stem="small")
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.weight[0, 0].numel() * module.out_channels)) ** 0.5
            assert abs(module.weight.std().item() / expected - 1) < 5 / (2 * module.weight.numel()) ** 0.5
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones(module.num_features))
            assert not module.bias.any()
    assert not net.head.bias.any()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("preact_resnet_20", {"version": "v1"}, "has none"),
        ("preact_resnet_20", {"shortcut": "projektion"}, "did you mean: projection"),
        ("preact_resnet_20", {"shortcut": None}, "allowed: all_projection, identity, projection"),
        ("preact_resnet_164", {"version": "v2"}, "version 'v2' is not known"),
        ("preact_resnet_20", {"stem": "tiny"}, "allowed: large, small"),
    ],
)
def test_refuses_what_makes_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        build(name, **settings)
    assert message in str(refusal.value)
