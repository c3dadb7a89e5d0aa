"""How a learning rate falls over time, as the formulas of the lecture and of the papers since.

The idea: a high rate gets around fast and then bounces at the noise of the batches; a low one settles. So begin high,
end low. t counts steps or passes from 0.

    step          α₀ f^⌊t / T⌋                  halved every 5 passes, or a tenth every 20
    exponential   α₀ e^(-k t)
    inverse       α₀ / (1 + k t)                the sum of the rates is infinite, that of their squares is not
    polynomial    α₀ (1 - t / T)^power          power 1 is a straight line
    cosine        ½ α₀ (1 + cos(π t / T))       nothing to set but the length
    restarts      cosine again and again, each cycle `longer` than the last
    warm-up       α₀ (t + 1) / W for t < W      beside any of them: the first steps are the wildest
    one cycle     up in a straight line to α₀ at W, then down in one to 0 at T

Each is a plain function of t, so that it can be drawn, tested and multiplied. The course's Solver has the exponential
in another shape, `lr_decay` to the power of the pass. `engram.schedules` has them for training, as factors of a share
of the run. Adam needs them as much as SGD: it rescales, it does not anneal.

Robbins and Monro 1951; Stanford CS231n, notes on neural networks 3, "Annealing the learning rate"; Loshchilov and
Hutter 2017, arXiv:1608.03983, equation 5; Goyal et al. 2017, arXiv:1706.02677, section 2.2; Smith 2018,
arXiv:1803.09820.
"""

from math import cos, exp, floor, pi

from engram.errors import UserError


def step_decay(rate: float, t: float, every: float, factor: float = 0.5) -> float:
    """The rate lowered at once after every so many steps.

    >>> [step_decay(1.0, t, every=2) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _check(rate, t, every=every, factor=factor)
    return rate * factor ** floor(t / every)


def exponential_decay(rate: float, t: float, k: float) -> float:
    """The rate lowered by the same ratio at every step, e^(-k).

    >>> round(exponential_decay(1.0, 10, k=0.1), 4)
    0.3679
    """
    _check(rate, t)
    return rate * exp(-k * t)


def inverse_decay(rate: float, t: float, k: float) -> float:
    """The rate over one and time.

    >>> inverse_decay(1.0, 10, k=0.1)
    0.5
    """
    _check(rate, t)
    return rate / (1 + k * t)


def polynomial_decay(rate: float, t: float, total: float, power: float = 1.0, end: float = 0.0) -> float:
    """The rate times a power of what is left of the run.

    >>> [polynomial_decay(1.0, t, total=4) for t in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    _check(rate, t, total=total, power=power)
    return end + (rate - end) * (1 - min(t / total, 1)) ** power


def cosine_decay(rate: float, t: float, total: float, end: float = 0.0) -> float:
    """The rate along half a cosine.

    >>> [round(cosine_decay(1.0, t, total=4), 4) for t in range(5)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """
    _check(rate, t, total=total)
    return end + 0.5 * (rate - end) * (1 + cos(pi * min(t / total, 1)))


def cosine_restarts(rate: float, t: float, first: float, longer: float = 1.0, end: float = 0.0) -> float:
    """Half a cosine again and again; the first cycle takes `first` steps, each next one `longer` times as many.

    >>> [round(cosine_restarts(1.0, t, first=2, longer=2), 4) for t in range(6)]
    [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464]
    """
    _check(rate, t, first=first, longer=longer)
    if longer < 1:
        raise UserError(f"longer is {longer!r}", allowed="1 or more: cycles that shrink would never reach t")
    while t >= first:
        t, first = t - first, first * longer
    return cosine_decay(rate, t, first, end)


def warm_up(rate: float, t: float, steps: int) -> float:
    """The rate rising in a straight line, whole from step `steps` - 1 on.

    >>> [warm_up(1.0, t, steps=4) for t in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    _check(rate, t, steps=steps)
    return rate * min((t + 1) / steps, 1.0)


def one_cycle(rate: float, t: float, peak: float, total: float) -> float:
    """Up in a straight line to the rate at `peak`, and down in one to 0 at `total`.

    >>> [one_cycle(1.0, t, peak=2, total=6) for t in range(7)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    _check(rate, t, peak=peak, total=total)
    if peak >= total:
        raise UserError(f"a peak at {peak} of {total}", allowed="before the end")
    return rate * (t / peak if t < peak else max(total - t, 0) / (total - peak))


def _check(rate: float, t: float, **above_0: float) -> None:
    if not rate >= 0 or not t >= 0:
        raise UserError(f"a rate of {rate!r} at {t!r}", allowed="0 or more, both")
    for name, value in above_0.items():
        if not value > 0:
            raise UserError(f"{name} is {value!r}", allowed="above 0")
