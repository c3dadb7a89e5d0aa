"""How long a gradient is: so that layers and batches of different sizes can be compared.

It is of one example's loss, and the mean over the examples:

    n(a) = mean over examples of | d loss / d a |_2
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def length(gradient: Tensor) -> float:
    """The mean over examples of the length."""
    per_example = gradient.double().reshape(len(gradient), -1) if gradient.dim() else gradient.double().reshape(1, 1)
    return float(torch.linalg.vector_norm(per_example, dim=1).mean()) if per_example.numel() else 0.0


def together(gradients: Sequence[Tensor]) -> float | None:
    """The length of several together."""
    return sum(length(one) ** 2 for one in gradients) ** 0.5 if gradients else None


def added(gradients: Sequence[Tensor]) -> Tensor:
    """The sum, without changing any."""
    total = gradients[0]
    for one in gradients[1:]:
        total = total + one
    return total
