"""What holds weights back: decay that spares biases and norms, and a bound on the gradient's length.

Decay pulls each weight towards 0: with `weight_decay` λ the gradient of ½λ‖w‖² is added to the data's (for AdamW the
pull is apart from the gradient). It helps where weights can grow without helping the fit. On a bias or on the scale of
a normalisation it hurts: there are few of them, they do not over-fit, and pulling a scale to 0 switches its channel
off. Those parameters have at most one axis, which is how they are told apart. The one exception is a LayerNorm over
several axes, whose scale has several and is decayed.

Clipping bounds the step that one bad batch can cause: a gradient longer than a limit is shortened to it, its direction
kept. It helps where the loss has cliffs (recurrent networks, high learning rates); a limit that clips every step only
lowers the learning rate.

Krogh and Hertz 1992, section 1 (decay). He et al. 2019, "Bag of tricks", section 3.1 (no decay on biases and norms).
Pascanu et al. 2013, algorithm 1 (clipping).
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


def decay_groups(parameters: Iterable[Tensor], weight_decay: float, *, decay_all: bool = False) -> list[dict[str, Any]]:
    """Parameter groups of a torch optimizer in which biases and norms (at most one axis) are not decayed.

    Groups that would be empty are left out, and nothing is split where the decay is 0: fewer groups, fewer calls.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> [(len(group["params"]), group["weight_decay"]) for group in decay_groups(net.parameters(), 5e-4)]
    [(1, 0.0005), (3, 0.0)]
    """
    parameters = list(parameters)
    if decay_all or not weight_decay:
        return [{"params": parameters, "weight_decay": weight_decay}]
    matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (matrices, vectors) if group["params"]]


def clip_norm(parameters: Iterable[Tensor], largest: float | None) -> Tensor:
    """Shorten the whole gradient to the norm `largest` where it is longer, and return the norm it had.

    Every gradient is multiplied by min(1, largest / (norm + 1e-6)), in place; none only measures. The norm stays on
    the gradients' device, so nothing waits for it. A norm that is not finite makes the scaled gradients not finite
    too: the loop sees that in the loss, as it would without clipping.

    Returns:
        The norm before clipping, a tensor without axes; 0 where no parameter has a gradient.

    >>> import torch
    >>> p = nn.Parameter(torch.zeros(2))
    >>> p.grad = torch.tensor([3.0, 4.0])
    >>> float(clip_norm([p], 1.0)), round(float(p.grad.norm()), 4)
    (5.0, 1.0)
    """
    held = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in held if p.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(held, largest, norm)
    return norm
