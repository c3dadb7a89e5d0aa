"""ZFNet against measured per-layer counts, and against its layers written out as a formula."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.layers.local_response_norm import local_response_norm
from engram.models.zfnet import SMALL, Layout, ZFNet, zfnet_small

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]
THIN = Layout(widths=(8, 12, 20, 16, 8), hidden=24)


def test_layer_by_layer() -> None:
    expected = ARCHITECTURES["ZFNet"]
    with torch.device("meta"):
        net = models.build("zfnet", shape=(3, 224, 224), num_classes=1000)
    costs = accounting.account(net, (3, 224, 224))
    assert (costs.parameters, costs.macs, costs.buffers) == (expected["params"], expected["macs"], 0)
    kinds = ("Conv2d", "Linear", "MaxPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert ours == expected["layers"]


def formula(p: dict[str, Tensor], x: Tensor, layout: Layout) -> Tensor:
    def conv(place: int, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        name = f"features.conv{place}"
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding).clamp_min(0)

    def pool(x: Tensor) -> Tensor:
        """Nothing below zero comes here, so that zeros beyond the edge are never the largest."""
        missing = [(1 - side % 2) for side in x.shape[2:]]
        return F.max_pool2d(F.pad(x, (0, missing[1], 0, missing[0])), 3, 2)

    x = local_response_norm(pool(conv(1, x, *layout.first[1:])))
    x = local_response_norm(pool(conv(2, x, *layout.second[1:])))
    x = pool(conv(5, conv(4, conv(3, x)))).flatten(1)
    for layer in ("fc6.0", "fc7.0"):
        x = F.linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"]).clamp_min(0)
    return F.linear(x, p["head.weight"], p["head.bias"])


@pytest.mark.parametrize(("layout", "side"), [(THIN, 224), (THIN, 47), (SMALL, 32), (SMALL, 28), (SMALL, 14)])
def test_is_its_formula(layout: Layout, side: int) -> None:
    torch.manual_seed(0)
    net = ZFNet(layout, (side, side), num_classes=5).double().eval()
    for p in net.parameters():
        if p.dim() == 1:
            nn.init.normal_(p)
    x = 20 * torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        expected = formula(net.state_dict(), x, layout)
        torch.testing.assert_close(net(x), expected, rtol=1e-11, atol=1e-11 * expected.abs().max().item())


def test_units_of_both_full_connections_are_dropped() -> None:
    """With every activation 1, a share of zeros within five standard deviations of what is asked."""
    torch.manual_seed(0)
    net = zfnet_small(image_size=(14, 14), drop=0.3).train()
    read: dict[str, Tensor] = {}
    for name in ("fc6", "fc7", "head"):
        layer = net.get_submodule(name)
        layer.register_forward_pre_hook(lambda module, x, name=name: read.__setitem__(name, x[0]))
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
    net(torch.zeros(64, 3, 14, 14))
    assert (read["fc6"] != 0).all()
    for name in ("fc7", "head"):
        share = (read[name] == 0).double().mean().item()
        assert abs(share - 0.3) <= 5 * (0.3 * 0.7 / read[name].numel()) ** 0.5


@pytest.mark.parametrize("initial", ["he", "paper"])
def test_initial_weights(initial: str) -> None:
    torch.manual_seed(0)
    for name, p in zfnet_small(initial=initial).named_parameters():
        if p.dim() == 1:
            assert not p.any(), name
        else:
            he = ((1 if name == "head.weight" else 2) / p[0].numel()) ** 0.5
            expected = 0.01 if initial == "paper" else he
            assert abs(p.std().item() / expected - 1) < 5 / (2 * p.numel()) ** 0.5, name


@pytest.mark.parametrize("layout", [Layout(), SMALL])
def test_the_smallest_leaves_one_pixel(layout: Layout) -> None:
    assert layout.last(layout.smallest) == 1
    assert layout.last(layout.smallest - 1) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": -0.1}, "drop cannot be -0.1"),
        ({"initial": "papper"}, "did you mean: paper"),
        ({"image_size": (32, 13)}, "at least 14 pixels"),
    ],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        zfnet_small(**settings)
    assert message in str(refusal.value)
