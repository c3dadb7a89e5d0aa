"""The course's Solver: batches drawn with putting back, one rule for all parameters, the best weights kept."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Examples = tuple[np.ndarray, np.ndarray]


def passes(
    net: Any,
    train: Examples,
    *,
    rule: Callable[..., Any],
    rate: float,
    epochs: int,
    batch: int = 100,
    decay: float = 1.0,
    rng: Any,
) -> Iterator[int]:
    """Train `net` by `rule`, a state for each parameter, and stop after each pass, whose number is given."""
    X, y = train
    settings = {name: {"learning_rate": rate} for name in net.params}
    for epoch in range(epochs):
        for _ in range(max(1, len(X) // batch)):
            places = rng.choice(len(X), batch)
            _, gradients = net.loss(X[places], y[places])
            for name, gradient in gradients.items():
                net.params[name], settings[name] = rule(net.params[name], gradient, settings[name])
        for config in settings.values():
            config["learning_rate"] *= decay
        yield epoch


def solve(net: Any, train: Examples, choose: Examples, **settings: Any) -> float:
    """Train as `passes` does and leave the weights in `net` that were best on `choose` after one of them.

    Returns:
        their accuracy on `choose`.
    """
    best, kept = -1.0, dict(net.params)
    for _ in passes(net, train, **settings):
        reached = accuracy(net, *choose)
        if reached > best:
            best, kept = reached, dict(net.params)
    net.params.update(kept)
    return best


def accuracy(net: Any, X: np.ndarray, y: np.ndarray, batch: int = 500) -> float:
    """The share whose best score is their own class's."""
    parts = [np.asarray(net.loss(X[at : at + batch])).argmax(1) for at in range(0, len(X), batch)]
    return float((np.concatenate(parts) == y).mean())
