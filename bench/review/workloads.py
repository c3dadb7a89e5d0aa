"""What is trained in the comparison of review methods: data, network, the full run's length and rate.

Each is `saturated` (the full run's training accuracy is above 95 %) or not. Data that no source gives are written once
into a cache folder as .npz from the stored sets: wrong labels, long tails and parts by seed, in the training split
alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

WRONG_SEED = 20260


@dataclass(frozen=True)
class Workload:
    """`epochs` is the length of the full run; `lr` the rate it was tuned to; `make` builds the data's path.

    `tuned_on` builds data of the same training examples whose test split is training images that nobody trains on: the
    trials are judged by those, and not by a tenth of the few that there are.
    """

    name: str
    saturated: bool
    epochs: float
    lr: float
    make: Callable[[Path, Path], Path]
    settings: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    tuned_on: Callable[[Path, Path], Path] | None = None


def margin(workload: str) -> float:
    """Accuracy within which a method is as good as another, fixed beforehand."""
    return 0.001 if workload.startswith("mnist") else 0.005


def stored(name: str) -> Callable[[Path, Path], Path]:
    """The set as it is stored, its pictures decoded once for all runs."""

    def make(data: Path, cache: Path) -> Path:
        to = cache / f"{name}.npz"
        if not to.exists():
            np.savez(to, **arrays(data / name))
        return to

    return make


def wrong_labels(name: str, share: float) -> Callable[[Path, Path], Path]:
    """The stored set, where this share of the training labels was replaced by another class, drawn evenly."""

    def make(data: Path, cache: Path) -> Path:
        to = cache / f"{name}_wrong{round(100 * share)}.npz"
        if not to.exists():
            parts = arrays(data / name)
            parts["y_train"] = with_wrong(parts["y_train"], share)
            np.savez(to, **parts)
        return to

    return make


def long_tail(name: str, factor: float) -> Callable[[Path, Path], Path]:
    """The stored set, its classes thinned exponentially: the last has 1 / factor of the first's training examples."""
    return part(name, f"tail{round(factor)}", lambda labels: thinned(labels, factor))


def some(name: str, number: int) -> Callable[[Path, Path], Path]:
    """The stored set with so many of its training examples, as many of each class, drawn by seed."""
    return part(name, f"{number}", lambda labels: drawn(labels, number))


def classes(name: str, *kept: int) -> Callable[[Path, Path], Path]:
    """The stored set with these classes alone, in both splits, numbered anew in their order."""

    def make(data: Path, cache: Path) -> Path:
        to = cache / f"{name}_classes{''.join(map(str, kept))}.npz"
        if not to.exists():
            parts = arrays(data / name)
            for split in ("train", "test"):
                of = np.isin(parts[f"y_{split}"], kept)
                parts[f"x_{split}"] = parts[f"x_{split}"][of]
                parts[f"y_{split}"] = np.searchsorted(kept, parts[f"y_{split}"][of])
            np.savez(to, **parts)
        return to

    return make


def part(name: str, called: str, choose: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], Path]:
    """The stored set with the training examples that `choose` takes by their labels."""

    def make(data: Path, cache: Path) -> Path:
        to = cache / f"{name}_{called}.npz"
        if not to.exists():
            parts = arrays(data / name)
            kept = choose(parts["y_train"])
            parts["x_train"], parts["y_train"] = parts["x_train"][kept], parts["y_train"][kept]
            np.savez(to, **parts)
        return to

    return make


def others(name: str, number: int) -> Callable[[Path, Path], Path]:
    """The training examples of `some`, and all other training examples for a test split."""

    def make(data: Path, cache: Path) -> Path:
        to = cache / f"{name}_{number}_others.npz"
        if not to.exists():
            parts = arrays(data / name)
            kept = drawn(parts["y_train"], number)
            for letter in "xy":
                of = parts[f"{letter}_train"]
                parts[f"{letter}_test"], parts[f"{letter}_train"] = np.delete(of, kept, 0), of[kept]
            np.savez(to, **parts)
        return to

    return make


def drawn(labels: np.ndarray, number: int) -> np.ndarray:
    """Sorted indices of so many examples, as many of each class."""
    rng = np.random.default_rng(WRONG_SEED)
    classes = int(labels.max()) + 1
    kept = [rng.permutation(np.flatnonzero(labels == one))[: number // classes] for one in range(classes)]
    return np.sort(np.concatenate(kept))


def with_wrong(labels: np.ndarray, share: float) -> np.ndarray:
    """Labels of which exactly this share, drawn by seed, are another class."""
    rng = np.random.default_rng(WRONG_SEED)
    labels, classes = labels.copy(), int(labels.max()) + 1
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return labels


def thinned(labels: np.ndarray, factor: float) -> np.ndarray:
    """Sorted indices of a long tail over the classes."""
    rng = np.random.default_rng(WRONG_SEED)
    classes = int(labels.max()) + 1
    most = int(np.bincount(labels).min())
    kept = []
    for one in range(classes):
        count = round(most * factor ** (-one / (classes - 1)))
        kept.append(rng.permutation(np.flatnonzero(labels == one))[:count])
    return np.sort(np.concatenate(kept))


def arrays(path: Path) -> dict[str, np.ndarray]:
    """A stored set as arrays: x_train (N, H, W, C) uint8, y_train, x_test, y_test."""
    from engram.data.open import open_source

    source = open_source(str(path))
    parts = {}
    for split in ("train", "test"):
        examples = getattr(source, split)
        pixels = np.stack([examples.read(index) for index in range(len(examples))])  # (N, C, H, W)
        parts[f"x_{split}"], parts[f"y_{split}"] = np.moveaxis(pixels, 1, -1), np.asarray(examples.labels)
    return parts


LENET = {"model": "lenet5", "augment": ["crop:3"], "optimizer": "nesterov"}
LENET_COLOUR = {"model": "lenet5", "augment": ["crop:4", "flip"], "optimizer": "nesterov"}
SMALL = {"augment": ["flip"], "optimizer": "nesterov", "data.image_size": 16}
CAR, FROG, HORSE = 1, 6, 7  # classes of CIFAR-10 that a small network tells apart
VGG = {**SMALL, "model": "vgg_small", "model.depth": 11, "model.width": 16}
RESNET = {"model": "resnet20", "augment": ["crop:2", "flip"], "optimizer": "nesterov", "data.image_size": 16}
WIDE = {**RESNET, "model": "wide_resnet_10_2"}  # half as deep, twice as wide, as much to compute

WORKLOADS = {
    one.name: one
    for one in (
        Workload("digits", True, 20, 0.1, lambda data, cache: Path("digits"), {"model": "mlp", "batch_size": 32}),
        Workload("mnist", True, 10, 0.05, stored("mnist"), LENET, "LeNet-5, crops"),
        Workload("mnist-again", True, 10, 0.05, stored("mnist"), LENET, "LeNet-5, crops: five other seeds"),
        Workload("mnist-others", True, 10, 0.05, stored("mnist"), LENET, "LeNet-5, crops: methods decided later"),
        Workload("mnist-pruned", True, 10, 0.05, stored("mnist"), LENET, "LeNet-5, crops: pruning decided later"),
        Workload("mnist-wrong20", False, 10, 0.05, wrong_labels("mnist", 0.2), LENET, "20 % wrong labels"),
        Workload("mnist-wrong20-others", False, 10, 0.05, wrong_labels("mnist", 0.2), LENET, "the same, decided later"),
        Workload("mnist-wrong40", False, 10, 0.05, wrong_labels("mnist", 0.4), LENET, "40 % wrong labels"),
        Workload("cifar10-lenet", False, 8, 0.05, stored("cifar10"), LENET_COLOUR, "LeNet-5, crops and flips"),
        Workload(
            "cifar10-lenet-others", False, 8, 0.05, stored("cifar10"), LENET_COLOUR, "LeNet-5: methods decided later"
        ),
        Workload(
            "cifar10-lenet-wrong20", False, 8, 0.05, wrong_labels("cifar10", 0.2), LENET_COLOUR, "20 % wrong labels"
        ),
        Workload(
            "cifar10-lenet-wrong40", False, 8, 0.05, wrong_labels("cifar10", 0.4), LENET_COLOUR, "40 % wrong labels"
        ),
        Workload("cifar10-lenet-tail", False, 24, 0.05, long_tail("cifar10", 50), LENET_COLOUR, "long tail, 50 to 1"),
        Workload("cifar10-10k-vgg", False, 24, 0.15, some("cifar10", 10_000), VGG, "VGG of 11 layers, 10,000 images"),
        Workload("cifar10-10k-vgg-rates", False, 24, 0.15, some("cifar10", 10_000), VGG, "the same, two trials more"),
        Workload(
            "cifar10-10k-vgg-others",
            False,
            24,
            0.15,
            some("cifar10", 10_000),
            VGG,
            "the same, trials judged by the 40,000 other training images",
            others("cifar10", 10_000),
        ),
        Workload("cifar10-16", False, 8, 0.1, stored("cifar10"), RESNET, "ResNet-20 on 16x16 pixels"),
        Workload("cifar10-16-rates", False, 8, 0.1, stored("cifar10"), RESNET, "the same, settings of its own"),
        Workload(
            "cifar10-three",
            True,
            24,
            0.1,
            classes("cifar10", CAR, FROG, HORSE),
            RESNET,
            "ResNet-20 on the automobiles, frogs and horses, 16x16 pixels",
        ),
        Workload(
            "cifar10-three-wide",
            True,
            24,
            0.1,
            classes("cifar10", CAR, FROG, HORSE),
            WIDE,
            "wide ResNet-10-2 on the automobiles, frogs and horses, 16x16 pixels",
        ),
        Workload("cifar10-16-tail", False, 16, 0.1, long_tail("cifar10", 50), RESNET, "long tail, 50 to 1"),
        Workload("cifar10-16-wrong20", False, 8, 0.1, wrong_labels("cifar10", 0.2), RESNET, "20 % wrong labels"),
        Workload("cifar10-16-wrong40", False, 8, 0.1, wrong_labels("cifar10", 0.4), RESNET, "40 % wrong labels"),
        Workload(
            "cifar10",
            False,
            20,
            0.1,
            stored("cifar10"),
            {**RESNET, "data.image_size": 32, "augment": ["crop:4", "flip"]},
        ),
    )
}
