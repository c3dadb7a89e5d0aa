"""The VGG family against measured per-layer counts, and against the same network written out as a formula."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.models.vgg import DEPTHS, renamed

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures_vgg_googlenet.json").read_text())[
    "architectures"
]

MEASURED = [
    *[(f"VGG-{n}", f"vgg{n}") for n in DEPTHS],
    *[(f"VGG-{n}-BN", f"vgg{n}_bn") for n in DEPTHS],
    ("VGG-C (16, 1x1 convs)", "vgg16_c"),
    ("VGG-11", "vgg11_lrn"),  # local response normalisation has no weights
]


def build(name: str, shape: tuple[int, ...] = (3, 32, 32), classes: int = 5, **settings: Any) -> nn.Module:
    return models.build(name, shape=shape, num_classes=classes, settings=settings, rng=torch.Generator().manual_seed(0))


def on_meta(name: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, shape=(3, 224, 224), num_classes=1000, settings=settings)


@pytest.mark.parametrize(("measured", "name"), MEASURED)
def test_layer_by_layer(measured: str, name: str) -> None:
    expected = ARCHITECTURES[measured]
    costs = accounting.account(on_meta(name), (3, 224, 224))
    assert (costs.parameters, costs.macs, costs.buffers) == (
        expected["params"],
        expected["macs"],
        expected["buffers"],
    )
    kinds = ["Conv2d", "MaxPool2d", "Linear"]
    if any(layer[0] == "AdaptiveAvgPool2d" for layer in expected["layers"]):  # the paper's own C was measured without
        kinds.append("AdaptiveAvgPool2d")
    assert [
        [row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds
    ] == expected["layers"]
    assert sum(row.parameters for row in costs.rows if row.kind == "BatchNorm2d") == expected["bn_params"]


def test_with_the_mean_over_positions() -> None:
    """VGG-16 without its 123,642,856 weights of full connections: the convolutions, and 512 x 1000 + 1000."""
    costs = accounting.account(on_meta("vgg16", top="average"), (3, 224, 224))
    assert costs.parameters == 15_227_688
    assert costs.macs == 15_470_264_320 - (25_088 * 4096 + 4096**2 + 4096 * 1000) + 512 * 1000


def formula(state: dict[str, Tensor], x: Tensor, pools: int, local_response: bool = False) -> Tensor:
    stages = sorted({tuple(map(int, found)) for key in state for found in re.findall(r"conv(\d)_(\d)\.weight", key)})
    for stage, place in stages:
        if place == 1 and stage > 1:
            x = F.max_pool2d(x, 2)
        weight, bias = (state[f"features.conv{stage}_{place}.{key}"] for key in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding="same")
        if f"features.norm{stage}_{place}.weight" in state:
            mean, var, gamma, beta = (
                state[f"features.norm{stage}_{place}.{key}"].view(-1, 1, 1)
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = (x - mean) / (var + 1e-5).sqrt() * gamma + beta
        x = x.clamp_min(0)
        if local_response and stage == 1:  # torch multiplies the mean, the paper the sum
            x = F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
    x = F.max_pool2d(x, 2) if pools == 5 else x
    if "top.fc6.weight" in state:
        x = F.adaptive_avg_pool2d(x, 7).flatten(1)
        for layer in ("fc6", "fc7"):
            x = (x @ state[f"top.{layer}.weight"].T + state[f"top.{layer}.bias"]).clamp_min(0)
    else:
        x = x.mean((2, 3))
    return x @ state["head.weight"].T + state["head.bias"]


def shaken(net: nn.Module) -> nn.Module:
    """Biases and normalisation as if they had been trained, in evaluation mode and float64."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.dim() == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng) * (1 if "norm" in name else 0.1))
    return net.double().eval()


@pytest.mark.parametrize(
    ("name", "settings", "pools"),
    [
        ("vgg_small", {}, 4),
        ("vgg_small", {"depth": 19, "width": 8, "batch_norm": False}, 4),
        ("vgg_small", {"depth": 11, "width": 8, "top": "fc", "batch_norm": False}, 4),
        ("vgg16", {"top": "average"}, 5),
        ("vgg16_c", {"top": "average"}, 5),
        ("vgg11_bn", {"top": "average"}, 5),
        ("vgg11_lrn", {"top": "average"}, 5),
    ],
)
def test_is_its_formula(name: str, settings: dict[str, Any], pools: int) -> None:
    net = shaken(build(name, **settings))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            net(x), formula(net.state_dict(), x, pools, name == "vgg11_lrn"), rtol=1e-9, atol=1e-12
        )


def test_dropout_is_where_the_paper_has_it() -> None:
    """After the first two full connections, one half; nowhere with the mean over positions."""
    top = on_meta("vgg11").top
    order = [name for name, _ in top.named_children()]
    assert order == ["pool", "flat", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7"]
    assert top.drop6.p == top.drop7.p == 0.5
    assert on_meta("vgg11", drop=0.2).top.drop7.p == 0.2
    assert not any(isinstance(module, nn.Dropout) for module in on_meta("vgg11", top="average").modules())


def test_growing_copies_equal_names() -> None:
    """What the paper copies from A into B, D and E: the first four convolutions and the full connections (3.1)."""
    shallow = on_meta("vgg11").state_dict()
    copied = {f"features.{conv}" for conv in ("conv1_1", "conv2_1", "conv3_1", "conv3_2")}
    copied |= {"top.fc6", "top.fc7", "head"}
    for deeper in ("vgg13", "vgg16", "vgg19"):
        state = on_meta(deeper).state_dict()
        shared = {key for key in shallow if key in state and state[key].shape == shallow[key].shape}
        assert shared == set(shallow)
        assert copied <= {key.rpartition(".")[0] for key in shared}
    for deeper in (13, 16, 19):
        shallow = build("vgg_small", depth=11).state_dict()
        assert set(shallow) <= set(build("vgg_small", depth=deeper).state_dict())


def test_small_form_grows_as_the_large_ones_do() -> None:
    counts = {depth: sum(p.dim() == 4 for p in build("vgg_small", depth=depth).parameters()) for depth in DEPTHS}
    assert counts == {11: 8, 13: 10, 16: 13, 19: 16}


@pytest.mark.parametrize("dimensions", [1, 3])
def test_parameters_in_other_dimensions(dimensions: int) -> None:
    taps = 3**dimensions
    wide = sum(a * b for a, b in ((3, 8), (8, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64)))
    net = build("vgg_small", (3, *[16] * dimensions), depth=11, width=8, batch_norm=False)
    biases = 8 + 16 + 2 * 32 + 4 * 64
    assert sum(p.numel() for p in net.parameters()) == taps * wide + biases + 64 * 5 + 5
    assert net(torch.zeros(2, 3, *[16] * dimensions)).shape == (2, 5)


def test_initial_weights() -> None:
    """He's rule over the incoming connections; the head, with nothing after it, half that variance."""
    net = build("vgg_small", classes=400)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 1 if name == "head" else 2
            if module.weight.numel() > 50_000:
                assert abs(module.weight.std().item() / math.sqrt(gain / module.weight[0].numel()) - 1) < 0.03, name
            assert not module.bias.any()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
def test_names_of_torchvision(depth: int, batch_norm: bool) -> None:
    """Their features are numbered: a convolution, perhaps a normalisation, a ReLU; a pooling ends a stage."""
    index, expected = 0, {}
    for stage, count in enumerate(DEPTHS[depth], 1):
        for place in range(1, count + 1):
            expected[f"features.{index}.weight"] = f"features.conv{stage}_{place}.weight"
            if batch_norm:
                expected[f"features.{index + 1}.running_var"] = f"features.norm{stage}_{place}.running_var"
            index += 3 if batch_norm else 2
        index += 1
    expected |= {"classifier.0.bias": "top.fc6.bias", "classifier.3.bias": "top.fc7.bias"}
    expected |= {"classifier.6.weight": "head.weight"}
    ours = set(on_meta(f"vgg{depth}_bn" if batch_norm else f"vgg{depth}").state_dict())
    for theirs, name in expected.items():
        for pattern, replacement in renamed(DEPTHS[depth], batch_norm):
            theirs = re.sub(pattern, replacement, theirs)
        assert theirs == name
        assert name in ours


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vgg_small", {"top": "avg"}, "allowed: average, fc"),
        ("vgg_small", {"depth": 12}, "allowed: 11, 13, 16, 19"),
        ("vgg_small", {"width": 4}, "width cannot be 4"),
        ("vgg_small", {"drop": 1.5}, "drop cannot be 1.5"),
    ],
)
def test_refuses_what_makes_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        build(name, **settings)
    assert message in str(refusal.value)
