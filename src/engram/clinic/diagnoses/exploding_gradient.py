"""Exploding gradient: it grows on its way to the first layers, or leaps from one step to the next.

    r = n_first / n_last,    n_l = mean over samples of ‖∂L/∂a_l‖₂        through depth
    s = ‖g‖ now / median of ‖g‖ over the steps before                      from step to step

Weights too large multiply the gradient by more than 1 in every layer; twice He's scale in ten layers is 2^10. A single
step then undoes what many have learned. Leaps come where the loss has a cliff: a rate too high, a batch unlike the
others, a recurrence. One leap is nothing; three in ten steps are a cliff that the run lives on.

Sick: ten layers at 1.5, 2 or 3 times He's scale, convolutions at twice. Healthy: He 0.3 to 1, ResNet-20 up to 16, 24
layers of VGG with batch norm 69. Plain networks with batch norm do explode in depth, by about 1.2 a layer (Yang et al.
2019): beyond some thirty layers that is true and is reported, and shortcuts cure it.

Adam recovers from many bad starts (0.90 to 0.95 accuracy was seen), hence a warning until the ratio is hopeless. A
gradient that is no number is `not_finite`.

Bengio, Simard and Frasconi 1994, Learning long-term dependencies with gradient descent is difficult; Pascanu, Mikolov
and Bengio 2013, arXiv:1211.5063, section 2; Yang et al. 2019, arXiv:1902.08129 (batch norm).
"""

import math
from collections.abc import Sequence
from statistics import median

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, persists
from engram.clinic.signals import decades, gradient_ends, gradient_ratio, hidden
from engram.registry import register

WARNING = 100.0
"""Of n_first / n_last; a healthy VGG of 24 layers with batch norm has 69. From 76 small networks, to be calibrated."""

CRITICAL = 1e4
"""Above, no rate suits the first and the last layers at once; ten layers at twice He's scale have 1e3."""

LEAST = 3
"""Hidden layers below which a ratio is not one of depth."""

LEAP = 10.0
"""Of a gradient's norm over the median of those before."""

LEAPS = (3, 10)
"""So many of the last so many steps at which it was measured."""

BEFORE = (10, 50)
"""Norms at least, and at most, whose median a leap is measured against."""


@register(
    "diagnosis",
    paper="Bengio et al. 1994; Pascanu et al. 2013, section 2",
    year=1994,
    when="during",
    level="standard",
    causes=("not_finite", "lr_too_high", "dead_relus", "saturation"),
)
def exploding_gradient(history: History) -> list[Finding]:
    """The gradient grows on its way to the first layers, or leaps from step to step."""
    return _through_depth(history) + _from_step_to_step(history)


def _through_depth(history: History) -> list[Finding]:
    def is_above(limit: float) -> bool:
        def sick(moment: Moment) -> bool:
            ratio = gradient_ratio(moment, least=LEAST)
            return ratio is not None and ratio > limit and bool(hidden(moment)[-1].gradient)

        return persists(history.probed(), sick)

    if not is_above(WARNING):
        return []
    moment = history.probed(1)[0]
    ends = gradient_ends(moment, least=LEAST)
    assert ends is not None  # the last moment is sick, so it has them
    first, last = ends
    layers, critical = hidden(moment), is_above(CRITICAL)
    return [
        Finding(
            "exploding_gradient",
            "critical" if critical else "warning",
            f"the gradient of a sample is {last:.2g} at {layers[-1].name} and {first:.2g} at {layers[0].name}: "
            f"it grows {first / last:.2g} times, more than {CRITICAL if critical else WARNING:g}",
            means="a step that is small for the last layers throws the first ones about",
            remedy=Remedy(
                "draw the weights by He's rule; with it, clip the gradient's norm, or normalise between layers",
                {"initializer": ("he",), "clip_norm": 1.0},
            ),
            refuted_by="the same run with He's weights that shows the same ratio and learns no faster",
            confidence=0.9 if critical else 0.7,
            step=moment.step,
            where=tuple(one.name for one in layers[: max(1, len(layers) // 4)]),
            seen={
                "first": first,
                "last": last,
                "ratio": first / last,
                "decades_per_layer": -decades([one.gradient or 0.0 for one in layers]),
                "layers": len(layers),
                "warning": WARNING,
                "critical": CRITICAL,
            },
        )
    ]


def _from_step_to_step(history: History) -> list[Finding]:
    norms = [(one.step, one.gradient) for one in history.moments if one.gradient is not None]
    finite = [(step, norm) for step, norm in norms if math.isfinite(norm)]
    times, of = LEAPS
    leaps = [(step, factor) for step, factor in _factors(finite)[-of:] if factor > LEAP]
    if len(leaps) < times or not finite or leaps[-1][0] != finite[-1][0]:
        return []
    step, factor = max(leaps, key=lambda one: one[1])
    return [
        Finding(
            "exploding_gradient",
            "warning",
            f"the gradient's norm was more than {LEAP:g} times what is usual in {len(leaps)} of the last {of} steps "
            f"at which it was measured, {factor:.3g} times at step {step}",
            means="the loss has a cliff here: one such step can undo what many have learned",
            remedy=Remedy("clip the gradient's norm; if that is not enough, a third of the rate", {"clip_norm": 1.0}),
            refuted_by="a training loss that goes on falling through these steps",
            confidence=0.6,
            step=finite[-1][0],
            seen={"leaps": len(leaps), "of": of, "largest": factor, "leap": LEAP},
        )
    ]


def _factors(norms: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(step, norm over the median of those before), from where there are enough before."""
    least, most = BEFORE
    rows: list[tuple[int, float]] = []
    for place in range(max(least, len(norms) - LEAPS[1]), len(norms)):
        usual = median(norm for _, norm in norms[max(0, place - most) : place])
        step, norm = norms[place]
        rows.append((step, norm / usual if usual else 0.0))
    return rows
