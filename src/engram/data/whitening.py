"""Centring, scaling and whitening: data moved to the origin, brought to one size, and turned until nothing correlates.

With mean m and covariance C = U diag(l) U^T of the training examples, each a row x of D values:

    mean       x - m
    standard   (x - m) / sqrt(var + eps)              every value on its own
    pca        (x - m) U diag(l + eps)^(-1/2)         coordinates along the directions of variation, largest first
    zca        (x - m) U diag(l + eps)^(-1/2) U^T     the same turned back: still a picture, nearest to the original

Each over the `picture`, where every pixel and channel is a value of its own (D = C H W: the mean image), or over the
`channels`, where every pixel is an example of C values (the mean colour). After pca and zca with eps = 0 the covariance
of the training examples is the identity.

Why centre: a layer whose inputs are all positive gets gradients of one sign for all weights of a unit, and can only
zigzag; a line through data far from the origin tips over with a small change of its slope. That sentence of the notes
explains this, not batch normalisation. Why one size and no correlation: the loss is then about as steep in every
direction, and one rate suits all (LeCun et al. 1998, Efficient BackProp, section 4.3).

When it helps and when it hurts. Mean and scale: always worth their nothing. Whitening helps shallow models and features
learned without labels; a convolutional network with batch normalisation gains little from it. It blows up the weakest
directions, which in pictures are the finest grain and mostly noise: eps is what keeps them down, 1e-5 in the course,
1e-2 to 1e-1 where noise shows. It needs D^2 numbers and D^3 work: 32 x 32 x 3 is 75 MB in float64 and about a minute,
64 x 64 x 3 sixteen times the memory; larger pictures are whitened over their channels.

The papers' settings: mean image, AlexNet (Krizhevsky et al. 2012), section 2. Mean colour, VGG (Simonyan and Zisserman
2014), section 2.1. Mean and deviation by channel, which `engram.augment.normalize` does in every run, ResNet's
published program. Every picture to its own contrast first (`normalize_contrast`), then ZCA: Maxout (Goodfellow et al.
2013) and Network in Network (Lin et al. 2013) on CIFAR-10. ZCA: Bell and Sejnowski 1997, The independent components of
natural scenes are edge filters; Krizhevsky 2009, Learning multiple layers of features from tiny images, appendix A.

Where we differ: sums are kept in float64 and merged batch by batch (Chan, Golub and LeVeque 1979), so that the set need
not fit into memory and values far from zero lose no digits; the covariance is over N, as in the course. Statistics are
of the training split alone: of the test split they would be a look at the answers.
"""

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import choice, number

METHODS = ("mean", "standard", "pca", "zca")
OVER = ("picture", "channels")
LARGEST = 16_384
"""Values of which a covariance is still taken: 2 GiB in float64."""


def normalize_contrast(x: Tensor, *, bias: float = 0.0) -> Tensor:
    """Global contrast normalisation: every example on its own to mean 0 and deviation 1, over all of its values.

        x' = (x - mean(x)) / max(sqrt(bias + var(x)), 1e-8)

    Nothing is fitted. Coates, Ng and Lee 2011, An analysis of single-layer networks, section 3.2.1.

    Args:
        x: (B, C, *S), uint8 or float; an example without contrast becomes zero.
        bias: added to the variance, so that what has little contrast is not all blown up (10 on 0..255, as there).

    >>> normalize_contrast(torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]]))
    tensor([[[-1.,  1.]],
    <BLANKLINE>
            [[ 0.,  0.]]])
    """
    x = x / 255 if x.dtype == torch.uint8 else x
    axes = tuple(range(1, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (bias + centred.square().mean(axes, keepdim=True)).sqrt().clamp(min=1e-8)


class Whitening(nn.Module):
    """Centring, scaling or whitening by the statistics of training examples, as a layer that can be undone.

    In front of a network, `nn.Sequential(whitening, net)`, it is saved and loaded with the network's weights.

    Args:
        shape: (C, *S) of an example; over channels, other sides may come as well.
        method: mean, standard, pca or zca.
        over: picture or channels.
        eps: added to variances, in squared units of the data (0..1 for uint8 pictures); `mean` has no use for it.
        components: of pca and zca, how many of the most varying directions are kept (none: all). With fewer than all,
            nothing can bring back what the others held.

    Raises:
        UserError: a word that is not known, a number out of range, or too many values for a covariance.

    >>> x = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]], [[5.0, 4.0]]])
    >>> whitening = Whitening((1, 2), "zca", eps=0.0).fit([x])
    >>> flat = whitening(x).flatten(1)
    >>> (flat.T @ flat / 3).round(decimals=4).abs()
    tensor([[1., 0.],
            [0., 1.]])
    >>> whitening.inverse(whitening(x)).round(decimals=3).equal(x)
    True
    """

    count: Tensor
    mean: Tensor
    deviation: Tensor
    vectors: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        method: str = "zca",
        *,
        over: str = "picture",
        eps: float = 1e-5,
        components: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.method, self.over = choice("whitening", "method", method, METHODS), choice("whitening", "over", over, OVER)
        self.eps = number("whitening", "eps", eps, 0)
        size = self.shape[0] if over == "channels" else prod(self.shape)
        self.turns = method in ("pca", "zca")
        if self.turns and size > LARGEST:
            raise UserError(
                f"{method} of pictures with {size:,} values needs a covariance of {size**2 * 8 / 2**30:.0f} GiB",
                allowed=f"up to {LARGEST:,} values",
                nearest='over="channels"',
            )
        if components is not None and not self.turns:
            raise UserError(f"whitening: {method} has no components", allowed="components with pca or zca")
        kept = size if components is None else int(number("components", "number", components, 1, size, whole=True))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(kept))
        self.register_buffer("vectors", torch.zeros((size, kept) if self.turns else (0, 0)))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor | Sequence[Tensor]]) -> "Whitening":
        """Take the statistics of training examples; returns itself.

        Args:
            batches: x (B, C, *S) each, or (x, y) as a training pool's `batches` gives them; read once.

        Raises:
            UserError: examples of another shape, fewer than two, or (with eps = 0) directions without any variance.
        """
        count, mean, spread = 0, torch.zeros(len(self.mean), dtype=torch.float64), torch.zeros(())
        for batch in batches:
            rows = self._rows(batch if isinstance(batch, Tensor) else batch[0]).double()
            if not len(rows):
                continue
            center = rows.mean(0)
            rows = rows - center
            away, total = center - mean.to(center), count + len(rows)
            mean = mean.to(center) + away * (len(rows) / total)
            weight = count * len(rows) / total
            if self.turns:
                spread = spread.to(center) + rows.T @ rows + weight * torch.outer(away, away)
            else:
                spread = spread.to(center) + rows.square().sum(0) + weight * away.square()
            count = total
        if count < 2:
            raise UserError(f"whitening: nothing varies among {count} values of a kind", allowed="2 examples or more")
        self.mean.copy_(mean)
        if self.turns:
            self._turn(spread / count)
        elif self.method == "standard":
            deviation = (spread / count + self.eps).sqrt()
            self.deviation.copy_(torch.where(deviation > 0, deviation, 1))  # what never varies is only shifted
        self.count.fill_(count)
        return self

    def _turn(self, covariance: Tensor) -> None:
        values, vectors = torch.linalg.eigh(covariance)  # smallest first
        kept = len(self.deviation)
        values, vectors = values.flip(0)[:kept].clamp(min=0), vectors.flip(1)[:, :kept]
        varying = int((values > values[0] * len(covariance) * torch.finfo(torch.float64).eps).sum())
        if varying < kept and self.eps == 0:
            raise UserError(
                f"whitening: the examples vary in {varying:,} directions, and {kept:,} are asked for with eps = 0",
                allowed=f"eps above 0, or components={max(1, varying)}",
            )
        # Each direction points where its largest value is positive, so that a second fit gives the same signs.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        self.vectors.copy_(vectors * largest.sign())
        self.deviation.copy_((values + self.eps).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Examples whitened; also called `transform`.

        Args:
            x: (B, C, *S), uint8 or float.

        Returns:
            the same shape; of pca (B, components) over pictures, (B, components, *S) over channels.

        Raises:
            UserError: nothing was fitted, or examples of another shape.
        """
        self._need_fit()
        rows = self._rows(x).to(self.mean.dtype) - self.mean
        if not self.turns:
            return self._formed(rows / self.deviation, x)
        rows = rows @ self.vectors / self.deviation
        if self.method == "pca" and self.over == "picture":
            return rows  # coordinates, which have no place in a picture
        return self._formed(rows @ self.vectors.T if self.method == "zca" else rows, x)

    transform = forward

    def inverse(self, z: Tensor) -> Tensor:
        """The examples (B, C, *S) that `transform` made z of, in 0..1 where they were uint8.

        Exactly, up to rounding, while all components are kept; otherwise without what the others held.
        """
        self._need_fit()
        channels = self.over == "channels"
        rows = z.movedim(1, -1).reshape(-1, z.shape[1]) if channels else z.reshape(len(z), -1)
        if self.method == "zca":
            rows = rows @ self.vectors
        rows = rows * self.deviation
        if self.turns:
            rows = rows @ self.vectors.T
        return self._formed(rows + self.mean, z)

    def extra_repr(self) -> str:
        fitted = f"{int(self.count):,} examples" if self.count else "nothing fitted"
        return f"{self.shape}, {self.method!r}, over={self.over!r}, eps={self.eps:g}, {fitted}"

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, *S) as (N, D), in 0..1 where they are uint8."""
        own, given = self.shape, tuple(x.shape[1:])
        if given != own and (self.over == "picture" or given[:1] != own[:1]):
            allowed = own if self.over == "picture" else f"{own[0]} channels"
            raise UserError(f"whitening: examples of shape {given}", allowed=str(allowed))
        x = x / 255 if x.dtype == torch.uint8 else x
        return x.movedim(1, -1).reshape(-1, own[0]) if self.over == "channels" else x.reshape(len(x), -1)

    def _formed(self, rows: Tensor, like: Tensor) -> Tensor:
        """(N, D) as pictures again; over channels, of the sides of `like`."""
        if self.over == "channels":
            return rows.view(len(like), *like.shape[2:], rows.shape[1]).movedim(-1, 1)
        return rows.view(len(like), *self.shape)

    def _need_fit(self) -> None:
        if not self.count:
            raise UserError("whitening: nothing was fitted yet", then="whitening.fit(batches of the training split)")
