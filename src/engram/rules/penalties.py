"""Penalties: what large weights cost, so that of two explanations the simpler one wins.

The idea: add to the loss something that grows with the weights, and the network will use only what earns its keep.

    L2            R = ½ λ Σ w²        dw = λ w                pulls in proportion, spreads weight over many inputs
    L2, no half   R = λ Σ w²          dw = 2 λ w              the other convention, twice as strong
    L1            R = λ Σ |w|         dw = λ sign(w)          pulls steadily, drives weights to zero
    elastic net   R = λ₁ Σ |w| + L2   dw of both              sparse, and shares among inputs that go together

Both conventions of L2 are in circulation: with ½ in the course's assignments since 2016, without it in the toy network
of 2017 to 2020 and in EECS 498. torch's `weight_decay` is the one with ½. One and the same λ gives losses of 26.59 and
49.72 for the same toy network, so the convention is an argument and never a guess.

The slope of |w| at 0 is taken as 0. That subgradient alone hardly ever lands on exactly 0: whoever wants sparsity takes
a proximal step after the update instead. Biases and the weights of norms are usually left out, which is for the caller
to do. L2 as a penalty and decay beside the step (AdamW) are the same for plain SGD only.

Hoerl and Kennard 1970 (L2); Tibshirani 1996, section 2 (L1); Zou and Hastie 2005, section 2 (elastic net);
Stanford CS231n, notes on neural networks 2, "Regularization".
"""

from typing import Any

from array_api_compat import array_namespace

from engram.rules.arrays import Array


def l2_penalty(w: Array, reg: float, *, half: bool = True) -> tuple[Any, Array]:
    """The sum of squares, with the factor ½ or without.

    Returns:
        the penalty, and its gradient like w.

    >>> import numpy as np
    >>> [l2_penalty(np.array([3.0, 4.0]), 1.0, half=half)[0].item() for half in (True, False)]
    [12.5, 25.0]
    """
    factor = 0.5 * reg if half else reg
    return factor * array_namespace(w).sum(w**2), 2 * factor * w


def l1_penalty(w: Array, reg: float) -> tuple[Any, Array]:
    """The sum of absolute values.

    Returns:
        the penalty, and its gradient like w, 0 at 0.

    >>> import numpy as np
    >>> penalty, dw = l1_penalty(np.array([-3.0, 0.0, 4.0]), 0.5)
    >>> penalty.item(), dw.tolist()
    (3.5, [-0.5, 0.0, 0.5])
    """
    xp = array_namespace(w)
    return reg * xp.sum(xp.abs(w)), reg * xp.sign(w)


def elastic_net_penalty(w: Array, l1: float, l2: float, *, half: bool = True) -> tuple[Any, Array]:
    """L1 and L2 together, each with its own strength.

    Returns:
        the penalty, and its gradient like w.

    >>> import numpy as np
    >>> elastic_net_penalty(np.array([3.0, -4.0]), l1=1.0, l2=1.0)[0].item()
    19.5
    """
    sparse, dw_sparse = l1_penalty(w, l1)
    square, dw_square = l2_penalty(w, l2, half=half)
    return sparse + square, dw_sparse + dw_square
