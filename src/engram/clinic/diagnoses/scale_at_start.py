"""Scale at the start: signals shrink or grow from layer to layer, before anything is learnt.

    r = std of the last hidden layer's outputs / std of the first layer's,        healthy: near 1

By layer the factor is the weights' scale; over ten layers 0.5 a layer is a thousandth and 2 a layer a thousand. What
shrinks forward shrinks the gradient backward by the same factors, so that the first layers hardly learn; what grows
makes the first loss enormous. Outputs of layers with weights are compared; those that a normalisation follows at once
are left out, since their scale is of no consequence, and so is the last layer, which is often small on purpose. A layer
whose outputs are all zero begins so on purpose too (the last of a residual branch).

Measured over ten layers: half of He's scale 0.0023, twice 590; He's own 0.66 to 1.2.

What it cannot see: sigmoids, whose outputs keep their scale while the gradient vanishes (0.53 over ten layers).

He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, section 2.2. Glorot and Bengio 2010, AISTATS,
section 4.2. SageMaker Debugger's PoorWeightInitialization compares the layers' variances in the same way (ratio 10).
"""

import math

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Layer, Moment
from engram.registry import register

WARNING = (0.1, 10.0)
"""Last over first; healthy networks of ten to twenty layers lay within 0.3 to 4."""

CRITICAL = (0.01, 100.0)
"""Beyond, networks of ten layers did not learn in the time in which healthy ones were done."""

LEAST = 3
"""Layers that must be left to be compared: of two, the ratio is that of their widths."""


@register(
    "diagnosis",
    paper="He et al. 2015, Delving deep into rectifiers, section 2.2",
    year=2015,
    when="before",
    level="quick",
    causes=(
        "loss_at_start", "vanishing_gradient", "exploding_gradient", "not_finite", "ignores_input",
        "cannot_overfit_one_batch", "underfitting", "lr_too_high", "lr_too_low",
    ),
)  # fmt: skip
def scale_at_start(history: History) -> list[Finding]:
    """Signals shrink or grow from layer to layer."""
    layers = compared(history.now)
    if len(layers) < LEAST:
        return []
    ratio = layers[-1].std / layers[0].std
    if WARNING[0] <= ratio <= WARNING[1]:
        return []
    slope = math.log10(ratio) / (len(layers) - 1) if 0 < ratio < math.inf else math.copysign(math.inf, ratio - 1)
    shrinks = ratio < 1
    return [
        Finding(
            "scale_at_start",
            "warning" if CRITICAL[0] <= ratio <= CRITICAL[1] else "critical",
            f"outputs have standard deviation {layers[0].std:.3g} in {layers[0].name} and {layers[-1].std:.3g} in "
            f"{layers[-1].name}, {len(layers) - 1} layers on: {10**slope:.2g} times as much at every layer",
            means="the gradient shrinks by the same factors on its way back, and the first layers hardly learn"
            if shrinks
            else "the first scores are enormous, and the first steps tear the weights apart",
            remedy=Remedy(
                "draw the weights by He's rule, or normalise between the layers", {"initializer": ("he",)}
            ),
            refuted_by="a gradient with respect to the first layer's outputs that is no smaller than that of the last"
            if shrinks
            else "a loss at the start that is chance",
            confidence=0.85,
            step=history.now.step,
            where=tuple(one.name for one in layers),
            seen={
                "first": layers[0].std, "last": layers[-1].std, "ratio": ratio, "decades_a_layer": slope,
                "low": WARNING[0], "high": WARNING[1],
            },
        )
    ]  # fmt: skip


def compared(moment: Moment) -> list[Layer]:
    """The layers with weights whose outputs are passed on at the scale they have, without the network's last."""
    layers = moment.layers
    weighted = [
        (place, one)
        for place, one in enumerate(layers)
        if len(getattr(moment.weights.get(f"{one.name.partition('#')[0]}.weight"), "shape", ())) > 1
    ]
    return [
        one
        for place, one in weighted[:-1]
        if one.std > 0 and math.isfinite(one.std) and "norm" not in layers[place + 1].kind.lower()
    ]
