"""The perceptron against its formula, its variances, and the function that one layer cannot compute."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram.errors import UserError
from engram.layers.activations import ACTIVATIONS
from engram.models.mlp import MLP, mlp


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_is_its_formula_with_any_activation(name: str) -> None:
    net = mlp(image_size=(4, 3), in_channels=2, widths=(6, 5), num_classes=3, activation=name).double()
    f = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "identity": lambda x: x,
        "prelu": lambda x: F.leaky_relu(x, 0.25),
    }
    x = torch.randn(7, 2, 4, 3, dtype=torch.float64)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    y = torch.stack([x[:, :, i, j] for i in range(4) for j in range(3)], 1).reshape(7, 24)  # channels together
    for layer in layers[:-1]:
        y = f.get(name, getattr(F, name, None))(y @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x), y @ layers[-1].weight.T + layers[-1].bias)


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        ("relu", 2 / 500),
        ("elu", 2 / 500),
        ("tanh", 2 / 900),
        ("sigmoid", 2 / 900),
        ("selu", 1 / 500),
        ("identity", 1 / 500),
    ],
)
def test_initial_variance_follows_the_activation(activation: str, variance: float) -> None:
    torch.manual_seed(0)
    net = MLP(500, (400,), num_classes=300, activation=activation)
    linear = net.hidden[0]
    assert abs(linear.weight.var().item() / variance - 1) < 0.02  # 200,000 draws: 6 standard deviations
    assert abs(net.head.weight.var().item() * 400 - 1) < 0.03
    assert not linear.bias.any()
    assert not net.head.bias.any()


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0.2, 5), ("selu", 0.5, 2), ("tanh", 0.005, 1)])
def test_a_signal_survives_thirty_layers(activation: str, low: float, high: float) -> None:
    """Half as much variance at each layer would leave 1e-9 of it."""
    torch.manual_seed(0)
    net = MLP(400, (400,) * 30, num_classes=10, activation=activation)
    assert low < net.hidden(torch.randn(200, 400)).square().mean().item() < high


def test_computes_exclusive_or() -> None:
    """h = relu(a + b, a + b - 1), y = h1 - 2 h2: what no single layer gets beyond three of four."""
    net = MLP(2, (2,), num_classes=1)
    with torch.no_grad():
        net.hidden[0].weight.fill_(1)
        net.hidden[0].bias.copy_(torch.tensor([0.0, -1.0]))
        net.head.weight.copy_(torch.tensor([[1.0, -2.0]]))
    inputs = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    assert net(inputs).flatten().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("given", "widths"),
    [
        ({"widths": 32}, [32]),
        ({"widths": (32, 16)}, [32, 16]),
        ({"widths": 8, "depth": 5}, [8] * 5),
        ({"widths": None}, []),
        ({"widths": 8, "depth": 0}, []),
    ],
)
def test_widths_and_depth(given: dict[str, Any], widths: list[int]) -> None:
    net = mlp(**given)
    assert [module.out_features for module in net.hidden if isinstance(module, nn.Linear)] == widths


def test_dropout_and_normalisation_stand_in_the_order_of_the_card() -> None:
    net = mlp(widths=(8, 8), drop=0.5, batch_norm=True)
    assert [type(module).__name__ for module in net.hidden] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2
    assert net.hidden[0].bias is None
    assert net.hidden[3].p == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": (8, 0)}, "widths cannot be"),
        ({"widths": (8, 4), "depth": 3}, "of one width"),
        ({"drop": 1.0}, "drop cannot be"),
        ({"drop": math.nan}, "drop cannot be"),
        ({"activation": "rellu"}, "did you mean: relu"),
    ],
)
def test_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        mlp(**given)
    assert message in str(refusal.value)
