"""Auxiliary heads: classifiers on the way, so that the lower layers hear of the loss from nearby.

A deep network's first layers learn from a gradient that has come through all the others, and may have vanished there.
A small head at some depth gives scores of its own while the network trains, and its loss joins the main one:

    loss = L(scores, y) + weight * (sum over heads h of L(scores_h, y))

The heads are petrol stations on a long journey. In evaluation they are not there, and cost nothing.

It helps deep plain networks without normalisation, whose first layers otherwise hardly move. It hurts, or does nothing,
where batch normalisation or shortcuts already carry the gradient: a low head asks for classes where there should be
edges. The later Inception-v3 found no help early in training and called its heads regularisers. GoogLeNet's authors
put their effect at about half a point, one head doing as much as two.

GoogLeNet's settings: two heads after the third and the sixth of nine modules, weight 0.3, each an average pooling to
4x4, a 1x1 convolution to 128 maps, 1024 hidden units, dropout 0.7 (`head="googlenet"`). Deeply supervised nets put one
on every layer and let their weights fade.

Where we differ: a head stands at any place of any network, by name or by its share of the depth, and by default is
small, the mean over positions and one linear layer. Depth counts layers with weights in the order in which they run, so
that 0.5 is the place after half of them. `places` lists where all of the signal passes through one tensor, between
blocks rather than inside a branch; shares choose among these.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2014, arXiv:1409.4842, section 5. Lee, Xie,
Gallagher, Zhang, Tu 2014, Deeply-Supervised Nets, arXiv:1409.5185. Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015,
arXiv:1512.00567, section 4.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.grammar import number, split
from engram.layers.activations import initialize
from engram.layers.dimensions import convolution
from engram.layers.places import survey

PREFIX = "auxiliary"
"""Parameters whose names begin so belong to heads that only training has."""
ALLOWED = "a share of the depth between 0 and 1, such as 0.5, or the name of a module, such as stages.1"


class Scores(NamedTuple):
    """Scores of the last head and of the heads before it; the loss is main + weight * the sum of the others.

    >>> import torch; Scores(torch.zeros(2, 10), (torch.ones(2, 10),), 0.3).main.shape
    torch.Size([2, 10])
    """

    main: Tensor  # (B, K)
    auxiliary: tuple[Tensor, ...]  # each (B, K)
    weight: float


class SmallHead(nn.Module):
    """The mean over positions and a linear layer.

    >>> SmallHead(8, 10)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, num_classes: int, dimensions: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, num_classes)
        initialize(self.linear.weight, before="identity")
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S) or (B, C)
        return self.linear(x.flatten(2).mean(2) if x.dim() > 2 else x)  # (B, num_classes)


class GoogLeNetHead(nn.Module):
    """GoogLeNet's: pooled to four positions along each axis, 128 maps, 1024 hidden units, a strong dropout.

    Maps of 14 pixels, which the paper has, are pooled by windows of 5 in steps of 3; those of other sizes by windows
    as even as can be, as torchvision does for all.

    Args:
        pointwise: builds the 1x1 convolution to 128 maps with what follows it, from the number of channels.
        windows: "paper" as above, or "even" for all sizes.

    >>> GoogLeNetHead(512, 1000)(torch.zeros(2, 512, 14, 14)).shape
    torch.Size([2, 1000])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dimensions: int = 2,
        *,
        drop: float = 0.7,
        pointwise: Callable[[int], nn.Module] | None = None,
        windows: str = "paper",
    ) -> None:
        super().__init__()
        self.dimensions, self.windows = dimensions, windows
        if pointwise is None:
            conv = convolution(dimensions)(in_channels, 128, 1)
            self.conv: nn.Module = nn.Sequential(conv, nn.ReLU())
            initialize(conv.weight, before="relu")
            nn.init.zeros_(conv.bias)
        else:
            self.conv = pointwise(in_channels)
        self.fc1 = nn.Linear(128 * 4**dimensions, 1024)
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Linear(1024, num_classes)
        for layer, after in ((self.fc1, "relu"), (self.fc2, "identity")):
            initialize(layer.weight, before=after)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.conv(self.pool(x))  # (B, 128, 4 along each axis)
        x = F.relu(self.fc1(x.flatten(1)))  # (B, 1024)
        return self.fc2(self.drop(x))  # (B, num_classes)

    def pool(self, x: Tensor) -> Tensor:  # (B, C, *S)
        if self.windows == "paper" and all(side == 14 for side in x.shape[2:]):
            return {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[self.dimensions](x, 5, 3)
        even = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[self.dimensions]
        return even(x, 4)  # (B, C, 4 along each axis)


HEADS: Mapping[str, Callable[[int, int, int], nn.Module]] = {"small": SmallHead, "googlenet": GoogLeNetHead}
"""What builds a head from channels, classes and the number of spatial axes."""


class AuxiliaryHeads(nn.ModuleList):
    """The heads on a network, in the order of their places, and the hooks through which they read.

    `weight` may be changed while the network trains, to let the heads fade.
    """

    def __init__(self, places: Sequence[str], heads: Iterable[nn.Module], weight: float) -> None:
        super().__init__(heads)
        self.places, self.weight = tuple(places), weight
        self.read: dict[int, Tensor] | None = None  # what they read in this pass; none outside of one in training
        self.with_gradients = True

    def begin(self, net: nn.Module, inputs: Any) -> None:
        """Before the network's pass."""
        if net.training:
            self.read, self.with_gradients = {}, torch.is_grad_enabled()

    def keep(self, head: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """After the module at a head's place. When a checkpointed part runs again, backward, nothing is kept.

        Raises:
            UserError: the place is in a part that runs without gradients first, so that the head's would not reach it.
        """
        if self.read is None:
            return
        if self.with_gradients and not torch.is_grad_enabled():
            raise UserError(
                f"the auxiliary head at {self.places[head]!r} is inside a part that is checkpointed by re-entry",
                then="checkpoint(..., use_reentrant=False), or a place outside",
            )
        self.read[head] = output

    def end(self, net: nn.Module, inputs: Any, scores: Tensor | None) -> Scores | None:
        """After the network's pass, a failed one too. A part that was left out at random gives its head no scores."""
        if self.read is None:
            return None
        read, self.read = self.read, None
        if scores is None:
            return None
        return Scores(scores, tuple(self[head](x) for head, x in read.items()), self.weight)


def with_auxiliary_heads(
    net: nn.Module,
    where: str | float | Iterable[str | float] | None,
    *,
    shape: Sequence[int],
    weight: float = 0.3,
    head: str | Callable[[int, int, int], nn.Module] = "small",
    rng: torch.Generator | None = None,
) -> nn.Module:
    """Put heads on a network, in place: in training it gives `Scores` from then on, in evaluation what it gave before.

    Its parameters keep their names and values; those of the heads begin with `auxiliary`.

    Args:
        where: shares of the depth, `0.33,0.66`, or names of modules, `stages.0,stages.1`, or both; none for no heads.
        shape: (C, *S) of one input.
        weight: of each head's loss.
        head: "small", "googlenet", or what builds one from channels, classes and the number of spatial axes.
        rng: where their initial weights come from; without it, torch's own generator.

    Returns:
        `net`.

    Raises:
        UserError: malformed words, no such place, two heads at one place, an unknown head, a weight below 0, a network
            that has heads already or gives more than scores. The network is as it was.

    >>> from engram import models
    >>> net = with_auxiliary_heads(models.resnet20(), "0.33,stages.1", shape=(3, 32, 32))
    >>> net.auxiliary.places, len(net(torch.zeros(2, 3, 32, 32)).auxiliary)
    (('stages.0', 'stages.1'), 2)
    """
    words, weight = check(where), number(PREFIX, "weight", weight, 0)
    build = HEADS.get(head) if isinstance(head, str) else head
    if build is None:
        raise unknown("auxiliary head", str(head), HEADS)
    if any(name.startswith(PREFIX) for name, _ in net.named_children()):
        raise UserError("this network has auxiliary heads already", then="build it without, or leave out the words")
    if not words:
        return net
    seen = survey(net, shape)
    found = {seen.find("an auxiliary head", word) for word in words}
    if len(found) < len(words):
        told = ", ".join(place.name for place in found)
        raise UserError(f"{len(words)} auxiliary heads would stand at {len(found)} places: {told}", allowed=seen.told())
    chosen = sorted(found, key=lambda place: place.order)
    like = next(p for p in net.parameters() if p.is_floating_point())
    with torch.random.fork_rng(devices=[], enabled=rng is not None), like.device:
        if rng is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
        built = [build(place.shape[1], seen.classes, len(place.shape) - 2) for place in chosen]
    heads = AuxiliaryHeads([place.name for place in chosen], built, weight).to(like.dtype).train(net.training)
    net.add_module(PREFIX, heads)
    # Bound methods of a part of the network: a copy of the network gets hooks to its own heads.
    net.register_forward_pre_hook(heads.begin)
    for index, name in enumerate(heads.places):
        net.get_submodule(name).register_forward_hook(partial(heads.keep, index))
    net.register_forward_hook(heads.end, always_call=True)
    return net


def places(net: nn.Module, shape: Sequence[int]) -> list[str]:
    """Modules after which all of the signal passes through one tensor, in the order in which they run.

    Args:
        shape: (C, *S) of one input.

    Returns:
        one name for each tensor, that of the outermost module that gives it. Heads can also stand inside branches, at
        any module that runs once and gives a tensor that is not overwritten.

    >>> from engram import models
    >>> places(models.lenet5(), (1, 28, 28))
    ['c1', 's2', 'c3', 's4', 'c5', 'f6']
    """
    return [place.name for place in survey(net, shape).cuts]


def check(where: str | float | Iterable[str | float] | None) -> tuple[str | float, ...]:
    """The words taken apart, before a network is built: shares as numbers, names as text.

    Raises:
        UserError: neither a share between 0 and 1 nor a name; or one given twice.

    >>> check("0.33, stages.1"), check(None), check("none")
    ((0.33, 'stages.1'), (), ())
    """
    given = [where] if isinstance(where, str | float | int) else list(where or ())
    found: list[str | float] = []
    for part in given:
        for word in split(part) if isinstance(part, str) else [part]:
            value = _number(word)
            fits = 0 < value < 1 if value is not None else re.fullmatch(r"\w+(\.\w+)*", str(word))
            if not fits:
                raise UserError(f"auxiliary: no head can stand at {word!r}", allowed=ALLOWED)
            place = str(word) if value is None else value
            if place in found:
                raise UserError(f"auxiliary: {word!r} is given twice")
            found.append(place)
    return tuple(found)


def without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without its heads: what the same network holds that never had any.

    >>> list(without_auxiliary({"head.bias": torch.zeros(1), "auxiliary.0.linear.bias": torch.zeros(1)}))
    ['head.bias']
    """
    return {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}


def _number(word: Any) -> float | None:
    """The number that is meant: with a point, since `3` is the name of a module in a row of them."""
    if isinstance(word, str):
        return float(word) if re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+)(e[-+]?\d+)?", word) else None
    return float(word)
