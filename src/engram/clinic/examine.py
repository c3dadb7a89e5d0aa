"""Look at a network before it is trained: every pre-flight check, in seconds, on any module and any data."""

from collections.abc import Sequence

import torch
from torch import nn

from engram.clinic.clinic import Clinic
from engram.clinic.findings import Findings
from engram.clinic.probe_data import Data
from engram.clinic.subject import Call, Loss, Outputs, called, foreseen


def examine(
    net: nn.Module,
    dataset: Data,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    loss: Loss | None = None,
    outputs: Outputs = foreseen,
    call: Call = called,
    level: str = "standard",
) -> Findings:
    """What is wrong with a network, or with what it is given, before its first step; it is left as it was.

    Args:
        net: any module.
        dataset: (x, y), a data set, or a loader, as the network is trained on.
        optimizer: with it, parameters that it leaves out are found.
        loss: mean loss of the network's output and labels; the cross-entropy unless it is given.
        outputs, call: the scores and labels that an output stands for, and how the network is called; see `Clinic`.
        level: quick, standard or full.

    Returns:
        Causes before their consequences, otherwise the worst first; a notebook shows them as cards. Empty where nothing
        was found.

    Raises:
        UserError: no network, no parameters, data that cannot be read or that the network refuses.

    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(1))
    >>> x, y = torch.randn(128, 1, 8, 8), torch.arange(128) % 10
    >>> [finding.diagnosis for finding in examine(net, (x, y), level="quick")]
    ['softmax_twice']
    """
    clinic = Clinic(net, optimizer, probe=dataset, level=level, loss=loss, outputs=outputs, call=call)
    try:
        return Findings(clinic.examine())
    finally:
        clinic.close()
