"""How weights follow their gradients: one method a file, each one rule for the step.

In every rule w is a weight, g the gradient of the batch's mean loss, α the learning rate `lr`, λ the `weight_decay`.
The default rates are for the one-cycle schedule, whose peak they are, and for networks trained from nothing: among the
rates tried on the embedded digits (two fully connected and two convolutional networks, with and without batch
normalisation, 10 epochs) and on 5,000 CIFAR-10 images, one near the middle of those that work on all. To fine-tune,
take a tenth. Biases and the parameters of normalisations (at most one axis) are not decayed unless `decay_all` says so.

    a rule for g alone            sgd momentum nesterov adagrad adadelta rmsprop adam adamax nadam adamw muon
    moves before it looks         nesterov_lookahead
    the whole training set        newton hessian_free bfgs lbfgs

The first take `step()` after the backward pass. The others evaluate the loss themselves: where the attribute
`needs_closure` is true (and for `lbfgs`) by `step(closure)`, which clears the gradients, runs backward and returns the
loss; where `needs_loss` is true by `step(loss_of)`, which returns the loss with its graph, to be differentiated twice.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from engram import registry
from engram.errors import UserError


def build(name: str, net: nn.Module, settings: Mapping[str, Any] | None = None) -> Optimizer:
    """The optimizer of that name for the weights of `net`.

    Raises:
        UserError: no such optimizer, no such setting, a value out of range, or nothing to train.

    >>> optimizer = build("adamw", nn.Linear(4, 3), {"lr": 0.002})
    >>> [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    [(0.002, 0.05), (0.002, 0.0)]
    """
    entry = registry.find("optimizer", name)
    registry.check_settings(entry, settings or {}, reserved=("parameters",))
    parameters = list(net.parameters())
    if not parameters:
        raise UserError(f"optimizer {name}: the network has no weights to train")
    return entry.build(parameters, **(settings or {}))


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group's rate to `factor` times the one it was built with, and return the first group's.

    >>> optimizer = build("sgd", nn.Linear(4, 3), {"lr": 0.5})
    >>> set_lr(optimizer, 0.1), set_lr(optimizer, 0.2)
    (0.05, 0.1)
    """
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return optimizer.param_groups[0]["lr"]


globals().update({name: registry.find("optimizer", name).build for name in registry.names("optimizer")})
