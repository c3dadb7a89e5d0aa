"""SmoothGrad: the gradient averaged over noisy copies of the input, which takes its noise away.

    M(x) = 1/n sum over i of dS_y/dx (x + e_i),     e_i ~ N(0, s^2),     s = noise * (max x - min x)

The gradient of a network of ReLUs jumps from pixel to pixel: between two pictures that nobody can tell apart it is
quite another. Its mean over a neighbourhood is what stays. n passes forward and backward.

It sharpens the gradient's map and takes over its limits: it says where the network is sensitive. With too much noise,
the network is asked about something else than the picture. The paper's settings: 10 to 20 % noise, n = 50, where more
adds little. The class is that of the picture without noise.

Where we differ: gradients are averaged with their signs and the magnitude is taken last, as in the authors' code; over
the channels the largest is taken, as `gradient` does, where they sum. All examples of a batch get the same noise, each
scaled to its own range, so that a map does not depend on the batch that it is made in.

Smilkov, Thorat, Kim, Viégas, Wattenberg 2017, SmoothGrad: removing noise by adding noise, arXiv:1706.03825, section 2.
"""

import torch
from torch import Tensor, nn

from engram.attribution.score import Classes, as_input, asked, class_scores, largest, slope
from engram.errors import UserError
from engram.grammar import switch
from engram.registry import register


@register("attribution", paper="Smilkov et al. 2017, arXiv:1706.03825", year=2017)
def smooth_grad(
    net: nn.Module,
    x: Tensor,
    y: Classes = None,
    *,
    noise: float = 0.15,
    samples: int = 50,
    seed: int = 0,
    signed: bool = False,
) -> Tensor:
    """The gradient averaged over noisy copies of the input.

    Maps (B, *S), from 0 up: the largest magnitude over the channels, of the mean.

    Args:
        net: any module that gives (B, K) scores; it is left as it was.
        x: (B, C, *S) inputs as the network takes them; of vectors (B, D), the map is (B, D).
        y: (B,) the classes asked about, or one for all; by default those that the network predicts without noise.
        noise: standard deviation of the noise, in ranges (highest - lowest value) of each example.
        samples: noisy copies.
        seed: of the noise; the same seed gives the same map.
        signed: the mean gradient itself, (B, C, *S), in place of its magnitude.

    Raises:
        UserError: as for `gradient`; noise below 0, or no sample.

    >>> from engram.attribution.gradient import gradient
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))  # a linear network has the same gradient everywhere
    >>> x = torch.rand(3, 1, 2, 2)
    >>> torch.allclose(smooth_grad(net, x, 1), gradient(net, x, 1))
    True
    """
    if not (isinstance(samples, int) and samples >= 1):
        raise UserError(f"samples is {samples!r}", allowed="a whole number from 1")
    if not 0 <= noise < float("inf"):
        raise UserError(f"noise is {noise!r}", allowed="a number from 0, such as 0.15")
    switch("smooth_grad", "signed", signed)
    rng = torch.Generator().manual_seed(seed)
    with asked(net) as network:
        clean = as_input(network, x).detach()
        if y is None:
            with torch.no_grad():
                _, y = class_scores(network, clean)
        values = clean.flatten(1)
        spread = noise * (values.amax(1) - values.amin(1)).reshape(-1, *[1] * (clean.ndim - 1))
        total = torch.zeros_like(clean)
        for _ in range(samples):
            drawn = torch.randn(clean.shape[1:], generator=rng, dtype=torch.float64)
            given = (clean + spread * drawn.to(clean.device, clean.dtype)).requires_grad_()
            scores, _ = class_scores(network, given, y)
            total += slope(scores, given)
    mean = total / samples
    return mean if signed else largest(mean)
