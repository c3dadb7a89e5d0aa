"""Mixup: pictures blended with another of the batch, and their labels in the same shares.

    x' = w x + (1 - w) x[partner],   loss = w loss(p, y) + (1 - w) loss(p, y[partner]),   w ~ Beta(strength, strength)

The network learns to change its mind linearly between examples; it is less sure of itself and forgets wrong labels
more easily. mixup: Beyond Empirical Risk Minimization (Zhang et al. 2018), sections 2 and 3: strength 0.2 on ImageNet,
1 on CIFAR, with long training; short runs and small networks lose by it. Where we differ: every picture has its own
weight, the authors' program draws one for the batch. Partners are a random permutation of the batch, so a picture may
meet itself.

Accuracy during training is counted in the same shares: w [prediction = y] + (1 - w) [prediction = y[partner]]. It is a
lower number than on whole pictures and no sign of overfitting or of its absence; validation is never mixed.

A Beta(a, a) needs two uniform numbers u, v and no trial and error (a Student t by Bailey's polar method, squeezed into
0..1; Devroye 1996, Random variate generation in one line of code): with c = cos 2 pi v and r = u^(1/a)

    w = 1/2 + 1/2 c sqrt(1 - r) / sqrt((1 - r) c^2 + r)
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from engram.augment.layout import from_rows, to_rows
from engram.grammar import number
from engram.registry import register


@register("augmentation", paper="Zhang et al., mixup, ICLR 2018, section 2", year=2018, stage="mix")
def mixup(strength: float = 0.2) -> Callable[[Tensor, Generator], tuple[Tensor, Tensor, Tensor]]:
    """Blend with another picture of the batch: `mixup:0.2` mostly a little, `mixup:1` anything alike.

    The callable returns x, partner and weight as `mixup_with` takes them; weight is the share of the own label.
    """
    number("mixup", "strength", strength, 0, above=True)

    def apply(x: Tensor, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        partner = torch.randperm(len(x), generator=rng, device=rng.device)
        # Rounded to the pictures' own precision, so that labels are shared exactly as the pictures are.
        weight = draw_weights(len(x), strength, rng).to(x.dtype).float()
        return mixup_with(x, partner, weight), partner, weight

    return apply


def draw_weights(batch: int, strength: float, rng: Generator) -> Tensor:
    """Shares (B,) of the own picture, from Beta(strength, strength)."""
    u, v = torch.rand(2, batch, generator=rng, device=rng.device)
    r = u ** (1 / strength)
    c = (2 * math.pi * v).cos()
    # float32 cannot tell r from 0 for small strengths; the floor keeps 0 / 0 out and changes nothing else.
    size = ((1 - r) * c * c + r).clamp(min=torch.finfo(r.dtype).tiny).sqrt()
    return (0.5 + 0.5 * c * (1 - r).sqrt() / size).clamp(0, 1)


def mixup_with(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Each picture blended with its partner.

    Args:
        x: float (B, C, *S).
        partner: int64 (B,), which picture of the batch is mixed in.
        weight: (B,) in 0..1, the share of the picture itself.

    Returns:
        the same shape and dtype, channels-last.

    >>> mixup_with(torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0])).flatten()
    tensor([0.2500, 1.0000])
    """
    rows = to_rows(x)
    share = weight.to(x.dtype).view(-1, *[1] * (rows.dim() - 1))
    return from_rows(torch.lerp(rows.index_select(0, partner), rows, share))
