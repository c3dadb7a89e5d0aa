"""Judging with the noise left on: many passes through layers that draw, averaged.

Dropout, DropConnect, DropBlock, stochastic pooling and the rest are switched to their expected value when a network
judges, an approximation that is cheap and usually good. Leaving them on and averaging the *probabilities* of many
passes is the thing approximated, and the spread of the passes says how much the answer depends on which part of the
network was there:

    p(k | x) = 1/T sum_t softmax(f(x; mask_t)),     uncertainty: the deviation over t, or the entropies below

Only what draws is switched on; normalisations keep the statistics they judge by, and what draws by itself while judging
(DropConnect by the paper's Gaussian) goes on doing that. The total uncertainty, the entropy of
the mean, is the mean of the entropies (what the data leave open) and the rest (what the network does not know: large
far from the training data).

It helps a little on accuracy, more on calibration, at T times the cost; 10 to 100 passes are usual. It says nothing in
a network without such layers (all passes are alike), and what a dropout rate chosen for accuracy calls uncertain is not
a probability of being wrong.

Gal and Ghahramani 2016, Dropout as a Bayesian approximation, ICML, arXiv:1506.02142, section 4; Wan et al. 2013
(DropConnect), section 3.2; Graham 2014, arXiv:1412.6071, section 3 (many passes through random pooling).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engram.grammar import number
from engram.layers.drop_path import DropPath

OTHERS = (nn.modules.dropout._DropoutNd, nn.RReLU, DropPath)
"""Layers that draw while training and do not say so."""


class Averaged(NamedTuple):
    """The mean over passes and what the passes disagree about."""

    mean: Tensor  # (B, K) probabilities
    deviation: Tensor  # (B, K)
    disagreement: Tensor  # (B,) nats: entropy of the mean less the mean entropy, 0 where all passes agree


def draws(module: nn.Module) -> bool:
    """Whether a layer draws while training: torch's dropout and whatever says so by `draws_while_training`.

    >>> draws(nn.Dropout2d()), draws(nn.BatchNorm1d(3))
    (True, False)
    """
    return isinstance(module, OTHERS) or getattr(module, "draws_while_training", False)


@contextmanager
def drawing(net: nn.Module) -> Iterator[nn.Module]:
    """Within the block the network judges with every layer that draws switched on; afterwards it is as it was."""
    before = [(module, module.training) for module in net.modules()]
    net.eval()
    for module, _ in before:
        if draws(module) and not getattr(module, "draws_while_judging", False):
            module.training = True  # itself alone: what is inside it, a normalisation say, goes on judging
    try:
        yield net
    finally:
        for module, training in before:
            module.training = training


@torch.no_grad()
def monte_carlo(net: nn.Module, x: Tensor, *, passes: int = 30) -> Averaged:
    """Average the probabilities of several passes, masks from torch's global generator.

    Args:
        x: (B, C, *S), as the network sees it.
        passes: how many, 1 or more.

    Raises:
        UserError: fewer passes.

    >>> _ = torch.manual_seed(0); net = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 3))
    >>> averaged = monte_carlo(net, torch.ones(2, 20), passes=50)
    >>> averaged.mean.shape, bool((averaged.disagreement > 0).all()), net.training
    (torch.Size([2, 3]), True, True)
    """
    number("monte_carlo", "passes", passes, 1, whole=True)
    with drawing(net):
        given = torch.stack([net(x).float().softmax(1) for _ in range(passes)])  # (T, B, K)
    mean = given.mean(0)
    disagreement = torch.special.entr(mean).sum(1) - torch.special.entr(given).sum(2).mean(0)
    return Averaged(mean, given.std(0, correction=0), disagreement.clamp_min(0))
