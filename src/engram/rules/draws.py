"""Where a rule's random numbers come from: a generator that is given, or NumPy's global one, as in the course.

A rule that draws has a mode, since at test nothing is random, and a source: `rng`, a NumPy generator and the way
without side effects, or `seed`, which seeds NumPy's global generator before each use, as the course does for its
gradient checks. Without either the global generator goes on from where it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram.errors import UserError, unknown


def drawing(param: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether this is training, and what draws; seeds NumPy's global generator where `seed` says so.

    Raises:
        UserError: another mode or none, or both a seed and a generator.

    >>> drawing({"mode": "test"})[0]
    False
    """
    if param.get("mode") not in ("train", "test"):
        raise unknown("mode", str(param.get("mode")), ("train", "test"))
    if param.get("seed") is None:
        return param["mode"] == "train", param.get("rng", np.random)
    if "rng" in param:
        raise UserError("a seed and a generator", allowed="one of them", then="rng=default_rng(seed)")
    np.random.seed(param["seed"])  # noqa: NPY002  the course's way; rng is the one without side effects
    return param["mode"] == "train", np.random
