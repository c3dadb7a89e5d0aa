"""Guided backpropagation: backward through a ReLU goes only what is positive, of units that were on.

    forward    y = max(x, 0)
    gradient   g (x > 0)                 where the unit was on
    guided     g (x > 0) (g > 0)         and what would raise the score

A unit that is pushed down by what stands behind it stops the signal; what arrives is the pattern that excites the units
on the way, as a sharp picture. It combines the gradient with the deconvolution of Zeiler and Fergus, whose rule is
g (g > 0).

The picture is sharp because it restores edges of the input, and it hardly depends on the class or on what was learned:
Adebayo et al. 2018, arXiv:1810.03292, found it nearly unchanged by random weights in the upper layers, and Nie et al.
2018, arXiv:1805.07039, that it is a partial recovery of the input. Look at it for what a unit sees, never for why a
class was chosen.

Every ReLU is covered, as a module or a function, in place or not: `nn.ReLU`, `F.relu`, `torch.relu`, `x.relu_()`,
`x.clamp(min=0)` and their like, and `nn.ReLU6`, `F.relu6`, whose gradient is stopped at 6 too. Other nonlinearities
keep their own gradient, as do ReLUs that torch is not asked for as such: inside TorchScript, in `nn.RNN`, or written as
`x * (x > 0)`.

Springenberg, Dosovitskiy, Brox, Riedmiller 2014, Striving for Simplicity, arXiv:1412.6806, section 3.4.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engram.attribution.score import Classes, as_input, asked, class_scores, largest, slope
from engram.errors import UserError
from engram.grammar import switch
from engram.registry import register

INF = float("inf")
RELUS = (F.relu, torch.relu, Tensor.relu)
RELUS_IN_PLACE = (F.relu_, torch.relu_, Tensor.relu_)
CLAMPS = (torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min)
CLAMPS_IN_PLACE = (torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_)


@register("attribution", paper="Springenberg et al. 2014, arXiv:1412.6806", year=2014)
def guided_backpropagation(net: nn.Module, x: Tensor, y: Classes = None, *, signed: bool = False) -> Tensor:
    """What in the input excites the units on the way to a class.

    Maps (B, *S), from 0 up: the largest magnitude over the channels.

    Args:
        net: any module with ReLUs that gives (B, K) scores; it is left as it was.
        x: (B, C, *S) inputs as the network takes them; of vectors (B, D), the map is (B, D).
        y: (B,) the classes asked about, or one for all; by default those that the network predicts.
        signed: the guided gradient itself, (B, C, *S), as the paper shows it, in place of its magnitude.

    Raises:
        UserError: as for `gradient`; a network without a ReLU, of which this would be the gradient and nothing else.

    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> _ = net[0].weight.data.fill_(2.0), net[2].weight.data.fill_(-1.0)
    >>> guided_backpropagation(net, torch.ones(1, 1)), net(torch.ones(1, 1)).item()  # the gradient is -2
    (tensor([[0.]]), -2.0)
    """
    switch("guided_backpropagation", "signed", signed)
    with asked(net) as network:
        given = as_input(network, x)
        with Guided() as guided:
            scores, _ = class_scores(network, given, y)
        if not guided.count:
            raise UserError(
                f"{type(network).__name__} has no ReLU for guided backpropagation to guide",
                then="engram.attribution.gradient or smooth_grad",
            )
        slopes = slope(scores, given)
    return slopes if signed else largest(slopes)


class Guided(TorchFunctionMode):
    """Inside, every ReLU hands back by the guided rule; `count` says how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        bounds = _bounds(func, args, kwargs)
        if bounds is None or not (isinstance(x, Tensor) and x.requires_grad):
            return func(*args, **kwargs)
        self.count += 1
        highest, in_place = bounds
        y = _Rule.apply(x, highest)
        return x.copy_(y) if in_place else y


class _Rule(torch.autograd.Function):
    """min(max(x, 0), highest); the gradient goes back where x lies between them and it is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, highest: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < highest))
        return x.clamp(0, None if highest == INF else highest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (on,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * on, None


def _bounds(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[float, bool] | None:
    """The upper end of a ReLU and whether it works in place; None of what is no ReLU."""
    if func in RELUS or func in RELUS_IN_PLACE:
        in_place = func in RELUS_IN_PLACE or bool(_argument(args, kwargs, 1, "inplace", False))
        return INF, in_place
    if func is F.relu6:
        return 6.0, bool(_argument(args, kwargs, 1, "inplace", False))
    if func is F.hardtanh:  # nn.ReLU6 is one
        low, high = _argument(args, kwargs, 1, "min_val", -1.0), _argument(args, kwargs, 2, "max_val", 1.0)
        return (float(high), bool(_argument(args, kwargs, 3, "inplace", False))) if low == 0 else None
    if func in CLAMPS or func in CLAMPS_IN_PLACE:
        low, high = _argument(args, kwargs, 1, "min", None), _argument(args, kwargs, 2, "max", None)
        cuts = isinstance(low, int | float) and low == 0 and high is None
        return (INF, func in CLAMPS_IN_PLACE) if cuts else None
    return None


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, otherwise: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, otherwise)
