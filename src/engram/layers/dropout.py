"""Dropout in all its spellings: which number is given, and when the values are rescaled.

    mask ~ Bernoulli(keep) for every value,    keep = 1 - drop

    inverted   training y = x mask / keep     judging y = x           what everyone uses: judging costs nothing
    vanilla    training y = x mask            judging y = keep x      the first paper's

Both have the same mean while training as when judging. The trap is the number: torch's p is the share that is *dropped*
and the first paper's p the share that is *kept*, lecture notes have used both, and only p = 0.5 hides a mix-up. Here it
always has its name, `drop` or `keep`, and `drop_of` turns either into one.

Multiplying by Gaussian noise of the same mean and variance, N(1, drop / keep), does as well as zeros and ones
(`GaussianDropout`). Kin that torch has: Dropout1d to 3d (whole channels), AlphaDropout (for SELU, keeps mean and
variance). Elsewhere here: `drop_block`, `drop_connect`, `drop_path`.

It helps wide fully connected layers on little data, most of all where labels are wrong; it hurts where the network is
too small to fit the data, between convolutions (use channels or blocks there) and just before a batch normalisation,
whose statistics while training are then not those of judging. The paper's settings: keep 0.5 in hidden layers, 0.8 on
inputs, higher rates and max-norm 3 to 4 beside it.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014, Dropout: A simple way to prevent neural networks from
overfitting, JMLR 15, sections 4, 10 (Gaussian noise) and appendix A; Li et al. 2019, arXiv:1801.05134 (beside batch
normalisation).
"""

import torch
from torch import Tensor, nn

from engram.errors import UserError, unknown

SCALINGS = ("inverted", "vanilla")


def drop_of(*, drop: float | None = None, keep: float | None = None) -> float:
    """The share that is dropped, from either number, given by its name.

    Raises:
        UserError: none or both are given, or a share outside 0 to 1 (a layer that drops everything learns nothing).

    >>> drop_of(drop=0.3), drop_of(keep=0.75)
    (0.3, 0.25)
    """
    if (drop is None) == (keep is None):
        raise UserError("a share to drop or a share to keep, one of them", allowed="drop=0.2 or keep=0.8")
    name, value = ("drop", drop) if keep is None else ("keep", keep)
    share = value if keep is None else 1 - keep
    if share is None or not 0 <= share < 1:
        raise UserError(f"{name} cannot be {value}", allowed="drop from 0 up to 1, keep above 0 up to 1")
    return share


def dropout(
    x: Tensor,
    *,
    drop: float | None = None,
    keep: float | None = None,
    scaling: str = "inverted",
    training: bool = True,
) -> Tensor:
    """Dropout of single values by either number and either convention, from torch's global generator.

    Raises:
        UserError: as `drop_of`, or an unknown scaling.

    Both spellings of one layer silence the same share of values, which `p=0.8` alone would not say:

    >>> x = torch.ones(100_000); _ = torch.manual_seed(0)
    >>> zeros = [(dropout(x, **given) == 0).float().mean() for given in ({"drop": 0.8}, {"keep": 0.8})]
    >>> print(f"drop=0.8: {zeros[0]:.2f} are zero; keep=0.8: {zeros[1]:.2f}")
    drop=0.8: 0.80 are zero; keep=0.8: 0.20
    >>> dropout(x, keep=0.8).max().item(), dropout(x, keep=0.8, scaling="vanilla").max().item()
    (1.25, 1.0)
    """
    share = drop_of(drop=drop, keep=keep)
    if scaling not in SCALINGS:
        raise unknown("scaling", scaling, SCALINGS)
    if scaling == "inverted":
        return nn.functional.dropout(x, share, training)
    if not training:
        return x * (1 - share)
    return x * torch.empty_like(x).bernoulli_(1 - share)


class GaussianDropout(nn.Module):
    """Multiplies by noise N(1, drop / (1 - drop)) while training: dropout's mean and variance, and no zeros.

    Raises:
        UserError: a share outside 0 to 1.

    >>> layer = GaussianDropout(0.5); _ = torch.manual_seed(0)
    >>> y = layer(torch.ones(100_000)); f"{y.mean():.2f} {y.var():.2f}"
    '1.00 1.00'
    """

    draws_while_training = True

    def __init__(self, drop: float = 0.5) -> None:
        super().__init__()
        self.drop = drop_of(drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return x
        return x * (1 + (self.drop / (1 - self.drop)) ** 0.5 * torch.randn_like(x))

    def extra_repr(self) -> str:
        """The share."""
        return f"drop={self.drop}"
