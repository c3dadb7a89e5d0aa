"""LeNet-5 against measured per-layer counts, and against the paper's layers written out."""

import json
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram import accounting
from engram.errors import UserError
from engram.models.lenet import C3_TABLE, LeNet5, digit_code, lenet5, lenet5_1998, random_code

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures.json").read_text())["architectures"]


@pytest.mark.parametrize("measured", ["LeNet-5 modern 32x32x1", "LeNet CIFAR (RGB)"])
def test_layer_by_layer(measured: str) -> None:
    expected = ARCHITECTURES[measured]
    channels, *size = expected["input"]
    pool = "average" if "modern" in measured else "max"
    costs = accounting.account(lenet5(in_channels=channels, image_size=size, pool=pool), (channels, *size))
    assert (costs.parameters, costs.macs) == (expected["params"], expected["macs"])
    ours = [(list(row.output), row.parameters, row.macs) for row in costs.rows if row.macs]
    assert ours == [
        ([side for side in out if side > 1], *counts) for _, out, *counts in expected["layers"] if counts[1]
    ]


def test_28_pixels_are_the_papers_32() -> None:
    small, large = lenet5(image_size=(28, 28)), lenet5(image_size=(32, 32))
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize(
    ("pool", "activation"), [("max", "relu"), ("average", "tanh"), ("max", "gelu"), ("average", "relu")]
)
def test_is_its_formula(pool: str, activation: str) -> None:
    net = lenet5(image_size=(32, 32), pool=pool, activation=activation).double()
    p = net.state_dict()
    f = getattr(F, activation, torch.tanh)
    shrink = F.max_pool2d if pool == "max" else F.avg_pool2d
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    y = shrink(f(F.conv2d(x, p["c1.weight"], p["c1.bias"])), 2)  # the activation first, as in the paper
    y = shrink(f(F.conv2d(y, p["c3.weight"], p["c3.bias"])), 2)
    kernel = p["c5.weight"].view(120, 5, 5, 16).permute(0, 3, 1, 2)
    y = f(F.conv2d(y, kernel, p["c5.bias"])).flatten(1)  # C5 is a convolution whose window is the whole map
    y = f(F.linear(y, p["f6.weight"], p["f6.bias"]))
    torch.testing.assert_close(net(x), F.linear(y, p["head.weight"], p["head.bias"]))


@pytest.mark.parametrize(
    ("size", "c5"), [((16, 16), 16), ((64, 48), 16 * 13 * 9), ((40,), 16 * 7), ((16, 18, 32), 16 * 5)]
)
def test_other_sizes_and_dimensions(size: tuple[int, ...], c5: int) -> None:
    net = lenet5(image_size=size, in_channels=2, num_classes=3)
    assert net.c5.in_features == c5
    assert net(torch.randn(2, 2, *size)).shape == (2, 3)


def test_the_smallest_is_the_smallest() -> None:
    assert lenet5(image_size=(16, 16))(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    with pytest.raises(UserError, match="at least 16"):
        lenet5(image_size=(15, 40))


def test_memory_layout_does_not_change_the_answer() -> None:
    net, x = lenet5(image_size=(28, 28)), torch.randn(2, 1, 28, 28)
    last = net(x).detach()
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(as_channels_last(x)), last)


def as_channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def test_initial_weights_keep_the_scale() -> None:
    torch.manual_seed(0)
    signal = [torch.randn(64, 1, 32, 32)]
    net = LeNet5((32, 32))
    for layer in (net.c1, net.c3, net.c5, net.f6):
        layer.register_forward_hook(lambda module, x, y: signal.append(y))
    net(signal[0])
    powers = [tensor.square().mean().item() for tensor in signal]
    assert all(0.3 < after / before < 5 for before, after in pairwise(powers))


def test_unknown_pool() -> None:
    with pytest.raises(UserError, match="pool 'maxx'"):
        lenet5(pool="maxx")


# The original of 1998.

TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""
"""The paper's table I: a row for each map of S2, a column for each of C3."""


def shaken_original(**settings: Any) -> torch.nn.Module:
    """With every weight of the sub-sampling and every bias felt."""
    torch.manual_seed(0)
    net = lenet5_1998(**settings)
    for p in net.parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p, mean=0.5, std=0.3)
    return net.double()


def test_the_originals_counts() -> None:
    costs = accounting.account(lenet5_1998(), (1, 32, 32))
    counts = {row.name: row.parameters for row in costs.rows if row.parameters}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert costs.trainable == costs.parameters == 60_000
    assert lenet5_1998().state_dict()["head.code"].numel() == 840
    # Connections, as the paper counts them: every use of a weight or bias, and the four neighbours of a sum each.
    sides = {row.name: prod(row.output[1:]) for row in costs.rows if row.parameters}
    uses = {name: counts[name] * sides[name] for name in ("c1", "c3", "c5", "f6")}
    uses |= {name: (counts[name] // 2) * 5 * sides[name] for name in ("s2", "s4")}
    assert sum(uses.values()) + 840 == 340_908


def test_c3_reads_what_table_i_says() -> None:
    rows = TABLE_I.split()
    assert tuple(tuple(s2 for s2 in range(6) if rows[s2][c3] == "X") for c3 in range(16)) == C3_TABLE


def test_the_original_is_its_formula() -> None:
    net = shaken_original(sharpness=1.0)
    p = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)

    def f(a: Tensor) -> Tensor:
        return 1.7159 * (2 * torch.sigmoid(4 / 3 * a) - 1)

    def subsampled(layer: str, x: Tensor) -> Tensor:
        total = x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]
        return f(total * p[f"{layer}.weight"].view(-1, 1, 1) + p[f"{layer}.bias"].view(-1, 1, 1))

    y = subsampled("s2", f(F.conv2d(x, p["c1.weight"], p["c1.bias"])))
    kernels, maps = iter(p["c3.weight"]), []
    for column in range(16):
        total = p["c3.bias"][column]
        for row, line in enumerate(TABLE_I.split()):
            if line[column] == "X":
                total = total + F.conv2d(y[:, [row]], next(kernels)[None, None])
        maps.append(total)
    y = subsampled("s4", f(torch.cat(maps, 1)))
    y = f(F.conv2d(y, p["c5.weight"].view(120, 16, 5, 5), p["c5.bias"])).flatten(1)
    y = f(F.linear(y, p["f6.weight"], p["f6.bias"]))
    distances = torch.cdist(y, p["head.code"]).square()
    torch.testing.assert_close(net(x), -distances)
    net.head.sharpness = 0.1
    torch.testing.assert_close(net(x), -distances / 10)


def test_scores_of_distances_give_the_papers_loss() -> None:
    """And only a fixed linear head is left of them in it: the rest is the same for all classes."""
    net = shaken_original(sharpness=1.0)
    features: list[Tensor] = []
    net.head.register_forward_hook(lambda module, x, y: features.append(x[0]))
    scores, target = net(torch.randn(4, 1, 32, 32, dtype=torch.float64)), torch.tensor([3, 0, 9, 5])
    y = torch.stack([(features[0] - code).square().sum(1) for code in digit_code()], 1)
    paper = y[range(4), target] + (-y).exp().sum(1).log()
    torch.testing.assert_close(F.cross_entropy(scores, target, reduction="none"), paper)
    linear = 2 * features[0] @ digit_code().double().T
    torch.testing.assert_close(F.cross_entropy(linear, target, reduction="none"), paper)


def test_the_drawn_digits() -> None:
    code = digit_code()
    assert code.shape == (10, 84)
    assert set(code.unique().tolist()) == {-1.0, 1.0}
    ink = (code > 0).view(10, 12, 7)
    for one in range(10):
        for other in range(one):
            assert (ink[one] != ink[other]).sum() >= 6, (one, other)
    assert torch.equal(ink[0], ink[0].flip(0))
    assert all(torch.equal(ink[digit], ink[digit].flip(1)) for digit in (0, 8))
    seven = ["".join(" #"[dot] for dot in row) for row in ink[7].int().tolist()]
    assert [row.strip() for row in seven] == ["#######", *["#"] * 11]


def test_codes_of_other_classes_are_fair_coins_always_the_same() -> None:
    code = random_code(1000)
    assert torch.equal(code[:7], random_code(7))
    assert set(code.unique().tolist()) == {-1.0, 1.0}
    assert abs(code.mean().item()) < 5 / 84_000**0.5
    agreement = (code @ code.T).fill_diagonal_(0) / 84
    assert abs(agreement.std().item() / 84**-0.5 - 1) < 0.05
    assert torch.equal(lenet5_1998(num_classes=7).head.code, code[:7])
    assert torch.equal(lenet5_1998(code="random").head.code, code[:10])
    assert torch.equal(lenet5_1998().head.code, digit_code())


@pytest.mark.parametrize("initial", ["lecun", "paper"])
def test_initial_weights_of_the_original(initial: str) -> None:
    """By layer, and in C3 by map: uniform within 2.4 / inputs, or of variance 1 / inputs."""
    torch.manual_seed(0)
    net = lenet5_1998(initial=initial)
    maps = torch.tensor([len(reads) for reads in C3_TABLE for _ in reads])
    layers = [(net.c1.weight, 25), (net.c5.weight, 400), (net.f6.weight, 120)]
    layers += [(net.c3.weight[maps == reads], 25 * reads) for reads in (3, 4, 6)]
    for weight, inputs in layers:
        expected = 2.4 / inputs / 3**0.5 if initial == "paper" else inputs**-0.5
        assert abs(weight.std().item() / expected - 1) < 5 / (2 * weight.numel()) ** 0.5
        if initial == "paper":
            assert weight.abs().max() <= 2.4 / inputs
    biases = [net.c1.bias, net.c3.bias, net.c5.bias, net.f6.bias, net.s2.bias, net.s4.bias]
    assert not any(bias.any() for bias in biases)
    coefficients = torch.cat([net.s2.weight, net.s4.weight])
    if initial == "paper":
        assert 0.4 < coefficients.abs().max() <= 0.6
    else:
        assert torch.equal(coefficients, torch.full((22,), 0.5))


def test_28_pixels_are_the_originals_32() -> None:
    small, large = shaken_original(image_size=(28, 28)), shaken_original(image_size=(32, 32))
    x = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 7, "code": "digits"}, "7 classes"),
        ({"code": "digit"}, "did you mean: digits"),
        ({"initial": "lekun"}, "did you mean: lecun"),
        ({"sharpness": 0.0}, "above 0"),
        ({"image_size": (15, 15)}, "at least 16 pixels"),
    ],
)
def test_the_original_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        lenet5_1998(**settings)
    assert message in str(refusal.value)
