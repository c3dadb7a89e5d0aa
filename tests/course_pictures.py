"""CIFAR-10 as the course splits it, out of the copy that ENGRAM_CIFAR10 names, for tests of what training reaches."""

import os
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from engram.data.examples import Examples
from engram.data.open import open_source

NEED_PICTURES = pytest.mark.skipif(
    "ENGRAM_CIFAR10" not in os.environ, reason="ENGRAM_CIFAR10 names no copy of CIFAR-10"
)


class Pictures(NamedTuple):
    """49 000 to train on, 1 000 to choose by, and 1 000 of the test's, as uint8 (N, 3, 32, 32)."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


@cache
def raw() -> Pictures:
    """In the order of the copy; the course's last 1 000 are those it chooses by."""
    source = open_source(os.environ["ENGRAM_CIFAR10"])
    assert source.test is not None
    (X, y), (X_test, y_test) = _read(source.train, 50_000), _read(source.test, 1000)
    return Pictures(X[:49_000], y[:49_000], X[49_000:], y[49_000:], X_test, y_test)


@cache
def centred() -> Pictures:
    """float32, less the mean picture of those to train on."""
    found = raw()
    middle = found.X.mean(0, dtype=np.float64).astype(np.float32)
    return found._replace(X=found.X - middle, X_val=found.X_val - middle, X_test=found.X_test - middle)


def _read(examples: Examples, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([examples.read(index) for index in range(count)]), np.asarray(examples.labels[:count])
