"""DropConnect: single connections fall silent at random, where dropout silences whole units.

While training, every example sees its own random half of the weights (the biases included):

    u = (M * W) v,    M_ij ~ Bernoulli(keep), drawn anew for every example and every pass

The weights are hidden for one pass and not destroyed: the mask multiplies a copy, the masked weight gets no gradient,
and it is back in the next pass. A unit of n inputs thereby averages 2^n thinned versions of itself, and dropout is the
special case in which all connections from one unit fall silent together.

To judge, the paper does not multiply W by keep and be done, because the mean of a nonlinearity is not the nonlinearity
of the mean. A sum of many independent terms is nearly normal, so u is drawn from the normal distribution with the same
first two moments, and the mean is taken after the nonlinearity a:

    u ~ N(keep W v, keep (1 - keep) (W * W)(v * v)),    r = mean over draws of a(u)

`draw_inputs` and `sampled_inference` are that; the layer itself uses the mean by default, which is exact for the scores
of a last layer and costs nothing.

Where we differ: with `scaled` (the default) the kept weights are divided by keep while training, so that u has the mean
W v and judging uses the weights as they are; the moments follow. `scaled=False` is the paper's. A mask for each example
costs B x out x in values; `per="batch"` has one mask for the whole batch, out x in values, a noisier gradient.

It helps large fully connected layers on little or wrongly labelled data: on MNIST the paper reaches 0.21 % with voting.
It hurts small layers and slows convergence. The paper keeps 0.5. EfficientNet's setting "drop_connect" is something
else under this name: it drops whole residual branches (stochastic depth).

Wan, Zeiler, Zhang, LeCun, Fergus 2013, Regularization of Neural Networks using DropConnect, ICML, sections 3 to 3.2.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown

MASKS = ("sample", "batch")
INFERENCES = ("mean", "gaussian")


def masked_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, keep: float, per: str = "sample", scaled: bool = True
) -> Tensor:
    """One training pass: a linear layer with a random share `keep` of its weights and biases.

    Args:
        x: (*N, in); every row of N counts as an example.
        weight: (out, in).
        bias: (out,) or None.
        per: "sample" has a mask for each example, "batch" one for all of them.
        scaled: divide what is kept by `keep`, so that the expected result is the layer's own.

    Returns:
        (*N, out). Masks come from torch's global generator.

    >>> _ = torch.manual_seed(0); w = torch.ones(1, 100_000)
    >>> u = masked_linear(torch.ones(1, 100_000), w, None, keep=0.8, scaled=False)
    >>> f"{u.item() / 100_000:.2f} of the connections took part"
    '0.80 of the connections took part'
    """
    factor = 1 / keep if scaled else 1.0
    rows = x.reshape(-1, x.shape[-1])  # (B, in)
    several = (len(rows),) if per == "sample" else ()
    thinned = weight * _mask(weight, several, keep, factor)  # (B, out, in) or (out, in)
    offset = 0.0 if bias is None else bias * _mask(bias, several, keep, factor)  # (B, out) or (out,)
    u = torch.einsum("boi,bi->bo" if per == "sample" else "oi,bi->bo", thinned, rows) + offset  # (B, out)
    return u.view(*x.shape[:-1], weight.shape[0])  # (*N, out)


def moments(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, keep: float, scaled: bool = True
) -> tuple[Tensor, Tensor]:
    """The mean and the variance (*N, out) of `masked_linear` over its masks, exactly.

    >>> mean, variance = moments(torch.tensor([3.0]), torch.tensor([[2.0]]), None, keep=0.5, scaled=False)
    >>> mean.item(), variance.item()  # 0 or 6, each half of the time
    (3.0, 9.0)
    """
    factor = 1 / keep if scaled else 1.0
    mean = F.linear(x, weight, bias) * (keep * factor)
    squares = F.linear(x.square(), weight.square(), None if bias is None else bias.square())
    return mean, squares * (keep * (1 - keep) * factor**2)


def draw_inputs(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, keep: float, scaled: bool = True, draws: int = 1
) -> Tensor:
    """Draws (draws, *N, out) from the normal distribution that has the moments of `masked_linear`."""
    mean, variance = moments(x, weight, bias, keep=keep, scaled=scaled)
    return mean + variance.sqrt() * torch.randn(draws, *mean.shape, dtype=mean.dtype, device=mean.device)


def sampled_inference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Callable[[Tensor], Tensor],
    *,
    keep: float,
    scaled: bool = True,
    draws: int = 1000,
) -> Tensor:
    """The paper's inference (algorithm 2): the mean of the nonlinearity over normal draws of its input.

    >>> _ = torch.manual_seed(0); x, w = torch.ones(1, 400), torch.randn(1, 400)
    >>> r = sampled_inference(x, w, None, torch.relu, keep=0.5)
    >>> bool(r > torch.relu(x @ w.T))  # relu is convex: its mean lies above it
    True
    """
    return activation(draw_inputs(x, weight, bias, keep=keep, scaled=scaled, draws=draws)).mean(0)  # (*N, out)


class DropConnect(nn.Linear):
    """A linear layer whose single connections fall silent at random while it trains.

    Args:
        drop: share of the connections that fall silent; the paper's 0.5.
        per: "sample" or "batch".
        scaled: as for `masked_linear`.
        inference: "mean" judges by the expected input, "gaussian" draws it once for every pass, to be averaged over
            several passes (`engram.layers.monte_carlo`).

    Raises:
        UserError: a share outside 0 to 1, an unknown word.

    >>> layer = DropConnect(300, 10, drop=0.5)
    >>> x = torch.ones(2, 300); bool((layer(x)[0] == layer(x)[1]).any())
    False
    >>> torch.equal(layer.eval()(x), F.linear(x, layer.weight, layer.bias))
    True
    """

    draws_while_training = True
    drop: float
    per: str
    scaled: bool
    inference: str

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        drop: float = 0.5,
        per: str = "sample",
        scaled: bool = True,
        inference: str = "mean",
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._set(drop, per, scaled, inference)

    def _set(self, drop: float, per: str, scaled: bool, inference: str) -> None:
        if not 0 <= drop < 1:
            raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
        if per not in MASKS:
            raise unknown("mask", per, MASKS)
        if inference not in INFERENCES:
            raise unknown("inference", inference, INFERENCES)
        self.drop, self.per, self.scaled, self.inference = drop, per, scaled, inference

    @classmethod
    def into(
        cls, linear: nn.Linear, *, drop: float, per: str = "sample", scaled: bool = True, inference: str = "mean"
    ) -> "DropConnect":
        """Turn a linear layer into this one where it stands: the same object, parameters, hooks and names.

        The class of the object is changed, not its place in a network or the names in its state dict, so that
        whoever holds the layer holds the new one, and saved weights fit as before.

        Raises:
            UserError: it is not plainly a linear layer.

        >>> net = nn.Sequential(nn.Linear(4, 2)); _ = DropConnect.into(net[0], drop=0.5)
        >>> net[0], list(net.state_dict())
        (DropConnect(in_features=4, out_features=2, bias=True, drop=0.5, per=sample), ['0.weight', '0.bias'])
        """
        if type(linear) not in (nn.Linear, cls):
            raise UserError(f"a {type(linear).__name__} cannot drop connections", allowed="torch.nn.Linear")
        linear.__class__ = cls
        changed: DropConnect = linear  # type: ignore[assignment]
        changed._set(drop, per, scaled, inference)
        return changed

    @property
    def draws_while_judging(self) -> bool:
        """Whether it gives another result in every pass even when the network judges."""
        return self.inference == "gaussian" and self.drop > 0

    def forward(self, input: Tensor) -> Tensor:  # (*N, in)
        x, keep = input, 1 - self.drop
        if self.drop and self.training:
            return masked_linear(x, self.weight, self.bias, keep=keep, per=self.per, scaled=self.scaled)  # (*N, out)
        if self.drop and self.inference == "gaussian":
            return draw_inputs(x, self.weight, self.bias, keep=keep, scaled=self.scaled)[0]  # (*N, out)
        y = F.linear(x, self.weight, self.bias)  # (*N, out)
        return y if self.scaled else y * keep

    def extra_repr(self) -> str:
        """The layer's settings, in the order of its arguments."""
        return f"{super().extra_repr()}, drop={self.drop}, per={self.per}"


def _mask(like: Tensor, several: tuple[int, ...], keep: float, factor: float) -> Tensor:
    """Zeros and, with the chance `keep`, `factor`: (*several, *like)."""
    mask = torch.empty(*several, *like.shape, dtype=like.dtype, device=like.device)
    return mask.bernoulli_(keep).mul_(factor)
