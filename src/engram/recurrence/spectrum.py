"""Largest singular values: what a recurrent matrix can do to a gradient in one step, and what a whole step does.

    of the matrices   σ(W_hh), gate by gate: the most that one product stretches a vector
    of the step       σ(∂s_t / ∂s_{t-1}) at states that occur, with all gates and slopes, s = h, of an LSTM (h, c)

For a vanilla network ∂h_t/∂h_{t-1} = diag(1 - h_t²) W_hh: below 1, a gradient must fade, by at least that factor a
step; above 1 it may explode, and need not (Pascanu et al., section 2.1). Orthogonal matrices times 0.9, 1 and 1.1 leave
2.7e-5, 1 and 1.4e4 of a gradient after 100 linear steps. In an LSTM the matrices say little: the cell passes by them,
and the step's largest value is about that of the most open forget gate, near 1. So look at the step for the reach, and
at the matrices for how it came about.

The largest singular value of a step is found by power iteration, v <- Jᵀ J v, with two products a turn and no
matrix: 30 turns, which come from below; where the two largest are close, the value is right long before
the vector is.

Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2; Golub and Van Loan, Matrix Computations, section 7.3.1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.layers.recurrent import GRU, LSTM, Stack

GATES: dict[type[Stack], tuple[str, ...]] = {LSTM: ("i", "f", "g", "o"), GRU: ("r", "z", "n")}
"""Names of the gates in the order of the rows of the weights."""
TURNS = 30


@dataclass(frozen=True)
class Largest:
    """Largest singular values of the recurrent matrices, (layers, gates), and the gates' names."""

    gates: tuple[str, ...]
    values: NDArray[np.float64]


def of_matrices(stack: Stack) -> Largest:
    """The largest singular value of every gate's recurrent matrix; a vanilla network has one, `h`.

    >>> from engram.layers.recurrent import RNN
    >>> found = of_matrices(RNN(3, 5, orthogonal=True))
    >>> found.gates, round(float(found.values[0, 0]), 6)
    (('h',), 1.0)
    """
    names = next((gates for kind, gates in GATES.items() if isinstance(stack, kind)), ("h",))
    values = [
        [_largest(gate) for gate in stack.weights_of(layer).hh.detach().chunk(len(names))]
        for layer in range(stack.num_layers)
    ]
    return Largest(names, np.array(values))


def of_steps(
    stack: Stack, layer: int, x: Tensor, state: tuple[Tensor, ...], *, turns: int = TURNS, seed: int = 0
) -> NDArray[np.float64]:
    """The largest singular value of the Jacobian of one step of one layer, at each of N states.

    Args:
        x: (N, D), what the layer reads in that step.
        state: the state before the step, (N, H); of an LSTM h and c.
        turns: of the power iteration.

    Returns:
        (N,).

    >>> from engram.layers.recurrent import RNN
    >>> at_rest = torch.zeros(1, 5)
    >>> stack = RNN(3, 5, orthogonal=True)
    >>> _ = [torch.nn.init.zeros_(bias) for bias in stack.weights_of(0)[2:]]
    >>> of_steps(stack, 0, torch.zeros(1, 3), (at_rest,)).round(4)  # tanh has slope 1 there
    array([1.])
    """
    norms = [dict(stack.norms[layer].named_children())] if len(stack.norms) else []
    weights = type(stack.weights_of(layer))(*(one.detach() for one in stack.weights_of(layer)))

    def step(*before: Tensor) -> tuple[Tensor, ...]:
        after = stack.step(x, before, weights, *norms)
        return tuple(after[name] for name in stack.states)

    rng = torch.Generator().manual_seed(seed)
    v = tuple(torch.randn(one.shape, generator=rng, dtype=torch.float64).to(one) for one in state)
    length = torch.zeros(len(x))
    with torch.enable_grad():
        before = tuple(one.detach().requires_grad_() for one in state)
        after = step(*before)
        u = tuple(torch.zeros_like(one, requires_grad=True) for one in after)
        # Jᵀ u is linear in u, so that its gradient along v is J v: two ways back, and no way forward is needed
        transposed = torch.autograd.grad(_product(after, u), before, create_graph=True)
        for _ in range(turns):
            v = _scaled(v, _length(v))
            forward = torch.autograd.grad(_product(transposed, v), u, retain_graph=True)
            length = _length(forward)
            v = torch.autograd.grad(_product(after, forward), before, retain_graph=True)
    return length.double().cpu().numpy()


def _largest(matrix: Tensor) -> float:
    """The root of the largest eigenvalue of Wᵀ W: as exact for the largest, and a third of the work of all of them."""
    matrix = matrix.double()
    return float(torch.linalg.eigvalsh(matrix.T @ matrix)[-1].clamp_min(0).sqrt())


def _product(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    """Of all states together, which share nothing."""
    return sum(((a * b).sum() for a, b in zip(one, other, strict=True)), torch.zeros(()))


def _length(vectors: tuple[Tensor, ...]) -> Tensor:
    """(N,) of parts (N, H) each."""
    return torch.linalg.vector_norm(torch.cat(vectors, dim=1), dim=1)


def _scaled(vectors: tuple[Tensor, ...], length: Tensor) -> tuple[Tensor, ...]:
    return tuple(one / length.clamp_min(torch.finfo(one.dtype).tiny)[:, None] for one in vectors)
