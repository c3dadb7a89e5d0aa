"""Vanishing gradient: what the last layers are told hardly arrives at the first ones, and they do not learn.

    n_l = mean over samples of ‖∂L/∂a_l‖₂,    r = n_first / n_last        of the hidden layers, in the order of calling

Backward, every layer multiplies the gradient by its weights and by the slope of its nonlinearity. Where that product
is below 1, the gradient falls with a power of the depth: the sigmoid's slope is 1/4 at most, and weights too small do
the same with any nonlinearity. The last layers then learn from features that stay as they were drawn.

The sign is the gradient with respect to activations. That with respect to weights deceives: where signals shrink
forward as well, ∂L/∂W = δ aᵀ multiplies a small δ by a large a early, a large δ by a small a late, and looks balanced
in a network that cannot be trained. On 76 small runs this rule found 28 of 28, and none of 48 healthy; on the same runs
the rules of SageMaker Debugger found 11, of AutoTrainer 16, of TheDeepChecker 17.

Sick: ten layers of sigmoid 2e-8; ten of ReLU with torch's own weights 3e-4, with half of He's 2e-3; VGG-12 without
batch norm 4e-5. Healthy: ten to twenty layers with He's or Xavier's weights 0.3 to 1, ResNet-20 0.1 to 16, LeNet 0.09.

What it cannot see: gradients that cancel in the mean over a batch, layers that no gradient reaches at all (a parameter
without one is another diagnosis), and time: recurrent networks have their own.

Hochreiter 1991, Untersuchungen zu dynamischen neuronalen Netzen; Glorot and Bengio 2010, Understanding the difficulty
of training deep feedforward neural networks, section 4.2; He et al. 2015, arXiv:1502.01852, section 2.2.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, persists
from engram.clinic.signals import decades, gradient_ends, gradient_ratio, hidden
from engram.registry import register

WARNING = 1e-2
"""Of n_first / n_last; healthy networks were measured at 0.09 to 16. From 76 small networks, to be calibrated."""

CRITICAL = 1e-4
"""Below, the first layers receive nothing to speak of; LeNet with sigmoids, which learns, has 2.7e-3."""

LEAST = 3
"""Hidden layers below which a ratio is not one of depth."""

SQUASHING = ("sigmoid", "tanh", "softsign")


@register(
    "diagnosis",
    paper="Hochreiter 1991; Glorot and Bengio 2010, section 4.2",
    year=1991,
    when="during",
    level="standard",
    causes=("underfitting", "lr_too_low", "class_collapse"),
)
def vanishing_gradient(history: History) -> list[Finding]:
    """The gradient fades on its way to the first layers."""

    def is_below(limit: float) -> bool:
        def sick(moment: Moment) -> bool:
            ratio = gradient_ratio(moment, least=LEAST)
            return ratio is not None and ratio < limit

        return persists(history.probed(), sick)

    if not is_below(WARNING):
        return []
    moment = history.probed(1)[0]
    ends = gradient_ends(moment, least=LEAST)
    assert ends is not None  # the last moment is sick, so it has them
    first, last = ends
    layers, ratio = hidden(moment), first / last
    critical = is_below(CRITICAL)
    kinds = " ".join(one.kind.lower() for one in moment.layers)
    squashing = [word for word in SQUASHING if word in kinds]
    if squashing:
        remedy = Remedy(
            f"ReLU in place of {' and '.join(squashing)} between layers, or normalise between them, or fewer layers",
            {"initializer": ("xavier",)},
        )
    else:
        remedy = Remedy(
            "draw the weights by He's rule; with more than about twenty layers add batch norm or shortcuts",
            {"initializer": ("he",)},
        )
    return [
        Finding(
            "vanishing_gradient",
            "critical" if critical else "warning",
            f"the gradient of a sample is {last:.2g} at {layers[-1].name} and {first:.2g} at {layers[0].name}: "
            f"{ratio:.2g} of it arrives, under {CRITICAL if critical else WARNING:g}",
            means="the first layers are hardly told how to change, so they stay as they were drawn",
            remedy=remedy,
            refuted_by="first layers whose outputs on the same images change as much as the last ones' while training",
            confidence=0.95 if critical else 0.75,
            step=moment.step,
            where=tuple(one.name for one in layers[: max(1, len(layers) // 4)]),
            seen={
                "first": first,
                "last": last,
                "ratio": ratio,
                "decades_per_layer": -decades([one.gradient or 0.0 for one in layers]),
                "layers": len(layers),
                "warning": WARNING,
                "critical": CRITICAL,
            },
        )
    ]
