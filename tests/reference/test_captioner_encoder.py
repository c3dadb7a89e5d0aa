"""Classifiers cut behind their last map: the same map as inside the whole, and nothing behind it left."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.models.captioner import captioner_soft_attention
from engram.models.captioner_encoder import build_encoder, small_network, take_encoder

SIDE = 32


def pictures(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "inside", "annotations", "size"),
    [
        ("resnet20", "stages", 64, (8, 8)),
        ("preact_resnet_20", "norm", 64, (8, 8)),
        ("densenet_small", "norm", 92, (8, 8)),
        ("googlenet_small", "features.inception5b", 224, (8, 8)),
        ("squeezenet_small", "features", 512, (4, 4)),
        ("zfnet_small", "features.relu5", 128, (4, 4)),
        ("lenet5", "c3", 16, (10, 10)),
    ],
)
def test_a_cut_classifier_gives_the_map_of_the_whole_one(
    name: str, inside: str, annotations: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    whole = models.build(name, shape=(3, SIDE, SIDE), num_classes=7)
    for module in whole.modules():  # statistics that are not those of the start
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    encoder = build_encoder(name, (3, SIDE, SIDE))
    take_encoder(encoder, whole.state_dict())
    assert (encoder.annotations, encoder.size, encoder.layer) == (annotations, size, inside)
    seen: list[Tensor] = []
    whole.get_submodule(inside).register_forward_hook(lambda module, given, output: seen.append(output.clone()))
    whole.eval()(pictures())
    found = encoder.eval()(pictures())
    assert found.shape == (2, size[0] * size[1], annotations)
    assert torch.equal(found, seen[0].flatten(2).mT)
    assert len(encoder.net.state_dict()) < len(whole.state_dict())
    encoder.train()(pictures()).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_places_are_counted_row_by_row() -> None:
    encoder = build_encoder("conv", (1, 16, 32), halvings=2).eval()
    nn.init.zeros_(encoder.net[0].weight)
    dark = encoder(torch.zeros(1, 1, 16, 32))
    for layer in encoder.net:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    light = torch.zeros(1, 1, 16, 32)
    light[:, :, 9, 22] = 1.0  # in row 2 of 4 and column 5 of 8, of 4 x 4 pixels each
    assert (encoder(light) - dark)[0].sum(1).argmax() == 2 * 8 + 5


@pytest.mark.parametrize(("halvings", "size", "sees"), [(1, 48, 16), (2, 24, 26), (3, 12, 38)])
def test_the_small_network_sees_what_its_card_says(halvings: int, size: int, sees: int) -> None:
    """With means for maxima, of which only one pixel has a gradient, and positive weights a place has all it sees."""
    net = small_network(1, halvings).eval()
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    net = nn.Sequential(*(nn.AvgPool2d(2) if isinstance(one, nn.MaxPool2d) else one for one in net))
    x = torch.rand(1, 1, 96, 96).requires_grad_()
    y = net(x)
    assert y.shape == (1, 128, size, size)
    y[0, :, size // 2, size // 2].sum().backward()
    rows = x.grad[0, 0].any(1).nonzero()[:, 0]
    assert int(rows[-1] - rows[0]) + 1 == sees


def test_frozen_it_stays_as_it_is_while_the_rest_trains() -> None:
    net = captioner_soft_attention(9, shape=(3, SIDE, SIDE), encoder="resnet20", frozen=True).train()
    before = copy.deepcopy(net.encoder.state_dict())
    assert net.decoder.training
    assert not any(module.training for module in net.encoder.net.modules())
    given = net(pictures(), torch.tensor([[1, 4], [1, 5]])).scores
    given.square().sum().backward()
    assert not any(p.requires_grad for p in net.encoder.parameters())
    assert all(p.grad is None for p in net.encoder.parameters())
    assert net.decoder.head.weight.grad.ne(0).any()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.step()
    for name, value in net.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_heads_on_the_way_are_left_out() -> None:
    encoder = build_encoder("googlenet", (3, 64, 64))
    whole = models.build("googlenet", shape=(3, 64, 64), num_classes=4).state_dict()
    assert any(name.startswith("auxiliary") for name in whole)
    assert not any(name.startswith("auxiliary") for name in encoder.net.state_dict())
    take_encoder(encoder, whole)


def test_not_frozen_it_is_fine_tuned() -> None:
    net = captioner_soft_attention(9, shape=(3, SIDE, SIDE), encoder="resnet20").train()
    net(pictures(), torch.tensor([[1, 4], [1, 5]])).scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for p in net.encoder.parameters())
    assert all(module.training for module in net.encoder.net.modules())


@torch.no_grad()
def test_weights_come_from_a_whole_classifier_and_not_from_another() -> None:
    whole = models.build("resnet20", shape=(3, SIDE, SIDE), num_classes=4)
    encoder = build_encoder("resnet20", (3, SIDE, SIDE))
    kept = {name: value.clone() for name, value in encoder.net.state_dict().items()}
    for tensors in (
        models.build("resnet32", shape=(3, SIDE, SIDE), num_classes=4).state_dict(),
        models.build("resnet20", shape=(1, SIDE, SIDE), num_classes=4).state_dict(),
        {},
    ):
        with pytest.raises(UserError, match="not of this encoder"):
            take_encoder(encoder, tensors)
        assert all(torch.equal(value, kept[name]) for name, value in encoder.net.state_dict().items())
    take_encoder(encoder, {**whole.state_dict(), "auxiliary.0.linear.bias": torch.zeros(4)})
    for name, value in encoder.net.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])


def test_a_layer_can_be_named_and_settings_reach_the_classifier() -> None:
    encoder = build_encoder("resnet20", (3, SIDE, SIDE), layer="stages.1")
    assert (encoder.size, encoder.annotations) == ((16, 16), 32)
    assert len(list(encoder.net.stages[2].parameters())) == 0
    assert encoder(pictures()).shape == (2, 256, 32)
    wide = build_encoder("resnet20", (3, SIDE, SIDE), settings={"shortcut": "projection"})
    assert sum(p.numel() for p in wide.parameters()) > sum(
        p.numel() for p in build_encoder("resnet20", (3, SIDE, SIDE)).parameters()
    )


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("mlp", {}, "has no map"),
        ("resnet21", {}, "resnet21"),
        ("resnet20", {"layer": "stage"}, "cannot stand at 'stage'"),
        ("conv", {"layer": "0"}, "neither layers to choose"),
        ("conv", {"settings": {"width": 3}}, "neither layers to choose"),
        ("conv", {"halvings": 4}, "halvings cannot be 4"),
        ("conv", {"shape": (3, 4, 4)}, "at least 8 pixels"),
        ("resnet20", {"settings": {"widht": 3}}, "widht"),
    ],
)
def test_what_cannot_be_an_encoder(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_encoder(name, **{"shape": (3, SIDE, SIDE), **more})
