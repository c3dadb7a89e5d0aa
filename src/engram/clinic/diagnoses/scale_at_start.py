"""Scale at the start: signals shrink or grow from layer to layer, before anything is learnt.

    r = std of the last hidden layer's outputs / std of the first layer's,        healthy: near 1
    G = std of the last hidden layer's outputs / rms of the inputs,               healthy: 1.4, which is He's √2

By layer the factor is the weights' scale; over ten layers 0.5 a layer is a thousandth and 2 a layer a thousand. The two
directions harm in different ways. What shrinks forward shrinks the gradient backward by the same factors, so that the
first layers hardly learn: that is a matter of layers among each other, r. What grows makes the scores large and wrong
with confidence, and the curvature along one layer's weights is the square of what all the others multiply by: that is a
matter of all layers together, the first among them, G. Of many layers the two say the same; of three whose weights are
twice too large, r is 4 and G is 11.

Outputs of layers with weights are compared; those that a normalisation follows at once are left out, since their scale
is of no consequence, and so is the last layer, which is often small on purpose. A layer whose outputs are all zero
begins so on purpose too (the last of a residual branch). G is not asked behind a normalisation, which begins anew, nor
behind tanh or sigmoid, which let nothing grow (what too large weights do there is saturation's), nor of inputs too
small to be told from the first biases, nor of a network that knows the answers already: training makes signals grow,
and nothing is wrong with that.

Measured over ten layers: r with half of He's scale 0.0023, twice 590; He's own 0.66 to 1.2.

What it cannot see: sigmoids, whose outputs keep their scale while the gradient vanishes (0.53 over ten layers).

He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, section 2.2. Glorot and Bengio 2010, AISTATS,
section 4.2. SageMaker Debugger's PoorWeightInitialization compares the layers' variances in the same way (ratio 10).
"""

import math

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Layer, Moment, Probe
from engram.registry import register

WARNING = (0.1, 10.0)
"""Last over first; healthy networks of ten to twenty layers lay within 0.3 to 4."""

CRITICAL = (0.01, 100.0)
"""Beyond, networks of ten layers did not learn in the time in which healthy ones were done."""

GROWN = 4.5
"""Last over inputs. In the zoo's calibration half, of two to nine hidden layers, untrained networks that learned well
had up to 3.6 (ReLU squared; He's weights before max pooling 3.3), engram's own models up to 2.2, and the least that
cost loss against the control 5.3 (two layers of twice He's weights)."""

KNOWS = 0.25
"""Share of the way from the largest class's share to 1, by which the accuracy of a network that was trained before is
above it: 0.3 to 0.5 of the zoo's, whose signals had grown up to 8.5; by chance, in 64 examples, up to 0.1."""

BOUNDED = ("tanh", "sigmoid", "hardtanh", "hardsigmoid", "softsign")
"""Kinds of layers whose outputs end at 1."""

FAINT = 0.05
"""Inputs below are a finding of `input_scale`; the first layer's outputs may then be its biases."""

LEAST = 3
"""Layers that must be left for the first and the last to be compared: of two, the ratio is that of their widths."""


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
    if len(layers) < 2:
        return []
    first, last = layers[0], layers[-1]
    ratio = last.std / first.std if len(layers) >= LEAST else 1.0
    inputs = sent(history, layers)
    grown = last.std / inputs if inputs else 0.0
    among = not WARNING[0] <= ratio <= WARNING[1]
    if not among and grown <= GROWN:
        return []
    shrinks = ratio < WARNING[0]
    whole = grown if not shrinks and grown > ratio else ratio
    steps = len(layers) - (whole == ratio)
    slope = math.log10(whole) / steps if 0 < whole < math.inf else math.copysign(math.inf, whole - 1)
    begin = f"{first.std:.3g} in {first.name}" if whole == ratio else f"{inputs:.3g} in the inputs"
    return [
        Finding(
            "scale_at_start",
            "warning" if CRITICAL[0] <= ratio <= CRITICAL[1] else "critical",
            f"signals have standard deviation {begin} and {last.std:.3g} in {last.name}, {steps} layers on: "
            f"{10**slope:.2g} times as much at every layer",
            means="the gradient shrinks by the same factors on its way back, and the first layers hardly learn"
            if shrinks
            else "the first scores are enormous, and the first steps tear the weights apart"
            if among
            else "the first scores are large and wrong with confidence, and the first steps only make them smaller",
            remedy=Remedy(
                "draw the weights by He's rule, or normalise between the layers", {"initializer": ("he",)}
            ),
            refuted_by="a gradient with respect to the first layer's outputs that is no smaller than that of the last"
            if shrinks
            else "a loss at the start that is chance",
            confidence=0.85 if among else 0.7,
            step=history.now.step,
            where=tuple(one.name for one in layers),
            seen={
                "first": first.std, "last": last.std, "ratio": ratio, "decades_a_layer": slope, "inputs": inputs or 0.0,
                "grown": grown, "low": WARNING[0], "high": WARNING[1], "grown_limit": GROWN,
            },
        )
    ]  # fmt: skip


def sent(history: History, layers: list[Layer]) -> float | None:
    """Root mean square of the inputs, where the layers' outputs are to be held against it."""
    seen = history.own("input_scale")
    if seen is None or seen["bad_share"] or knows(history.now.probe):
        return None
    before = history.now.layers[: layers[-1].depth + 1]
    if any("norm" in one.kind.lower() or one.kind.lower().rstrip("_") in BOUNDED for one in before):
        return None
    squares = [mean * mean + std * std for mean, std in zip(seen["mean"], seen["std"], strict=True)]
    rms = math.sqrt(sum(squares) / len(squares))
    return rms if FAINT <= rms < math.inf else None


def knows(probe: Probe | None) -> bool:
    """Whether the network answers better than who knows the classes' shares.

    >>> [knows(Probe(2.3, 2.3, accuracy, given=(0.1, 0.9))) for accuracy in (0.9, 0.92, 0.93)]
    [False, False, True]
    """
    if probe is None or probe.accuracy is None or not probe.given:
        return False
    share = max(probe.given)
    return probe.accuracy > share + KNOWS * (1 - share)


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
