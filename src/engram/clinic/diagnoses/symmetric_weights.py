"""Symmetric weights: units of a layer that are alike and that every step keeps alike.

    unit i is a copy of unit j  ⇔  ‖w_i - w_j‖ ≤ 1e-3 max(‖w_i‖, ‖w_j‖)  and  ‖g_i - g_j‖ ≤ 1e-3 max ‖g‖

Where all weights of a layer begin at one value, all its units compute one thing, receive one gradient, and stay one
unit for ever: the layer is one unit wide. With zeros in every layer no gradient comes at all. Weights alone do not
tell: a last layer or the last of a residual branch may begin at zero on purpose, and its units part with the first
step, since their gradients differ. So both are compared, over a batch of the probe: weights by the length of the two
rows themselves, since after a rate that was too high one row may be so long that, next to it, all others look alike;
gradients by the longest row, beside which those of units that hardly matter are rounding errors.

Sick: every weight 0.01; every weight 0. Healthy: random weights; a last layer of zeros under random features; residual
branches that begin at zero; layers that are frozen.

What it cannot see: units that are alike up to a factor, which dropout alone would part.

Goodfellow, Bengio and Courville 2016, Deep learning, section 8.4 ("break symmetry"). Braiek and Khomh 2022,
TheDeepChecker, arXiv:2204.00694 (variance of weights 0).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

ALIKE = 1e-3
"""Relative distance below which two units are one; float32 noise of a sum over thousands is below 1e-4."""

SHARE = 0.5
"""Of a layer's units that have a copy; random weights have none."""

SAMPLES, MOST_UNITS = 32, 512


def measure(subject: Subject) -> Mapping[str, Any]:
    """The share of units with a copy, by parameter with two or more axes that receives a gradient."""
    net = subject.copy(batch_statistics=True)
    subject.cost(net, *subject.part(SAMPLES)).backward()
    return {
        "shares": {
            name: copies(one.detach(), one.grad)
            for name, one in net.named_parameters()
            if one.ndim > 1 and one.shape[0] > 1 and one.requires_grad and one.grad is not None
        }
    }


def copies(weight: Tensor, gradient: Tensor) -> float:
    """Share of rows that have a copy, in weight and in gradient.

    >>> copies(torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]), torch.ones(3, 2))
    0.666...
    """
    weights, gradients = (one.flatten(1)[:MOST_UNITS].double() for one in (weight, gradient))
    lengths = weights.norm(dim=1)
    alike = torch.cdist(weights, weights) <= ALIKE * torch.maximum(lengths[:, None], lengths)
    alike &= torch.cdist(gradients, gradients) <= ALIKE * gradients.norm(dim=1).max()
    alike.fill_diagonal_(False)
    return alike.any(1).double().mean().item()


@register(
    "diagnosis",
    paper="Goodfellow, Bengio and Courville 2016, Deep learning, section 8.4",
    year=2016,
    when="before",
    level="quick",
    causes=("cannot_overfit_one_batch", "ignores_input", "underfitting", "vanishing_gradient", "unused_parameters"),
    of_trained=True,
    measure=measure,
)
def symmetric_weights(history: History) -> list[Finding]:
    """Units of a layer are copies of each other, and stay so."""
    seen = history.own("symmetric_weights")
    if seen is None:
        return []
    sick = {name: share for name, share in seen["shares"].items() if share > SHARE}
    if not sick:
        return []
    name = max(sick, key=lambda one: sick[one])
    return [
        Finding(
            "symmetric_weights",
            "critical",
            f"{100 * sick[name]:.0f} % of the units of {name} have the weights and the gradient of another one"
            + (f"; so it is in {len(sick)} of {len(seen['shares'])} layers" if len(sick) > 1 else ""),
            means="no step will ever part them: the layer is as good as one or two units wide",
            remedy=Remedy("draw the weights at random, by He's rule", {"initializer": ("he",)}),
            refuted_by="rows of the weights that differ after ten steps",
            confidence=0.97,
            step=history.now.step,
            where=tuple(sick),
            seen={"share": sick[name], "layers": len(sick), "limit": SHARE},
        )
    ]
