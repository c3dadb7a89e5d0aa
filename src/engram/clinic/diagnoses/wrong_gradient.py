"""Wrong gradient: what backward computes is not the derivative of what forward computes.

    along a direction v of one parameter w:   a = ⟨∂L/∂w, v⟩      n = (L(w + h v) - L(w - h v)) / 2h
    error = |a - n| / max(|a|, |n|)

A custom autograd function with a forgotten factor still learns, worse. In float64 with two step sizes the two numbers
agree to 1e-7 where forward is smooth; a kink of a ReLU between the two points spoils one of the sizes, seldom both, so
the smaller error counts. Everything before a wrong backward gets a wrong gradient and nothing after it, so that the
fault lies behind the last wrong parameter: `where` lists them in the network's order.

It runs only where the graph holds a `torch.autograd.Function` written in Python: torch's own operators are checked by
their authors, and two forward passes for every parameter are not free.

Healthy: every operator of torch; parameters without a gradient (another diagnosis). Straight-through estimators and
detached terms are wrong on purpose: where forward does not move at all, it is information.

What it cannot see: a backward that is wrong only in training mode; the network is in eval mode, with batch norm taking
the batch's statistics, since dropout would draw anew for every point.

CS231n, Neural networks part 3, "gradient checks" (relative error above 1e-2 is wrong, above 1e-4 uncomfortable).
Braiek and Khomh 2022, TheDeepChecker, arXiv:2204.00694.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

WRONG, SUSPICIOUS = 1e-2, 1e-4
"""Relative errors of CS231n's notes; in float64 right gradients lay below 1e-6."""

STEP_SIZES = (1e-5, 1e-7)
"""Along a direction of unit norm: the first is exact for smooth functions, the second seldom meets a kink."""

SAMPLES, MOST_TENSORS, MOST_WEIGHTS = 4, 48, 20_000_000

NOISE = 1e-6
"""Derivatives smaller than this share of the loss say nothing: rounding alone is 2e-11 of it at the larger step."""


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """Analytic and numeric derivative of each parameter along a random direction, in float64."""
    if sum(one.numel() for one in subject.original.parameters()) > MOST_WEIGHTS:
        return None
    net = subject.copy(batch_statistics=True).double()
    x = subject.x[:SAMPLES]
    x, y = x.double() if x.is_floating_point() else x, subject.y[:SAMPLES]
    loss = subject.cost(net, x, y)
    if not torch.isfinite(loss) or not loss.requires_grad or loss.dtype != torch.float64:
        return None  # a network that rounds to float32 on the way cannot be measured finely enough
    if not has_own_functions(loss):
        return None  # torch's operators have been checked by their authors
    loss.backward()
    named = [(name, one) for name, one in net.named_parameters() if one.grad is not None and bool(one.grad.any())]
    every = max(1, math.ceil(len(named) / MOST_TENSORS))
    rng = torch.Generator().manual_seed(0)
    rows: dict[str, dict[str, float]] = {}
    for name, one in named[::every]:
        # half along the gradient, so that the derivative is no smaller than the rounding; half at random
        direction = torch.randn(one.shape, generator=rng, dtype=torch.float64).to(one.device)
        gradient = torch.zeros_like(one) if one.grad is None else one.grad
        direction = direction / direction.norm() + gradient / gradient.norm()
        direction /= direction.norm()
        analytic = (gradient * direction).sum().item()
        numeric = [_slope(net, subject, x, y, one, direction, step) for step in STEP_SIZES]
        if max(abs(analytic), *map(abs, numeric)) < NOISE * abs(loss.item()):
            continue
        best = min(numeric, key=lambda value: _error(analytic, value))
        rows[name] = {"analytic": analytic, "numeric": best, "error": _error(analytic, best)}
    return {"rows": rows, "order": list(rows)}


def has_own_functions(output: Tensor) -> bool:
    """Whether the graph of a result holds a `torch.autograd.Function` that somebody wrote in Python.

    >>> has_own_functions(torch.ones(2, requires_grad=True).exp().sum())
    False
    """
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction):
            return True
        seen.add(node)
        waiting += [one for one, _ in node.next_functions]
    return False


def _slope(
    net: nn.Module, subject: Subject, x: Tensor, y: Tensor, one: Tensor, direction: Tensor, step: float
) -> float:
    with torch.no_grad():
        kept = one.detach().clone()
        values = []
        for sign in (1, -1):
            one.copy_(kept + sign * step * direction)
            values.append(subject.cost(net, x, y))
        one.copy_(kept)
        return ((values[0] - values[1]) / (2 * step)).item()


def _error(analytic: float, numeric: float) -> float:
    largest = max(abs(analytic), abs(numeric))
    return abs(analytic - numeric) / largest if largest else 0.0


@register(
    "diagnosis",
    paper="CS231n, Neural networks part 3, gradient checks",
    year=2015,
    when="before",
    level="standard",
    causes=("cannot_overfit_one_batch", "underfitting", "lr_too_high", "exploding_gradient", "vanishing_gradient"),
    measure=measure,
)
def wrong_gradient(history: History) -> list[Finding]:
    """Backward is not the derivative of forward."""
    seen = history.own("wrong_gradient")
    if seen is None:
        return []
    bad = {name: row for name, row in seen["rows"].items() if row["error"] > SUSPICIOUS}
    if not bad:
        return []
    worst = max(bad, key=lambda name: bad[name]["error"])
    last = next(name for name in reversed(seen["order"]) if name in bad)
    row = bad[worst]
    flat = all(not one["numeric"] for one in bad.values())
    wrong = row["error"] > WRONG
    return [
        Finding(
            "wrong_gradient",
            "information" if flat else "critical" if wrong else "warning",
            f"for {worst}, backward says {row['analytic']:.6g} and the loss changes by {row['numeric']:.6g}, which is "
            f"{100 * row['error']:.3g} % off; so it is, more or less, for {len(bad)} of {len(seen['rows'])} parameters",
            means="forward does not move where backward says it would: a straight-through estimator, or a rounding"
            if flat
            else "steps do not follow the loss; the network learns worse than it could, or not at all",
            remedy=Remedy(
                f"check the backward of what uses {last}, or comes right after it, with torch.autograd.gradcheck"
            ),
            refuted_by="gradcheck passing on every custom function, or a detach() that is there on purpose",
            confidence=0.9 if wrong and not flat else 0.5,
            step=history.now.step,
            where=tuple(bad),
            seen={"error": row["error"], "parameters": len(bad), "checked": len(seen["rows"]), "limit": WRONG},
        )
    ]
