"""Grad-CAM: against the paper's formula from activations and gradients taken by hand, and the layer that is chosen."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import attribution, models
from engram.attribution.grad_cam import last_layer, spatial_layers
from engram.errors import UserError


class Parts(nn.Module):
    """A network in two parts, so that the maps between them can be taken by hand."""

    def __init__(self, dimensions: int = 2, *, in_place: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv, pool = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"MaxPool{dimensions}d")
        self.below = nn.Sequential(conv(2, 4, 3), nn.Tanh(), conv(4, 5, 3))
        self.relu = nn.ReLU(inplace=in_place)
        self.pool = pool(2)
        self.head = nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(3))

    def above(self, maps: Tensor) -> Tensor:
        return self.head(self.pool(maps).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.relu(self.below(x)))


def built(dimensions: int = 2, **settings: bool) -> tuple[Parts, Tensor]:
    net = Parts(dimensions, **settings)
    x = torch.randn(3, 2, *(12, 9, 8)[:dimensions], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net(x)  # the lazy layers find their sizes
    return net.double(), x.double()


def formula(maps: Tensor, scores: Tensor, y: list[int], size: list[int]) -> Tensor:
    """Equations 1 and 2 of the paper, example by example."""
    rows = []
    for row, label in enumerate(y):
        (slopes,) = torch.autograd.grad(scores[row, label], maps, retain_graph=True)
        total = torch.zeros_like(maps[row, 0])
        for channel in range(maps.shape[1]):
            total = total + slopes[row, channel].mean() * maps[row, channel].detach()
        rows.append(total.clamp(min=0))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(torch.stack(rows)[:, None], size=size, mode=mode)[:, 0]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_the_papers_formula(dimensions: int, in_place: bool) -> None:
    net, x = built(dimensions, in_place=in_place)
    y, size = [2, 0, 1], list(x.shape[2:])
    behind = F.relu(net.below(x)).detach().requires_grad_()
    expected = formula(behind, net.above(behind), y, size)
    assert float(expected.max()) > 0
    torch.testing.assert_close(attribution.grad_cam(net, x, y), expected)
    torch.testing.assert_close(attribution.grad_cam(net, x, y, layer="relu"), expected)
    # before the ReLU, which overwrites these maps where it works in place
    before = net.below(x).detach().requires_grad_()
    expected = formula(before, net.above(F.relu(before)), y, size)
    torch.testing.assert_close(attribution.grad_cam(net, x, y, layer="below.2"), expected)
    early = net.below[1](net.below[0](x)).detach().requires_grad_()
    expected = formula(early, net.above(F.relu(net.below[2](early))), y, size)
    torch.testing.assert_close(attribution.grad_cam(net, x, y, layer="below.1"), expected)


def test_by_default_it_asks_about_the_prediction() -> None:
    net, x = built()
    assert torch.equal(attribution.grad_cam(net, x), attribution.grad_cam(net, x, net(x).argmax(1)))
    others = [attribution.grad_cam(net, x, label) for label in range(3)]
    assert not torch.allclose(others[0], others[1])


def test_of_a_mean_and_a_linear_layer_it_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    net = models.resnet20(num_classes=4).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    name = last_layer(net, x)
    kept: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_hook(lambda module, inputs, output: kept.append(output.detach()))
    net(x)
    handle.remove()
    (maps,) = kept
    assert maps.shape == (2, 64, 8, 8)
    cam = torch.einsum("k,bkhw->bhw", net.head.weight[3], maps).clamp(min=0) / 64  # the mean over 8 x 8 positions
    expected = F.interpolate(cam[:, None], size=[32, 32], mode="bilinear")[:, 0].detach()
    torch.testing.assert_close(attribution.grad_cam(net, x, 3), expected)


class Repeated(nn.Module):
    """One convolution that runs three times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.conv(x))
        return self.head(x.mean((2, 3)))


def test_of_a_layer_that_runs_several_times_the_last_counts() -> None:
    net, x = Repeated().double(), torch.randn(2, 2, 5, 5, dtype=torch.float64)
    maps = net.conv(torch.tanh(net.conv(torch.tanh(net.conv(x))))).detach().requires_grad_()
    expected = formula(maps, net.head(torch.tanh(maps).mean((2, 3))), [0, 2], [5, 5])
    torch.testing.assert_close(attribution.grad_cam(net, x, [0, 2]), expected)


@pytest.mark.parametrize(
    ("name", "shape", "layer", "raster"),
    [
        ("lenet5", (1, 28, 28), "s4", (5, 5)),  # its ReLU stands behind the pooling, and is shared with vectors
        ("resnet20", (3, 32, 32), "stages", (8, 8)),
        ("preact_resnet_20", (3, 32, 32), "norm", (8, 8)),  # the ReLU behind it is no module
        ("vgg_small", (3, 32, 32), "features", (2, 2)),
        ("zfnet_small", (3, 32, 32), "features.relu5", (4, 4)),  # not the pooling behind it
        ("googlenet_small", (3, 32, 32), "features.inception5b", (8, 8)),  # not one of its branches
    ],
)
def test_the_layer_is_the_last_with_maps_of_its_own(
    name: str, shape: tuple[int, ...], layer: str, raster: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    net, x = models.build(name, shape=shape, num_classes=10), torch.randn(1, *shape)
    assert last_layer(net, x) == layer
    assert spatial_layers(net, x)[layer][1:] == raster
    assert torch.equal(attribution.grad_cam(net, x), attribution.grad_cam(net, x, layer=layer))


def test_a_module_that_also_runs_on_vectors_is_taken_where_it_has_maps() -> None:
    torch.manual_seed(0)
    net, x = models.lenet5(), torch.randn(2, 1, 28, 28)
    shared = "s2.1"  # one ReLU, which runs after both poolings and then on vectors
    assert net.get_submodule(shared) is net.get_submodule("s4.1")
    assert spatial_layers(net, x)[shared] == (16, 5, 5)
    assert torch.equal(attribution.grad_cam(net, x, layer=shared), attribution.grad_cam(net, x, layer="s4"))


def test_the_layer_may_be_named() -> None:
    net, x = built()
    with pytest.raises(UserError, match=r"layer 'bellow.2' is not known\n(.*\n)*.*did you mean: below.2"):
        attribution.grad_cam(net, x, layer="bellow.2")
    with pytest.raises(UserError, match=r"'head' has no positions(.*\n)*.*relu"):
        attribution.grad_cam(net, x, layer="head")


def test_without_maps_it_says_so_and_what_works() -> None:
    net = models.mlp(in_channels=1, image_size=(8, 8))
    x = torch.randn(2, 1, 8, 8)
    with pytest.raises(UserError, match=r"no layer whose output keeps positions(.*\n)*.*attribution.gradient"):
        attribution.grad_cam(net, x)
    assert attribution.gradient(net, x).shape == attribution.guided_backpropagation(net, x).shape == (2, 8, 8)
    with pytest.raises(UserError, match="no map over inputs"):
        attribution.grad_cam(nn.Linear(8, 2), torch.randn(2, 8))
