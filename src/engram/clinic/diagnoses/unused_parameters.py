"""Unused or frozen parameters: parts of the network that no step will change.

    unused:    trainable, and its gradient is None or exactly 0 in each of ten steps
    left out:  trainable, and no optimiser holds it
    frozen:    requires_grad is off: said as a fact

A layer that is built and not called, a branch behind `detach()`, a parameter list filled before the layer was added:
nothing warns, the loss falls, and a part of the network stays as it was drawn. Ten steps are made on a copy, since one
is not enough: behind a last layer or a residual branch that begins at zero, the gradient is exactly zero at first.

Healthy: residual branches that begin at zero; frozen bodies, which are information; heads that only training has; a
bias before batch norm, whose gradient is rounding and not zero.

What it cannot see: a part that only other inputs than the probe's sixteen would call.

SageMaker Debugger's UnchangedTensor; torch's DistributedDataParallel raises an error for the same with
find_unused_parameters off. Humbatova et al. 2020, Taxonomy of real faults, ICSE.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.layers.auxiliary import Scores
from engram.registry import register

STEPS, SAMPLES, LR = 10, 16, 1e-3

MOST = 0.5
"""Share of all parameters from which a part that stays as it is is critical."""


def measure(subject: Subject) -> Mapping[str, Any]:
    """Which parameters a gradient ever came to, in ten steps of a copy in training mode."""
    net = subject.copy(training=True)
    trainable = {name: one for name, one in net.named_parameters() if one.requires_grad}
    reached: set[str] = set()
    optimizer = torch.optim.Adam(trainable.values(), lr=LR) if trainable else None
    x, y = subject.x[:SAMPLES], subject.y[:SAMPLES]
    for _ in range(STEPS if optimizer is not None else 0):
        loss = _total(subject, subject.call(net, x, y), y)
        if not torch.isfinite(loss):  # a gradient of NaN says nothing of who it would come to
            reached |= set(trainable)
            break
        if not loss.requires_grad:
            break
        net.zero_grad(set_to_none=True)
        loss.backward()
        reached |= {
            name
            for name, one in trainable.items()
            if name not in reached and one.grad is not None and bool(_any(one.grad))
        }
        if len(reached) == len(trainable):
            break
        optimizer.step()  # type: ignore[union-attr]
    sizes = {name: one.numel() for name, one in net.named_parameters()}
    return {
        "total": sum(sizes.values()),
        "unused": {name: sizes[name] for name in trainable if name not in reached},
        "left_out": {
            name: sizes[name] for name in trainable if subject.optimized is not None and name not in subject.optimized
        },
        "frozen": {name: size for name, size in sizes.items() if name not in trainable},
    }


def _total(subject: Subject, output: Any, y: Tensor) -> Tensor:
    loss = subject.loss(output, y)
    for scores in output.auxiliary if isinstance(output, Scores) else ():
        loss = loss + subject.loss(scores, y)
    return loss


def _any(gradient: Tensor) -> Tensor:
    return (gradient.coalesce().values() if gradient.is_sparse else gradient).any()


@register(
    "diagnosis",
    paper="Humbatova et al. 2020, Taxonomy of real faults in deep learning systems",
    year=2020,
    when="before",
    level="quick",
    causes=("cannot_overfit_one_batch", "ignores_input", "underfitting", "lr_too_low"),
    of_trained=True,
    measure=measure,
)
def unused_parameters(history: History) -> list[Finding]:
    """Parts of the network that no step changes."""
    seen = history.own("unused_parameters")
    if seen is None:
        return []
    rows = [
        (
            "unused",
            "no gradient comes to it",
            "it is never called, lies behind detach(), or everything between it and the loss is dead",
            "call it in forward, take detach() or no_grad() away, or remove it",
            "a gradient that comes to it with other inputs, as with parts chosen at random",
        ),
        (
            "left_out",
            "no optimizer holds it",
            "it stays as it was drawn, however long training lasts",
            "give the optimizer net.parameters(), and make it after the last layer was added",
            "an optimizer that is made for it later, or a requires_grad that should have been off",
        ),
        (
            "frozen",
            "requires_grad is off",
            "it stays as it is: right for a body that was trained before, wrong for one that was not",
            "requires_grad_(True), if it was to be trained",
            "weights that were trained before",
        ),
    ]
    findings = []
    for kind, fact, means, remedy, refuted_by in rows:
        sizes: Mapping[str, int] = seen[kind]
        if not sizes:
            continue
        share = sum(sizes.values()) / max(seen["total"], 1)
        severity = "information" if kind == "frozen" else "critical" if share > MOST else "warning"
        count = f"{len(sizes)} parameter{'s' if len(sizes) > 1 else ''}"
        findings.append(
            Finding(
                "unused_parameters",
                severity,
                f"{count} with {100 * share:.3g} % of all weights: {fact}",
                means=means,
                remedy=Remedy(remedy),
                refuted_by=refuted_by,
                confidence=0.95 if kind != "left_out" else 0.7,
                step=history.now.step,
                where=tuple(sizes),
                seen={"kind": kind, "parameters": len(sizes), "share": share, "steps": STEPS},
            )
        )
    return findings
