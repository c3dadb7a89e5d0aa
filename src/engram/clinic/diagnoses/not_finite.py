"""Not finite: a number became infinite or no number, and the first layer that made one of finite numbers is named.

    NaN and infinity spread: x + NaN = NaN, 0 · inf = NaN. Forward, the first bad layer in the order of calling made it;
    its inputs were finite. Backward, the gradient may be bad though every activation is finite.

Which layer that is, tells what happened. Bad weights: a step before was too large. A convolution or a linear layer with
finite weights and inputs: values too large for the number format (65,504 in float16, 3.4e38 in float32 and bfloat16).
Another layer: a logarithm or a root of 0, a division by 0. The first layer of all with finite weights: the input.

One such number ends a run, so one is enough: critical at once. A loss that is infinite for one batch while weights and
activations are finite is left to the loss: a target that got probability 0, or a bad example.

What it cannot see: a NaN that is hidden by a comparison (max(NaN, 0) may be 0 in one library and NaN in another).

SageMaker Debugger's ExplodingTensor looks for the same without naming the first. Wardat, Le and Rajan 2021,
DeepLocalize, ICSE, section 3 (the first bad layer).
"""

import math

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Layer, Moment, Weights
from engram.clinic.signals import changed_rate, is_weighted
from engram.registry import register

BEFORE = 3
"""Moments at most that the largest value is told of, before it was bad."""


@register(
    "diagnosis",
    paper="Wardat, Le and Rajan 2021, DeepLocalize, section 3",
    year=2021,
    when=("before", "during"),
    level="quick",
    causes=("underfitting", "class_collapse", "cannot_overfit_one_batch", "ignores_input"),
)
def not_finite(history: History) -> list[Finding]:
    """A number became infinite or no number."""
    now = _first_seen(history)
    layer = next((one for one in sorted(now.layers, key=lambda one: one.depth) if not one.finite), None)
    weights = [one for one in now.weights.values() if not math.isfinite(one.norm)]
    gradients = [one for one in now.weights.values() if one.gradient is not None and not math.isfinite(one.gradient)]
    backward = [one for one in now.layers if one.gradient is not None and not math.isfinite(one.gradient)]
    loss_bad = now.loss is not None and not math.isfinite(now.loss)
    norm_bad = now.gradient is not None and not math.isfinite(now.gradient)
    if not (layer or weights or gradients or backward or loss_bad or norm_bad):
        return []
    answered = layer is not None and _largest_before(history, now, (layer.name,)) is not None
    what, where, why, cause = _first(now, layer, weights, gradients, backward, answered=answered)
    at_start = bool(history.losses) and not any(math.isfinite(loss) for _, loss in history.losses)
    if cause == "weights" and not now.step:
        why, cause = "the weights were so before any step: they were drawn, filled or loaded so", "drawn"
    elif cause == "weights" and at_start:
        why, cause = (
            "the first loss was none already, so the network or the input made it, and a step spread it",
            "start",
        )
    seen: dict[str, float | int | str] = {"cause": cause}
    if now.loss is not None:
        seen["loss"] = now.loss
    largest = _largest_before(history, now, where)
    if largest is not None:
        seen["largest_before"] = largest
    before = "" if largest is None else f"; its largest value before was {largest:.3g}"
    return [
        Finding(
            "not_finite",
            "critical",
            f"{what}{f' at step {now.step}' if now.step else ''}{before}",
            means=f"{why}; every weight that learns from it is lost",
            remedy=_remedy(history, cause, at_start),
            refuted_by={"input": "inputs that are all finite", "drawn": "weights that are all finite"}.get(
                cause, "the same step from the weights before it, in float64, that stays finite"
            ),
            confidence=0.99,
            step=now.step,
            where=where,
            seen=seen,
        )
    ]


def _first(
    now: Moment,
    layer: Layer | None,
    weights: list[Weights],
    gradients: list[Weights],
    backward: list[Layer],
    *,
    answered: bool,
) -> tuple[str, tuple[str, ...], str, str]:
    """(what is bad, where, why, the cause in a word): the earliest of what may be bad."""
    if layer is not None:
        own = [one.name for one in weights if one.name.rpartition(".")[0] == layer.name.partition("#")[0]]
        if own:
            return (
                f"{own[0]} and from there on everything is infinite or no number",
                (layer.name,),
                "the step before was so large that the weights themselves broke",
                "weights",
            )
        # the probe batch stays the same: a layer that could answer it before was not undone by the input
        if layer.depth == min(one.depth for one in now.layers) and is_weighted(layer) and not answered:
            return (
                f"{layer.name}, the first layer, gives infinite values or no numbers with finite weights",
                (layer.name,),
                "the input itself holds infinite values or no numbers",
                "input",
            )
        overflow = is_weighted(layer)
        return (
            f"{layer.name} ({layer.kind}) is the first layer to give infinite values or no numbers",
            (layer.name,),
            "values had grown beyond what the number format holds"
            if overflow
            else f"{layer.kind} was given values it has no answer to, such as a logarithm or a division of 0",
            "overflow" if overflow else "operation",
        )
    if weights:
        return (
            f"{weights[0].name} is infinite or no number",
            tuple(one.name for one in weights),
            "a step was so large that the weights themselves broke",
            "weights",
        )
    if gradients or backward:
        # backward, the gradient comes from the last layer: that is where it went bad first
        deepest = max(backward, key=lambda one: one.depth) if backward else None
        names = (deepest.name,) if deepest else tuple(one.name for one in gradients[-1:])
        return (
            f"the gradient is infinite or no number from {names[0]} backward, though every activation is finite",
            names,
            "a slope without limit, such as a root or a norm at 0, or the gradient overflowed",
            "gradient",
        )
    if now.loss is not None and not math.isfinite(now.loss):
        return (
            f"the loss is {now.loss}, and no layer or weight that was measured is",
            (),
            "a target got probability 0, or an example of this batch is not finite",
            "loss",
        )
    return ("the norm of the gradient is infinite or no number", (), "the gradient overflowed", "gradient")


def _first_seen(history: History) -> Moment:
    """The first moment with a bad layer: later ones have it everywhere. The last moment where there is none."""
    return next((one for one in history.moments if any(not layer.finite for layer in one.layers)), history.now)


def _largest_before(history: History, now: Moment, where: tuple[str, ...]) -> float | None:
    earlier = [one for one in history.moments if one.layers and one.step < now.step][-BEFORE:]
    found = [layer.largest for moment in earlier for layer in moment.layers if layer.name in where and layer.finite]
    return found[-1] if found else None


def _remedy(history: History, cause: str, at_start: bool) -> Remedy:
    if cause == "input":
        return Remedy("look for missing values in the data; replace them or leave those examples out")
    if cause == "drawn":
        return Remedy("look at what fills the weights: an initializer of one's own, or the file they come from")
    if cause == "start":
        return Remedy("look at the network before its first step: `engram examine` names the layer that it begins in")
    if cause in ("operation", "loss") or (at_start and cause == "gradient"):
        return Remedy(
            "keep the argument away from 0 with a small constant, or take log_softmax and its like; look at the batch",
            {"clip_norm": 1.0},
        )
    if at_start:
        return Remedy(
            "draw the weights by He's rule, which keeps the scale from layer to layer", {"initializer": ("he",)}
        )
    return Remedy(
        "a tenth of the learning rate, and clip the gradient's norm", {**changed_rate(history, 0.1), "clip_norm": 1.0}
    )
