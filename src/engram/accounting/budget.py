"""The memory that a step of training takes: weights, gradients, what the optimiser keeps, and what the batch takes.

Weights, gradients and the optimiser's values are the same for every batch. What grows with it are activations: those
that the forward pass keeps for the backward pass, and on top of them the gradients that pass through. That is what
limits the size of a batch, and it has nothing to do with the number of parameters: of VGG-16's 138 million parameters
nine in ten are in its full connections, of its activations next to none.

The step is followed on shapes alone, forward and backward, with every block that torch hands out and takes back. Left
out are the work space that a library needs inside one operation and the slack of the allocator.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engram.accounting.recorder import Recorder, forward, some_input, without_values

SYMBOLIC_BATCH, REAL_BATCH = 1009, 17
"""Primes, so that blocks that grow with the batch are told by their size; the smaller one where values are needed."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a step of training takes in float32.

    Args:
        kept_an_example: what the forward pass keeps for the backward pass, for each example of the batch.
        kept: the same by layer, as (name, type, bytes), in the order in which they ran.
        moments: the fullest of a step, beside weights and optimiser, as (bytes whatever the batch, bytes an example).
    """

    weights: int
    gradients: int
    optimizer: int
    kept_an_example: int
    kept: tuple[tuple[str, str, int], ...]
    moments: tuple[tuple[int, int], ...]

    def total(self, batch_size: int) -> int:
        """At the fullest moment of a step with a batch of that size.

        >>> memory(nn.Linear(1000, 10), (1000,)).total(batch_size=8)
        152128
        """
        return self.weights + self.optimizer + max(fixed + batch_size * example for fixed, example in self.moments)


def memory(net: nn.Module, shape: Sequence[int], *, slots: int = 1, dtype: torch.dtype = torch.float32) -> Memory:
    """The memory that training takes in float32; with bfloat16 autocast activations take about half.

    Args:
        shape: of one input, (C, *S).
        slots: values that the optimizer keeps a weight: 0 for plain SGD, 1 with momentum, 2 for Adam.

    >>> needs = memory(nn.Sequential(nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 10)), (100,))
    >>> needs.weights, needs.kept
    (22240, (('0', 'Linear', 400), ('1', 'Sigmoid', 200), ('2', 'Linear', 0)))
    """

    def once(state: dict[str, Tensor]) -> Recorder:
        on_shapes = all(tensor.is_meta for tensor in state.values())
        recorder = Recorder(net, SYMBOLIC_BATCH if on_shapes else REAL_BATCH)
        with recorder.watching(state):
            x = some_input(state, (recorder.batch, *shape), dtype)
            with torch.autograd.graph.saved_tensors_hooks(recorder.keep, lambda tensor: tensor):
                output = forward(net, state, x)
            del x
            scores = [score.sum() for score in _scores(output) if score.requires_grad]
            del output
            if scores:
                torch.autograd.backward(scores)
        return recorder

    recorder = without_values(net, once, training=True)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    gradients = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
    kept = [
        (call.name or type(call.module).__name__, type(call.module).__name__, call.kept)
        for call in recorder.calls
        if call.kept or not any(call.module.children())
    ]
    return Memory(
        weights,
        gradients,
        slots * gradients,
        sum(size.example for size in recorder.kept.values()),
        tuple(kept),
        _fullest(recorder.moments),
    )


def _scores(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for one in output:
            yield from _scores(one)


def _fullest(moments: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Those that no other moment exceeds in both."""
    fullest: list[tuple[int, int]] = []
    for fixed, example in sorted(set(moments), key=lambda moment: (-moment[1], -moment[0])):
        if not fullest or fixed > fullest[-1][0]:
            fullest.append((fixed, example))
    return tuple(fullest) or ((0, 0),)
