"""What a captioning network sees with: a convolutional network up to its last map, one annotation for each place.

The idea: what a classifier learned to see is what a sentence is about. Its head knows only that something is there;
the map before the last pooling still knows where. So the network is cut behind that map:

    (B, C, H, W) -> map (B, D, h, w) -> annotations (B, L, D),    L = h w, row by row from the upper left

`conv` is a small network of its own, trained with the words from the start; any other name is that of a registered
classifier. What lies behind the cut is taken out, and has no parameters any more. The cut is the last map of the
deepest convolution before anything makes it coarser, where all of the signal passes (`engram.layers.places`); `layer`
names another.

Frozen, the classifier stays as it is: no gradient, and its normalisations and dropouts judge even while the decoder
trains, since statistics that go on moving would be another network. The papers begin so and fine-tune later, with a
small step, once the decoder's first large gradients have passed.

Vinyals, Toshev, Bengio, Erhan 2015, arXiv:1411.4555, section 4.3.1 (weights from classification; kept still); Xu et al.
2015, arXiv:1502.03044, section 3.1.1 (annotations).
"""

from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from engram import registry
from engram.errors import UserError
from engram.grammar import number
from engram.layers.auxiliary import PREFIX
from engram.layers.dimensions import check_size
from engram.layers.places import Place, survey

CONV = "conv"
WIDTHS = (32, 64, 64, 128)
"""Maps of the small network's convolutions."""


class Encoder(nn.Module):
    """Pictures to annotations; made by `build_encoder`.

    Args:
        net: the network, whole or cut.
        annotations: D, values of a place.
        size: h and w, places down and across.
        layer: module of `net` whose output is the map, behind which nothing runs; None for what `net` gives.
        behind: names of the weights and buffers that were cut off.
        frozen: leave it as it is.
    """

    def __init__(
        self,
        net: nn.Module,
        annotations: int,
        size: tuple[int, int],
        *,
        layer: str | None = None,
        behind: Collection[str] = (),
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.annotations, self.size, self.layer, self.frozen = net, annotations, size, layer, frozen
        self.behind = frozenset(behind)
        if frozen:
            net.requires_grad_(False)
            net.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """As of any module, but what is frozen always judges."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, D)."""
        x = self.net(images) if self.layer is None else _until(self.net, self.layer, images)  # (B, D, h, w)
        if tuple(x.shape[2:]) != self.size:
            raise UserError(
                f"pictures of {tuple(images.shape[2:])} pixels give a map of {tuple(x.shape[2:])}",
                allowed=f"pictures that give one of {self.size}, as those that the network was built for",
            )
        return x.flatten(2).transpose(1, 2)  # (B, L, D)


def build_encoder(
    name: str,
    shape: Sequence[int],
    *,
    frozen: bool = False,
    layer: str | None = None,
    halvings: int = 3,
    settings: Mapping[str, Any] | None = None,
) -> Encoder:
    """The encoder of that name for pictures of that shape.

    Args:
        name: `conv`, or a registered classifier.
        shape: (C, H, W).
        frozen: leave it as it is; with weights of its own from elsewhere, see `take_encoder`.
        layer: of a classifier, the module whose output is the map.
        halvings: of `conv`, how often it halves the picture; 48 pixels become 6 after three.
        settings: of a classifier, what its builder takes.

    Raises:
        UserError: an unknown name, no such layer or none with a map, pictures that are too small, a setting that is not
            for this encoder.

    >>> build_encoder("conv", (3, 48, 48))(torch.zeros(2, 3, 48, 48)).shape
    torch.Size([2, 36, 128])
    >>> build_encoder("resnet20", (3, 32, 32)).size, build_encoder("resnet20", (3, 32, 32)).annotations
    ((8, 8), 64)
    """
    if len(shape) != 3:
        raise UserError(f"a captioner sees pictures, and these inputs have shape {tuple(shape)}", allowed="(C, H, W)")
    if name != CONV:
        return _cut(name, shape, layer, dict(settings or {}), frozen)
    if layer is not None or settings:
        raise UserError("encoder 'conv' has neither layers to choose nor settings", then="encoder_halvings=2")
    halvings = int(number(CONV, "halvings", halvings, 1, len(WIDTHS) - 1, whole=True))
    check_size(shape[1:], 2**halvings, "encoder conv")
    height, width = (side >> halvings for side in shape[1:])
    return Encoder(small_network(shape[0], halvings), WIDTHS[-1], (height, width), frozen=frozen)


def small_network(in_channels: int, halvings: int = 3) -> nn.Sequential:
    """Four convolutions of 3 x 3 with batch normalisation and ReLU, the first of them followed by pooling.

    With three halvings every place of the map sees 38 x 38 pixels, with two 26 x 26.

    >>> small_network(3)(torch.zeros(1, 3, 48, 48)).shape
    torch.Size([1, 128, 6, 6])
    """
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise((in_channels, *WIDTHS))):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        nn.init.kaiming_normal_(layers[-3].get_parameter("weight"), nonlinearity="relu")
        if place < halvings:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def take_encoder(encoder: Encoder, tensors: Mapping[str, Tensor]) -> None:
    """Give a cut classifier the weights and buffers of a whole one; what lay behind the cut is passed over.

    Args:
        tensors: the classifier's `state_dict()`.

    Raises:
        UserError: a name is missing, has another shape, or is of no part of it; the encoder is as it was.

    >>> from engram.models import resnet20
    >>> theirs, encoder = resnet20(num_classes=5), build_encoder("resnet20", (3, 32, 32))
    >>> take_encoder(encoder, theirs.state_dict())
    >>> torch.equal(encoder.net.stem[0].weight, theirs.stem[0].weight)
    True
    """
    own = encoder.net.state_dict()
    differing = [name for name in own if name not in tensors or tensors[name].shape != own[name].shape]
    others = set(tensors) - set(own) - encoder.behind  # a deeper one of the family has all names, and more
    differing += sorted(name for name in others if not name.startswith(PREFIX))
    if differing:
        raise UserError(
            f"these weights are not of this encoder: {differing[0]} differs ({len(differing)} in all)",
            allowed="those of the same classifier, with the same settings and channels",
        )
    with torch.no_grad():
        encoder.net.load_state_dict({name: tensors[name] for name in own})


def _cut(name: str, shape: Sequence[int], layer: str | None, settings: dict[str, Any], frozen: bool) -> Encoder:
    """A registered classifier without what comes behind its last map."""
    from engram import models  # once all of the package is there: it holds the classifiers, and this file too

    if "auxiliary" in signature(registry.find("model", name).build).parameters:
        settings.setdefault("auxiliary", False)  # heads on the way would be asked for classes
    net = models.build(name, shape=shape, num_classes=2, settings=settings)
    seen = survey(net, shape)
    place = _last_map(name, seen.cuts) if layer is None else seen.find("the encoder's cut", layer)
    if len(place.shape) != 4 or prod(place.shape[2:]) < 2:
        raise UserError(
            f"the output of layer {layer!r} of {name} has no places", nearest=_last_map(name, seen.cuts).name
        )
    whole = set(net.state_dict())
    for other in seen.by_name.values():
        later = other.order > place.order and not f"{place.name}.".startswith(f"{other.name}.")
        if later and any(True for _ in net.get_submodule(other.name).parameters()):  # a ReLU may run before it too
            parent, _, own = other.name.rpartition(".")
            setattr(net.get_submodule(parent), own, nn.Identity())
    height, width = place.shape[2:]
    behind = whole - set(net.state_dict())
    return Encoder(net, place.shape[1], (height, width), layer=place.name, behind=behind, frozen=frozen)


def _last_map(name: str, cuts: Sequence[Place]) -> Place:
    maps = [place for place in cuts if len(place.shape) == 4 and prod(place.shape[2:]) > 1]
    if not maps:
        raise UserError(
            f"{name} has no map that says where things are", then="name its encoder_layer, or take another encoder"
        )
    deepest = [place for place in maps if place.layers == maps[-1].layers]
    return next(place for place in reversed(deepest) if place.shape[2:] == deepest[0].shape[2:])


class _Reached(Exception):
    """Ends a network's pass at the map."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def _until(net: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What that layer gives; nothing behind it runs."""

    def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
        raise _Reached(output)

    hook = net.get_submodule(layer).register_forward_hook(stop)
    try:
        net(x)
    except _Reached as reached:
        return reached.output
    finally:
        hook.remove()
    raise RuntimeError(f"layer {layer} did not run")
