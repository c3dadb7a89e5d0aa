"""What a network with auxiliary heads gives while it trains: its scores, and those of the heads on its way."""

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Scores of the last head and of the heads before it; the loss is main + weight * the sum of the others.

    >>> import torch; Scores(torch.zeros(2, 10), (torch.ones(2, 10),), 0.3).main.shape
    torch.Size([2, 10])
    """

    main: Tensor  # (B, K)
    auxiliary: tuple[Tensor, ...]  # each (B, K)
    weight: float
