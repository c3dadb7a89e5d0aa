"""The gradient of a class's score: against autograd by hand; the network is left as it was, whatever it is."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import attribution, models, registry
from engram.attribution.score import Classes
from engram.errors import UserError
from engram.layers.auxiliary import with_auxiliary_heads

guided = attribution.guided_backpropagation


def smoothed(net: nn.Module, x: Tensor, y: Classes = None) -> Tensor:
    return attribution.smooth_grad(net, x, y, samples=3)


METHODS = [attribution.gradient, smoothed, attribution.grad_cam, guided]

SMALL = [name for name in registry.names("model") if registry.find("model", name).facts.get("small")]


class Everything(nn.Module):
    """What makes measuring hard: ReLUs in place and as functions, batch norm, dropout, a shared module, a draw."""

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        conv, norm = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"BatchNorm{dimensions}d")
        self.start = nn.ReLU(inplace=True)
        self.conv1, self.norm = conv(3, 4, 3, padding=1), norm(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.start(x) + 0.01 * torch.rand(()) + 0.01 * random.random() + 0.01 * float(np.random.rand())  # noqa: NPY002
        x = self.relu(self.norm(self.conv1(x)))
        x = F.relu(self.conv2(self.drop(x)), inplace=True)
        x = self.relu(x + self.conv2(x))
        return self.head(x.flatten(2).mean(2))


@pytest.fixture
def net() -> Everything:
    torch.manual_seed(0)
    return Everything()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def smooth(seed: int = 0, channels: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Softplus(), nn.Flatten(), nn.Linear(18, 4)
    ).double()


def by_hand(net: nn.Module, x: Tensor, y: list[int]) -> Tensor:
    """The gradient of each example's own score by finite differences, every value moved by itself."""
    moves = 1e-5 * torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    rows = []
    with torch.no_grad():
        for one, label in zip(x, y, strict=True):
            slopes = (net(one + moves) - net(one - moves))[:, label] / 2e-5
            rows.append(slopes.reshape(one.shape))
    return torch.stack(rows)


def test_it_is_the_slope_of_each_examples_own_score() -> None:
    net, x = smooth(), torch.randn(3, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = [2, 0, 3]
    expected = by_hand(net, x, y)
    signed = attribution.gradient(net, x, y, signed=True)
    torch.testing.assert_close(signed, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        attribution.gradient(net, x, torch.tensor(y)), expected.abs().amax(1), rtol=1e-6, atol=1e-9
    )
    predicted = net(x).argmax(1).tolist()
    torch.testing.assert_close(
        attribution.gradient(net, x, signed=True), by_hand(net, x, predicted), rtol=1e-6, atol=1e-9
    )
    for label in range(4):
        one = attribution.gradient(net, x, label, signed=True)
        assert torch.equal(one, attribution.gradient(net, x, [label] * 3, signed=True))


def test_vectors_have_a_value_each() -> None:
    net = nn.Linear(4, 2).double()
    maps = attribution.gradient(net, torch.randn(3, 4, dtype=torch.float64), 1)
    torch.testing.assert_close(maps, net.weight[1].abs().expand(3, 4).detach())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_as_it_was(net: Everything, x: Tensor, method, training: bool) -> None:
    net.train(training)
    net.drop.train(not training)
    net.conv1.weight.grad = torch.full_like(net.conv1.weight, 7.0)
    heard: list[str] = []
    net.conv2.register_forward_hook(lambda *_: heard.append("hook"))
    hooks = {name: dict(module._forward_hooks) for name, module in net.named_modules()}
    before = copy.deepcopy(net.state_dict())
    gradient, modes = net.conv1.weight.grad, [module.training for module in net.modules()]
    given = x.clone()
    draws = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    buffers = dict(net.named_buffers())
    first = method(net, x)
    assert torch.equal(x, given)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(dict(net.named_buffers())[name] is buffer for name, buffer in buffers.items())
    assert net.conv1.weight.grad is gradient
    assert torch.equal(gradient, torch.full_like(gradient, 7.0))
    assert all(parameter.grad is None for name, parameter in net.named_parameters() if name != "conv1.weight")
    assert [module.training for module in net.modules()] == modes
    assert {name: dict(module._forward_hooks) for name, module in net.named_modules()} == hooks
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert random.getstate() == draws[1]
    assert np.array_equal(np.random.get_state()[1], draws[2])  # noqa: NPY002
    assert heard
    assert not first.requires_grad
    assert torch.equal(method(net, x), first)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_maps_lie_over_the_input_and_do_not_depend_on_the_batch(method, dimensions: int) -> None:
    torch.manual_seed(0)
    net = Everything(dimensions)
    sides = (9, 6, 5)[:dimensions]
    x = torch.randn(3, 3, *sides)
    maps = method(net, x, [4, 0, 1])
    assert maps.shape == (3, *sides)
    assert bool(torch.isfinite(maps).all())
    assert float(maps.min()) >= 0
    assert float(maps.amax()) > 0
    for row, label in enumerate((4, 0, 1)):
        torch.testing.assert_close(method(net, x[row : row + 1], label)[0], maps[row], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_it_works_inside_whatever_mode_and_wrapper(net: Everything, x: Tensor, method) -> None:
    expected = method(net, x)
    assert torch.equal(method(nn.DataParallel(net), x), expected)
    with torch.no_grad():
        assert torch.equal(method(net, x), expected)
    with torch.inference_mode():
        assert torch.equal(method(net, x + 0.0), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method(net, x), expected)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert torch.equal(method(net, x), expected)
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(method(last, x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # importing the compiler takes seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_it_works_on_a_compiled_network(net: Everything, x: Tensor, method) -> None:
    outer = torch.compile(net, backend="eager")
    assert torch.equal(method(outer, x), method(net, x))


@pytest.mark.parametrize("method", METHODS)
def test_the_last_head_is_asked(method) -> None:
    torch.manual_seed(0)
    net, x = models.lenet5(num_classes=3, image_size=(16, 16)), torch.randn(2, 1, 16, 16)
    expected = method(net, x)
    with_heads = with_auxiliary_heads(net, "c1", shape=(1, 16, 16)).train()
    assert torch.equal(method(with_heads, x), expected)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_told(net: Everything, x: Tensor, method) -> None:
    with pytest.raises(UserError, match="is no network"):
        method(lambda x: x, x)
    with pytest.raises(UserError, match="has no parameters"):
        method(nn.ReLU(), x)
    with pytest.raises(UserError, match=r"x is uint8 \(2, 3, 6, 6\)") as told:
        method(net, torch.zeros(2, 3, 6, 6, dtype=torch.uint8))
    assert "/ 255" in str(told.value)
    for wrong in ([[1.0, 2.0]], torch.zeros(3), torch.zeros(0, 3, 6, 6)):
        with pytest.raises(UserError, match="x is "):
            method(net, wrong)
    with pytest.raises(UserError, match=r"gives \(\d, 4, 6, 6\) for \d inputs"):
        method(nn.Conv2d(3, 4, 3, padding=1), x)
    for wrong, told in (([0, 1], r"int64 \(2,\)"), ([0.5] * 3, "float"), (5, "0 to 4"), ([-1, 0, 0], "0 to 4")):
        with pytest.raises(UserError, match=told):
            method(net, x, wrong)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_lets_no_gradient_through_is_told(method) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                maps = self.conv(F.relu(x))
            return self.head(maps.mean((2, 3)))

    with pytest.raises(UserError, match=r"no gradient comes|has no ReLU"):
        method(Cut(), torch.randn(2, 1, 6, 6))


def likeness(one: Tensor, other: Tensor) -> float:
    """Mean over the examples of Spearman's rank correlation of two sets of maps."""
    ranks = [maps.flatten(1).argsort(1).argsort(1).float() for maps in (one, other)]
    centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
    return float((F.normalize(centred[0], dim=1) * F.normalize(centred[1], dim=1)).sum(1).mean())


@pytest.mark.parametrize("method", [attribution.gradient, attribution.grad_cam])
def test_it_depends_on_the_weights(method) -> None:
    """Adebayo et al. 2018: a map of another network, of weights drawn anew, is another map."""

    def drawn(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(256, 10),
        )  # fmt: skip

    x = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = method(drawn(0), x, 0)
    assert likeness(maps, method(drawn(0), x + 1e-4, 0)) > 0.95
    assert abs(likeness(maps, method(drawn(1), x, 0))) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_small_network_can_be_asked(name: str) -> None:
    torch.manual_seed(0)
    shape = registry.find("model", name).facts["input"]
    net, x = models.build(name, shape=shape, num_classes=10), torch.randn(2, *shape)
    missing = {"lenet5_1998": {guided}, "mlp": {attribution.grad_cam}, "residual_mlp": {attribution.grad_cam}}
    missing["lstm"] = {attribution.grad_cam, guided}
    for method in METHODS:
        if method in missing.get(name, ()):
            with pytest.raises(UserError, match=r"no layer whose output keeps positions|has no ReLU"):
                method(net, x)
            continue
        maps = method(net, x)
        assert maps.shape == (2, *shape[1:])
        assert bool(torch.isfinite(maps).all())
        assert float(maps.max()) > 0
