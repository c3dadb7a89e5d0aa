"""Layer-sequential unit variance: measure what every layer gives on real data, and divide its weights by it.

    W_l orthogonal;  then layer by layer from the input on, while |Var(z_l) - 1| >= 0.1:  W_l <- W_l / sqrt(Var(z_l))

where z_l is the layer's output on one batch, over all its values. The rules by formula (`xavier`, `he`) assume what the
nonlinearity, the pooling, the padding and the data do to a signal; this one looks. Because layers are set in the order
in which the signal passes them, one pass suffices, and the first correction is nearly always enough.

It helps networks without normalisation, whatever their nonlinearity (maxout, ELU, tanh) or their concatenations and
sums. It hurts where the batch is not typical, and in residual networks it makes branches as strong as their shortcuts.
Before a batch normalisation it changes nothing that the normalisation does not change back.

The paper's settings: tolerance 0.1, at most 10 corrections a layer, orthogonal start, biases 0. Where we differ: layers
that the signal does not pass in evaluation mode (auxiliary heads) keep their orthogonal start, and so does a layer
that gives a constant. Normalisations use the batch's own statistics while measuring, as they will in training, and
their running statistics are as before afterwards; dropout is off.

Mishkin and Matas 2016, All you need is a good init, arXiv:1511.06422, algorithm 1.
"""

from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import number
from engram.initializers.layers import NORMS, Layer, Rule, count, set_weights, weighted
from engram.initializers.orthogonal import rotation
from engram.registry import register

MOST = 10  # corrections of a layer


@register("initializer", paper="Mishkin and Matas 2016, arXiv:1511.06422, algorithm 1", year=2015, needs_batch=True)
def lsuv(*, tolerance: float = 0.1) -> Rule:
    """Orthogonal matrices, each divided by the deviation it gives on a batch of the data.

    Args:
        tolerance: of a layer's output variance around 1.

    >>> import torch; from engram.initializers import apply
    >>> net = nn.Sequential(nn.Linear(9, 50), nn.Softplus(), nn.Linear(50, 4)); x = 3 * torch.randn(200, 9)
    >>> apply(net, "lsuv", batch=x), bool(0.9 < net(x).var() < 1.1)
    (['lsuv: variance 1 in 2 of 2 layers'], True)
    """
    within = number("lsuv", "tolerance", tolerance, 0, 1, above=True)

    def rule(net, given):
        if given.batch is None:
            raise UserError("initializer lsuv measures the signal of a batch, and was given none")
        set_weights(net, given, lambda name, module, empty: rotation(module, empty, given))
        return _scale(net, given.batch, within)

    return rule


def _scale(net: nn.Module, batch: Tensor, within: float) -> str:
    layers = weighted(net)
    modes = {module: module.training for module in net.modules()}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.eval()
    for module in net.modules():
        if isinstance(module, NORMS):
            module.train()
    try:
        passed = _order(net, layers, batch)
        settled = sum(_settle(net, layers[name], batch, within) for name in passed)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
    return f"variance 1 in {settled} of {count(len(layers))}"


def _order(net: nn.Module, layers: dict[str, Layer], batch: Tensor) -> list[str]:
    """The layers by the order in which the signal first passes them."""
    passed: dict[str, None] = {}
    hooks = [
        module.register_forward_hook(lambda module, x, z, name=name: passed.setdefault(name))
        for name, module in layers.items()
    ]
    try:
        net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return list(passed)


def _settle(net: nn.Module, layer: Layer, batch: Tensor, within: float) -> bool:
    """Divide a layer's weights until its output has variance 1; whether it does."""
    for correction in range(MOST + 1):
        variance = _variance(net, layer, batch)
        if abs(variance - 1) < within:
            return True
        if correction == MOST or not 0 < variance < float("inf"):
            break
        layer.weight.div_(variance**0.5)
    return False


class _Measured(Exception):
    """The signal has passed the layer; the rest of the network need not be computed."""


def _variance(net: nn.Module, layer: Layer, batch: Tensor) -> float:
    seen: list[float] = []

    def measure(module, x, z):
        seen.append(z.double().var(correction=0).item())
        raise _Measured

    hook = layer.register_forward_hook(measure)
    try:
        net(batch)
    except _Measured:
        pass
    finally:
        hook.remove()
    return seen[0]
