"""Loss at the start: an untrained classifier knows nothing, so its loss must be that of guessing.

    expected L₀ = -ln(1/K) = ln K                2.30 for ten classes

Scores that say nothing give each of the K classes the same share. A loss far above says that the last scores are large
and wrong with confidence: the first steps then only shrink them. A loss far below says that something already knows the
answer: trained weights, labels that leak into the input, a loss that is divided by something. Where classes are not
alike in number and the last bias says so, the loss is the entropy of the shares instead; that is accepted too.

What it cannot see: a network whose scores are small for every input is perfectly at chance and may still be dead.

Measured: He weights begin at 2.6 to 3.1 for ten classes, torch's own at 2.30 to 2.32; three times He's scale on every
layer at 36 to 58; ResNet-20 without batch norm at 40. TheDeepChecker warns at twice the expected loss.

Karpathy 2019, A recipe for training neural networks, "verify loss @ init". Braiek and Khomh 2022, TheDeepChecker,
arXiv:2204.00694, section 3.
"""

import math

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.registry import register

HEALTHY = (0.8, 2.0)
"""Loss over ln K: TheDeepChecker's twice the chance above; LeNet-5 and VGG-11 with their own weights begin at 1.6."""

CRITICAL = (0.5, 10.0)
"""Below, the loss cannot be chance with any usual initialisation. Above, the run is mostly lost: three times He's scale
begins at 16 to 25. Not at 3, as it was: in the zoo's calibration half ReLU squared with He's weights begins at 6 times
chance and learns to 0.97, and a last layer 20 times too large, at 7 to 10, recovers as well."""

KNOWS = 1.2
"""Accuracy over the largest class's share from which the network does know something, and a low loss is no wonder."""


@register(
    "diagnosis",
    paper="Karpathy 2019, A recipe for training neural networks",
    year=2019,
    when="before",
    level="quick",
    causes=("exploding_gradient", "lr_too_high"),
)
def loss_at_start(history: History) -> list[Finding]:
    """The first loss is not that of guessing."""
    probe, chance = history.now.probe, history.setup.chance
    if probe is None or not chance or not math.isfinite(probe.loss):
        return []  # a loss that is no number is not_finite's
    entropy = history.setup.entropy if history.setup.entropy else chance
    low, high = HEALTHY
    if low * min(entropy, chance) <= probe.loss <= high * chance:
        return []
    ratio = probe.loss / chance
    above = ratio > high
    knows = not above and probe.accuracy is not None and probe.accuracy > KNOWS * max(probe.given, default=1.0)
    severity = "critical" if not CRITICAL[0] * min(entropy, chance) / chance <= ratio <= CRITICAL[1] else "warning"
    severity = "information" if knows else severity  # as of weights that were trained before
    if above:
        means = "the first scores are large and wrong with confidence, and the first steps only make them smaller"
        remedy = Remedy(
            "draw the weights by He's or Xavier's rule and make the last layer's small; check labels and input scale",
            {"initializer": ("he",)},
        )
        refuted_by = "a last layer ten times smaller that starts at chance and learns no faster"
    else:
        means = "something knows the answer before training: trained weights, labels inside the input, or a wrong loss"
        if not knows:
            means = "the answers are no better than guessing and the loss is: it is divided or computed wrongly"
        remedy = Remedy("check that the loss is a mean of -ln(probability), and that no label can reach the input")
        refuted_by = "weights that were trained on this task before, on purpose"
    return [
        Finding(
            "loss_at_start",
            severity,
            f"the loss begins at {probe.loss:.4g}; chance among {history.setup.num_classes} classes is {chance:.4g}",
            means=means,
            remedy=remedy,
            refuted_by=refuted_by,
            confidence=0.9 if severity == "critical" else 0.6,
            step=history.now.step,
            seen={
                "loss": probe.loss,
                "chance": chance,
                "ratio": ratio,
                "low": low,
                "high": high,
                "output_std": probe.output_std,
            },
        )
    ]
