"""The score of a class as a function of the input, and its gradient: what all methods of this package begin with.

The score is what the network gives, before a softmax. A network that ends in a softmax gives probabilities: their
gradient also says what would lower the other classes, and is next to nothing where the network is sure.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engram.clinic.admission import inner
from engram.clinic.subject import scores_of
from engram.clinic.untouched import untouched
from engram.errors import UserError

Classes = Tensor | Sequence[int] | int | None
"""(B,) the class asked about for each example; one for all; None for those that the network predicts."""


@contextmanager
def asked(net: nn.Module) -> Iterator[nn.Module]:
    """The network itself, out of what is wrapped around it, to be asked with gradients; afterwards it is as it was.

    Raises:
        UserError: it is no network, or one without parameters.
    """
    net = inner(net)
    device = next(net.parameters()).device.type
    # leaving inference mode turns gradients on, under no_grad too
    with torch.inference_mode(False), torch.autocast(device, enabled=False), untouched(net):
        yield net


def as_input(net: nn.Module, x: Tensor) -> Tensor:
    """A copy of x on the network's device and in its precision, which gradients can be asked of.

    Raises:
        UserError: x is no batch of real numbers.
    """
    if not isinstance(x, Tensor) or x.ndim < 2 or len(x) == 0 or not x.is_floating_point():
        given = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise UserError(
            f"x is {given}",
            allowed="a tensor (B, C, *S) of real numbers, normalised, as the network takes it",
            then="x.float() / 255, and what else the network was trained with" if "uint8" in given else None,
        )
    parameter = next(net.parameters())
    dtype = parameter.dtype if parameter.is_floating_point() else x.dtype
    return x.detach().to(parameter.device, dtype, copy=True).requires_grad_()


def class_scores(net: nn.Module, x: Tensor, y: Classes = None) -> tuple[Tensor, Tensor]:
    """Scores (B,) of the classes y, and y (B,) itself.

    Raises:
        UserError: the network gives no score for each class, or y are no classes of it.
    """
    # a copy: the network may overwrite what it is given, which torch refuses for the input itself
    scores = scores_of(net(x.clone()))
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(x):
        given = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise UserError(
            f"the network gives {given} for {len(x)} inputs",
            allowed=f"({len(x)}, classes): a score for each class",
        )
    if y is None:
        chosen = scores.detach().argmax(1)
    else:
        chosen = torch.as_tensor(y, device=scores.device)
        if chosen.ndim == 0:
            chosen = chosen.expand(len(x))
        whole = not chosen.is_floating_point() and not chosen.is_complex() and chosen.dtype != torch.bool
        if not whole or chosen.shape != (len(x),):
            raise UserError(
                f"y is {str(chosen.dtype).removeprefix('torch.')} {tuple(chosen.shape)}",
                allowed=f"the numbers of {len(x)} classes, or of one",
            )
        if int(chosen.min()) < 0 or int(chosen.max()) >= scores.shape[1]:
            low, high = int(chosen.min()), int(chosen.max())
            raise UserError(
                f"y goes from {low} to {high}, and the network gives {scores.shape[1]} scores",
                allowed=f"0 to {scores.shape[1] - 1}",
            )
        chosen = chosen.long()
    return scores.gather(1, chosen[:, None])[:, 0], chosen


def slope(scores: Tensor, of: Tensor, what: str = "input") -> Tensor:
    """The gradient of each example's score with respect to `of`, in its shape. Examples do not mix, so one pass does.

    Raises:
        UserError: no gradient comes through.
    """
    found = None
    if scores.requires_grad:
        (found,) = torch.autograd.grad(scores.sum(), of, allow_unused=True)
    if found is None:
        raise UserError(
            f"no gradient comes from the scores back to the {what}",
            then="look for detach(), no_grad() or rounding in the network",
        )
    return found


def largest(slopes: Tensor) -> Tensor:
    """(B, C, *S) to (B, *S): the largest magnitude over the channels; of vectors (B, D), each magnitude."""
    return slopes.abs() if slopes.ndim == 2 else slopes.abs().amax(1)
