"""Gradient through time: how far back a recurrent network's loss can still say what should have been.

    g_t = mean over samples of ‖∂L / ∂x_t‖₂,    horizon h = steps back from the last over which g falls to a thousandth

Of sequences of several lengths each is counted back from its own last step, and the longer half of them is averaged. Of
a network that foresees something at every step, L is the loss of the last step alone: the short ways of the others
would hide the long one.

Every step back multiplies the gradient by the same recurrent matrix and the slope of the nonlinearity, so that it fades
or grows with a power of the length: the largest singular value under 1 fades, far over 1 explodes. What is measured is
the gradient with respect to the inputs of the recurrent layer, which fades alike and is there whatever the layer's
inside.

LSTM and GRU look faded at their start, with a horizon of 15 of 60 steps, and learn all the same. So a short horizon is
a fact; it costs only where the task needs more, which nobody but its owner knows. Growing is an alarm by itself.

Sick: tanh with an orthogonal matrix times 0.5 (h = 9), times 2 (2.7e3 over 60 steps), times 3 (9e7). Healthy: times 1
(31), times 1.5 (2.0), LSTM with a forget bias of 3 (2.7).

What it cannot see: cells written by hand, step by step; a loss of one's own at every step, whose short ways hide the
long one.

Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 2; Jozefowicz, Zaremba and
Sutskever 2015, An empirical exploration of recurrent network architectures, section 4 (forget bias).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import IGNORED, Subject, foreseen, mean_of, scores_of
from engram.clinic.untouched import differentiable
from engram.registry import register

EXPLODES = 1e3
"""Gradient at the first step over that at the last; twice an orthogonal matrix had 2.7e3 over 60 steps."""

FADED = 1e-3
"""Of the gradient at the last step: beyond, nothing arrives. Sets the horizon."""

SHORT = 0.5
"""Share of the sequence under which a horizon is told; LSTM at its start has 0.25 and learns."""

LEAST = 8
"""Time steps below which there is no far back."""

SAMPLES = 32


@dataclass
class _Heard:
    """What one recurrent layer was given."""

    kind: str
    leaf: Tensor  # (B, T, D) or (T, B, D); of packed sequences (all steps, D)
    batch_first: bool
    packed: PackedSequence | None

    def by_sample(self, gradient: Tensor) -> list[Tensor]:
        """Norms of the gradient by step, (T,) for each sample, without steps that it has not."""
        norms = torch.linalg.vector_norm(gradient.double(), dim=-1)
        if self.packed is None:
            return list(norms if self.batch_first else norms.T)
        padded, lengths = pad_packed_sequence(PackedSequence(norms, *self.packed[1:]), batch_first=True)
        return [one[:length] for one, length in zip(padded, lengths.tolist(), strict=True)]


def horizons(subject: Subject) -> Mapping[str, Any] | None:
    """By recurrent layer: norms of the gradient by time step, of the probe batch's loss."""
    net = subject.copy()
    layers = {name: one for name, one in net.named_modules() if isinstance(one, nn.RNNBase)}
    if not layers:
        return None
    kept: dict[str, _Heard] = {}
    handles = []
    for name, layer in layers.items():

        def keep(module: nn.Module, args: Any, name: str = name) -> Any:
            packed = args[0] if isinstance(args[0], PackedSequence) else None
            given = args[0] if packed is None else packed.data
            if not isinstance(given, Tensor) or (packed is None and given.ndim != 3):
                return None
            leaf = given if given.requires_grad else given.detach().requires_grad_()
            kept[name] = _Heard(type(module).__name__, leaf, bool(module.batch_first), packed)
            return (leaf if packed is None else PackedSequence(leaf, *packed[1:]), *args[1:])

        handles.append(layer.register_forward_pre_hook(keep))
    with torch.enable_grad(), differentiable(net):
        loss = _last_loss(subject, net)
        names = list(kept)
        inputs = [kept[name].leaf for name in names]
        found = torch.autograd.grad(loss, inputs, allow_unused=True) if inputs and loss.requires_grad else ()
    for handle in handles:
        handle.remove()
    told: dict[str, Any] = {}
    for name, gradient in zip(names, found, strict=False):
        if gradient is not None:
            norms = _together(kept[name].by_sample(gradient))
            told[name or "the network"] = {"norms": norms, "kind": kept[name].kind}
    return {"layers": told} if told else None


def _last_loss(subject: Subject, net: nn.Module) -> Tensor:
    """The loss; of a network that foresees something at every step, that of the last which counts, of each sample."""
    x, y = subject.part(SAMPLES)
    output = subject.call(net, x, y)
    scores = scores_of(output)
    every = isinstance(scores, Tensor) and scores.ndim == 3 and scores.shape[:2] == y.shape
    if not every or subject.outputs is not foreseen:
        return subject.loss(output, y)
    counts = y != IGNORED
    last = (counts * torch.arange(1, y.shape[1] + 1, device=y.device)).argmax(1)
    rows = torch.arange(len(y), device=y.device)[counts.any(1)]
    last = last[rows]
    return mean_of(scores[rows, last], y[rows, last])


def _together(by_sample: list[Tensor]) -> list[float]:
    """Mean over samples, step by step, each counted back from the last that its loss hears; of the longer half of them.

    >>> _together([torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 0.0]), torch.tensor([3.0])])
    [6.0, 12.0]
    """
    heard = [one[: int(one.nonzero().max()) + 1] for one in by_sample if bool(one.any())]
    if not heard:
        return [0.0] * max(map(len, by_sample), default=0)
    steps = sorted(map(len, heard))[len(heard) // 2]
    long = torch.stack([one[-steps:] for one in heard if len(one) >= steps])
    return (long.mean(0) * len(by_sample)).tolist()


def horizon(norms: list[float]) -> int:
    """Steps back from the last at which the gradient is still over a thousandth of the last one's.

    >>> horizon([1e-9, 1e-5, 1e-2, 1e-1, 1.0])
    2
    """
    steps = 0
    for value in reversed(norms[:-1]):
        if value < FADED * norms[-1]:
            break
        steps += 1
    return steps


@register(
    "diagnosis",
    paper="Bengio et al. 1994; Pascanu et al. 2013, section 2",
    year=1994,
    when="during",
    level="full",
    causes=("not_finite", "underfitting"),
    measure=horizons,
)
def gradient_through_time(history: History) -> list[Finding]:
    """The gradient of a recurrent layer fades or grows over the time steps."""
    own = history.own("gradient_through_time")
    findings: list[Finding] = []
    for name, one in ((own or {}).get("layers") or {}).items():
        norms = one["norms"]
        if len(norms) < LEAST:
            continue
        finite = all(map(math.isfinite, norms))
        if finite and norms[-1] <= 0:
            continue
        ratio = norms[0] / norms[-1] if finite else math.inf
        reach = horizon(norms) if finite else 0
        grows = not finite or ratio > EXPLODES
        if not grows and reach >= SHORT * len(norms):
            continue
        simple = one["kind"] == "RNN"
        severity = "critical" if grows else "warning" if simple else "information"
        if grows:
            says = f"the gradient at the first of {len(norms)} steps is {ratio:.2g} times the last's, over {EXPLODES:g}"
            means = "what happened long ago is all that the weights hear, and a step by it is far too large"
            remedy = Remedy(
                "clip the gradient's norm, and draw the recurrent weights orthogonal",
                {
                    "clip_norm": 1.0,
                    "initializer": ("orthogonal",),
                },
            )
        else:
            says = f"{reach} steps back the gradient has fallen to a thousandth, of {len(norms)} steps in all"
            means = "what lies further back cannot be learned from; if the task does not need it, nothing is lost"
            remedy = Remedy(
                "an LSTM or GRU in its place" if simple else "a forget bias of 1 to 3, or a shorter way to the past",
            )
        findings.append(
            Finding(
                "gradient_through_time",
                severity,
                says,
                means=means,
                remedy=remedy,
                refuted_by="a loss that rises when the inputs further back are set to zero" if not grows
                else "the same measurement on other examples that does not grow",
                confidence=0.9 if grows else 0.6,
                step=history.now.step,
                where=(name,),
                seen={"ratio": ratio, "horizon": reach, "steps": len(norms), "explodes": EXPLODES, "faded": FADED,
                      "short": SHORT},
            )
        )  # fmt: skip
    return findings
