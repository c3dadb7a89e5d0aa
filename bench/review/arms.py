"""The methods that are compared, and the four trials each is tuned by: as many for all, on validation data.

A trial is a set of settings over the workload's own; `rate` multiplies the workload's learning rate.
"""

from typing import Any

Trial = dict[str, Any]

TRIALS: dict[str, tuple[Trial, ...]] = {
    # plain shuffling with a complete schedule at the same visits, its rate tuned for them: the baseline to beat
    "shuffle": ({"rate": 1}, {"rate": 0.5}, {"rate": 2}, {"rate": 3}),
    "infobatch": ({}, {"rate": 2}, {"review.drop": 0.8}, {"review.drop": 0.8, "review.rescale": "normalised"}),
    "order_dp": ({}, {"rate": 2}, {"review.pool": 0.8}, {"review.top": 0.4}),
    "repb": ({}, {"rate": 2}, {"review.rho": 0.8}, {"review.rho": 0.8, "rate": 2}),
    "seta": ({}, {"rate": 2}, {"review.cut": 0.3}, {"review.window": 0.7}),
    "leitner": ({}, {"rate": 2}, {"review.boxes": 3}, {"review.jitter": 0.5}),
    "repeat_before_forgetting": ({}, {"rate": 2}, {"review.eta": 0.8}, {"review.kernel": "gaussian"}),
    "rs2": ({}, {"rate": 2}, {"review.share": 0.3}, {"review.share": 0.3, "rate": 2}),
    "dynamic_random": ({}, {"rate": 2}, {"review.share": 0.3}, {"review.share": 0.3, "rate": 2}),
    "el2n": ({}, {"rate": 2}, {"review.keep": 0.7}, {"review.keep": 0.7, "rate": 2}),
    "forgetting_events": ({}, {"rate": 2}, {"review.keep": 0.5}, {"review.keep": 0.5, "rate": 2}),
    "selective_backprop": ({}, {"rate": 2}, {"review.form": "rank"}, {"review.beta": 2.0}),
    "self_paced": ({}, {"rate": 2}, {"review.start": 0.8}, {"review.growth": 1.1}),
    "forgetting_curve": ({}, {"rate": 2}, {"review.save": 0.7}, {"review.save": 0.7, "rate": 2}),
    "auto": ({}, {"rate": 2}, {"review.retention": 0.95}, {"review.retention": 0.8}),
    "auto, not asked": ({}, {"rate": 2}, {"review.retention": 0.95}, {"review.retention": 0.8}),
}
"""Each method's defaults first: its paper's settings where that states them. OrderDP's are ours (its program has pool
0.75 and top 0.85), and so is RePB's rho. `auto` is the forgetting curve that saves by itself; `not asked`, without
trying what absence costs."""

FURTHER: dict[str, tuple[Trial, ...]] = {
    "shuffle": ({"rate": 4.5}, {"rate": 6}),
    "infobatch": ({"rate": 3}, {"rate": 4.5}),
    "forgetting_curve": ({"rate": 3}, {"review.save": 0.3, "rate": 3}),
    "auto": ({"rate": 3}, {"review.retention": 0.95, "rate": 3}),
    "auto, not asked": ({"rate": 3}, {"review.retention": 0.95, "rate": 3}),
}
"""Two trials more for those that come near, where shuffling's best of the first four was the highest rate."""

OWN: dict[str, dict[str, tuple[Trial, ...]]] = {
    "cifar10-10k-vgg-others": {
        **{name: TRIALS[name] + FURTHER[name] for name in ("shuffle", "infobatch", "forgetting_curve")},
        "auto": (
            {"review.absence": False},
            {"review.absence": False, "rate": 2},
            {"review.absence": False, "rate": 3},
            {"review.absence": True, "rate": 2},
            {"review.absence": True, "rate": 3},
            {"review.absence": True, "rate": 4.5},
        ),
    }
}
"""Of a workload with trials of its own, which take the place of the others: as many for each method again."""

BASE: dict[str, Trial] = {
    "auto": {"review": "forgetting_curve", "review.save": "auto"},
    "auto, not asked": {"review": "forgetting_curve", "review.save": "auto", "review.absence": False},
}
"""What an arm is, where its name is not the method's."""

EARLIER: dict[str, float] = {"el2n": 0.1, "forgetting_events": 1.0}
"""What prunes by the ledger of an earlier, shuffled run: that run's part of the full run's visits. They are not charged
to the method."""

CONTROLS: dict[str, Trial] = {
    "permuted": {"review.permuted": True},
    "no forgetting": {"review.forgetting": False},
    "not suspended": {"review.suspend": False},
    "permuted, not suspended": {"review.permuted": True, "review.suspend": False},
    "no forgetting, not suspended": {"review.forgetting": False, "review.suspend": False},
}
"""Laid over the tuned forgetting curve: same exposure without knowledge of the examples; strength without decay; what
looks wrongly labelled not left out."""

UNASKED: Trial = {"review.save": "auto", "review.absence": False}  # what absence costs

ABLATIONS: dict[str, Trial] = {
    "as tuned": {},
    "clock: steps": {"review.clock": "steps"},
    "clock: visits": {"review.clock": "visits"},
    "recall: correct": {"review.measure": "correct"},
    "recall: relative": {"review.measure": "relative"},
    "memory: exponential": {"review.memory": "exponential"},
    "memory: power_law": {"review.memory": "power_law"},
    "memory: half_life": {"review.memory": "half_life"},
    "forgetting off": {"review.forgetting": False},
    "exponent 0.5": {"review.exponent": 0.5},
    "exponent 1": {"review.exponent": 1.0},
    "save auto": {"review.save": "auto"},
    "save auto, rate 2": {"review.save": "auto", "rate": 2},
    "save auto, not asked": UNASKED,
    "save auto, not asked, retention 0.95": {**UNASKED, "review.retention": 0.95},
    "save auto, not asked, retention 0.95, rate 3": {**UNASKED, "review.retention": 0.95, "rate": 3},
    "save auto, not asked, rate 3": {**UNASKED, "rate": 3},
    "rate 3": {"rate": 3},
    "save 0.3": {"review.save": 0.3},
    "save 0.5": {"review.save": 0.5},
    "floor 0.02": {"review.floor": 0.02},
    "floor 0.25": {"review.floor": 0.25},
    "save 0.8": {"review.save": 0.8},
    "save 0.8, floor 0.02": {"review.save": 0.8, "review.floor": 0.02},
    "class quotas": {"review.classes": True},
    "no last phase": {"review.tail": 0.0},
    "last phase 0.25": {"review.tail": 0.25},
    "window 0.25": {"review.window": 0.25},
    "window 0.1": {"review.window": 0.1},
    "not suspended": {"review.suspend": False},
    "leeches not held back": {"review.leeches": False},
    "permuted": {"review.permuted": True},
    "shuffle": {"review": "shuffle"},
    "shuffle, rate 1": {"review": "shuffle", "rate": 1},
}
"""One change each to the tuned forgetting curve; `rate` multiplies the workload's own learning rate."""


def settings(name: str, trial: Trial, lr: float) -> Trial:
    """The recipe's settings of a trial of an arm."""
    own = {**BASE.get(name, {"review": name}), **trial}
    rate = own.pop("rate", 1)
    return {**own, "optimizer.lr": lr * rate}


def changed(own: Trial, change: Trial, lr: float) -> Trial:
    """Settings with a change laid over them; its `rate` multiplies the workload's learning rate.

    >>> changed({"optimizer.lr": 0.2, "review.save": 0.5}, {"rate": 4}, 0.5)
    {'optimizer.lr': 2.0, 'review.save': 0.5}
    """
    rate = {"optimizer.lr": lr * change["rate"]} if "rate" in change else {}
    return {**own, **{key: value for key, value in change.items() if key != "rate"}, **rate}


def label(trial: Trial) -> str:
    """A trial in words.

    >>> label({"review.save": 0.7, "rate": 2})
    'save=0.7 rate=2'
    """
    return " ".join(f"{key.removeprefix('review.')}={value}" for key, value in trial.items()) or "as published"
