"""An exponential moving average of a network's weights: the same training, read off with less noise.

After every step the average moves a little towards the weights:

    average <- d average + (1 - d) weights,     d = min(decay, (1 + n) / (10 + n)) at the n-th update from 0

With a decay of 0.999 it remembers about the last 1,000 steps. It helps while the rate is high: the weights circle
around a minimum and their mean lies nearer to it. After a schedule that ends at 0 there is little left to gain, and a
decay too slow for the run hurts: the average still remembers the beginning.

That is what the growing d is for. A fixed one would hold the random initial weights at decay^n of the whole; with the
growing one their share is soon gone (0.1 after the first update, 1e-5 after ten), and the average is a tenth of the
run so far behind, until `decay` takes over (at n = 8,990 for 0.999). Adam's correction, a division by 1 - decay^n,
would be free of the initial weights too, but weigh the early, worse ones as much as the late.

Only parameters are averaged. Buffers (running statistics of normalisations, counters) are the network's own, copied:
a mean of counters means nothing, and running statistics are moving averages already.

Polyak and Juditsky 1992 (averaging); Szegedy et al. 2016, "Rethinking the Inception architecture", section 8
(exponential). The growing decay is that of TensorFlow's `ExponentialMovingAverage` with `num_updates`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engram.errors import UserError


def decay_at(updates: int, decay: float) -> float:
    """The decay of the update that comes after `updates` others.

    >>> [round(decay_at(n, 0.99), 3) for n in (0, 10, 881, 10_000)]
    [0.1, 0.55, 0.99, 0.99]
    """
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def blend(averages: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """Move every average by (1 - decay) of the way to its weight, in place and in one call.

    >>> average = torch.tensor([0.0, 1.0])
    >>> blend([average], [torch.tensor([1.0, 1.0])], 0.75)
    >>> average
    tensor([0.2500, 1.0000])
    """
    weights = [weight.to(average) for average, weight in zip(averages, weights, strict=True)]
    torch._foreach_lerp_(averages, weights, 1 - decay)


class WeightAverage:
    """The moving average of a network's parameters.

    Averages of weights in 16 bits are kept in 32: a thousandth of the way is less than 16 bits can tell.

    Args:
        net: whose parameters are averaged; their values now are where the average starts.
        decay: share of the average that stays at each update, between 0 and 1.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> with torch.no_grad():
    ...     before = net.weight.fill_(0.0)
    ...     average = WeightAverage(net, 0.999)
    ...     after = net.weight.fill_(1.0)
    >>> average.update()
    >>> with average.applied():
    ...     net.weight.item()
    0.8999999761581421
    >>> net.weight.item()
    1.0
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay < 1:
            raise UserError(f"average cannot be {decay!r}", allowed="between 0 and 1")
        self.net, self.decay, self.updates = net, decay, 0
        self._own: list[Tensor] = list(net.parameters())  # held: to look them up costs more than to average them
        self._averages = [_wide(p.detach()).clone() for p in self._own]

    def update(self) -> None:
        """Move towards the network's weights; call after every optimizer step."""
        blend(self._averages, self._own, decay_at(self.updates, self.decay))
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Inside, the network holds the averages; its own weights and buffers are back afterwards, bit for bit.

        The values are copied in place, so that compiled and distributed wrappers of the network see them too.
        """
        held = [*self._own, *self.net.buffers()]
        own = [tensor.detach().clone() for tensor in held]
        _copy(self._own, self._averages)
        try:
            yield self.net
        finally:
            _copy(held, own)

    def state_dict(self) -> dict[str, Any]:
        """The averages by parameter name, their decay and the number of updates."""
        names = [name for name, _ in self.net.named_parameters()]
        return {"decay": self.decay, "updates": self.updates, "weights": dict(zip(names, self._averages, strict=True))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average, with the decay it was made with.

        Raises:
            UserError: it belongs to another network; nothing is changed then.
        """
        saved = state["weights"]
        shapes = {name: p.shape for name, p in self.net.named_parameters()}
        odd = sorted(saved.keys() ^ shapes.keys())
        odd += [name for name, shape in shapes.items() if name in saved and saved[name].shape != shape]
        if odd:
            raise UserError(f"the averaged weights belong to another network: {odd[0]} differs")
        _copy(self._averages, [saved[name] for name in shapes])
        self.decay, self.updates = state["decay"], state["updates"]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@torch.no_grad()
def _copy(into: list[Tensor], source: list[Tensor]) -> None:
    for held, new in zip(into, source, strict=True):
        held.copy_(new)
