"""Samples mixed across the batch: what the network says of one example depends on the others beside it.

    M_ij = ‖∂(r · out_i) / ∂x_j‖₂  in eval mode, with a fixed random r;       healthy: 0 exactly wherever i ≠ j

A `view` where a `permute` was meant, a mean or softmax over axis 0, a transposed sequence: shapes fit, training even
reduces the loss, and every answer is a mixture of several examples. The chain rule finds it exactly: an output must
have no gradient on any other example's input. Weights are shaken a little before, in a copy, since a last layer that
begins at zero would have no gradient on anything.

Healthy: batch norm mixes examples while training and on purpose; in eval mode it must not, and batch norm without
running statistics, which does, is a warning. Networks whose task is the batch (retrieval, contrast) mix on purpose.

What it cannot see: a mixture in training mode only; inputs that are whole numbers, which have no gradient.

Karpathy 2019, A recipe for training neural networks, "use backprop to chart dependencies". Braiek and Khomh 2022,
TheDeepChecker, arXiv:2204.00694 (instance independence).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject, scores_of
from engram.registry import register

SAMPLES = 8
"""Examples in the small batch, and rows of the matrix looked at; a mixture of neighbours shows in any."""

SHAKE = 0.01
"""Standard deviation of what is added to every weight of the copy."""


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """The matrix of dependencies; by changing examples one by one where inputs are whole numbers."""
    x = subject.x[:SAMPLES]
    net = subject.copy()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=rng)
                parameter += SHAKE * noise.to(parameter.device, parameter.dtype)
    if not x.is_floating_point():
        return None
    leaf = x.detach().clone().requires_grad_()
    output = scores_of(subject.call(net, leaf.clone(), subject.y[:SAMPLES]))
    if not isinstance(output, torch.Tensor) or output.shape[:1] != x.shape[:1] or not output.requires_grad:
        return None
    direction = torch.randn(output.shape[1:], generator=rng).to(output.device, output.dtype)
    rows = []
    for row in range(len(x)):
        (gradient,) = torch.autograd.grad((output[row] * direction).sum(), leaf, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros(len(x)) if gradient is None else gradient.flatten(1).norm(dim=1).float().cpu())
    matrix = torch.stack(rows)
    own = matrix.diagonal()
    other = (matrix - torch.diag(own)).nan_to_num()
    without = [
        name
        for name, module in net.named_modules()
        if isinstance(module, _NormBase) and not module.track_running_stats and isinstance(module, _BATCH_NORMS)
    ]
    return {
        "mixed": int((other.sum(1) > 0).sum()),
        "samples": len(x),
        "own": own.mean().item(),
        "other": (other.sum() / max(int((other > 0).sum()), 1)).item(),
        "matrix": [[round(value, 9) for value in row] for row in matrix.tolist()],
        "without_statistics": without,
    }


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@register(
    "diagnosis",
    paper="Karpathy 2019, A recipe for training neural networks",
    year=2019,
    when="before",
    level="quick",
    causes=("cannot_overfit_one_batch", "underfitting", "overfitting", "train_eval_mismatch"),
    of_trained=True,
    measure=measure,
)
def mixed_samples(history: History) -> list[Finding]:
    """An answer depends on other examples of its batch."""
    seen = history.own("mixed_samples")
    if seen is None or not seen["mixed"]:
        return []
    by_norm = tuple(seen["without_statistics"])
    if by_norm:
        means = "batch norm has no running statistics, so that an answer changes with the batch it is asked in"
        remedy = Remedy("give batch norm track_running_stats=True, or use group norm or layer norm")
        refuted_by = "the same scores for an example alone and in a batch, in eval mode"
    else:
        means = "an axis was mixed up, and every answer is made of several examples; the loss may fall all the same"
        remedy = Remedy("look for a view or reshape where a permute was meant, and for a mean or softmax over axis 0")
        refuted_by = "a network that compares the examples of a batch on purpose"
    return [
        Finding(
            "mixed_samples",
            "warning" if by_norm else "critical",
            f"in eval mode, {seen['mixed']} of {seen['samples']} outputs have a gradient on another example's input",
            means=means,
            remedy=remedy,
            refuted_by=refuted_by,
            confidence=0.95,
            step=history.now.step,
            where=by_norm,
            seen={name: seen[name] for name in ("mixed", "samples", "own", "other")},
        )
    ]
