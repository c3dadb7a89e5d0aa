"""The residual perceptron against its formula, and against what shortcuts and order must not matter to."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.initializers import apply
from engram.layers.drop_path import DropPath
from engram.models.residual_mlp import ResidualBlock, residual_mlp


def shaken(net: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for tensor in net.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return net.double().eval()


def affine(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" not in p:
        return x
    return (x - p[f"{name}.running_mean"]) / (p[f"{name}.running_var"] + 1e-5).sqrt() * p[f"{name}.weight"] + p[
        f"{name}.bias"
    ]


@pytest.mark.parametrize("shortcut", ["identity", None])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("activation", "f"), [("relu", torch.relu), ("gelu", F.gelu)])
def test_is_its_formula(shortcut: str | None, batch_norm: bool, activation: str, f: Any) -> None:
    net = residual_mlp(
        num_classes=3,
        in_channels=2,
        image_size=(4, 3),
        width=6,
        depth=3,
        hidden=7,
        activation=activation,
        batch_norm=batch_norm,
        shortcut=shortcut,
    )
    p, x = shaken(net).state_dict(), torch.randn(5, 2, 4, 3, dtype=torch.float64)
    h = affine(p, "stem", torch.stack([x[:, :, i, j] for i in range(4) for j in range(3)], 1).reshape(5, 24))
    for block in range(3):
        name = f"blocks.{block}"
        y = affine(p, f"{name}.linear2", f(affine(p, f"{name}.linear1", norm(p, f"{name}.norm", h))))
        h = y if shortcut is None else h + y
    torch.testing.assert_close(net(x), affine(p, "head", f(norm(p, "norm", h))))


def test_normalises_by_the_batch_while_training() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 5).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    scaled = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    expected = x + block.linear2(block.linear1(scaled).clamp_min(0))
    torch.testing.assert_close(block(x), expected)


def test_costs_by_hand() -> None:
    """Of any width, depth and hidden width: weights, biases, and two values a normalised one."""
    net = residual_mlp(num_classes=10, in_channels=3, image_size=(8, 8), width=20, depth=4, hidden=30)
    blocks = 4 * (2 * 20 + 20 * 30 + 30 + 30 * 20 + 20)
    assert sum(p.numel() for p in net.parameters()) == 192 * 20 + 20 + blocks + 2 * 20 + 210
    plain = residual_mlp(num_classes=10, in_channels=3, image_size=(8, 8), width=20, depth=4, hidden=30, shortcut=None)
    assert [p.shape for p in plain.parameters()] == [p.shape for p in net.parameters()]


def test_the_order_of_the_features_does_not_matter() -> None:
    """The same function of permuted pixels is at hand, by permuting the first layer's columns."""
    net = shaken(residual_mlp(num_classes=3, image_size=(5, 5), width=6, depth=2))
    x, order = torch.randn(4, 1, 5, 5, dtype=torch.float64), torch.randperm(25)
    expected = net(x)
    net.stem.weight.data = net.stem.weight.data[:, order]
    torch.testing.assert_close(net(x.flatten(1)[:, order].view(4, 1, 5, 5)), expected)


def test_dropout_stands_inside_and_behind_the_branch() -> None:
    """With the shortcut's part taken away, of 40,000 values the share is within 5 standard deviations."""
    torch.manual_seed(0)
    block, seen = ResidualBlock(200, 200, drop=0.3), {}
    block.linear2.register_forward_hook(lambda module, x, y: seen.update(x=x[0], y=y))
    block.activation.register_forward_hook(lambda module, x, y: seen.update(h=y))
    x = torch.randn(200, 200)
    left = block(x) - x
    inside = seen["x"][seen["h"] > 0] == 0
    behind = left.abs() < 1e-6
    assert abs(inside.double().mean().item() - 0.3) < 5 * (0.21 / inside.numel()) ** 0.5
    assert abs(behind.double().mean().item() - 0.3) < 5 * (0.21 / behind.numel()) ** 0.5
    torch.testing.assert_close(left[~behind], seen["y"][~behind] / 0.7, rtol=1e-4, atol=1e-5)


def test_every_block_drops_as_asked() -> None:
    net = residual_mlp(width=16, depth=3, drop=0.3)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.3] * 6


def test_blocks_start_as_the_identity_where_asked() -> None:
    net = residual_mlp(width=16, depth=3)
    apply(net, "zero_gamma")
    x = torch.randn(4, 16)
    assert torch.equal(net.blocks(x), x)
    assert sum(isinstance(module, DropPath) for module in net.modules()) == 3
    assert not any(isinstance(module, DropPath) for module in residual_mlp(shortcut=None).modules())


def test_initial_weights() -> None:
    """He's rule in front of the ReLU, LeCun's where no nonlinearity follows; no bias."""
    torch.manual_seed(0)
    net = residual_mlp(width=300, depth=1, hidden=500)
    for linear, variance in (
        (net.stem, 1 / 784),
        (net.blocks[0].linear1, 2 / 300),
        (net.blocks[0].linear2, 1 / 500),
        (net.head, 1 / 300),
    ):
        spread = linear.weight.var().item() / variance
        assert abs(spread - 1) < 5 * (2 / linear.weight.numel()) ** 0.5
        assert not linear.bias.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth cannot be 0"),
        ({"width": 2.5}, "width cannot be 2.5"),
        ({"hidden": -1}, "hidden cannot be -1"),
        ({"drop": 1.5}, "drop cannot be 1.5"),
        ({"shortcut": "projection"}, "shortcut cannot be 'projection'"),
        ({"activation": "rellu"}, "did you mean: relu"),
    ],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        models.build("residual_mlp", shape=(1, 8, 8), num_classes=3, settings=settings)
    assert message in str(refusal.value)
