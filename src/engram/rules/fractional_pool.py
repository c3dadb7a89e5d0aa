"""Fractional max pooling: a picture shrinks by any factor between 1 and 2, over regions that are drawn anew.

The idea: halving throws away three quarters of a map at once. By a factor of √2 a network takes twice as many steps to
the same size, and each picks its rows and columns differently in every pass. An axis of n pixels is cut at

    0 = a_0 < a_1 < ... < a_m = n,   m = floor(n / factor),   steps of floor(n / m) or one more
    pseudorandom   a_i = ceil(α (i + u)) - ceil(α u),  α = n / m,  one u ~ U(0, 1)       evenly spread
    random         the steps in an order drawn at random

and the largest of every region goes on, its gradient back to where it was. `overlapping` regions also hold the first
pixel of the next one. At test u is a half, so that nothing is random.

Random regions distort the picture like an elastic transformation and beat pseudorandom ones without other augmentation;
with it they under-fit. It costs depth: more layers at full width. The paper's settings: √2 or the cube root of 2,
overlapping. `engram.layers` has it for training.

Graham 2014, Fractional max-pooling, arXiv:1412.6071, sections 2.1 to 2.3.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import ceil
from typing import Any

from engram.errors import UserError, unknown
from engram.rules.arrays import Array
from engram.rules.draws import drawing
from engram.rules.regions import max_of_regions, max_of_regions_backward

SETTINGS = ("mode", "ratio", "regions", "overlapping", "rng", "seed")
REGIONS = ("pseudorandom", "random")


def fractional_max_pool_forward(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The largest of regions whose sides are drawn.

    Args:
        x: (N, C, *S); all examples and channels share the regions.
        pool_param: mode "train" or "test"; ratio (√2), above 1; regions ("pseudorandom" or "random"); overlapping
            (True); rng, a NumPy generator, or seed, for NumPy's global one.

    Returns:
        out (N, C, *O), O = floor(S / ratio), and the cache.

    Raises:
        UserError: another mode or kind of region, an unknown word, a ratio of 1 or less, or an axis that is too short.

    >>> import numpy as np
    >>> fractional_max_pool_forward(np.array([[[1.0, 5.0, 2.0, 3.0]]]), {"mode": "test", "overlapping": False})[0]
    array([[[5., 3.]]])
    """
    for name in pool_param:
        if name not in SETTINGS:
            raise unknown("pool_param", name, SETTINGS)
    training, rng = drawing(pool_param)
    ratio, kind = pool_param.get("ratio", 2**0.5), pool_param.get("regions", "pseudorandom")
    if kind not in REGIONS:
        raise unknown("regions", kind, REGIONS)
    if not ratio > 1:
        raise UserError(f"pooling by a factor of {ratio!r} shrinks nothing", allowed="a ratio above 1")
    bounds = []
    for side in x.shape[2:]:
        count = int(side / ratio)
        if count < 1:
            raise UserError(f"pooling by {ratio:.3g} leaves nothing of an axis of {side}")
        if training and kind == "random":
            cuts = random_cuts(side, count, rng)
        else:
            cuts = pseudorandom_cuts(side, count, float(rng.random()) if training else 0.5)
        more = int(pool_param.get("overlapping", True))
        bounds.append([(a, min(b + more, side)) for a, b in pairwise(cuts)])
    return max_of_regions(x, bounds)


fractional_max_pool_backward = max_of_regions_backward


def pseudorandom_cuts(side: int, count: int, u: float) -> list[int]:
    """Cuts (count + 1) of an axis that are spread evenly.

    >>> pseudorandom_cuts(10, 7, 0.5)
    [0, 2, 3, 4, 6, 7, 9, 10]
    """
    places = [ceil(round(side / count * (i + u), 9)) for i in range(count + 1)]  # a product that is whole stays so
    return [place - places[0] for place in places]


def random_cuts(side: int, count: int, rng: Any) -> list[int]:
    """Cuts (count + 1) of an axis whose longer steps stand at random places.

    >>> import numpy as np
    >>> cuts = random_cuts(10, 7, np.random.default_rng(0)); cuts[0], len(cuts), cuts[-1]
    (0, 8, 10)
    """
    step, longer = divmod(side, count)
    order, cuts = rng.permutation(count), [0]
    for place in order:
        cuts.append(cuts[-1] + step + int(place < longer))
    return cuts
