"""Input not normalised: the inputs' mean is far from 0, or their spread far from 1.

    by channel c:   |mean_c| / std_c,   std_c,   max |x|

Weights are drawn for inputs of mean 0 and variance 1. With 0..255 the first layer's outputs are a hundred times too
large: the loss begins far from chance, tanh and sigmoid saturate, and one learning rate is too large for the first
layer and too small for the others. All inputs of one sign make all gradients of a unit's weights one sign, so that
steps zigzag.

Sick: raw pixels 0..255 or 0..16. Healthy: standardised; 0..1, with which most networks train and which is said as a
fact only; binary and one-hot inputs; any scale where the first layer is a normalisation. Infinite inputs or inputs that
are not a number are critical.

What it cannot see: what a normalisation inside the network makes of it, beyond the first layer.

LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, section 4.3. Braiek and Khomh 2022, TheDeepChecker,
arXiv:2204.00694; SageMaker Debugger's CheckInputImages (|mean| > 0.2).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

OFF_CENTRE = 0.5
"""Means so many standard deviations from 0 are told; pictures scaled to 0..1 have 0.4 (MNIST) to 2 (CIFAR-10)."""

FAR_OFF = 3.0
"""... and are a warning: no pictures scaled to 0..1 come near."""

SPREAD = (0.3, 3.0)
"""Standard deviations outside are told; above, they are a warning."""

NARROW = 0.05
"""Standard deviations below are a warning: the input is smaller than the noise of the first weights' draw."""

LARGE = 20.0
"""Values beyond, in absolute value, are a warning: standardised pictures reach 3, log spectra 10."""


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """Moments of the inputs by channel; none for whole numbers, which are looked up and not multiplied."""
    x = subject.x
    if not x.is_floating_point():
        return None
    rows = x.detach().double().transpose(0, 1).flatten(1) if x.ndim > 2 else x.detach().double().reshape(1, -1)
    finite = torch.isfinite(rows)
    return {
        "mean": rows.mean(1).tolist(),
        "std": rows.std(1, correction=0).tolist(),
        "lowest": rows.min().item(),
        "highest": rows.max().item(),
        "bad_share": 1 - finite.double().mean().item(),
        "binary": bool(((rows == 0) | (rows == 1)).all()),
    }


@register(
    "diagnosis",
    paper="LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, section 4.3",
    year=1998,
    when="before",
    level="quick",
    causes=(
        "loss_at_start", "scale_at_start", "saturation", "dead_relus", "exploding_gradient", "vanishing_gradient",
        "not_finite", "lr_too_high", "lr_too_low", "cannot_overfit_one_batch", "underfitting",
    ),
    of_trained=True,
    measure=measure,
)  # fmt: skip
def input_scale(history: History) -> list[Finding]:
    """The inputs are far from mean 0 and spread 1."""
    seen = history.own("input_scale")
    if seen is None:
        return []
    step = history.now.step
    if seen["bad_share"]:
        return [
            Finding(
                "input_scale",
                "critical",
                f"{100 * seen['bad_share']:.3g} % of the inputs are infinite or not a number",
                means="one such value makes the loss, and with the first step every weight, not a number",
                remedy=Remedy("find the examples and repair them where they are read"),
                refuted_by="none: every finite input stays finite on the way to the network",
                confidence=1.0,
                step=step,
                seen={"bad_share": seen["bad_share"]},
            )
        ]
    if seen["binary"]:
        return []
    # a channel that is always the same says nothing of scale
    channels = [(abs(m), s) for m, s in zip(seen["mean"], seen["std"], strict=True) if s > 0]
    if not channels:
        return []  # ignores_input's
    off = max(mean / std for mean, std in channels)
    narrowest, widest = min(std for _, std in channels), max(std for _, std in channels)
    largest = max(abs(seen["lowest"]), abs(seen["highest"]))
    sick = off > FAR_OFF or narrowest < NARROW or widest > SPREAD[1] or largest > LARGE
    told = off > OFF_CENTRE or narrowest < SPREAD[0]
    if not (sick or told):
        return []
    layers = history.now.layers
    normalised = bool(layers) and "norm" in layers[0].kind.lower()
    mean = sum(seen["mean"]) / len(seen["mean"])
    std = math.sqrt(sum(one * one for one in seen["std"]) / len(seen["std"]))
    return [
        Finding(
            "input_scale",
            "warning" if sick and not normalised else "information",
            f"inputs go from {seen['lowest']:.3g} to {seen['highest']:.3g}, with mean {mean:.3g} and standard "
            f"deviation {std:.3g}; weights are drawn for 0 and 1"
            + (", but the first layer normalises" if normalised else ""),
            means="the first layer's outputs are off by as much, and one learning rate cannot suit all layers"
            if sick
            else "training works, most often a little slower than with mean 0 and standard deviation 1",
            remedy=Remedy(f"subtract {mean:.3g} and divide by {std:.3g}, by channel, as `engram train` does by itself"),
            refuted_by="the same network learning as fast on standardised inputs at its best learning rate",
            confidence=0.8 if sick else 0.4,
            step=step,
            seen={"mean": mean, "std": std, "off_centre": off, "largest": largest, "limit": FAR_OFF},
        )
    ]
