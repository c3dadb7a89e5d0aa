"""What a diagnosis that measures for itself is handed: a copy of the network to do with as it likes, and probe data.

Three functions say what a network is for, so that a diagnosis need not know: how it is called, which scores and labels
its output stands for, and what they cost.

    output = call(net, x, y)                         net(x); of a captioner net(x, y[:, :-1]), which reads y so far
    scores (N, K), labels (N,) = outputs(output, y)  one each for everything that is foreseen: an example, or a token
    loss(output, y)                                  a mean over them
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _NormBase

from engram.layers.auxiliary import Scores

Loss = Callable[[Any, Tensor], Tensor]
Outputs = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
Call = Callable[[nn.Module, Tensor, Tensor], Any]

IGNORED = -100
"""A label that does not count: PyTorch's own mark for it."""


def scores_of(output: Any) -> Any:
    """The last head's scores, of a network that gives those of auxiliary heads, or the state it is left in, besides."""
    if isinstance(output, Scores):
        return output.main
    return output[0] if isinstance(output, tuple) and output and isinstance(output[0], Tensor) else output


def called(net: nn.Module, x: Tensor, y: Tensor) -> Any:
    """The call unless another is given: the inputs alone."""
    return net(x)


def foreseen(output: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs unless others are given: scores and labels, of a sequence those of every place that counts.

    Args:
        output: (B, K) scores, or (B, T, K); alone or the first of several.
        y: (B,), or (B, T) in which `IGNORED` does not count.

    Returns:
        (N, K) and (N,).

    >>> scores, labels = foreseen((torch.zeros(2, 3, 5), "the state"), torch.tensor([[1, 2, 3], [4, -100, -100]]))
    >>> scores.shape, labels
    (torch.Size([4, 5]), tensor([1, 2, 3, 4]))
    """
    scores = scores_of(output)
    if not isinstance(scores, Tensor) or scores.ndim != 3 or scores.shape[:2] != y.shape:
        return scores, y
    scores, y = scores.flatten(0, 1), y.flatten()  # (B T, K), (B T,)
    counts = y != IGNORED
    return (scores, y) if counts.all() else (scores[counts], y[counts])


def cross_entropy(output: Any, y: Tensor) -> Tensor:
    """The loss unless another is given: of the last head, a mean over the batch, or over all tokens of it."""
    return mean_of(*foreseen(output, y))


def mean_of(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (N, K) scores, in single precision at least."""
    return F.cross_entropy(scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores, labels)


@dataclass(frozen=True)
class Subject:
    """A network under examination.

    Args:
        original: the network itself: to be read, never to be called or changed.
        x: (B, C, *S) probe inputs as the network takes them, on its device.
        y: (B,) their labels, of sequences (B, T).
        loss: mean loss of the network's output and labels.
        num_classes: None where the outputs are no scores of classes.
        optimized: names of the parameters that an optimiser holds; None where there is no optimiser.
        call, outputs: how the network is called, and the scores and labels that its output stands for.
        of_scores: mean loss of (N, K) scores and (N,) labels that are not the network's own, NaN where nobody can say;
            without it, `loss`.
    """

    original: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss = cross_entropy
    num_classes: int | None = None
    optimized: frozenset[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    call: Call = called
    outputs: Outputs = foreseen
    of_scores: Loss | None = None

    def part(self, count: int) -> tuple[Tensor, Tensor]:
        """The first examples and their labels."""
        return self.x[:count], self.y[:count]

    def cost(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a network, most often a copy, on some examples."""
        return self.loss(self.call(net, x, y), y)

    def cost_of(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of (N, K) scores of one's own, (N,) labels; NaN where nobody can say."""
        return torch.as_tensor((self.of_scores or self.loss)(scores, labels))

    def copy(self, *, training: bool = False, batch_statistics: bool = False) -> nn.Module:
        """A new copy in eval mode (or training mode), without gradients: it may be trained, cut and broken.

        Args:
            batch_statistics: batch norm takes those of the batch, as in training, while dropout stays off.
        """
        net = copy.deepcopy(self.original)
        for parameter in net.parameters():
            parameter.grad = None
        net.train(training)
        for module in net.modules() if batch_statistics else ():
            if isinstance(module, _NormBase) and not isinstance(module, SyncBatchNorm):
                module.training = True
        return net
