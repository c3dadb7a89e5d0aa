"""What a diagnosis that measures for itself is handed: a copy of the network to do with as it likes, and probe data."""

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


def scores_of(output: Any) -> Any:
    """The last head's output, of a network that gives those of auxiliary heads besides."""
    return output.main if isinstance(output, Scores) else output


def cross_entropy(output: Any, y: Tensor) -> Tensor:
    """The loss unless another is given: of the last head, a mean over the batch."""
    scores = scores_of(output)
    return F.cross_entropy(scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores, y)


@dataclass(frozen=True)
class Subject:
    """A network under examination.

    Args:
        original: the network itself: to be read, never to be called or changed.
        x: (B, C, *S) probe inputs as the network takes them, on its device.
        y: (B,) their labels.
        loss: mean loss of the network's output and labels.
        num_classes: None where the outputs are no scores of classes.
        optimized: names of the parameters that an optimiser holds; None where there is no optimiser.
    """

    original: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss = cross_entropy
    num_classes: int | None = None
    optimized: frozenset[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

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
