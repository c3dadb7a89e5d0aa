"""What a stream of tasks left behind: accuracy, forgetting and transfer, from one matrix.

a[i, j] is the accuracy on task j after task i has been learned, both from 0; T tasks, none of them seen again.

    average accuracy     A = mean_j a[T-1, j]
    learned              L = mean_j a[j, j]                                     right after each task
    forgetting           F = mean_{j < T-1} (max_{i < T-1} a[i, j] - a[T-1, j])
    backward transfer    B = mean_{j < T-1} (a[T-1, j] - a[j, j])               negative where tasks are forgotten
    forward transfer     W = mean_{j > 0} (a[j-1, j] - b[j])                    b: accuracy of the untrained network

Forgetting looks at the best there ever was, backward transfer at what was there right after learning: a task that
became better with later ones and worse again counts for the first alone.

Chaudhry, Dokania, Ajanthan and Torr 2018, "Riemannian Walk for Incremental Learning", section 4 (average accuracy and
forgetting). Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning", section 2 (transfer).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engram.errors import UserError

Matrix = Tensor | Sequence[Sequence[float]]


def average_accuracy(accuracy: Matrix) -> float:
    """Mean accuracy over all tasks at the end.

    >>> average_accuracy([[0.9, 0.1], [0.5, 0.7]])
    0.6
    """
    return float(_square(accuracy)[-1].mean())


def learned(accuracy: Matrix) -> float:
    """Mean accuracy of each task right after it.

    >>> learned([[0.9, 0.1], [0.5, 0.7]])
    0.8
    """
    return float(_square(accuracy).diagonal().mean())


def forgetting(accuracy: Matrix) -> float:
    """How far the tasks before the last are below the best they ever were, on average; 0 for one task.

    >>> round(forgetting([[0.9, 0.1], [0.5, 0.7]]), 6)
    0.4
    """
    a = _square(accuracy)
    return float((a[:-1].amax(0) - a[-1])[:-1].mean()) if len(a) > 1 else 0.0


def backward_transfer(accuracy: Matrix) -> float:
    """How far the tasks before the last are from what they were right after learning; 0 for one task.

    >>> round(backward_transfer([[0.9, 0.1], [0.5, 0.7]]), 6)
    -0.4
    """
    a = _square(accuracy)
    return float((a[-1] - a.diagonal())[:-1].mean()) if len(a) > 1 else 0.0


def forward_transfer(accuracy: Matrix, untrained: Tensor | Sequence[float]) -> float:
    """How far tasks are above the untrained network just before they are learned, on average; 0 for one task.

    Args:
        untrained: (T,) accuracy of the network on each task before any training.

    >>> round(forward_transfer([[0.9, 0.3], [0.5, 0.7]], [0.1, 0.1]), 6)
    0.2
    """
    a, b = _square(accuracy), torch.as_tensor(untrained, dtype=torch.float64)
    if b.shape != (len(a),):
        raise UserError(f"there are {len(b)} untrained accuracies for {len(a)} tasks")
    return float((a.diagonal(1) - b[1:]).mean()) if len(a) > 1 else 0.0


def _square(accuracy: Matrix) -> Tensor:
    a = torch.as_tensor(accuracy, dtype=torch.float64)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not len(a):
        raise UserError(
            f"an accuracy matrix cannot be of shape {tuple(a.shape)}",
            allowed="tasks x tasks: row i after task i, column j on task j",
        )
    return a
