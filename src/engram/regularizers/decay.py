"""Weight decay as optimisers take it: parameter groups in which biases and norms are spared.

Decay pulls each weight towards 0: with `weight_decay` λ the gradient of ½λ‖w‖² is added to the data's (for AdamW the
pull is apart from the gradient). It helps where weights can grow without helping the fit. On a bias or on the scale of
a normalisation it hurts: there are few of them, they do not over-fit, and pulling a scale to 0 switches its channel
off. Those parameters have at most one axis, which is how they are told apart. The one exception is a LayerNorm over
several axes, whose scale has several and is decayed.

Krogh and Hertz 1992, section 1 (decay). He et al. 2019, "Bag of tricks", section 3.1 (no decay on biases and norms).
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def decay_groups(parameters: Iterable[Tensor], weight_decay: float, *, decay_all: bool = False) -> list[dict[str, Any]]:
    """Parameter groups of a torch optimizer in which biases and norms (at most one axis) are not decayed.

    Groups that would be empty are left out, and nothing is split where the decay is 0: fewer groups, fewer calls.

    >>> from torch import nn; net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> [(len(group["params"]), group["weight_decay"]) for group in decay_groups(net.parameters(), 5e-4)]
    [(1, 0.0005), (3, 0.0)]
    """
    parameters = list(parameters)
    if decay_all or not weight_decay:
        return [{"params": parameters, "weight_decay": weight_decay}]
    matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (matrices, vectors) if group["params"]]
