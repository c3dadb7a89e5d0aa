"""Gaussian noise while training: what is learned must hold for inputs that are nearly the same.

    added        y = x + ε            ε ~ N(0, deviation²), drawn for every value and pass
    in proportion  y = x (1 + ε)      the noise of a large value is large: activations have no scale of their own

Judging leaves x as it is. For small noise on the inputs, the mean loss is the loss plus ½ deviation² times the mean
square of the network's slope, so that training with it prefers functions that are flat around the examples (Tikhonov
regularisation); it is a choice of smoothness, made without computing a derivative. In proportion, with deviation² =
drop / (1 - drop), it is dropout's Gaussian kin.

It helps small sets, wrong labels and robustness against noise. It hurts where fine differences decide, and adds little
where pictures are augmented already. On inputs normalised to a deviation of 1, 0.1 can hardly be seen and 0.5 is much.

Bishop 1995, Training with noise is equivalent to Tikhonov regularization, Neural Computation 7, equations 12 to 22;
Srivastava et al. 2014, JMLR 15, section 10 (in proportion).
"""

import torch
from torch import Tensor, nn

from engram.grammar import number


class GaussianNoise(nn.Module):
    """Adds normal noise while training, nothing otherwise.

    Args:
        deviation: of the noise, 0 or more.
        proportional: times the value that it is added to.

    Raises:
        UserError: a deviation below 0.

    >>> layer = GaussianNoise(0.5); x = torch.full((100_000,), 3.0); _ = torch.manual_seed(0)
    >>> torch.equal(layer.eval()(x), x), f"{layer.train()(x).mean():.2f} {layer(x).std():.2f}"
    (True, '3.00 0.50')
    """

    draws_while_training = True

    def __init__(self, deviation: float = 0.1, *, proportional: bool = False) -> None:
        super().__init__()
        self.deviation, self.proportional = number("noise", "deviation", deviation, 0), proportional

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.deviation:
            return x
        noise = torch.randn_like(x) * self.deviation
        return x + (x * noise if self.proportional else noise)

    def extra_repr(self) -> str:
        """The layer's settings."""
        return f"deviation={self.deviation}, proportional={self.proportional}"
