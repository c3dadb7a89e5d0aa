"""The pictures that the zoo learns: scikit-learn's handwritten digits, or MNIST brought to their size."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

TRAINING, SIDE, CLASSES = 1200, 8, 10


@dataclass(frozen=True)
class Pictures:
    """Training and validation pictures (N, 1, 8, 8) with their labels, standardised unless a disease says otherwise.

    `flipped` are the training examples whose labels were exchanged, where a disease did that.
    """

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    flipped: Tensor | None = None


@cache
def pictures(data: str | None = None) -> Pictures:
    """1200 to train on, the others to judge by; the same ones every time.

    Args:
        data: a folder with MNIST, of which 1800 pictures are averaged to 8 by 8; without it, scikit-learn's digits.
    """
    x, y = _mnist(data) if data else _digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = ((x - x.mean()) / x.std())[order], y[order]
    return Pictures(x[:TRAINING], y[:TRAINING], x[TRAINING:], y[TRAINING:])


def _digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    return torch.tensor(bunch.images, dtype=torch.float32)[:, None], torch.tensor(bunch.target)


def _mnist(folder: str) -> tuple[Tensor, Tensor]:
    from engram.data.open import open_source

    train = open_source(folder).train
    chosen = np.random.default_rng(0).permutation(len(train))[:1800]
    x = torch.from_numpy(np.stack([np.asarray(train.read(int(one)), dtype=np.float32) for one in chosen]))
    return F.adaptive_avg_pool2d(x.reshape(len(x), 1, 28, 28), SIDE), torch.as_tensor(np.asarray(train.labels)[chosen])
