"""Ordered streams: which examples come after which, and the network that learns them.

Each is tasks that come one after another, each example once. Pictures are averaged over 2 x 2 pixels, scaled to mean 0
and standard deviation 1 of the training split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from workloads import thinned, with_wrong

HELD_OUT = 0.1  # of the training split, for validation; drawn by SPLIT_SEED
SPLIT_SEED = 20261


@dataclass(frozen=True)
class Tasks:
    """x and y of every task, of the training and of the held-out part, in the order they come."""

    train: list[tuple[Tensor, Tensor]]
    test: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Workload:
    """`new` examples come a step, and as many are reviewed; `tuned_at` is the capacity of the trials.

    Args:
        wrong: share of the training labels that are another class; what comes together is what is labelled so.
        tail: the last class has 1 / tail of the first's training examples.
        tuned_on: the workload whose tuned settings are decided with; its own without.
    """

    name: str
    about: str
    data: str
    lr: float
    new: int
    capacities: tuple[int | None, ...]
    tuned_at: int
    net: Callable[[], nn.Module]
    pooled: bool = True
    domains: bool = False
    limit: int | None = None  # of the training split
    wrong: float = 0.0
    tail: float | None = None
    tuned_on: str | None = None


def mlp(inputs: int, width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 10))


def cnn() -> nn.Module:
    """Three convolutions without normalisation (whose statistics a stream would bias), a linear head."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]  # (B, after, H/2, W/2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))


def tasks(workload: Workload, data: Path, cache: Path, *, validation: bool) -> Tasks:
    """The stream for tuning, with a held-out part of the training split as its test, or the one that decides."""
    x, y, test_x, test_y = arrays(workload, data, cache)
    if workload.limit is not None:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(SPLIT_SEED + 1))[: workload.limit]
        x, y = x[chosen], y[chosen]
    if workload.tail is not None:
        kept = torch.from_numpy(thinned(y.numpy(), workload.tail))
        x, y = x[kept], y[kept]
    if workload.wrong:
        y = torch.from_numpy(with_wrong(y.numpy(), workload.wrong))
    if validation:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SPLIT_SEED))
        held, rest = order.tensor_split([round(HELD_OUT * len(x))])
        test_x, test_y, x, y = x[held], y[held], x[rest], y[rest]
    mean, sd = x.mean(), x.std()
    x, test_x = (x - mean) / sd, (test_x - mean) / sd
    if workload.domains:
        return Tasks(_domains(x, y, apart=True), _domains(test_x, test_y, apart=False))
    return Tasks(_pairs(x, y), _pairs(test_x, test_y))


def _pairs(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Classes 0 and 1, then 2 and 3, and so on."""
    return [(x[y // 2 == task], y[y // 2 == task]) for task in range(5)]


def _domains(x: Tensor, y: Tensor, *, apart: bool) -> list[tuple[Tensor, Tensor]]:
    """All classes five times, each time with the pixels in another order; `apart`: each time other examples."""
    rng = torch.Generator().manual_seed(SPLIT_SEED + 2)
    parts = []
    for task in range(5):
        order = torch.randperm(x[0].numel(), generator=rng) if task else torch.arange(x[0].numel())
        rows = slice(task, None, 5) if apart else slice(None)
        parts.append((x[rows].flatten(1)[:, order].view(x[rows].shape), y[rows]))
    return parts


def arrays(workload: Workload, data: Path, cache: Path) -> list[Tensor]:
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"stream_{workload.data}.npz"
    if not kept.exists():
        from engram.data.open import open_source

        source = open_source(workload.data if workload.data == "digits" else str(data / workload.data))
        arrays = {}
        for split, examples in (("train", source.train), ("test", source.test)):
            if examples is None:
                raise SystemExit(f"{workload.data} has no {split} split")
            x = np.stack([examples.read(index) for index in range(len(examples))])  # (N, C, H, W)
            if workload.pooled:
                x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5)).round()
            arrays |= {f"{split}_x": x.astype(np.uint8), f"{split}_y": np.asarray(examples.labels)}
        np.savez(kept, **arrays)
    with np.load(kept) as arrays:
        return [
            torch.from_numpy(arrays[name]).float() / 255 if name.endswith("x") else torch.from_numpy(arrays[name])
            for name in ("train_x", "train_y", "test_x", "test_y")
        ]


WORKLOADS = {
    one.name: one
    for one in (
        Workload(
            "mnist", "5 tasks of 2 classes, 14 x 14, MLP 196-200-10", "mnist", 0.05, 50, (200, 1000, None), 1000,
            mlp(196, 200),
        ),
        Workload(
            "digits", "5 tasks of 2 classes, 8 x 8, MLP 64-64-10", "digits", 0.1, 10, (50, 200, None), 200, mlp(64, 64),
            pooled=False,
        ),
        Workload(
            "cifar10", "5 tasks of 2 classes, 20,000 examples, 16 x 16, 3 convolutions", "cifar10", 0.05, 50,
            (1000, None, 200), 1000, cnn, limit=20_000,
        ),
        Workload(
            "cifar10-wrong20", "the same with 20 % wrong labels", "cifar10", 0.05, 50, (1000,), 1000, cnn,
            limit=20_000, wrong=0.2, tuned_on="cifar10",
        ),
        Workload(
            "cifar10-wrong40", "the same with 40 % wrong labels", "cifar10", 0.05, 50, (1000,), 1000, cnn,
            limit=20_000, wrong=0.4, tuned_on="cifar10",
        ),
        Workload(
            "cifar10-tail", "5 tasks of 2 classes, a long tail, 50 to 1, 13,999 examples", "cifar10", 0.05, 50,
            (1000,), 1000, cnn, tail=50, tuned_on="cifar10",
        ),
        Workload(
            "mnist-domains", "5 domains (pixels in another order), all classes in each, 14 x 14, MLP 196-200-10",
            "mnist", 0.05, 50, (200, 1000), 1000, mlp(196, 200), domains=True,
        ),
    )
}  # fmt: skip
