"""Word embedding: a table with a row of numbers for every word, looked up and learned.

The idea: a word is only a number in a list, and no number lies between two words. As a one-hot row, all zeros and a
single one, it can be multiplied by a matrix; what comes out is that word's row of the matrix, so the product is never
formed and the row is fetched:

    out[n, t] = W[x[n, t]] = one_hot(x[n, t]) W           dW[v] = sum of dout[n, t] over all places where x[n, t] = v

A word that stands in many places gets the sum of its gradients, one that stands nowhere gets none; an assignment in
place of the sum keeps only the last and is the usual mistake. Looking up costs W of time, the product V times W; the
one-hot row is a way to think and has nothing to do with how far back the gradient has to travel.

Helps wherever symbols go into a network: close rows come to mean similar words. Hurts with few data and many words,
where rows that are hardly ever seen stay at their random start; pre-trained tables help there.

Bengio, Ducharme, Vincent, Jauvin 2003, A neural probabilistic language model, JMLR 3, section 2 (the matrix C);
Stanford CS231n, assignment 3, `word_embedding_forward` with a table drawn with a standard deviation of 0.01.
"""

from math import prod

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from engram.errors import UserError
from engram.rules.arrays import Array, zeros


def word_embedding_forward(x: Array, W: Array) -> tuple[Array, tuple]:
    """The row of every word.

    Args:
        x: (N, T), or any shape, whole numbers from 0 below V.
        W: (V, D), the table.

    Returns:
        out (N, T, D), and the cache.

    Raises:
        UserError: a word outside of the table; NumPy would read a negative one from its end.

    >>> word_embedding_forward(np.array([[1, 0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))[0].tolist()
    [[[3.0, 4.0], [1.0, 2.0]]]
    """
    x = array_namespace(W).asarray(x, device=device(W))
    low, high = (int(x.min()), int(x.max())) if prod(x.shape) else (0, 0)
    if low < 0 or high >= W.shape[0]:
        raise UserError(f"words from {low} to {high}", allowed=f"0 to {W.shape[0] - 1}, the rows of the table")
    return W[x], (x, W)  # (N, T, D)


def word_embedding_backward(dout: Array, cache: tuple) -> Array:
    """The gradient of the table: every word's row gets the sum over the places where it stands.

    Words are whole numbers and have no gradient.

    Args:
        dout: (N, T, D).

    Returns:
        dW (V, D).

    >>> _, cache = word_embedding_forward(np.array([[1, 1]]), np.zeros((2, 1)))
    >>> word_embedding_backward(np.array([[[2.0], [3.0]]]), cache).tolist()
    [[0.0], [5.0]]
    """
    x, W = cache
    words, rows = x.reshape(-1), dout.reshape(-1, W.shape[1])  # (N T), (N T, D)
    dW = zeros(W, W.shape)
    if is_torch_array(dW):
        return dW.index_add(0, words, rows)
    np.add.at(dW, words, rows)  # dW[words] += rows would count a word only once a batch
    return dW
