"""The residual family against measured per-layer counts, and against the same networks written out as formulas."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.models.resnet import BasicBlock, Bottleneck, PaddedIdentity, ResNet

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]

MEASURED = [
    *[(f"ResNet-{n} (torchvision v1.5)", f"resnet{n}", {}) for n in (18, 34, 50, 101, 152)],
    *[(f"ResNet-{n} v1 (stride in 1x1)", f"resnet{n}", {"version": "v1"}) for n in (50, 101, 152)],
    *[(f"Plain-{n}", f"plain{n}", {}) for n in (18, 34)],
    *[(f"CIFAR ResNet-{n} option A", f"resnet{n}", {}) for n in (20, 32, 44, 56, 110, 1202)],
    *[(f"CIFAR ResNet-{n} option B", f"resnet{n}", {"shortcut": "projection"}) for n in (20, 56, 110)],
]


def build(name: str, *, classes: int, shape: tuple[int, ...] = (3, 32, 32), **settings: Any) -> nn.Module:
    return models.build(name, shape=shape, num_classes=classes, settings=settings, rng=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("measured", "name", "settings"), MEASURED)
def test_layer_by_layer(measured: str, name: str, settings: dict[str, Any]) -> None:
    expected = ARCHITECTURES[measured]
    classes, shape = (10 if expected["input"][1] == 32 else 1000), tuple(expected["input"])
    with torch.device("meta"):
        net = models.build(name, shape=shape, num_classes=classes, settings=settings)
    costs = accounting.account(net, shape)
    assert (costs.parameters, costs.macs, costs.buffers) == (
        expected["params"],
        expected["macs"],
        expected["buffers"],
    )
    norms = [row.parameters for row in costs.rows if row.kind == "BatchNorm2d"]
    assert sum(norms) == expected["bn_params"]
    if "layers" in expected:  # none for 1202 layers
        kinds = ("Conv2d", "Linear", "MaxPool2d")
        ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
        theirs = [row for row in expected["layers"] if row[0] in kinds]
        if "option B" in measured:  # measured with the shortcut ahead of its block
            ours, theirs = sorted(ours), sorted(theirs)
        assert ours == theirs


def test_small_stem() -> None:
    """11,173,962 parameters with 10 classes, and multiply-adds counted by hand."""
    costs = accounting.account(build("resnet18", classes=10, stem="small"), (3, 32, 32))
    stem, first = 27 * 64 * 1024, 4 * 64 * 64 * 9 * 1024
    later = 64 * 128 * 9 * 256 + 3 * 128 * 128 * 9 * 256 + 64 * 128 * 256  # the same in each: half the side, twice wide
    assert (costs.parameters, costs.macs) == (11_173_962, stem + first + 3 * later + 5120)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_parameters_in_other_dimensions(dimensions: int) -> None:
    """Only the kernels grow or shrink: 3 or 27 weights in place of 9."""
    taps = 3**dimensions
    wide = taps * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    net = build("resnet20", classes=10, shape=(3, *[8] * dimensions))
    assert accounting.account(net, (3, *[8] * dimensions)).parameters == wide + 1376 + 650


# The networks once more, as formulas on a state dict.


def formula(state: dict[str, Tensor], x: Tensor, *, stem: str, version: str = "v1.5") -> Tensor:
    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, gamma, beta = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gamma + beta

    x = norm("stem.1", conv("stem.0", x, 2 if stem == "large" else 1)).clamp_min(0)
    if stem == "large":
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 2)
    places = sorted({tuple(map(int, key.split(".")[1:3])) for key in state if key.startswith("stages.")})
    for stage, place in places:
        block = f"stages.{stage}.{place}"
        stride = 2 if stage and not place else 1
        count = 3 if f"{block}.conv3.weight" in state else 2
        strided = 1 if count == 2 or version == "v1" else 2
        y = x
        for number in range(1, count + 1):
            y = norm(f"{block}.norm{number}", conv(f"{block}.conv{number}", y, stride if number == strided else 1))
            y = y.clamp_min(0) if number < count else y
        if f"{block}.shortcut.0.weight" in state:
            x = norm(f"{block}.shortcut.1", conv(f"{block}.shortcut.0", x, stride))
        elif x.shape != y.shape:
            padded = torch.zeros_like(y)
            padded[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
            x = padded
        x = (x + y).clamp_min(0)
    return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


def shaken(net: nn.Module) -> nn.Module:
    """Normalisation as if it had been trained, in float64 and in evaluation mode."""
    rng = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=rng)
    return net.double().eval()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet20", {}),
        ("resnet20", {"shortcut": "projection"}),
        ("resnet20", {"shortcut": "all_projection"}),
        ("resnet20", {"stem": "large"}),
        ("resnet18", {}),
        ("resnet18", {"shortcut": "identity", "stem": "small"}),
        ("resnet50", {}),
        ("resnet50", {"version": "v1"}),
        ("resnet50", {"shortcut": "identity"}),
    ],
)
def test_is_its_formula(name: str, settings: dict[str, Any]) -> None:
    net = shaken(build(name, classes=5, **settings))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stem = settings.get("stem", "small" if name == "resnet20" else "large")
    expected = formula(net.state_dict(), x, stem=stem, version=settings.get("version", "v1.5"))
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("letter", ["A", "B", "C"])
def test_the_papers_letters_are_its_options(letter: str) -> None:
    """A has no projection, B two (where the stages of 20 layers meet), C one around every block."""
    word = {"A": "identity", "B": "projection", "C": "all_projection"}[letter]
    for name in (letter, word):
        state = build("resnet20", classes=5, shortcut=name).state_dict()
        assert len([key for key in state if "shortcut.0" in key]) == {"A": 0, "B": 2, "C": 9}[letter]


def test_plain_is_residual_without_the_sum() -> None:
    net = shaken(build("plain20", classes=5))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = x
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                y = module(y)
            elif isinstance(module, nn.BatchNorm2d):
                y = module(y).clamp_min(0)
        torch.testing.assert_close(net(x), net.head(y.mean((2, 3))))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_lower_dimensions_are_a_slice_of_higher(dimensions: int) -> None:
    """A network over signals is the network over pictures one pixel wide, with its kernels in the middle column."""
    net = shaken(build("resnet20", classes=5, shape=(3, *[8] * dimensions)))
    higher = shaken(build("resnet20", classes=5, shape=(3, *[8] * (dimensions + 1))))
    state = {}
    for name, tensor in net.state_dict().items():
        kernel = tensor.dim() == 2 + dimensions
        state[name] = F.pad(tensor[..., None], (1, 1)) if kernel else tensor
    higher.load_state_dict(state)
    x = torch.randn(2, 3, *[8] * dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(higher(x[..., None]), net(x))


def test_option_a_skips_pixels_and_adds_zeros() -> None:
    x = torch.randn(2, 4, 7, 8, requires_grad=True)
    y = PaddedIdentity(3, stride=2, dimensions=2)(x)
    assert y.shape == (2, 7, 4, 4)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert not y[:, 4:].any()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient[:, :, ::2, ::2], torch.ones(2, 4, 4, 4))
    assert gradient.sum() == 2 * 4 * 4 * 4


def test_odd_sizes_keep_the_shortcut_in_step() -> None:
    assert build("resnet20", classes=5)(torch.randn(2, 3, 33, 35)).shape == (2, 5)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_zero_gamma_starts_as_the_identity(block: type[BasicBlock | Bottleneck]) -> None:
    net = ResNet(block, (2, 1), 4, num_classes=3, stem="small", shortcut="identity", zero_gamma=True)
    x = torch.randn(2, 3, 8, 8)
    stem = net.stem(x)
    through = net.stages[0](stem)
    assert torch.equal(through[:, :4], stem)
    assert not through[:, 4:].any()


def test_initial_weights() -> None:
    """He's rule over the outgoing connections, 2 / (9 x channels out); normalisation starts as the identity."""
    net = build("resnet18", classes=10)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            spread = module.weight.std().item() / math.sqrt(2 / (module.weight[0, 0].numel() * module.out_channels))
            assert abs(spread - 1) < 0.03
            assert abs(module.weight.mean().item()) < 0.03 * module.weight.std().item()
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones(module.num_features))
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet18", {"version": "v1"}, "has none"),
        ("plain20", {"zero_gamma": True}, "silence"),
        ("resnet20", {"shortcut": "projektion"}, "did you mean: projection"),
        ("resnet20", {"stem": "tiny"}, "allowed: large, small"),
    ],
)
def test_refuses_what_makes_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        build(name, classes=5, **settings)
    assert message in str(refusal.value)
