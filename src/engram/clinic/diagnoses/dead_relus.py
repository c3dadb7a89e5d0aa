"""Dead ReLUs: units that answer 0 to every example get no gradient, and never come back.

    a unit is dead  <=>  max over all samples (and places) of max(0, z) = 0          ∂max(0, z)/∂z = 0 for z < 0

One step too large pushes a bias so far down that nothing lifts the unit over 0 again: with a gradient of 0, no later
step moves it. Half a layer's zeros are healthy (40 to 54 % were measured), for other units answer and each unit answers
to some examples; what is counted is therefore units, over at least a thousand samples, and not zeros.

A network whose loss has fallen all the same is told so as a warning: it has lost capacity, not the run. Sparse networks
are made so by pruning and L1, on purpose.

Sick: biases of -3 (100 %), Adam at 0.03 (70 %), five steps at a rate of 5 (95 %). Healthy: 2 to 6 % over 1200 samples,
up to 22 % where only 128 were looked at. The rules of SageMaker Debugger and AutoTrainer ask for half and for 70 %.

What it cannot see: units that answer to a few rare examples outside the probe, and leaky units, which never die.

Glorot, Bordes and Bengio 2011, Deep sparse rectifier neural networks, section 3; Maas, Hannun and Ng 2013, Rectifier
nonlinearities improve neural network acoustic models, section 2; Lu et al. 2019, arXiv:1903.06733 (born dead).
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Layer, Moment, persists
from engram.clinic.signals import changed_rate, has_learned
from engram.registry import register

INFORMATION = 0.10
"""Share of a layer's units; healthy layers had 2 to 6 % over 1200 samples."""

WARNING = 0.25
"""A share of a layer's units that is a loss, of a network that has settled; see `SETTLED`."""

SETTLED = 32
"""Steps before which a warning is no more than a fact: in the zoo's calibration half, 22 to 31 % of the first linear
layer's units were silent for the first steps behind convolutions of He's scale, and 3 to 9 % after 64. What is over the
critical share is told at once."""

CRITICAL = 0.50
"""SageMaker Debugger's DeadRelu asks for the same half."""

SAMPLES = 1024
"""Samples from which dead and rare can be told apart; of 128, up to 22 % of a healthy layer looked dead."""

CRITICAL_OF_FEW = 0.80
"""The critical share where fewer samples were looked at."""

FEW_UNITS = 8
"""A layer of fewer units, such as the waist of a gate, is only spoken of when all are dead."""


@register(
    "diagnosis",
    paper="Glorot, Bordes and Bengio 2011; Maas et al. 2013, section 2",
    year=2013,
    when="during",
    level="standard",
    causes=("vanishing_gradient", "underfitting", "class_collapse", "pooling_routes", "lr_too_low"),
)
def dead_relus(history: History) -> list[Finding]:
    """Units that answer 0 to every example."""
    moments = history.probed(5)
    if not moments:
        return []
    now = [one for one in moments[-1].layers if one.dead is not None]
    sick = [one for one in now if _persists(moments, one.name, INFORMATION)]
    if not sick:
        return []
    worst = max(sick, key=lambda one: one.dead_share or 0.0)
    share, dead = worst.dead_share or 0.0, worst.dead or 0
    limit = CRITICAL if worst.probed >= SAMPLES else CRITICAL_OF_FEW
    severity = "information"
    settled = tuple(one for one in moments if one.step >= SETTLED)
    if share > WARNING and _persists(settled, worst.name, WARNING):
        severity = "warning"
    learned = has_learned(history)
    if share > limit and _persists(moments, worst.name, limit):
        severity = "warning" if learned else "critical"
    crossed = {"information": INFORMATION, "warning": WARNING, "critical": limit}[severity]
    also = "; the loss has fallen all the same" if learned else ""
    return [
        Finding(
            "dead_relus",
            severity,
            f"{dead} of the {worst.units} units of {worst.name} ({100 * share:.0f} %, over {100 * crossed:.0f} %) are "
            f"0 for every one of {worst.probed} samples{also}",
            means="they get no gradient and stay as they are: the layer is that much narrower",
            remedy=Remedy(
                "a third of the learning rate with a warm-up and He's weights; or leaky ReLU, GELU or batch norm in "
                "place of ReLU",
                {**changed_rate(history, 1 / 3), "initializer": ("he",)},
            ),
            refuted_by="one training image to which such a unit answers with more than 0",
            confidence={"information": 0.5, "warning": 0.75, "critical": 0.95}[severity],
            step=moments[-1].step,
            where=tuple(one.name for one in sorted(sick, key=lambda one: -(one.dead_share or 0.0))),
            seen={
                "dead": dead,
                "units": worst.units,
                "share": share,
                "samples": worst.probed,
                "information": INFORMATION,
                "warning": WARNING,
                "critical": limit,
            },
        )
    ]


def _persists(moments: tuple[Moment, ...], name: str, limit: float) -> bool:
    return persists(moments, lambda one: any(_is_over(layer, limit) for layer in one.layers if layer.name == name))


def _is_over(layer: Layer, limit: float) -> bool:
    share = layer.dead_share
    if share is None:
        return False
    return share == 1.0 if layer.units < FEW_UNITS else share > limit
