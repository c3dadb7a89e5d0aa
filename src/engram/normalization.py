"""What can be done with the batch normalisation of a trained network: fold it away, measure it anew, hold it still.

In training, batch normalisation divides by the statistics of the batch; in evaluation by running ones, and is then
nothing but a scale and a shift for each channel:

    y = g (x - m) / sqrt(v + eps) + b

*Folding.* Behind a convolution or a linear layer, x = W * z + c, scale and shift are the layer's own:

    W' = s W,   c' = b + s (c - m),   s = g / sqrt(v + eps)      for each output channel

Two passes over memory fewer for each pair, and the same outputs but for rounding. For inference only: trained on, the
folded network is another one. What does not stand directly behind such a layer cannot be folded: the first norm of a
pre-activation block (He et al. 2016, arXiv:1603.05027) and DenseNet's norms behind concatenations follow sums and
several layers at once, and padding with zeros forbids to move them forward into the next convolution.

*Recalibrating.* Running statistics are moving averages of the last batches, seen while the weights still moved. Over
all training examples, with n values of a channel, they are

    m = sum x / n,   v = sum (x - m)^2 / (n - 1)

as in the models that He et al. published in 2015 (averages over many training images, taken after training), and as
Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3, call for (PreciseBN). It helps after
weights were averaged, changed by hand or trained in small batches, and at high rates; where the running ones are good
already, it changes nothing. In one pass, later layers see what earlier ones normalise by their batch, as in training.
Layer by layer, every one sees what it will see in evaluation: exact, at a pass for each layer.

*Freezing.* Statistics held at their running values while the rest trains: for fine-tuning in small batches or on data
of another kind, whose batches would say little. The gradient is then that of a scale, dL/dx = s dL/dy, without the
terms through mean and variance. It hurts in training from the beginning, where there is nothing to hold.

Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167, section 3.1 (inference), algorithm 2.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from engram.errors import UserError

FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Folded(NamedTuple):
    """What folding gave."""

    net: nn.Module
    """A copy in evaluation mode, an `nn.Identity` in place of every norm that was folded."""
    folded: dict[str, str]
    """Names of the norms that are gone, and of the layers that hold them now."""
    left: dict[str, str]
    """Names of the norms that are still there, and why."""


def fold_batch_norm(net: nn.Module, example: Tensor) -> Folded:
    """A copy of a network for inference whose layers hold the batch normalisation behind them.

    What stands behind what is taken from the network's own backward graph on the example, so any `forward` will do.

    Args:
        example: (B, C, *S), on the network's device; rather noise than zeros, as the outputs on it are compared.

    Raises:
        UserError: the copy gives other outputs on the example, because the network uses a folded layer's weights in
            ways of its own.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8))
    >>> result = fold_batch_norm(net, torch.randn(1, 3, 8, 8))
    >>> result.folded, result.left
    ({'1': '0'}, {'3': 'no convolution or linear layer stands directly before it'})
    >>> result.net[:2]
    Sequential(
      (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
      (1): Identity()
    )
    """
    copied = copy.deepcopy(net).eval()
    names = {module: name for name, module in copied.named_modules()}
    seen = _observe(copied, example)
    folded: dict[str, str] = {}
    left: dict[str, str] = {}
    for norm, name in names.items():
        if not isinstance(norm, _BatchNorm):
            continue
        layer, reason = _layer_before(norm, seen, copied, names)
        if layer is None:
            left[name] = reason
            continue
        _fold(layer, norm)
        _replace(copied, name)
        folded[name] = names[layer]
    _compare(net, copied, example)
    return Folded(copied, folded, left)


def recalibrate(
    net: nn.Module, batches: Iterable[Tensor | Sequence[Tensor]], *, layer_by_layer: bool = False
) -> list[str]:
    """Running statistics as exact ones over all examples; the names of the norms in the order in which they are met.

    All else is in evaluation mode meanwhile, nothing is dropped and no weight changes. Norms that keep no running
    statistics are left alone.

    Args:
        batches: inputs (B, C, *S) as the network sees them in training, or (x, y); with `layer_by_layer` something
            that can be gone through again and again, such as a list.

    Raises:
        UserError: no examples, or no second pass; a batch that is too small to be normalised by itself.

    >>> net = nn.Sequential(nn.BatchNorm1d(1))
    >>> recalibrate(net, [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]]).repeat(2, 1)])
    ['0']
    >>> net[0].running_mean.item(), round(net[0].running_var.item(), 4)
    (2.25, 0.9167)
    """
    names = {module: name for name, module in net.named_modules() if _keeps_statistics(module)}
    met = _measure(net, batches, list(names), by_batch=not layer_by_layer)
    if layer_by_layer:
        for norm in met[1:]:  # what the first one sees depends on no other
            _measure(net, batches, [norm], by_batch=False)
    return [names[norm] for norm in met]


class _Frozen(nn.Module):
    """Stays in evaluation mode, whatever the network around it does."""

    def train(self, mode: bool = True) -> "_Frozen":
        return super().train(False)


class FrozenBatchNorm1d(_Frozen, nn.BatchNorm1d):
    """Batch normalisation of features or signals by its running statistics, in training too."""


class FrozenBatchNorm2d(_Frozen, nn.BatchNorm2d):
    """Batch normalisation of pictures by its running statistics, in training too."""


class FrozenBatchNorm3d(_Frozen, nn.BatchNorm3d):
    """Batch normalisation of volumes by its running statistics, in training too."""


class FrozenSyncBatchNorm(_Frozen, nn.SyncBatchNorm):
    """Batch normalisation over several devices, by its running statistics, in training too."""


FROZEN: dict[Any, Any] = {
    nn.BatchNorm1d: FrozenBatchNorm1d,
    nn.BatchNorm2d: FrozenBatchNorm2d,
    nn.BatchNorm3d: FrozenBatchNorm3d,
    nn.SyncBatchNorm: FrozenSyncBatchNorm,
}


def freeze_batch_norm(net: nn.Module, *, scale: bool = False) -> list[str]:
    """Hold all batch normalisation at its running statistics from now on, `net.train()` or not; their names.

    Parameters and what `state_dict` holds stay what they are.

    Args:
        scale: hold scale and shift too; an optimiser then passes over them.

    Raises:
        UserError: a norm that keeps no running statistics, or of a class of one's own; nothing is changed then.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> freeze_batch_norm(net), net.train()[1].training
    (['1'], False)
    """
    found = {name: module for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    for name, norm in found.items():
        if not _keeps_statistics(norm):
            raise UserError(f"{name} keeps no running statistics to hold", allowed="track_running_stats=True")
        if type(norm) not in FROZEN and not isinstance(norm, _Frozen):
            raise UserError(f"{name} is a {type(norm).__name__}, which cannot be held", allowed="torch's own classes")
    for norm in found.values():
        norm.__class__ = FROZEN.get(type(norm), type(norm))
        norm.eval()
        for p in norm.parameters() if scale else ():
            p.requires_grad_(False)
    return list(found)


def unfreeze_batch_norm(net: nn.Module) -> list[str]:
    """Let batch normalisation that was frozen follow its batches again, scale and shift too; their names.

    >>> net = nn.Sequential(nn.BatchNorm1d(2)); frozen = freeze_batch_norm(net, scale=True)
    >>> unfreeze_batch_norm(net), net.train()[0].training, net[0].weight.requires_grad
    (['0'], True, True)
    """
    own = {frozen: kind for kind, frozen in FROZEN.items()}
    found = {name: module for name, module in net.named_modules() if isinstance(module, _Frozen)}
    for norm in found.values():
        norm.__class__ = own[type(norm)]
        norm.train(net.training)
        for p in norm.parameters():
            p.requires_grad_(True)
    return list(found)


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


class _Call(NamedTuple):
    """One use of a layer or norm: the nodes of the backward graph that its input and its output come from."""

    given: Any
    gave: Any
    axes: int  # of the output


class _Seen(NamedTuple):
    """What one forward pass showed: the calls of every layer and norm, and how often each node is used."""

    calls: dict[nn.Module, list[_Call]]
    uses: Counter[Any]


def _observe(net: nn.Module, example: Tensor) -> _Seen:
    calls: dict[nn.Module, list[_Call]] = {}

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.setdefault(module, []).append(_Call(given[0].grad_fn, None, 0))

    def after(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        # Taken now: what works in place on the output will put its own node there.
        calls[module][-1] = calls[module][-1]._replace(gave=output.grad_fn, axes=output.dim())

    needed = [p for p in net.parameters() if not p.requires_grad]
    watched = [module for module in net.modules() if isinstance(module, (*FOLDABLE, _BatchNorm))]
    hooks = [module.register_forward_pre_hook(before) for module in watched]
    hooks += [module.register_forward_hook(after) for module in watched]
    try:
        for p in needed:  # so that all of the network is in the graph
            p.requires_grad_(True)
        with torch.enable_grad():
            outputs = net(example)
    finally:
        for hook in hooks:
            hook.remove()
        for p in needed:
            p.requires_grad_(False)
    ends = [leaf.grad_fn for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.grad_fn is not None]
    uses, reached, waiting = Counter(ends), set(ends), list(ends)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None:
                continue
            uses[node] += 1
            if node not in reached:
                reached.add(node)
                waiting.append(node)
    return _Seen(calls, uses)


def _layer_before(
    norm: nn.Module, seen: _Seen, net: nn.Module, names: dict[nn.Module, str]
) -> tuple[nn.Module | None, str]:
    """The layer that the norm can be folded into; or None and the reason."""
    if not _keeps_statistics(norm):
        return None, "it keeps no running statistics and always normalises by its batch"
    calls = seen.calls.get(norm, [])
    if len(calls) != 1:
        return None, f"it is used {len(calls)} times on the example, not once"
    node = calls[0].given
    layer = next((one for one in seen.calls if isinstance(one, FOLDABLE) and seen.calls[one][0].gave is node), None)
    if layer is None:
        return None, "no convolution or linear layer stands directly before it"
    name = names[layer]
    if type(layer) not in FOLDABLE:
        return None, f"{name} before it is a {type(layer).__name__}, which may compute in ways of its own"
    if len(seen.calls[layer]) != 1:
        return None, f"{name} before it is used {len(seen.calls[layer])} times"
    if seen.uses[node] != 1:
        return None, f"what {name} gives is used elsewhere too"
    if seen.calls[layer][0].axes != (2 if isinstance(layer, nn.Linear) else layer.weight.dim()):
        return None, f"the channels of {name} and of the norm are different axes"
    own = {id(p) for p in layer.parameters()}
    if sum(id(p) in own for m in net.modules() for p in m.parameters(recurse=False)) > len(own):
        return None, f"{name} before it shares its weights with another layer"
    return layer, ""


@torch.no_grad()
def _fold(layer: Any, norm: Any) -> None:
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = norm.weight.double() * scale
    shift = -scale * norm.running_mean.double()
    if layer.bias is not None:
        shift = shift + scale * layer.bias.double()
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = layer.weight
    weight.copy_(weight.double() * scale.view(-1, *[1] * (weight.dim() - 1)))
    if layer.bias is None:
        layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
    else:
        layer.bias.copy_(shift)


def _replace(net: nn.Module, name: str) -> None:
    """An identity in that place."""
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, nn.Identity())


def _compare(net: nn.Module, folded: nn.Module, example: Tensor) -> None:
    with _evaluating(net), torch.no_grad():
        pairs = list(zip(tree_leaves(net(example)), tree_leaves(folded(example)), strict=True))
    for before, after in pairs:
        if isinstance(before, Tensor) and before.is_floating_point():
            rounding = max(1e-3, 16 * torch.finfo(before.dtype).eps)
            if (after - before).abs().max() > rounding * before.abs().max():
                raise UserError(
                    "the folded network gives other outputs: this one uses a layer's weights in ways of its own"
                )


class _Moments:
    """Mean and variance of each channel over everything that comes, in float64."""

    def __init__(self) -> None:
        self.count, self.calls = 0, 0
        self.mean: Tensor | float = 0.0
        self.spread: Tensor | float = 0.0  # sum of squared distances from the mean

    def take(self, x: Tensor) -> None:
        rows = x.detach().double().movedim(1, -1).reshape(-1, x.shape[1])  # (N, C)
        if not len(rows):
            return
        center = rows.mean(0)
        away, total = center - self.mean, self.count + len(rows)
        self.spread = self.spread + (rows - center).square().sum(0) + away.square() * (self.count * len(rows) / total)
        self.mean = self.mean + away * (len(rows) / total)
        self.count, self.calls = total, self.calls + 1

    def give(self, norm: Any) -> None:
        norm.running_mean.copy_(self.mean)
        norm.running_var.copy_(torch.as_tensor(self.spread) / max(1, self.count - 1))
        norm.num_batches_tracked.fill_(self.calls)


@torch.no_grad()
def _measure(net: nn.Module, batches: Iterable[Any], norms: Sequence[Any], *, by_batch: bool) -> list[Any]:
    """Set the statistics of the norms to those of one pass; those that were met, in order."""
    moments: dict[Any, _Moments] = {}

    def note(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        moments.setdefault(norm, _Moments()).take(given[0])

    with _evaluating(net), _hooked(norms, note), _by_batch(norms if by_batch else []):
        seen = 0
        for batch in batches:
            x = batch if isinstance(batch, Tensor) else batch[0]
            try:
                net(x)
            except ValueError as error:  # torch: one value a channel has no variance
                raise UserError(f"recalibrate: a batch of {len(x)}: {error}", then="larger batches") from error
            seen += len(x)
    if not seen:
        raise UserError(
            "recalibrate: no examples came", allowed="batches, and with layer_by_layer a list that can be read again"
        )
    for norm, measured in moments.items():
        measured.give(norm)
    return list(moments)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _hooked(norms: Sequence[nn.Module], note: Callable[..., None]) -> Iterator[None]:
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _by_batch(norms: Sequence[Any]) -> Iterator[None]:
    """Inside, the norms normalise by their batch, and their running statistics stay what they are."""
    held = [(norm, norm.track_running_stats, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    try:
        yield
    finally:
        for norm, tracks, mean, variance in held:
            norm.track_running_stats, norm.running_mean, norm.running_var = tracks, mean, variance
