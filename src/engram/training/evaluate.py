"""What a trained network says of a split: probabilities, and everything that is computed from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engram import atomic
from engram.data.pool import Pool
from engram.training import metrics
from engram.training.device import Machine

Views = Callable[[Tensor, torch.dtype], list[Tensor]]


def probabilities(
    net: nn.Module,
    pool: Pool,
    views: Views,
    machine: Machine,
    *,
    batch_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities (N, K) of every example in order, averaged over the views of each."""
    net.eval()
    rows: list[Tensor] = []
    done = 0
    with torch.inference_mode():
        for x, _ in pool.batches(torch.arange(len(pool)).split(batch_size)):
            views_of_batch = views(x, machine.dtype)
            total: Tensor | None = None
            for view in views_of_batch:
                with machine.autocast():
                    logits = net(view)
                share = logits.float().softmax(dim=1) / len(views_of_batch)
                total = share if total is None else total + share
            assert total is not None  # there is always the centre view
            rows.append(total)
            done += len(x)
            if progress is not None:
                progress(done, len(pool))
    return torch.cat(rows).cpu().numpy()


def figures(probability: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Mean negative log likelihood and accuracy: what a run is steered by."""
    return {
        "loss": metrics.loss(probability, labels),
        "accuracy": float((probability.argmax(1) == labels).mean()),
    }


def write(
    folder: Path, split: str, pool: Pool, probability: NDArray[np.float32], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Store a split's evaluation in `evaluation/`: probabilities, metrics, and the pictures they speak of.

    Raises:
        OSError: it cannot be written.
    """
    labels = pool.labels.cpu().numpy()
    names = [pool.name(index) for index in range(len(pool))]
    summary = metrics.summary(probability, labels, names, classes)
    shown = sorted({row["index"] for row in [*summary["worst"], *summary["samples"]]})
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    content = {"labels": labels, "probabilities": probability, "names": np.array(names, dtype=np.str_)}
    atomic.write(target / f"{split}.npz", lambda file: np.savez_compressed(file, **content))
    if len(pool.shape) == 3 and shown and pool.shape[0] in (1, 3):
        write_pictures(target / f"{split}_pictures.npz", pool, shown)
    atomic.write(target / f"{split}.json", json.dumps(summary, ensure_ascii=False))
    return summary


def write_pictures(path: Path, pool: Pool, shown: list[int]) -> None:
    """Examples of a pool of pictures as stored: `index` (n,) and `pixels` uint8 (n, H, W, C).

    Raises:
        OSError: it cannot be written.
    """
    pixels = np.moveaxis(pool.pictures(shown), 1, -1)
    pictures = {"index": np.array(shown, dtype=np.int64), "pixels": pixels}
    atomic.write(path, lambda file: np.savez_compressed(file, **pictures))
