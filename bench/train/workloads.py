"""The three workloads: which data, which network, which recipe. Every program trains exactly these."""

import hashlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BATCH = 128
MOMENTUM = 0.9  # Nesterov's
WARMUP = 0.25  # of the run: the rate rises to its peak in a straight line, and falls to 0 in another


@dataclass(frozen=True)
class Workload:
    """A data set, a network and how it is trained."""

    name: str
    data: str  # the folder inside --data
    network: str
    shape: tuple[int, int, int]  # C, H, W
    parameters: int
    macs: int  # multiply-adds of one image, forward
    lr: float  # at the peak
    weight_decay: float  # L2, inside the gradient, on every parameter
    epochs: int
    crop: int  # pixels of zeros around the image before it is cropped; 0: no augmentation
    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def training_flops(self) -> float:
        """Floating-point operations to train on one image: 2 a multiply-add, forward and twice that backward."""
        return 6.0 * self.macs


CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

WORKLOADS = {
    one.name: one
    for one in (
        Workload(
            "lenet-mnist", "mnist", "lenet5", (1, 28, 28), 61_706, 416_520,
            lr=0.05, weight_decay=5e-4, epochs=5, crop=0, flip=False, mean=(0.1307,), std=(0.3081,),
        ),
        Workload(
            "resnet20-cifar10", "cifar10", "resnet20", (3, 32, 32), 269_722, 40_551_040,
            lr=0.2, weight_decay=5e-4, epochs=10, crop=4, flip=True, mean=CIFAR_MEAN, std=CIFAR_STD,
        ),
        Workload(
            "resnet18-cifar10", "cifar10", "resnet18", (3, 32, 32), 11_173_962, 555_422_720,
            lr=0.1, weight_decay=5e-4, epochs=3, crop=4, flip=True, mean=CIFAR_MEAN, std=CIFAR_STD,
        ),
    )
}  # fmt: skip


def rate(step: int, total: int) -> float:
    """The factor on the peak learning rate at a step counted from 0: up for a quarter of the run, down for the rest.

    The same rule as Engram's schedule `one_cycle`. Beyond the end, where only throughput is measured, it stays small.

    >>> [round(rate(step, 8), 3) for step in range(9)]
    [0.333, 0.667, 1.0, 0.833, 0.667, 0.5, 0.333, 0.167, 0.01]
    """
    first = min(round(WARMUP * total), total - 1)
    if step < first:
        return (step + 1) / (first + 1)
    return max(1 - (step - first) / (total - first), 0.01)


@dataclass(frozen=True)
class Split:
    """Decoded images, uint8 (N, H, W, C), and their labels, int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load(workload: Workload, data: str, split: str, limit: int | None = None) -> Split:
    """A split of the workload's data, decoded once a machine and then read from a temporary folder.

    No program pays for decoding: torchvision's and Keras' own data sets, too, hold decoded arrays.
    """
    files = sorted(parquet_folder(workload, data).glob(f"{split}-*.parquet"))
    if not files:
        raise SystemExit(f"no {split}-*.parquet in {parquet_folder(workload, data)}")
    key = hashlib.sha256("".join(f"{file.resolve()} {file.stat().st_mtime_ns}" for file in files).encode())
    cache = Path(
        tempfile.gettempdir(), f"engram-bench-{os.getuid()}", f"{workload.data}-{split}-{key.hexdigest()[:12]}"
    )
    if not (cache / "labels.npy").exists():
        decode(files, cache)
    images, labels = np.load(cache / "images.npy", mmap_mode="r"), np.load(cache / "labels.npy")
    return Split(images[:limit], labels[:limit])


def parquet_folder(workload: Workload, data: str) -> Path:
    """The folder with the workload's shards: `data` itself or the subfolder named after the data set."""
    inside = Path(data, workload.data)
    return inside if inside.is_dir() else Path(data)


def decode(files: list[Path], cache: Path) -> None:
    """Every image of the shards as one array on disk. The labels are written last: with them it is complete."""
    import pyarrow.parquet as pq
    from PIL import Image

    images, labels = [], []
    for file in files:
        table = pq.read_table(file)
        (column,) = (name for name in table.column_names if name in ("img", "image"))
        for row in table.column(column).to_pylist():
            pixels = np.asarray(Image.open(io.BytesIO(row["bytes"])))
            images.append(pixels[..., None] if pixels.ndim == 2 else pixels)
        labels.append(np.asarray(table.column("label"), dtype=np.int64))
    cache.mkdir(parents=True, exist_ok=True)
    for name, array in (("images", np.stack(images)), ("labels", np.concatenate(labels))):
        part = cache / f"{name}.{os.getpid()}.npy"
        np.save(part, array)
        os.replace(part, cache / f"{name}.npy")
