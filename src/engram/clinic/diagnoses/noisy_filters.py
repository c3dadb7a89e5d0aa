"""Noisy filters: first-layer filters that look like the noise they were drawn from.

    roughness = mean (w_i - w_j)² over neighbouring taps  /  2 var(w),  filter by filter, the mean taken out

Of white noise it is 1, of a smooth blob or edge far less: neighbouring pixels are alike, so what is learned from them
is too. Filters that still measure 1 at the end were not trained long enough, or with too small a rate, or are kept from
their data's structure by too little regularisation.

Only of filters of 5 x 5 and more: of 3 x 3 the best edge detectors are as rough as noise. And only of those that have
been trained at all.

Sick: LeNet-5 on MNIST at a rate of 1e-4 (1.05, and 60 % right after 560 steps). Healthy: the same at its own rate (0.79
and 0.80, two seeds, 98 % right).

What it cannot see: filters that are smooth and useless.

Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901, section 4.1; the course's
notes call noisy first-layer filters a sign of a network that has not been trained for long enough.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

LEAST_SIDE = 5
"""Taps a side."""

ROUGH = 0.9
"""Roughness from which filters look like noise; noise itself measured 0.87 to 1.15 in 98 % of 6 filters of 5 x 5."""


def filters(subject: Subject) -> Mapping[str, Any] | None:
    """The roughness of the first convolution with large filters, where the network begins with one."""
    first = next(
        ((name, one) for name, one in subject.original.named_modules() if isinstance(one, nn.Conv1d | nn.Conv2d)), None
    )
    if first is None or min(first[1].kernel_size) < LEAST_SIDE:
        return None
    return {"layer": first[0], "side": min(first[1].kernel_size), "roughness": roughness(first[1].weight.detach())}


def roughness(weight: Tensor) -> float:
    """Of filters (K, C, *S): differences of neighbours over twice the variance; 1 of white noise, 0 of flat filters.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> noise = torch.randn(64, 1, 7, 7)
    >>> round(roughness(noise), 1), round(roughness(torch.nn.functional.avg_pool2d(noise, 5, 1, 2)), 1)
    (1.0, 0.2)
    """
    axes = tuple(range(2, weight.ndim))
    centred = weight.double() - weight.double().mean(axes, keepdim=True)
    variance = centred.square().mean().item()
    steps = [centred.diff(dim=axis).square().mean().item() for axis in axes]
    # taking the mean out of n taps takes a share 1/n of the variance of noise with it
    taps = weight[0, 0].numel()
    return sum(steps) / len(steps) / (2 * variance * taps / (taps - 1)) if variance > 0 else 0.0


@register(
    "diagnosis",
    paper="Zeiler and Fergus 2014, arXiv:1311.2901, section 4.1",
    year=2014,
    when="after",
    level="standard",
    causes=(),
    of_trained=True,
    measure=filters,
)
def noisy_filters(history: History) -> list[Finding]:
    """First-layer filters look like the noise they were drawn from."""
    seen = history.own("noisy_filters")
    if seen is None or seen["roughness"] < ROUGH or not history.now.step:
        return []
    return [
        Finding(
            "noisy_filters",
            "information",
            f"neighbouring weights of {seen['layer']}, whose filters are {seen['side']} wide, differ "
            f"{seen['roughness']:.2f} times as much as those of noise, not under {ROUGH:g}",
            means="the first layer has found no edges or blobs: it hands on a random mixture of pixels",
            remedy=Remedy("train longer, at a larger rate if the loss falls slowly, or with weight decay"),
            refuted_by="the first layer's pictures in the report, that show edges or colours",
            confidence=0.6,
            step=history.now.step,
            where=(seen["layer"],),
            seen={"roughness": seen["roughness"], "rough": ROUGH},
        )
    ]
