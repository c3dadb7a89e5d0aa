"""How good the predictions are, in numbers: pure functions of probabilities and labels, on NumPy.

N examples, K classes; `probabilities` (N, K), `labels` (N,) integers. Everything returned is plain Python, ready for
JSON. No torch: reports and comparisons read run folders without it.

What is divided by nothing is 0: the precision of a class never predicted, the recall of a class without examples, and
F1 where both are 0 (scikit-learn's `zero_division=0`). The row's `examples` tells the two apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

BINS = 15
"""Of the reliability diagram; Guo et al. 2017 use 15."""

SHOWN = 24
"""Pictures of the worst mistakes, and as many samples."""

FLOOR = float(np.finfo(np.float32).tiny)
"""Smallest probability the loss counts, 1.2e-38: one example given 0 costs 87 nats and not infinity, and nothing that
float32 can hold in full is changed."""


def summary(
    probabilities: NDArray[Any], labels: NDArray[Any], names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Everything the report says about one split; written to `evaluation/<split>.json`.

    Args:
        names: of the N examples, for the pictures.
        classes: the K names.

    Raises:
        UserError: no examples, or predictions that are not numbers.
        ValueError: shapes that do not belong together, or labels out of range.

    >>> two = summary(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), ["a.png", "b.png"], ["cat", "dog"])
    >>> two["accuracy"], two["confusion"], [row["name"] for row in two["worst"]]
    (0.5, [[1, 0], [1, 0]], ['b.png'])
    """
    _check(probabilities, labels, names, classes)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    table = confusion(labels, predicted, len(classes))
    ece, reliability = calibration(confidence, predicted == labels)

    def rows(indices: NDArray[Any]) -> list[dict[str, Any]]:
        return [
            {
                "index": int(i),
                "name": str(names[i]),
                "label": int(labels[i]),
                "predicted": int(predicted[i]),
                "probability": float(probabilities[i, labels[i]]),
                "confidence": float(confidence[i]),
            }
            for i in indices
        ]

    return {
        "examples": len(labels),
        "loss": loss(probabilities, labels),
        "accuracy": float((predicted == labels).mean()),
        "top5": top(probabilities, labels, 5) if len(classes) > 5 else None,
        "ece": ece,
        "reliability": reliability,
        "classes": [str(name) for name in classes],
        "per_class": per_class(table, classes),
        "confusion": table.tolist(),
        "worst": rows(worst(confidence, predicted != labels)),
        "samples": rows(samples(labels)),
    }


def loss(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean of -log of the probability of the true class, in nats, with `FLOOR` as the smallest probability.

    >>> round(loss(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1])), 4)  # log(2) / 2
    0.3466
    """
    return float(-np.log(np.maximum(_of_truth(probabilities, labels).astype(np.float64), FLOOR)).mean())


def top(probabilities: NDArray[Any], labels: NDArray[Any], k: int) -> float:
    """Share of examples whose class is among the k most probable; of equal ones the lower class counts first.

    >>> top(np.array([[0.2, 0.3, 0.5]]), np.array([1]), 2)
    1.0
    """
    truth = _of_truth(probabilities, labels)[:, None]
    lower = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > truth) | ((probabilities == truth) & lower)
    return float((ahead.sum(axis=1) < k).mean())


def confusion(labels: NDArray[Any], predicted: NDArray[Any], count: int) -> NDArray[np.int64]:
    """How often class i (row) was taken for class j (column): (K, K).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = labels.astype(np.int64) * count + predicted
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def per_class(table: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and their harmonic mean of every class, from the confusion table.

    >>> per_class(np.array([[1, 1], [0, 2]]), ["cat", "dog"])[1]["precision"]
    0.6666666666666666
    """
    right, examples, claimed = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    return [
        {
            "name": str(name),
            "examples": int(examples[i]),
            "precision": _share(right[i], claimed[i]),
            "recall": _share(right[i], examples[i]),
            "f1": _share(2 * right[i], claimed[i] + examples[i]),
        }
        for i, name in enumerate(classes)
    ]


def calibration(
    confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = BINS
) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error, and the reliability diagram: confidence and accuracy of the examples in each bin.

        ECE = Σ_b (n_b / N) |accuracy_b - confidence_b|

    Bins are of equal width; bin b holds confidences in (b / bins, (b + 1) / bins]. Bins without examples have no row.
    Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    >>> calibration(np.array([0.75, 0.75]), np.array([True, False]))
    (0.25, [{'confidence': 0.75, 'accuracy': 0.5, 'count': 2}])
    """
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count = np.bincount(bin_of, minlength=bins)
    mean = np.bincount(bin_of, weights=confidence, minlength=bins)[count > 0] / count[count > 0]
    accuracy = np.bincount(bin_of, weights=right, minlength=bins)[count > 0] / count[count > 0]
    rows = [
        {"confidence": float(c), "accuracy": float(a), "count": int(n)}
        for c, a, n in zip(mean, accuracy, count[count > 0], strict=True)
    ]
    ece = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / len(confidence)
    return float(ece), rows


def worst(confidence: NDArray[Any], wrong: NDArray[np.bool_], most: int = SHOWN) -> NDArray[np.int64]:
    """Indices of the mistakes made with the most confidence, the most confident first; at most so many.

    >>> worst(np.array([0.9, 0.6, 0.8]), np.array([False, True, True])).tolist()
    [2, 1]
    """
    mistakes = np.flatnonzero(wrong)
    return mistakes[np.argsort(-confidence[mistakes], kind="stable")][:most]


def samples(labels: NDArray[Any], most: int = SHOWN) -> NDArray[np.int64]:
    """Indices of examples to show: as many of each class as can be, spread over the split.

    The labels alone decide, so the same pictures are followed from epoch to epoch. Places are dealt to the classes in
    turn until there are `most` or no examples are left; of more classes than places, evenly spaced ones get one.

    >>> samples(np.array([0, 0, 0, 0, 1, 1, 2]), most=4).tolist()
    [0, 4, 6, 2]
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(present) > most:
        chosen = np.arange(most) * len(present) // most
        present, counts = present[chosen], counts[chosen]
    quota = np.zeros(len(present), dtype=np.int64)
    for _ in range(most):
        unfilled = np.flatnonzero(quota < counts)
        if not len(unfilled) or quota.sum() == most:
            break
        quota[unfilled[: most - quota.sum()]] += 1
    dealt = []
    for i, label in enumerate(present):
        members = np.flatnonzero(labels == label)
        dealt += [(turn, i, members[turn * counts[i] // quota[i]]) for turn in range(quota[i])]
    return np.array([index for _, _, index in sorted(dealt)], dtype=np.int64)


def _of_truth(probabilities: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    return probabilities[np.arange(len(labels)), labels]


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def _check(probabilities: NDArray[Any], labels: NDArray[Any], names: Sequence[str], classes: Sequence[str]) -> None:
    if not len(labels):
        raise UserError("there is no example to evaluate on")
    if probabilities.shape != (len(labels), len(classes)) or len(names) != len(labels):
        raise ValueError(
            f"{probabilities.shape} probabilities, {len(labels)} labels, {len(names)} names, {len(classes)} classes"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels from {labels.min()} to {labels.max()} of {len(classes)} classes")
    broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(broken):
        raise UserError(
            f"the network gave no number for {len(broken)} of {len(labels)} examples, first {names[broken[0]]}",
            then="look for NaN in the weights (a run that diverged) and in the inputs",
        )
