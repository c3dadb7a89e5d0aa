"""GoogLeNet against measured per-layer counts, torchvision's recorded outputs, and a module written as a formula."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.layers.auxiliary import GoogLeNetHead, Scores, with_auxiliary_heads
from engram.layers.local_response_norm import LocalResponseNorm
from engram.models.googlenet import MODULES, GoogLeNet, Inception, Maps, transformed
from engram.training import pretrained

DATA = Path(__file__).parent / "data"
ARCHITECTURES = json.loads((DATA / "architectures_vgg_googlenet.json").read_text())["architectures"]
TORCHVISION = json.loads((DATA / "torchvision_googlenet.json").read_text())

MEASURED = [
    ("GoogLeNet orig (no aux)", "googlenet", {"auxiliary": False}),
    ("GoogLeNet 5x5 + BN, no aux", "googlenet_bn", {}),
    ("GoogLeNet torchvision no aux", "googlenet_torchvision", {}),
]


def on_meta(name: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, shape=(3, 224, 224), num_classes=1000, settings=settings)


def small(**settings: Any) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    return models.build("googlenet_small", shape=(3, 32, 32), num_classes=5, settings=settings, rng=rng)


@pytest.mark.parametrize(("measured", "name", "settings"), MEASURED)
def test_layer_by_layer(measured: str, name: str, settings: dict[str, Any]) -> None:
    expected = ARCHITECTURES[measured]
    costs = accounting.account(on_meta(name, **settings), (3, 224, 224))
    assert (costs.parameters, costs.macs, costs.buffers) == (expected["params"], expected["macs"], expected["buffers"])
    kinds = ("Conv2d", "MaxPool2d", "AdaptiveAvgPool2d", "Linear")
    rows = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert rows == expected["layers"]
    assert sum(row.parameters for row in costs.rows if row.kind == "BatchNorm2d") == expected["bn_params"]


def test_layer_by_layer_with_its_heads_in_training() -> None:
    expected = ARCHITECTURES["GoogLeNet orig (+2 aux)"]
    net, rows = on_meta("googlenet"), list[list[Any]]()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda m, x, y: rows.append(
                    [type(m).__name__, list(y.shape[1:]), sum(p.numel() for p in m.parameters())]
                )
            )
    scores = net.train()(torch.zeros(2, 3, 224, 224, device="meta"))
    assert isinstance(scores, Scores)
    assert scores.weight == 0.3
    assert [one.shape for one in (scores.main, *scores.auxiliary)] == [(2, 1000)] * 3
    wanted = [row[:3] for row in expected["layers"] if row[0] in ("Conv2d", "Linear")]
    assert rows == wanted
    assert sum(p.numel() for p in net.parameters()) == expected["params"] == 13_378_280
    torchvisions = on_meta("googlenet_torchvision", auxiliary=True)
    assert sum(p.numel() for p in torchvisions.parameters()) == ARCHITECTURES["GoogLeNet torchvision +aux"]["params"]


def test_sizes_of_the_papers_table() -> None:
    """Maps that each module gives, and the side on which it works."""
    given = [maps.one + maps.three[1] + maps.five[1] + (maps.pool or 0) for maps in MODULES.values()]
    assert given == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    net, sides = on_meta("googlenet").eval(), dict[str, tuple[int, ...]]()
    for name, module in net.features.named_children():
        module.register_forward_hook(lambda m, x, y, name=name: sides.update({name: tuple(y.shape[1:])}))
    net(torch.zeros(1, 3, 224, 224, device="meta"))
    assert list(sides)[:7] == ["conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2", "pool2"]
    assert [sides[f"inception{place}"][1] for place in MODULES] == [28, 28, 14, 14, 14, 14, 14, 7, 7]


@pytest.mark.parametrize(
    ("maps", "channels", "macs"),
    [
        (Maps(128, (None, 192), (None, 96), None), 672, 854_196_224),
        (Maps(128, (64, 192), (64, 96), 64), 480, 271_351_808),
    ],
)
def test_what_narrowing_saves(maps: Maps, channels: int, macs: int) -> None:
    """Stanford's lecture 9, on 256 maps of 28 x 28: 854 M naive; the 358 M on its slide count one branch twice."""
    with torch.device("meta"):
        module = Inception(256, maps, lambda *shape: nn.Conv2d(*shape, padding=shape[2] // 2))
    costs = accounting.account(module, (256, 28, 28))
    assert costs.output == (channels, 28, 28)
    assert module.channels == channels
    assert costs.macs == macs


@pytest.mark.parametrize("narrowed", [False, True])
@pytest.mark.parametrize("five", [3, 5])
def test_a_module_is_its_formula(narrowed: bool, five: int) -> None:
    torch.manual_seed(0)
    maps = Maps(3, (4, 5), (2, 6), 7) if narrowed else Maps(3, (None, 5), (None, 6), None)

    def unit(channels: int, wide: int, kernel: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, wide, kernel, padding=kernel // 2), nn.ReLU())

    module = Inception(8, maps, unit, five=five).double()
    p = module.state_dict()
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64)

    def layer(name: str, y: Tensor) -> Tensor:
        return F.conv2d(y, p[f"{name}.0.weight"], p[f"{name}.0.bias"], padding="same").clamp_min(0)

    windows = F.pad(x, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))
    expected = [
        layer("one", x),
        layer("three.filter", layer("three.reduce", x) if narrowed else x),
        layer("five.filter", layer("five.reduce", x) if narrowed else x),
        layer("pool.project", windows) if narrowed else windows,
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, 1))


# Against torchvision.


def official() -> tuple[dict[str, Tensor], Tensor]:
    """A checkpoint under torchvision's names, drawn by NumPy, and the input that torchvision was asked about."""
    rng = np.random.default_rng(0)
    tensors = {key: torch.from_numpy(np.asarray(draw(key, shape, rng))) for key, shape in TORCHVISION["names"].items()}
    return tensors, torch.from_numpy(rng.standard_normal((2, 3, 64, 64)))


def draw(key: str, shape: list[int], rng: np.random.Generator) -> NDArray[Any]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = rng.standard_normal(shape)
    if key.endswith("running_var"):
        return 0.5 + z**2
    if key.endswith(("running_mean", "bias")):
        return 0.1 * z
    return 1 + 0.1 * z if len(shape) == 1 else z * np.sqrt(2 / np.prod(shape[1:]))


@pytest.mark.parametrize("auxiliary", [False, True])
def test_gives_torchvisions_outputs(auxiliary: bool, tmp_path: Path) -> None:
    """In evaluation; with its heads in training too, and with dropout away."""
    tensors, x = official()
    torch.save(tensors, tmp_path / "official.pth")
    settings = {"auxiliary": auxiliary, "drop": 0.0}
    net = models.build("googlenet_torchvision", shape=(3, 64, 64), num_classes=1000, settings=settings).double()
    pretrained.load(net, tmp_path / "official.pth", "googlenet_torchvision")

    def check(scores: Tensor, name: str) -> None:
        expected = torch.tensor(TORCHVISION[name], dtype=torch.float64)
        torch.testing.assert_close(scores[:, :10], expected, rtol=1e-9, atol=1e-9)

    with torch.no_grad():
        check(net.eval()(x), "evaluation")
        net.train()
        if not auxiliary:
            check(net(x), "training")
            return
        for head in net.auxiliary_heads.values():
            assert head.drop.p == 0.7
            head.drop.p = 0.0
        scores = net(x)
    check(scores.main, "training")
    check(scores.auxiliary[0], "aux1")
    check(scores.auxiliary[1], "aux2")


def test_inputs_are_transformed_for_the_official_weights() -> None:
    """A pixel value v between 0 and 1: from (v - mean) / std to (v - 0.5) / 0.5, in each channel."""
    v = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    torch.testing.assert_close(transformed((v - mean) / std), (v - 0.5) / 0.5)
    assert transformed(torch.zeros(1, 3, 2)).shape == (1, 3, 2)

    def takes(**settings: Any) -> bool:
        with torch.device("meta"):
            return models.build("googlenet_torchvision", num_classes=5, settings=settings, shape=shape).transform_input

    shape = (3, 32, 32)
    assert takes()
    assert not takes(transform_input=False)
    shape = (1, 32, 32)
    assert not takes()
    with pytest.raises(UserError, match="three channels, and these inputs have 1"):
        takes(transform_input=True)


# The whole.


def test_the_papers_network_is_its_modules_in_a_row() -> None:
    torch.manual_seed(0)
    net = models.build("googlenet", shape=(3, 48, 48), num_classes=5, settings={"drop": 0.0}).double()
    x, layers = torch.randn(2, 3, 48, 48, dtype=torch.float64), dict(net.features.named_children())

    def conv(name: str, y: Tensor, **settings: int) -> Tensor:
        return F.conv2d(y, layers[name].conv.weight, layers[name].conv.bias, **settings).clamp_min(0)

    def pool(y: Tensor) -> Tensor:
        return F.max_pool2d(y, 3, 2, ceil_mode=True)

    def quiet(y: Tensor) -> Tensor:  # torch multiplies the mean, the paper the sum
        return F.local_response_norm(y, 5, alpha=5e-4, beta=0.75, k=2.0)

    heads, y = [], quiet(pool(conv("conv1", x, stride=2, padding=3)))
    y = pool(quiet(conv("conv2", conv("conv2_reduce", y), padding=1)))
    for place in MODULES:
        y = pool(y) if place in ("4a", "5a") else y
        y = layers[f"inception{place}"](y)
        if place in ("4a", "4d"):
            heads.append(y)
    for head in net.auxiliary_heads.values():
        head.drop.p = 0.0
    scores = net.train()(x)
    torch.testing.assert_close(scores.main, net.head(y.mean((2, 3))))
    for ours, head, maps in zip(scores.auxiliary, net.auxiliary_heads.values(), heads, strict=True):
        torch.testing.assert_close(ours, head(maps))
    torch.testing.assert_close(net.eval()(x), scores.main)


def test_dropout_of_the_paper() -> None:
    net = on_meta("googlenet")
    assert net.drop.p == 0.4
    assert [head.drop.p for head in net.auxiliary_heads.values()] == [0.7, 0.7]
    assert list(net.auxiliary_heads) == ["inception4a", "inception4d"]
    assert all(isinstance(head, GoogLeNetHead) for head in net.auxiliary_heads.values())
    assert on_meta("googlenet_torchvision").drop.p == 0.2
    torch.manual_seed(0)
    read: list[Tensor] = []
    net = small(drop=0.3).train()
    net.head.register_forward_pre_hook(lambda module, x: read.append(x[0]))
    net.pool = nn.Flatten()
    net.features = nn.Identity()
    net.head = nn.Identity()
    assert abs((net(torch.ones(50, 400)) == 0).double().mean() - 0.3) < 5 * (0.21 / 20_000) ** 0.5


def test_weight_of_the_heads() -> None:
    net = models.build("googlenet", shape=(3, 31, 31), num_classes=5, settings={"auxiliary_weight": 0.1}).train()
    assert net(torch.zeros(2, 3, 31, 31)).weight == 0.1
    net.auxiliary_weight = 0.05
    assert net(torch.zeros(2, 3, 31, 31)).weight == 0.05
    with pytest.raises(UserError, match="auxiliary_weight cannot be -1"):
        models.build("googlenet", shape=(3, 31, 31), num_classes=5, settings={"auxiliary_weight": -1})
    with pytest.raises(UserError, match="stem 'medium'"):
        GoogLeNet(stem="medium")


def test_normalisations() -> None:
    kinds = {name: [type(m) for m in on_meta(name).modules()] for name in ("googlenet", "googlenet_bn")}
    assert kinds["googlenet"].count(LocalResponseNorm) == 2
    assert nn.BatchNorm2d not in kinds["googlenet"]
    assert kinds["googlenet_bn"].count(nn.BatchNorm2d) == 57
    assert LocalResponseNorm not in kinds["googlenet_bn"]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in small().modules()) == 1 + 9 * 6
    assert not any(isinstance(m, nn.BatchNorm2d) for m in small(batch_norm=False).modules())


def test_initial_weights() -> None:
    """He's rule over the incoming connections; layers that give scores half that variance."""
    torch.manual_seed(0)
    net = models.build("googlenet", shape=(3, 32, 32), num_classes=400)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 1 if name == "head" or name.endswith("fc2") else 2
            expected = math.sqrt(gain / module.weight[0].numel())
            assert abs(module.weight.std().item() / expected - 1) < 5 / (2 * module.weight.numel()) ** 0.5, name
            assert not module.bias.any()


def test_heads_are_in_training_alone_and_may_be_left_out() -> None:
    x = torch.zeros(2, 3, 32, 32)
    net = small(auxiliary=True)
    assert isinstance(net.train()(x), Scores)
    assert isinstance(net.eval()(x), Tensor)
    assert all(name.startswith("auxiliary") for name in set(net.state_dict()) - set(small().state_dict()))
    assert isinstance(small().train()(x), Tensor)
    with pytest.raises(UserError, match="has auxiliary heads already"):
        with_auxiliary_heads(net, 0.5, shape=(3, 32, 32))
    other = with_auxiliary_heads(small(), "0.33,0.66", shape=(3, 32, 32))
    assert other.auxiliary.places == ("features.inception4a", "features.inception4d")  # where the paper has them


@pytest.mark.parametrize("width", [4, 14, 64])
def test_the_small_form_is_narrower(width: int) -> None:
    with torch.device("meta"):
        net = models.build("googlenet_small", shape=(3, 32, 32), num_classes=5, settings={"width": width})
        given = [net.features.get_submodule(f"inception{place}").channels for place in MODULES]
    for ours, papers in zip(given, [256, 480, 512, 512, 512, 528, 832, 832, 1024], strict=True):
        assert papers * width / 64 - 4 < ours <= papers * width / 64
    assert net.features.inception3a.one.conv.out_channels == width


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("googlenet", 31), ("googlenet_bn", 31), ("googlenet_torchvision", 15), ("googlenet_small", 4)],
)
def test_the_smallest_is_the_smallest(name: str, smallest: int) -> None:
    with torch.device("meta"):
        net = models.build(name, shape=(3, smallest, smallest), num_classes=5).eval()
        assert net.features(torch.zeros(2, 3, smallest, smallest)).shape[2:] == (1, 1)
        with pytest.raises(RuntimeError, match="too small"):
            net.features(torch.zeros(2, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"drop": 2}, "drop cannot be 2"), ({"width": 2}, "width cannot be 2"), ({"width": 14.5}, "a whole number")],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        small(**settings)
    assert message in str(refusal.value)
