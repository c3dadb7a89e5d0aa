"""Gradient noise: a batch so small that what its gradient says is mostly chance.

    S = sum over weights of the gradient's variance, example to example;     G = its mean over all examples
    B_noise = S / |G|²;     of a batch of B examples, signal : noise = √(B / B_noise)

Both are estimated from gradients of two sizes, b and B = n b, without a bias: of n small batches and of them all,

    |G|² = (B |g_B|² - b mean |g_b|²) / (B - b)       S = (mean |g_b|² - |g_B|²) / (1/b - 1/B)

With B at B_noise a step gets half of what the full gradient would give it; far below, steps must be small and many, and
batches of twice the size may take a step of nearly twice the length. Far above, further examples are wasted.

It is a fact and no fault: B_noise grows while a network learns, by ten and more, because |G| falls; and small batches
regularise. So it is told only while the learning rate is still high, of a batch a twentieth of B_noise and smaller.

Sick: batches of 2 at the rate of 128. Healthy: batches of 64 and more on clean small data. What it cannot see: whether
the noise hurts; the loss says that.

McCandlish et al. 2018, An Empirical Model of Large-Batch Training, arXiv:1812.06162, section 2.2 and appendix A.1.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, persists
from engram.clinic.subject import Subject
from engram.registry import register

SMALL, BATCHES = 16, 8
"""Examples of a small batch, and how many of them are taken."""

FAR = 20.0
"""Times the batch from which B_noise is far above it: the signal is under a quarter of the noise."""

HIGH = 0.5
"""Share of the highest learning rate from which it counts as high."""


def noise_scale(subject: Subject) -> Mapping[str, Any] | None:
    """B_noise and what it is made of; None of a probe too small for two sizes, or of a gradient that is not finite."""
    count = min(BATCHES, len(subject.x) // SMALL)
    if count < 2:
        return None
    net = subject.copy(batch_statistics=True)
    parameters = [one for one in net.parameters() if one.requires_grad]
    total = [torch.zeros_like(one) for one in parameters]
    squares = 0.0
    for at in range(count):
        part = slice(at * SMALL, (at + 1) * SMALL)
        loss = subject.cost(net, subject.x[part], subject.y[part])
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares += sum(one.double().square().sum().item() for one in gradients if one is not None) / count
        for summed, one in zip(total, gradients, strict=True):
            if one is not None:
                summed += one / count
    large, small = count * SMALL, SMALL
    together = sum(one.double().square().sum().item() for one in total)
    signal = (large * together - small * squares) / (large - small)
    noise = (squares - together) / (1 / small - 1 / large)
    if not (math.isfinite(signal) and math.isfinite(noise)) or noise <= 0:
        return None
    return {"signal": signal, "noise": noise, "examples": large, "noise_scale": noise / max(signal, 1e-300)}


@register(
    "diagnosis",
    paper="McCandlish et al. 2018, arXiv:1812.06162, section 2.2",
    year=2018,
    when="during",
    level="full",
    causes=(),
    measure=noise_scale,
)
def gradient_noise(history: History) -> list[Finding]:
    """The gradient of a batch is mostly chance."""
    batch, peak = history.setup.batch_size, history.setup.lr
    moments = tuple(one for one in history.moments if "gradient_noise" in one.own)
    if batch is None or not moments:
        return []
    rates = [one.lr for one in history.moments if one.lr is not None]
    if peak and rates and rates[-1] < HIGH * peak:
        return []

    def far(moment: Moment) -> bool:
        return moment.own["gradient_noise"]["noise_scale"] > FAR * batch

    if not persists(moments, far, times=3, of=3):
        return []
    scale = moments[-1].own["gradient_noise"]["noise_scale"]
    larger = 2 ** min(10, round(math.log2(min(scale, 1024))))
    told = f"{scale:,.0f}" if scale < 1e6 else f"{scale:.2g}"
    return [
        Finding(
            "gradient_noise",
            "information",
            f"examples disagree so much that a batch's gradient is half signal from about {told} examples on; a batch "
            f"has {batch}, where the signal is {math.sqrt(batch / scale):.2g} of the noise",
            means="steps go mostly where chance says, and only many small ones add up; larger batches would allow "
            "longer steps",
            remedy=Remedy(
                "larger batches with a larger rate, or a smaller rate where the loss jumps", {"batch_size": larger}
            ),
            refuted_by="as many examples in batches four times the size, at two to four times the rate, that end alike",
            confidence=0.6,
            step=moments[-1].step,
            seen={"noise_scale": scale, "batch_size": batch, "far": FAR},
        )
    ]
