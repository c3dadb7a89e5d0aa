"""Local response normalisation: a strong answer quiets its neighbours, so that few of them speak at one place.

Every value is divided by a power of the energy around it, an idea taken from lateral inhibition between nerve cells:

    b_i = a_i / (k + alpha * sum of a_j^2 over the n neighbours j of i) ^ beta

Across channels (the paper's) the neighbours are n channels in their order, at the same pixel: i - n/2 to i + n/2, as
many as there are. Within channels they are the n x n pixels around, in the same map. Nothing is learned.

It helps networks with ReLU, whose values have no upper limit, and no other normalisation: AlexNet's error fell by 1.4
(top-1) and 1.2 (top-5) points, its authors' CIFAR-10 network from 13 to 11 %. VGG found that it gave nothing at more
depth and cost time and memory; batch normalisation has replaced it. It is slow for what it does, and where a sum stays
far below k / alpha, as with the paper's constants on small activations, it is close to a division by k^beta.

The paper's constants, which are the defaults: n = 5, k = 2, alpha = 1e-4, beta = 0.75, chosen on a validation set.

Where others differ: alpha multiplies the sum in the paper and here; `torch.nn.LocalResponseNorm`, Caffe and the paper's
own released program multiply the mean, so that their alpha is n times (within channels n x n times) ours for the same
result. An even n has its middle to the right, as torch. Of bfloat16 the energy is summed in float32: there is no room
beside k = 2 for a small one.

Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 25,
section 3.3. Found not to help: Simonyan and Zisserman 2014, arXiv:1409.1556, section 4.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError

_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def local_response_norm(
    x: Tensor, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, within: bool = False
) -> Tensor:
    """Divide each value by the energy of its neighbours.

    Args:
        x: (B, C, *S), with one to three axes S.
        size: channels summed over or, within channels, pixels along every axis.
        alpha: of the sum, not of the mean.
        within: over the neighbours in the same map in place of those in other channels.

    Returns:
        the same shape and dtype.

    Raises:
        UserError: size below 1, or a number of axes other than one to three.

    >>> local_response_norm(torch.tensor([[[3.0], [4.0]]]), alpha=1.0, beta=0.5, k=0.0)
    tensor([[[0.6000],
             [0.8000]]])
    """
    if size < 1:
        raise UserError(f"local_response_norm: size cannot be {size}", allowed="a whole number from 1 up")
    if x.dim() - 2 not in _AVERAGE:
        raise UserError(f"local_response_norm: an input of {x.dim()} axes", allowed="(B, C, *S) with 1 to 3 axes S")
    energy = x.to(torch.promote_types(x.dtype, torch.float32)).square()
    around = _sum_of_pixels(energy, size) if within else _sum_of_channels(energy, size)
    return x * (k + alpha * around).pow(-beta).to(x.dtype)


def _sum_of_channels(energy: Tensor, size: int) -> Tensor:
    """Of `size` neighbouring channels; those beyond the first and the last count as zero."""
    channels, axes = energy.shape[1], energy.dim() - 2
    padded = F.pad(energy, (0, 0) * axes + (size // 2, (size - 1) // 2))  # (B, C + size - 1, *S)
    # A few additions of whole maps: twice as quick, forward and backward, as pooling over an axis made for it.
    total = padded[:, :channels]
    for offset in range(1, size):
        total = total + padded[:, offset : offset + channels]
    return total  # (B, C, *S)


def _sum_of_pixels(energy: Tensor, size: int) -> Tensor:
    """Of a window with `size` pixels along every axis; those beyond the border count as zero."""
    axes = energy.dim() - 2
    padded = F.pad(energy, (size // 2, (size - 1) // 2) * axes)  # (B, C, *S + size - 1)
    return _AVERAGE[axes](padded, size, 1) * size**axes  # (B, C, *S)


class LocalResponseNorm(nn.Module):
    """Local response normalisation as a layer, with the paper's constants.

    Args:
        size, alpha, beta, k, within: as in `local_response_norm`.

    >>> LocalResponseNorm()(torch.zeros(2, 96, 8, 8)).shape
    torch.Size([2, 96, 8, 8])
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, within: bool = False
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.within = size, alpha, beta, k, within

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        return local_response_norm(x, self.size, alpha=self.alpha, beta=self.beta, k=self.k, within=self.within)

    def extra_repr(self) -> str:
        neighbours = "pixels" if self.within else "channels"
        return f"{self.size} {neighbours}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
