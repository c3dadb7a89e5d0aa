"""Residual branches that shrink to the identity: blocks that hand on what they are given, and might as well be absent.

    r_l = rms (F_l(x) - mean F_l) / rms (x - mean x)        of a block x + F_l(x), means over the batch;
    and how the loss changes when F_l is left out, but for its mean

A residual block learns what to add. Where decay pulls harder at its weights than the data do, F fades, and depth with
it: the network computes as a shallower one would. It need not cost accuracy, as it was of no use, and that is also the
hint: such a block can be removed. Behind a batch norm the branch does not shrink, since the norm undoes it; there the
norm's factor fades and its shift is what remains, the same for every example. So the mean is taken off: without that a
branch that was constant to six digits still had r = 0.011. The batch's statistics are used, as averages that trail
behind such weights say little.

A block that begins at 0 on purpose (zero-gamma, Fixup, ReZero) rises; what is looked for is one that had a say, r >
0.05, or a fifth of the run to get one, is now under 0.01 and not rising, and whose removal changes the loss by less
than a thousandth of that of guessing.

Sick: SGD at 0.02 with an L2 of 0.3 on the branches alone, r from 0.34 to 0.0006, all eight removals under 1e-3,
accuracy kept at 0.96. Healthy: a decay of 1e-4, 0.52; a start at zero, which rose to 0.31. AdamW with a decay of 3 does
not collapse.

What it cannot see: shortcuts with a projection, and branches that are joined otherwise than by an addition.

He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027, section 2; Veit, Wilber and Belongie
2016, arXiv:1605.06431 (removal); Goyal et al. 2017, arXiv:1706.02677, section 5.1 (zero-gamma).
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.residuals import additions
from engram.clinic.signals import guessing
from engram.clinic.subject import Subject
from engram.registry import register

IDENTITY = 0.01
"""Of rms F over rms x; healthy branches had 0.3 to 0.5."""

SPOKE = 0.05
"""A branch that was over this had a say."""

WAITED = 0.2
"""Share of the run in which one that began at 0 should have got one."""

REMOVED = 1e-3
"""Share of the loss of guessing by which a removal may change the loss."""

SAMPLES = 64


def branches(subject: Subject) -> Mapping[str, Any] | None:
    """By residual block: its ratio, and where that is small, the change of the loss when its branch is left out."""
    net, x, y = subject.copy(batch_statistics=True), subject.x[:SAMPLES], subject.y[:SAMPLES]
    with torch.no_grad():
        with additions(net) as seen:
            loss = float(subject.cost(net, x, y))
        if not seen.found:
            return None
        removed: dict[str, float] = {}
        names = _named([one.name for one in seen.found])
        for number, (name, one) in enumerate(zip(names, seen.found, strict=True)):
            if one.ratio < IDENTITY:
                with additions(net, silent=number):
                    removed[name] = float(subject.cost(net, x, y)) - loss
    ratios = {name: one.ratio for name, one in zip(names, seen.found, strict=True)}
    return {"ratios": ratios, "removed": removed, "loss": loss}


def _named(names: list[str]) -> list[str]:
    """Names of the modules the additions stand in; a second one in the same has #2."""
    counts: dict[str, int] = {}
    named = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        named.append((name or "the network") + ("" if counts[name] == 1 else f"#{counts[name]}"))
    return named


@register(
    "diagnosis",
    paper="He et al. 2016, arXiv:1603.05027, section 2; Veit et al. 2016",
    year=2016,
    when="during",
    level="standard",
    causes=("underfitting",),
    measure=branches,
)
def residual_identity(history: History) -> list[Finding]:
    """Residual branches that have faded, so that their blocks hand on what they are given."""
    rows = [(one.step, one.own["residual_identity"]) for one in history.moments if "residual_identity" in one.own]
    if len(rows) < 2:
        return []
    step, now = rows[-1]
    guess = guessing(history) or max(now["loss"], 1e-12)
    progress = history.progress(step) or 0.0
    faded: list[str] = []
    for name, ratio in now["ratios"].items():
        earlier = [own["ratios"][name] for _, own in rows[:-1] if name in own["ratios"]]
        had_say = bool(earlier) and max(earlier) > SPOKE
        # two measurements back, so that one that fluctuates is not taken to rise
        rising = bool(earlier) and ratio > 1.1 * min(earlier[-2:])
        useless = abs(now["removed"].get(name, float("inf"))) < REMOVED * guess
        if ratio < IDENTITY and useless and not rising and (had_say or progress >= WAITED):
            faded.append(name)
    if not faded:
        return []
    least = min(faded, key=lambda name: now["ratios"][name])
    before = max(own["ratios"].get(least, 0.0) for _, own in rows)
    blocks = len(now["ratios"])
    most = 2 * len(faded) >= blocks
    decay = history.setup.weight_decay
    return [
        Finding(
            "residual_identity",
            "warning" if most else "information",
            f"{len(faded)} of {blocks} residual branches add less than {IDENTITY:g} of what they are added to; that of "
            f"{least} {now['ratios'][least]:.2g}, once {before:.2g}; left out, the loss changes by less than "
            f"{REMOVED * guess:.2g}",
            means="these blocks hand on what they are given: the network computes as a shallower one",
            remedy=Remedy(
                "less weight decay, or remove these blocks: nothing will be missed",
                {"optimizer.weight_decay": float(f"{decay / 10:.3g}")} if decay else {},
            ),
            refuted_by="a test accuracy that falls when these branches are left out",
            confidence=0.8 if most else 0.6,
            step=step,
            where=tuple(faded),
            seen={
                "faded": len(faded),
                "blocks": blocks,
                "ratio": now["ratios"][least],
                "once": before,
                "identity": IDENTITY,
                "spoke": SPOKE,
                "removed": REMOVED,
            },
        )
    ]
