"""Nearest neighbours: remember everything, and answer with the label of what looks most alike.

The idea: no training at all. A new example is compared with every one that was seen, and the k closest vote. Between M
new and N known examples there are M N distances, and they can be had with two loops, one, or none:

    |a - b|² = |a|² + |b|² - 2 a·b          all at once: a matrix product and two sums

The last is hundreds of times faster and takes a difference of large numbers: for near twins it can come out a hair
below 0, which is set to 0 before the root, and keeps about half of the digits there. The others are exact and are there
to compare with.

Helps as a baseline that nothing can go wrong with. Hurts: prediction costs the whole training set, and pixels that are
alike are not things that are alike: 0.27 to 0.28 on CIFAR-10. Ties go to the smaller label, as in the course.

Cover and Hart 1967; Stanford CS231n, notes on image classification, and assignment 1, `KNearestNeighbor`.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, zeros


class KNearestNeighbor:
    """Votes of the k closest, by Euclidean distance.

    >>> net = KNearestNeighbor()
    >>> net.train(np.array([[0.0], [1.0], [10.0]]), np.array([2, 2, 7]))
    >>> net.predict(np.array([[0.4], [9.0]]), k=1)
    array([2, 7])
    """

    def train(self, X: Array, y: Array) -> None:
        """Remember the examples X (N, D) and their labels y (N,).

        Raises:
            UserError: not a label an example.
        """
        if X.ndim != 2 or tuple(y.shape) != (X.shape[0],):
            raise UserError(f"examples {tuple(X.shape)} and labels {tuple(y.shape)}", allowed="(N, D) and (N,)")
        self.X_train, self.y_train = X, y

    def predict(self, X: Array, k: int = 1, num_loops: int = 0) -> np.ndarray:
        """Labels (M,) of examples (M, D).

        Raises:
            UserError: loops other than 0, 1 or 2; see `predict_labels`.
        """
        ways = (self.compute_distances_no_loops, self.compute_distances_one_loop, self.compute_distances_two_loops)
        if num_loops not in range(3):
            raise UserError(f"num_loops is {num_loops!r}", allowed="0, 1, 2")
        return self.predict_labels(ways[num_loops](X), k)

    def compute_distances_two_loops(self, X: Array) -> Array:
        """Distances (M, N) from X (M, D), pair by pair."""
        xp, dists = array_namespace(X), self._empty(X)
        for i in range(dists.shape[0]):
            for j in range(dists.shape[1]):
                dists[i, j] = xp.sqrt(xp.sum((X[i] - self.X_train[j]) ** 2))
        return dists

    def compute_distances_one_loop(self, X: Array) -> Array:
        """Distances (M, N) from X (M, D), a row at a time."""
        xp, dists = array_namespace(X), self._empty(X)
        for i in range(dists.shape[0]):
            dists[i] = xp.sqrt(xp.sum((self.X_train - X[i]) ** 2, axis=1))
        return dists

    def compute_distances_no_loops(self, X: Array) -> Array:
        """Distances (M, N) from X (M, D), by one matrix product."""
        self._empty(X)
        xp, known = array_namespace(X), self.X_train
        lengths, known_lengths = xp.sum(X**2, axis=1), xp.sum(known**2, axis=1)  # (M,), (N,)
        squares = lengths[:, None] + known_lengths - 2 * X @ known.T  # (M, N)
        return xp.sqrt(xp.maximum(squares, xp.zeros_like(squares)))

    def predict_labels(self, dists: Array, k: int = 1) -> np.ndarray:
        """The label (M,) that most of the k closest have.

        Args:
            dists: (M, N).

        Raises:
            UserError: k below 1 or above N.
        """
        distances: Any = np.asarray(dists)
        if not 1 <= k <= distances.shape[1]:
            raise UserError(f"k is {k!r}", allowed=f"1 to {distances.shape[1]}, as there are so many examples")
        labels = np.asarray(self.y_train)[np.argsort(distances, axis=1, kind="stable")[:, :k]]  # (M, k)
        return np.array([np.argmax(np.bincount(row)) for row in labels])

    def _empty(self, X: Array) -> Array:
        """Room for the distances (M, N)."""
        if not hasattr(self, "X_train"):
            raise UserError("neighbours of nothing", then="train(X, y)")
        if X.ndim != 2 or X.shape[1] != self.X_train.shape[1]:
            raise UserError(
                f"examples {tuple(X.shape)} beside {tuple(self.X_train.shape)}",
                allowed=f"(M, {self.X_train.shape[1]})",
            )
        return zeros(X, (X.shape[0], self.X_train.shape[0]))
