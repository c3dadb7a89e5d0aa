"""Attention that has collapsed on single places, or looks everywhere alike.

    by head  e = mean over queries of H(attention) / ln n        0: one place, always    1: all n places alike

A head whose scores have grown too large picks one place and passes no gradient to the others, as a saturated softmax
does; training then often becomes unstable. A head that stays at 1 is an expensive mean. At the start, near 1 is right:
it is only a finding in the last half of the training.

Sick: queries ten times as large, 0.11; a query matrix of zeros, 1.00. Healthy: random queries and keys 0.88, five times
as large 0.25.

The maps are computed again from queries and keys where the fused kernel of torch never makes them; a softmax written
out over a square of scores is seen as well.

What it cannot see: a head that is meant to look at one place, such as the one before, and looks there rightly: such a
head is also at 0. So it is critical never, and a warning only where it is most of the heads.

Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse, arXiv:2303.06296; Michel,
Levy and Neubig 2019, arXiv:1905.10650 (heads that can go).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import changed_rate
from engram.clinic.subject import Subject
from engram.registry import register

COLLAPSED = 0.1
"""Of e; queries ten times too large have 0.11, five times 0.25."""

UNIFORM = 0.98
"""Of e; random queries and keys have 0.88."""

LATER = 0.5
"""Share of the run after which looking everywhere alike means something."""

MOST = 0.5
"""Share of the heads from which it is more than a fact."""

SAMPLES = 16


def entropies(subject: Subject) -> Mapping[str, Any] | None:
    """By call of attention and head: entropy of its map over the largest there could be."""
    # with gradients on, as the fast path of torch's own attention without them shows no map
    with torch.enable_grad(), _Maps() as seen:
        subject.call(subject.copy(), *subject.part(SAMPLES))
    return {"heads": seen.found} if seen.found else None


class _Maps(TorchFunctionMode):
    """While it is entered, every attention map is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[float]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        with torch._C.DisableTorchFunction():
            if name == "multi_head_attention_forward":  # nothing inside of it is seen, but it gives its maps if asked
                self._note(func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})[1])
            elif name == "scaled_dot_product_attention" and len(args) >= 2:
                self._note(_map(args[0], args[1], kwargs, args[3:]))
            elif name == "softmax" and isinstance(output, Tensor) and output.ndim >= 3:
                axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
                if axis in (-1, output.ndim - 1) and output.shape[-1] == output.shape[-2] > 1:
                    self._note(output)
        return output

    def _note(self, attention: Tensor) -> None:
        if attention.shape[-1] > 1:
            self.found.append(relative_entropy(attention.detach()).tolist())


def relative_entropy(attention: Tensor) -> Tensor:
    """(heads,) of maps (B, heads, queries, keys), or one value of (B, queries, keys).

    >>> alike, one = torch.full((2, 3, 4, 4), 0.25), torch.eye(4).expand(2, 4, 4)
    >>> relative_entropy(alike).tolist(), relative_entropy(one).tolist()
    ([1.0, 1.0, 1.0], [0.0])
    """
    attention = attention.float()
    entropy = torch.special.entr(attention).sum(-1) / math.log(attention.shape[-1])  # (B, heads, queries)
    if entropy.ndim == 2:
        entropy = entropy.unsqueeze(1)
    return entropy.flatten(0, -3).mean((0, 2)) if entropy.ndim > 2 else entropy.mean().reshape(1)


def _map(query: Tensor, key: Tensor, kwargs: Mapping[str, Any], more: tuple[Any, ...]) -> Tensor:
    """The map that the fused kernel does not keep."""
    scale = kwargs.get("scale") or query.shape[-1] ** -0.5
    if key.shape[-3:-2] != query.shape[-3:-2] and key.ndim == query.ndim:  # grouped queries
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query.float() @ key.float().transpose(-2, -1) * scale
    mask = kwargs.get("attn_mask", more[0] if more else None)
    if kwargs.get("is_causal", more[2] if len(more) > 2 else False):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


@register(
    "diagnosis",
    paper="Zhai et al. 2023",
    year=2023,
    when="during",
    level="full",
    causes=("underfitting",),
    measure=entropies,
)
def attention_collapse(history: History) -> list[Finding]:
    """Heads of attention that look at one place, or everywhere alike."""
    own = history.own("attention_collapse")
    if own is None:
        return []
    values = [(f"attention {call}, head {head}", value) for call, heads in enumerate(own["heads"], 1)
              for head, value in enumerate(heads, 1) if math.isfinite(value)]  # fmt: skip
    later = (history.progress() or 0.0) >= LATER
    findings: list[Finding] = []
    for word, limit, sick in (
        ("collapsed", COLLAPSED, [one for one in values if one[1] < COLLAPSED]),
        ("uniform", UNIFORM, [one for one in values if one[1] > UNIFORM and later]),
    ):
        if not sick:
            continue
        collapsed, share = word == "collapsed", len(sick) / len(values)
        middle = sum(value for _, value in sick) / len(sick)
        findings.append(
            Finding(
                "attention_collapse",
                "warning" if share >= MOST else "information",
                f"{len(sick)} of {len(values)} heads have an entropy of {middle:.2g} of the largest there is, "
                f"{'under' if collapsed else 'over'} {limit:g}",
                means="they look at one place whatever the input, and no gradient reaches the others"
                if collapsed
                else "they look at all places alike: a mean would do the same",
                remedy=Remedy(
                    "a third of the learning rate with a warm-up; normalise queries and keys"
                    if collapsed
                    else "train longer, or leave these heads out",
                    changed_rate(history, 1 / 3) if collapsed else {},
                ),
                refuted_by="a loss that rises when these heads are left out" if not collapsed
                else "heads that look at one place, and rightly: at the one before, or at the thing itself",
                confidence=0.6,
                step=history.now.step,
                where=tuple(name for name, _ in sick),
                seen={"heads": len(sick), "of": len(values), "entropy": middle, "collapsed": COLLAPSED,
                      "uniform": UNIFORM},
            )
        )  # fmt: skip
    return findings
