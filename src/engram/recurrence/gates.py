"""Gate saturation: how much of the time every gate is shut (under 0.1) or open (over 0.9), unit by unit.

A forget gate that is always open is a unit that integrates, one that is always shut a unit without memory; an input
gate that is never open writes nothing. Drawn as in the paper, a point a unit, open time across and shut time upwards:
points at the lower right remember everything, at the upper left nothing, at the origin the gate is a mere number and
switches nothing; on the diagonal it is always one or the other.

Karpathy, Johnson, Fei-Fei 2015, Visualizing and understanding recurrent networks, arXiv:1506.02078, section 4.2 and
figure 3, with these thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engram.errors import UserError

SHUT, OPEN = 0.1, 0.9
NAMES = ("i", "f", "o", "r", "z")
"""What opens and shuts, of an LSTM and of a GRU; the candidates g and n are no gates."""


@dataclass(frozen=True)
class Saturation:
    """Shares of the steps, (layers, H), in which each gate of each unit is shut, and in which it is open."""

    shut: dict[str, NDArray[np.float64]]
    open: dict[str, NDArray[np.float64]]


def saturation(gates: Mapping[str, Tensor], *, shut: float = SHUT, opened: float = OPEN) -> Saturation:
    """Over all samples and steps.

    Args:
        gates: what `Stack.gates` gives, (layers, B, T, H) each, of sequences of one length.

    Returns:
        Nothing in it for a vanilla network, which has no gates.

    Raises:
        UserError: thresholds that are not 0 < shut < opened < 1.

    >>> import torch
    >>> found = saturation({"f": torch.tensor([0.05, 0.95, 0.99, 0.5]).view(1, 1, 4, 1), "c": torch.zeros(1, 1, 4, 1)})
    >>> found.shut["f"].item(), found.open["f"].item(), list(found.shut)
    (0.25, 0.5, ['f'])
    """
    if not 0 < shut < opened < 1:
        raise UserError(f"thresholds {shut} and {opened} are out of range", allowed="0 < shut < opened < 1")
    kept = {name: gates[name] for name in NAMES if name in gates}

    def shares(over: bool) -> dict[str, NDArray[np.float64]]:
        return {
            name: (value > opened if over else value < shut).double().mean((1, 2)).cpu().numpy()
            for name, value in kept.items()
        }

    return Saturation(shares(False), shares(True))
