"""Drop path: leave out a whole residual branch at random, so that a deep network trains as many shallower ones.

A residual block computes shortcut(x) + F(x). While training, F is left out with probability `drop`: gradients then
reach the lower layers over fewer steps, no block can rely on the one before it, and what is left out costs no time.

    training    y = shortcut(x) + b F(x),     b is 1 with probability keep = 1 - drop, else 0
    test        y = shortcut(x) + keep F(x)   what a branch adds on average

Stochastic depth is the use of it on every block of a network, deeper blocks more often: with linear decay block l of L
survives with

    keep_l = 1 - l/L (1 - keep_L),            so that (L + 1) / 2 (1 - keep_L) blocks are missing on average

Three names and two choices cause much confusion. They are all this one operation:
    stochastic depth    the paper's name: one b for the whole batch, so that a branch left out is never computed
    drop path           timm's, after FractalNet's word: one b for every example; the time is spent, the noise is less
    "drop_connect"      EfficientNet's code says so, and does the above. DropConnect proper drops single weights
The expectation can be kept at test, times keep (`scale="test"`, the paper), or while training, divided by keep
(`scale="training"`, timm and torchvision), which leaves a trained network as it stands. The two are the same up to the
scale of F that is learned, and not exchangeable afterwards. Dividing shifts what batch normalisation behind the sum
sees; multiplying changes what it sees between training and test. Neither is compensated for.

It helps networks that are deep for their data and trained for long: 110 layers on CIFAR-10 for 500 epochs, 6.41 to
5.25 % error. It hurts short training and shallow networks, which do not over-fit and lose capacity.

A branch that is left out for a batch has no gradient: its weights and their momentum rest, and its batch normalisation
keeps its running statistics. With copies of the network on several devices, each of which draws for itself and waits
for the others' gradients, use `per="sample"`. On the meta device, where costs are counted, nothing is left out.

Huang, Sun, Liu, Sedra, Weinberger 2016, Deep networks with stochastic depth, arXiv:1603.09382, section 3: equations 2
to 5. Larsson, Maire, Shakhnarovich 2016, arXiv:1605.07648, section 3 (drop-path). Scaling while training: timm issue
2118.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engram.errors import UserError, unknown

PER = ("batch", "sample")
SCALES = ("test", "training")
DECAYS = ("linear", "constant")


class DropPath(nn.Module):
    """Leaves out a residual branch with probability `drop` while training.

    Args:
        drop: from 0, which never leaves anything out, up to 1, exclusive.
        per: "batch" decides once for all examples and saves the branch's time, "sample" for each example.
        scale: where the expectation is kept: "test" multiplies by keep there, "training" divides by keep there.

    Raises:
        UserError: a share out of range or an unknown word.

    >>> DropPath(0.25, scale="test").eval()(torch.ones(2, 3))
    tensor([[0.7500, 0.7500, 0.7500],
            [0.7500, 0.7500, 0.7500]])
    """

    def __init__(self, drop: float = 0.0, *, per: str = "sample", scale: str = "training") -> None:
        super().__init__()
        self.set(drop, per=per, scale=scale)

    def set(self, drop: float, *, per: str, scale: str) -> None:
        """Other settings, in place: a network's weights and their names stay as they are."""
        if not 0 <= drop < 1:
            raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1, exclusive")
        if per not in PER:
            raise unknown("per", per, PER)
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        self.drop, self.per, self.scale = float(drop), per, scale

    def forward(self, y: Tensor) -> Tensor:  # (B, ...): what the branch gave
        keep = 1 - self.drop
        if self.drop == 0:
            return y
        if not self.training:
            return y * keep if self.scale == "test" else y
        if self.per == "batch":
            survives = torch.tensor(float(not self._is_left_out(y)), dtype=y.dtype, device=y.device)
        else:
            shape = (len(y), *[1] * (y.dim() - 1))
            survives = (torch.rand(shape, device=y.device) < keep).to(y.dtype)  # (B, 1, ...)
        return y * survives / (keep if self.scale == "training" else 1)

    def add(self, x: Tensor, branch: Callable[[Tensor], Tensor], shortcut: Callable[[Tensor], Tensor]) -> Tensor:
        """shortcut(x) + branch(x), of which the branch is not even computed where a whole batch leaves it out.

        >>> DropPath().add(torch.ones(3), torch.square, torch.negative)
        tensor([0., 0., 0.])
        """
        if not (self.training and self.drop and self.per == "batch"):
            y = branch(x)
            return (self(y) if self.drop else y) + shortcut(x)
        if self._is_left_out(x):
            return shortcut(x)
        y = branch(x)
        return (y / (1 - self.drop) if self.scale == "training" else y) + shortcut(x)

    def _is_left_out(self, x: Tensor) -> bool:
        return not x.is_meta and torch.rand((), device="cpu").item() < self.drop

    def extra_repr(self) -> str:
        return f"drop={self.drop:g}, per={self.per!r}, scale={self.scale!r}" if self.drop else "drop=0"


def shares(blocks: int, drop: float, decay: str = "linear") -> list[float]:
    """The probability of leaving out each of so many blocks, from the first to the last, which has `drop`.

    >>> shares(4, 0.5)
    [0.125, 0.25, 0.375, 0.5]
    """
    if decay not in DECAYS:
        raise unknown("decay", decay, DECAYS)
    return [drop * (number / blocks if decay == "linear" else 1) for number in range(1, blocks + 1)]


def add_stochastic_depth(
    net: nn.Module, drop: float = 0.5, *, per: str = "batch", scale: str = "test", decay: str = "linear"
) -> list[str]:
    """Put stochastic depth on a residual network, in place; its weights and their names stay as they are.

    Every residual block of this package holds a `DropPath` that leaves nothing out, until it is set here.

    Args:
        drop: probability of leaving out the last block (1 - keep_L in the paper, where it is 0.5).
        per: "batch" as in the paper, or "sample".
        scale: "test" as in the paper, or "training".
        decay: "linear" from the first block to the last, or "constant": `drop` everywhere.

    Returns:
        A line that says what was done.

    Raises:
        UserError: the network has no residual blocks; a share out of range or an unknown word.

    >>> from engram.models import resnet20
    >>> add_stochastic_depth(resnet20(), drop=0.5)
    ['stochastic depth: 9 residual blocks, left out with 0.0556 (first) to 0.5 (last); 6.5 expected in a step']
    """
    paths = [module for module in net.modules() if isinstance(module, DropPath)]
    if not paths:
        raise UserError(
            f"stochastic depth leaves out residual branches, and {type(net).__name__} has none",
            allowed="resnet..., preact_resnet..., wide_resnet..., resnext..., residual_mlp",
        )
    drops = shares(len(paths), drop, decay)
    for path, share in zip(paths, drops, strict=True):
        path.set(share, per=per, scale=scale)
    expected = len(drops) - sum(drops)
    return [
        f"stochastic depth: {len(drops)} residual blocks, left out with {drops[0]:.3g} (first) to {drops[-1]:.3g} "
        f"(last); {expected:g} expected in a step"
    ]
