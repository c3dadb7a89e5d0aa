"""How a visit changes a strength, for the models whose papers give a curve and nothing more.

    recalled:  S <- S (1 + grade (growth + spacing (1 - R)))        forgotten:  S <- S * lapse

where R is the share that the curve says was left: a visit that came just before the example would have been forgotten
teaches most (the spacing effect, Cepeda et al. 2006). `spacing` 0 is growth by a factor. The form is that of FSRS with
its exponents left out; with 0.5 and 2 a strength of 7 becomes about 17 in two further visits, as measured on a network.
"""

import torch
from torch import Tensor

from engram.review.memory.model import Bounds, Parameters
from engram.review.memory.record import RECALLED

BOUNDS: Bounds = {
    "start": (1e-3, 1e5),
    "growth": (0.0, 10.0),
    "spacing": (0.0, 20.0),
    "lapse": (0.01, 0.5),
    "shortest": (1e-6, 1e5),
    "longest": (1e-3, 1e6),
}


def first_strength(parameters: Parameters, grade: Tensor) -> Tensor:
    """After the first visit: `start` as far as it was recalled, `start` after a lapse if it was not.

    >>> given = {"start": 10.0, "lapse": 0.3, "shortest": 0.25, "longest": 64.0}
    >>> [round(strength, 2) for strength in first_strength(given, torch.tensor([1.0, 0.6, 0.4])).tolist()]
    [10.0, 6.0, 3.0]
    """
    share = torch.where(grade >= RECALLED, grade, parameters["lapse"])
    return (parameters["start"] * share).clamp(parameters["shortest"], parameters["longest"])


def next_strength(parameters: Parameters, strength: Tensor, left: Tensor, grade: Tensor) -> Tensor:
    """After another visit, at which this share was left.

    >>> given = {"growth": 0.5, "spacing": 2.0, "lapse": 0.3, "shortest": 0.25, "longest": 64.0}
    >>> S, R, grade = torch.tensor([10.0, 10.0, 10.0]), torch.tensor([1.0, 0.75, 0.75]), torch.tensor([1.0, 1.0, 0.0])
    >>> [round(strength, 2) for strength in next_strength(given, S, R, grade).tolist()]
    [15.0, 20.0, 3.0]
    """
    grown = 1 + grade * (parameters["growth"] + parameters["spacing"] * (1 - left))
    factor = torch.where(grade >= RECALLED, grown, parameters["lapse"])
    return (strength * factor).clamp(parameters["shortest"], parameters["longest"])
