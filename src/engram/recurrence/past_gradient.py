"""Gradient with respect to the past: how much of the loss at one step hears of the state at every step before.

    n_t = mean over samples of ‖∂L_T / ∂s_t‖₂,     t = 1 .. T

L_T is the loss at the last step alone, s_t what layer l carries from step t on: h, and an LSTM's c. Every step back
multiplies by the Jacobian of a step, so that n falls or grows with a power of T - t, a straight line on a logarithmic
axis: a vanilla network's falls until nothing arrives; along an LSTM's cell it is a product of forget gates. Where it is
nothing, no weight can learn from what happened then, whatever the optimiser.

The gradients are with respect to the states themselves, with every way on: to the next step, to the layer above, to the
head, and from c to the h of its own step. h is not in c alone (the output gate is not), so the two are told apart.

Also the gradient of the mean loss over all steps, what training sees: there every step has a short way of its own,
which hides the long one; so judge the reach by the last step.

Helps: a loss that stands still on a task with a long span. Hurts: nothing; but it says what could be learned, not that
the past is of use. Computed step by step with the readable cell, on a copy; the network is left as it was.

Bengio, Simard, Frasconi 1994, Learning long-term dependencies with gradient descent is difficult, section III;
Hochreiter and Schmidhuber 1997, Long short-term memory, section 3.1; Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063,
section 2.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.recurrent import Stack

Losses = Callable[[Tensor, Tensor], Tensor]
"""Scores and targets to a loss for each sample (B,), or for each of its steps (B, T)."""


@dataclass(frozen=True)
class PastGradient:
    """Norms by the name of the state, (layers, T) each: of the loss at the `last` step, and of the `mean` over steps.

    Both are of a sample, as a mean over samples.
    """

    last: dict[str, NDArray[np.float64]]
    mean: dict[str, NDArray[np.float64]]


def past_gradient(net: nn.Module, x: Tensor, y: Tensor, losses: Losses | None = None) -> PastGradient:
    """How long the loss's gradient is with respect to every past state.

    Args:
        net: a network with one of our recurrent stacks, fed with the whole sequence at once; it gives scores, or scores
            and a state.
        x: a batch as the network takes it, T steps.
        y: its targets, (B, T) for scores (B, T, V), or (B,) for scores (B, K).
        losses: cross-entropy unless given.

    Raises:
        UserError: no such stack or several, or one that is not fed once with whole sequences.

    >>> from engram.models.char_rnn import char_lstm
    >>> tokens = torch.randint(5, (2, 13), generator=torch.Generator().manual_seed(0))
    >>> found = past_gradient(char_lstm(5, hidden_size=8, depth=2), tokens[:, :-1], tokens[:, 1:])
    >>> {name: norms.shape for name, norms in found.last.items()}
    {'h': (2, 12), 'c': (2, 12)}
    """
    net = deepcopy(net).eval()
    stack = the_stack(net)
    stack.readable, kept, step = True, [], stack.step

    def remembered(now: Tensor, state: tuple[Tensor, ...], *rest: object) -> dict[str, Tensor]:
        found = step(now, state, *rest)
        kept.append(tuple(found[name] for name in stack.states))
        return found

    stack.step = remembered
    with torch.enable_grad():
        for p in net.parameters():
            p.requires_grad_()  # frozen layers have a past as well
        answer = net(x)
        scores = answer[0] if isinstance(answer, tuple) else answer
        each = (losses or cross_entropies)(scores, y)
    depth = stack.num_layers
    if not kept or len(kept) % depth or len({one[0].shape for one in kept}) > 1:
        raise UserError(
            "the recurrent layers are not fed with whole sequences at once", allowed="net(x), one call each"
        )
    by_step = each if each.dim() > 1 else each[:, None]  # (B, T), or (B, 1)
    return PastGradient(
        _norms(by_step[:, -1].sum(), kept, stack.states, depth),
        _norms(by_step.mean(1).sum(), kept, stack.states, depth),
    )


def the_stack(net: nn.Module) -> Stack:
    """The one recurrent stack in a network.

    Raises:
        UserError: none, or several.

    >>> from engram.models.char_rnn import char_rnn
    >>> the_stack(char_rnn(5, hidden_size=8, depth=2)).num_layers
    2
    """
    found = [one for one in net.modules() if isinstance(one, Stack)]
    if len(found) != 1:
        raise UserError(
            f"{type(net).__name__} has {len(found) or 'no'} recurrent stack{'s' if len(found) > 1 else ''}",
            allowed="one of engram.layers.recurrent (RNN, LSTM, GRU)",
            then=None if found else "engram.layers.recurrent.LSTM.from_torch(module), in place of torch's module",
        )
    return found[0]


def cross_entropies(scores: Tensor, y: Tensor) -> Tensor:
    """(B,) of scores (B, K) and classes (B,); (B, T) of scores (B, T, V) and tokens (B, T).

    >>> cross_entropies(torch.zeros(1, 2, 4), torch.tensor([[0, 3]]))
    tensor([[1.3863, 1.3863]])
    """
    return F.cross_entropy(scores.movedim(-1, 1), y, reduction="none")


def _norms(
    loss: Tensor, kept: list[tuple[Tensor, ...]], names: tuple[str, ...], depth: int
) -> dict[str, NDArray[np.float64]]:
    """Samples share nothing, so that the gradient of their sum is, row by row, that of each sample's loss."""
    states = [one for step in kept for one in step]
    found = torch.autograd.grad(loss, states, retain_graph=True, materialize_grads=True)
    norms = torch.stack([torch.linalg.vector_norm(one.double(), dim=1).mean() for one in found])  # (layers T states,)
    by_name = norms.view(depth, -1, len(names)).movedim(2, 0).cpu().numpy()  # (states, layers, T)
    return dict(zip(names, by_name, strict=True))
