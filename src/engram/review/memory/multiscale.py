"""The multiscale context model: a memory is kept by leaky integrators, each slower than the last.

    x_i <- x_i e^(-t / tau_i)                        between visits;  tau_i = time_constant * ratio^(i - 1)
    s_i = sum_{j<=i} gamma_j x_j / sum_{j<=i} gamma_j       what integrators 1 to i give together
    x_i <- x_i + epsilon max(0, 1 - s_i)             at a visit: each integrator learns what the faster ones leave open
    p = level * min(1, s_N)                          gamma_i in the ratio weight_ratio^(i - 1)

with epsilon = `boost` for what is recalled and 1 for what is not. After a short delay the fast integrators still hold
the memory, s_i is near 1 and the slow ones learn nothing; after a long one they learn much, and it lasts. So the
spacing effect and a curve much like a power law come out of the model and are not put in.

An example has two numbers of 32 bits. The upper 16 bits of the first are its strength (a float32 cut short: exact to
0.8 %), the lower ones the slowest integrator as a float16; the second number is the other two as float16s, side by
side. A strength is in proportion to the area under the curve that lies ahead, sum gamma_i tau_i x_i, and on the scale
on which a memory that has just been made (all x_i = 1) has its own stability, the delay after which 0.9 is recalled. So
the first number still is a strength to plot and to compare, and both are finite, as a float16 is; but neither may be
computed with and put back. Room is left for three integrators; with the defaults their curve stays within 0.015 of the
default of `power_law` over delays from 0 to 200.

Helps by explaining spacing with few parameters. Hurts by cost, for the interval has no formula and is found by Newton's
method; by predicting that a strong memory stays at the ceiling for a while; and by promising too little after a lapse,
which the calibration link mends.

In the paper: 100 integrators in place of 3, time constants and weights fitted to the forgetting after one session,
boost 9. Where we differ: a lapse leaves the share `lapse` of each integrator (1 in the paper, where even a failed trial
strengthens), and a memory that a lapse left less than whole (s_N < 1) is made anew, without boost; boost counts as far
as the recall was graded; no increment is negative; `level`, 1 in the paper, is a ceiling. Fitted are `level`,
`time_constant` and `weight_ratio`, which act when read.

Mozer, Pashler, Cepeda, Lindsey and Vul 2009, "Predicting the Optimal Spacing of Study: A Multiscale Context Model of
Memory", NIPS (the cascade of leaky integrators, error correction between them, retrieval-dependent learning).
"""

from math import exp
from typing import ClassVar

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import FOREVER, LEVEL, Bounds, Memory, Parameters
from engram.review.memory.record import RECALLED

INTEGRATORS = 3
STEPS = 20
"""Of Newton's method, or of halving for the one number that is found in Python."""
WHOLE = 0.99
"""What a visit that was recalled leaves of a memory at least, but for rounding."""
UPPER, LOWER = -65536, 65535
"""The upper and the lower 16 bits of 32."""


class Multiscale(Memory):
    """p = level * min(1, weighted mean of three leaky integrators)."""

    name = "multiscale"
    bounds: ClassVar[Bounds] = {
        "time_constant": (0.01, 1e4),
        "ratio": (1.5, 100.0),
        "weight_ratio": (0.05, 20.0),
        "level": LEVEL,
        "boost": (1.0, 20.0),
        "lapse": (0.0, 1.0),
    }
    fitted = ("level", "time_constant", "weight_ratio")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.where(grade >= RECALLED, 1.0, self.parameters["lapse"]).to(grade.dtype)
        return self._packed(share.expand(INTEGRATORS, -1))

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        x = unpacked(strength, difficulty)  # (3, B)
        gamma = column(weights(self.parameters), x)
        is_whole = (gamma * x).sum(0) >= WHOLE
        x = x * torch.exp(-delay.clamp(min=0) / column(time_constants(self.parameters), x))
        missing = (1 - (gamma * x).cumsum(0) / gamma.cumsum(0)).clamp(min=0)
        epsilon = 1 + (self.parameters["boost"] - 1) * grade * is_whole
        return self._packed(
            torch.where(grade >= RECALLED, x + epsilon * missing, self.parameters["lapse"] * (x + missing))
        )

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        x = unpacked(strength, difficulty).to(delay.dtype)
        gamma, tau = weights(parameters), time_constants(parameters)
        left = [gamma[i] * x[i] * torch.exp(-delay / tau[i]) for i in range(INTEGRATORS)]
        return torch.stack(left).sum(0).clamp(max=1)

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """Newton's method on the logarithm of the curve: convex and falling, so every step stays short of the root."""
        x = unpacked(strength, difficulty)
        rates = 1 / column(time_constants(self.parameters), x)
        held = x * column(weights(self.parameters), x)
        wanted = torch.log(share)
        delay = torch.zeros_like(x[0])
        for _ in range(STEPS):
            left = held * torch.exp(-delay * rates)
            total = left.sum(0).clamp(min=1e-30)
            further = (torch.log(total) - wanted) * total / (left * rates).sum(0).clamp(min=1e-30)
            delay = (delay + further).clamp(0, FOREVER)
        return delay

    def _packed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gamma, tau = weights(self.parameters), time_constants(self.parameters)
        ahead = sum((gamma[i] * tau[i] * x[i] for i in range(INTEGRATORS)), torch.zeros_like(x[0]))
        fresh = sum(g * t for g, t in zip(gamma, tau, strict=True))
        return packed(ahead / fresh * stability(self.parameters), x)


def time_constants(parameters: Parameters) -> list[float]:
    """tau_i, in clock units."""
    return [parameters["time_constant"] * parameters["ratio"] ** i for i in range(INTEGRATORS)]


def weights(parameters: Parameters) -> list[float]:
    """gamma_i, which add up to 1."""
    powers = [parameters["weight_ratio"] ** i for i in range(INTEGRATORS)]
    return [power / sum(powers) for power in powers]


def stability(parameters: Parameters) -> float:
    """The delay after which 0.9 of a memory that has just been made is left, in clock units.

    >>> round(stability({"time_constant": 10.0, "ratio": 2.0, "weight_ratio": 1e-9}) / 10, 4)
    0.1054
    """
    gamma, tau = weights(parameters), time_constants(parameters)
    low, high = 0.0, tau[-1]
    for _ in range(2 * STEPS):
        middle = (low + high) / 2
        left = sum(g * exp(-middle / t) for g, t in zip(gamma, tau, strict=True))
        low, high = (middle, high) if left > 0.9 else (low, middle)
    return high


def packed(strength: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A strength and three integrators in two float32 numbers."""
    halves = x.half().view(torch.int16).int() & LOWER
    kept = strength.float().view(torch.int32) & UPPER
    return (kept | halves[2]).view(torch.float32), (halves[1] << 16 | halves[0]).view(torch.float32)


def unpacked(strength: Tensor, difficulty: Tensor) -> Tensor:
    """(3, B) float32: the integrators, fastest first.

    >>> strength, difficulty = packed(torch.tensor([7.0]), torch.tensor([[0.5], [1.25], [3.0]]))
    >>> round(strength.item(), 1), unpacked(strength, difficulty).flatten().tolist()
    (7.0, [0.5, 1.25, 3.0])
    """
    first, second = strength.float().view(torch.int32), difficulty.float().view(torch.int32)
    halves = torch.stack([second & LOWER, second >> 16 & LOWER, first & LOWER])
    return halves.to(torch.int16).view(torch.float16).float()


def column(values: list[float], like: Tensor) -> Tensor:
    """(3, 1): a number for each integrator."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


@register(
    "memory",
    paper="Mozer, Pashler, Cepeda, Lindsey and Vul 2009, 'A Multiscale Context Model of Memory', NIPS",
    year=2009,
    published={"boost": 9.0, "lapse": 1.0},
)
def multiscale(
    *,
    time_constant: float = 24.77,
    ratio: float = 6.0,
    weight_ratio: float = 1.0,
    level: float = 1.0,
    boost: float = 9.0,
    lapse: float = 0.3,
) -> Multiscale:
    """Keeps a memory in three leaky integrators, each slower than the last; spacing effects come out by themselves.

    Args:
        time_constant: of the fastest integrator, in clock units; fitted.
        ratio: from one time constant to the next.
        weight_ratio: from one integrator's weight to the next one's; fitted.
        level: recall is at most this; fitted.
        boost: how much more is learned where it was recalled.
        lapse: what a lapse leaves.

    >>> memory = multiscale()
    >>> made = memory.first(torch.ones(1))
    >>> soon, late = (memory.visit(torch.tensor([delay]), *made, torch.ones(1)) for delay in (1.0, 30.0))
    >>> [round(memory.recall(torch.tensor([60.0]), *one).item(), 2) for one in (made, soon, late)]
    [0.56, 0.66, 1.0]
    """
    return Multiscale(
        time_constant=time_constant, ratio=ratio, weight_ratio=weight_ratio, level=level, boost=boost, lapse=lapse
    )
