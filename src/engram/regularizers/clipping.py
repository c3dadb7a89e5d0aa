"""Clipping: a gradient longer than a limit is shortened to it, its direction kept.

    g  <-  g min(1, largest / ‖g‖),    ‖g‖ over all parameters together

It bounds the step that one bad batch can cause. It helps where the loss has cliffs (recurrent networks, high learning
rates); a limit that clips every step only lowers the learning rate.

Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, ICML, algorithm 1.
"""

from collections.abc import Iterable

from torch import Tensor, nn


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
