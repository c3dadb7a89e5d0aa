"""The network ignores its input: whatever goes in, the same comes out.

    v = std over examples of the scores / rms of the scores, after a few steps;      sick: v < 1e-4

The loss still falls, to the entropy of the labels: the network learns how frequent each class is and nothing else. Two
causes are told apart: the inputs are all alike (a data loader that returns one picture, or zeros), or the network makes
them alike (a dead layer, `detach`, signals that shrink to nothing). Four steps are made on a copy first, since a last
layer that begins at zero answers everything alike until then.

Sick: constant inputs (loss 1.733, the entropy of the batch's labels, to four digits); every ReLU dead. Healthy: random
networks; a last layer of zeros.

What it cannot see: a network that looks at one pixel.

Karpathy 2019, A recipe for training neural networks, "input-independent baseline". Braiek and Khomh 2022,
TheDeepChecker, arXiv:2204.00694.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject, scores_of
from engram.registry import register

LEAST_VARIATION = 1e-4
"""Of the scores over examples, relative; float32 alone makes 1e-7."""

STEPS, SAMPLES, LR = 4, 64, 1e-3


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """How much inputs and scores differ from example to example."""
    x, y = subject.x[:SAMPLES], subject.y[:SAMPLES]
    net = subject.copy(batch_statistics=True)
    trainable = [one for one in net.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=LR) if trainable else None
    for _ in range(STEPS if optimizer is not None else 0):
        loss = subject.cost(net, x, y)
        if not loss.requires_grad or not torch.isfinite(loss):
            break
        net.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()  # type: ignore[union-attr]
    with torch.no_grad():
        # a network that reads the labels before its own is given everybody the same: only the inputs differ
        scores = scores_of(subject.call(net, x, y[:1].expand_as(y)))
    if not isinstance(scores, torch.Tensor) or scores.shape[:1] != x.shape[:1]:
        return None
    scores = scores.double()
    rms = scores.square().mean().sqrt()
    return {
        "inputs_alike": bool((x == x[:1]).all()),
        "variation": ((scores - scores.mean(0)).square().mean().sqrt() / rms).item() if rms > 0 else 0.0,
        "finite": bool(torch.isfinite(scores).all()),
        "steps": STEPS,
    }


@register(
    "diagnosis",
    paper="Karpathy 2019, A recipe for training neural networks",
    year=2019,
    when="before",
    level="quick",
    causes=("cannot_overfit_one_batch", "underfitting", "vanishing_gradient", "unused_parameters", "class_collapse"),
    of_trained=True,
    measure=measure,
)
def ignores_input(history: History) -> list[Finding]:
    """Whatever goes in, the same comes out."""
    seen = history.own("ignores_input")
    if seen is None or not seen["finite"]:
        return []
    if not seen["inputs_alike"] and seen["variation"] >= LEAST_VARIATION:
        return []
    alike = seen["inputs_alike"]
    entropy = history.setup.entropy
    dead = tuple(one.name for one in history.now.layers if one.dead is not None and one.dead == one.units)
    return [
        Finding(
            "ignores_input",
            "critical",
            "the inputs of all examples are equal"
            if alike
            else f"the scores of different examples differ by {seen['variation']:.2g} of their size",
            means="only the classes' frequencies can be learnt"
            + ("" if entropy is None else f": the loss will stop at {entropy:.4g}, the entropy of the labels"),
            remedy=Remedy(
                "look at what the data set returns for different examples"
                if alike
                else "look for a dead layer, a detach(), or signals that shrink from layer to layer; draw by He's rule",
                {} if alike else {"initializer": ("he",)},
            ),
            refuted_by="a loss below the entropy of the labels, on examples it was not trained on",
            confidence=0.95,
            step=history.now.step,
            where=dead,
            seen={"variation": seen["variation"], "inputs_alike": alike, "limit": LEAST_VARIATION},
        )
    ]
