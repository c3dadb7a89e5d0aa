"""Linear classifiers, loop by loop and all at once: a template for each class, and the class whose template fits best.

The idea: scores are X W, one column of W a class. Both losses on top are those of `losses.py`; written for W their
gradient is Xᵀ times the gradient of the scores. The naive forms go through examples and classes one by one, as one
would on paper, and are there to be read and compared: the same numbers, hundreds of times slower.

    hinge     s_j counts where s_j - s_y + Δ > 0: dW_j += x,  dW_y -= x
    softmax   dW_j += (p_j - 1[j = y]) x
    both      mean over N examples, plus λ Σ W², dW += 2 λ W          (with ½: ½ λ Σ W², dW += λ W)

The penalty has no ½ here, as in assignment 1 since 2017 and unlike the networks of assignment 2; `half=True` is the
convention of 2015 and 2016. The bias is a column of ones in X, so it is decayed too. Both reach about 0.4 on CIFAR-10:
one template for a horse facing left and right.

Helps as the first thing to try, and to see what a deeper network adds. Stanford CS231n, notes on linear classification,
and assignment 1, `svm_loss_naive`, `svm_loss_vectorized`, `softmax_loss_naive`, `softmax_loss_vectorized`,
`LinearClassifier`.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, zeros
from engram.rules.losses import softmax, softmax_loss, svm_loss
from engram.rules.penalties import l2_penalty


def svm_loss_naive(W: Array, X: Array, y: Array, reg: float, *, half: bool = False) -> tuple[float, Array]:
    """The hinge loss of a linear classifier, by loops.

    Args:
        W: (D, C).
        X: (N, D).
        y: (N,), labels below C.
        reg: λ.
        half: whether the penalty has its ½.

    Returns:
        the loss, and dW (D, C).

    >>> svm_loss_naive(np.zeros((2, 3)), np.ones((1, 2)), np.array([1]), 0.0)[1].tolist()
    [[1.0, -2.0, 1.0], [1.0, -2.0, 1.0]]
    """
    loss, dW, count = 0.0, zeros(W, W.shape), X.shape[0]
    for x, label in zip(X, y.tolist(), strict=True):
        scores = x @ W  # (C,)
        for j in range(W.shape[1]):
            margin = float(scores[j] - scores[label] + 1)
            if j != label and margin > 0:
                loss += margin / count
                dW[:, j] = dW[:, j] + x / count
                dW[:, label] = dW[:, label] - x / count
    penalty, slope = l2_penalty(W, reg, half=half)
    return loss + float(penalty), dW + slope


def svm_loss_vectorized(W: Array, X: Array, y: Array, reg: float, *, half: bool = False) -> tuple[float, Array]:
    """The hinge loss of a linear classifier, at once; see `svm_loss_naive`.

    >>> svm_loss_vectorized(np.zeros((2, 3)), np.ones((1, 2)), np.array([1]), 0.0)[0]
    2.0
    """
    return _penalized(*svm_loss(X @ W, y), W, X, reg, half)


def softmax_loss_naive(W: Array, X: Array, y: Array, reg: float, *, half: bool = False) -> tuple[float, Array]:
    """The softmax loss of a linear classifier, by loops.

    Args:
        W: (D, C).
        X: (N, D).
        y: (N,), labels below C.
        reg: λ.
        half: whether the penalty has its ½.

    Returns:
        the loss, and dW (D, C).

    >>> round(softmax_loss_naive(np.zeros((2, 3)), np.ones((1, 2)), np.array([1]), 0.0)[0], 4)
    1.0986
    """
    loss, dW, count, xp = 0.0, zeros(W, W.shape), X.shape[0], array_namespace(W)
    for x, label in zip(X, y.tolist(), strict=True):
        share = softmax(x @ W)  # (C,)
        loss -= float(xp.log(share[label])) / count
        for j in range(W.shape[1]):
            dW[:, j] = dW[:, j] + (share[j] - int(j == label)) * x / count
    penalty, slope = l2_penalty(W, reg, half=half)
    return loss + float(penalty), dW + slope


def softmax_loss_vectorized(W: Array, X: Array, y: Array, reg: float, *, half: bool = False) -> tuple[float, Array]:
    """The softmax loss of a linear classifier, at once; see `softmax_loss_naive`.

    >>> round(softmax_loss_vectorized(np.zeros((2, 3)), np.ones((1, 2)), np.array([1]), 0.0)[0], 4)
    1.0986
    """
    return _penalized(*softmax_loss(X @ W, y), W, X, reg, half)


class LinearClassifier:
    """Scores X W, trained by plain gradient descent on random batches; `LinearSVM` and `Softmax` say by which loss.

    Attributes:
        W: (D, C), after training.
    """

    W: Array | None = None

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """The loss of a batch, and dW."""
        raise NotImplementedError

    def train(
        self,
        X: Array,
        y: Array,
        learning_rate: float = 1e-3,
        reg: float = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
        *,
        rng: Any = None,
    ) -> list[float]:
        """Train on from where it is; draws with replacement, from `rng` or NumPy's global generator.

        Args:
            X: (N, D).
            y: (N,).

        Returns:
            the loss at every step.

        Raises:
            UserError: labels for another number of examples.
        """
        if X.ndim != 2 or tuple(y.shape) != (X.shape[0],):
            raise UserError(f"examples {tuple(X.shape)} and labels {tuple(y.shape)}", allowed="(N, D) and (N,)")
        rng, xp = rng or np.random, array_namespace(X)
        if self.W is None:
            drawn = 0.001 * rng.standard_normal((X.shape[1], int(xp.max(y)) + 1))
            self.W = xp.asarray(drawn, dtype=X.dtype)
        history = []
        for step in range(num_iters):
            places = rng.choice(X.shape[0], batch_size)
            loss, gradient = self.loss(X[places], y[places], reg)
            self.W = self.W - learning_rate * gradient
            history.append(loss)
            if verbose and step % 100 == 0:
                print(f"iteration {step} / {num_iters}: loss {loss:f}")
        return history

    def predict(self, X: Array) -> Array:
        """The best class (N,) of every example (N, D).

        Raises:
            UserError: before training.
        """
        if self.W is None:
            raise UserError("a classifier that has not been trained", then="train(X, y)")
        return array_namespace(X).argmax(X @ self.W, axis=1)


class LinearSVM(LinearClassifier):
    """A linear classifier by the hinge loss.

    >>> net = LinearSVM()
    >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 0])
    >>> _ = net.train(X, y, learning_rate=0.1, num_iters=50, batch_size=4, rng=np.random.default_rng(0))
    >>> net.predict(X)
    array([1, 0])
    """

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """The hinge loss of a batch, and dW."""
        return svm_loss_vectorized(self.W, X_batch, y_batch, reg)


class Softmax(LinearClassifier):
    """A linear classifier by the softmax loss: logistic regression of several classes."""

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """The softmax loss of a batch, and dW."""
        return softmax_loss_vectorized(self.W, X_batch, y_batch, reg)


def _penalized(loss: Any, dscores: Array, W: Array, X: Array, reg: float, half: bool) -> tuple[float, Array]:
    penalty, slope = l2_penalty(W, reg, half=half)
    return float(loss + penalty), X.T @ dscores + slope
