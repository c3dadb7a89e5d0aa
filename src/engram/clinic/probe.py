"""The probe: one batch that stays the same, run through the network now and then, and every layer measured on the way.

By layer l and sample i, with a the layer's output and L the loss:

    mean and std of a,  share of zeros,  largest |a|,  dead units: max over samples and places of a rectifier = 0
    n_l = mean_i ‖∂L_i/∂a_l‖₂         how much of the loss's gradient arrives, the same measure for every layer

The gradient with respect to *activations* is what shows vanishing and exploding: where signals shrink with depth, the
gradient of the weights is a small δ times a large a early and a large δ times a small a late, and looks healthy.

How it is cheap: moments come from a sum and a norm (a variance kernel costs 30 times as much), every number stays a
tensor of one element until the end, and one transfer brings them all. Dead units need a thousand samples to be told
from rare ones; as more samples can only wake units up, the others are run only where the first show a layer with many.

How it is safe: outputs are reduced inside the hook, since a following in-place ReLU overwrites them; gradients come by
hooks of tensors, since those of modules refuse in-place activations; hooks return nothing, since what they return
replaces the output; nothing is accumulated into `.grad`; the network, its buffers and all generators are put back.
Functions that are no modules (`F.relu`, `torch.tanh`) are seen by a torch function mode.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engram.clinic.measured import Layer, Probe, Weights
from engram.clinic.subject import Call, Loss, Outputs, called, cross_entropy, foreseen, scores_of
from engram.clinic.untouched import untouched

GRADIENT_SAMPLES = 64
"""Samples that are run forward and backward; each costs as much as one of a training batch."""

UNIT_SAMPLES = 1024
"""Over which a unit must be silent to be dead: of 128, up to 22 % of healthy units looked dead; of 1200, 2 to 6 %."""

TINY = 1.2e-38
"""The least normal float32. Values are divided by their largest before they are squared and added: a square is infinite
from 1.8e19 on, and 0 below 1e-23, though the values themselves are sound numbers."""

SUSPICIOUS = 0.10
"""Share of silent units from which more samples are run, the least at which anything is said of them."""

RECTIFIERS = {"ReLU", "ReLU6", "relu", "relu_", "relu6", "Threshold", "threshold"}
SATURATING = {"Tanh": 0.97, "tanh": 0.97, "tanh_": 0.97, "Sigmoid": 0.96, "sigmoid": 0.96, "sigmoid_": 0.96}
"""Where a unit is saturated: |h| beyond it, of sigmoid |2h - 1|: h below 0.02 or above 0.98."""

FUNCTIONS = RECTIFIERS | set(SATURATING) | {
    "gelu", "silu", "mish", "elu", "elu_", "selu", "celu", "leaky_relu", "leaky_relu_", "prelu", "hardtanh",
    "hardswish", "hardsigmoid", "softplus", "rrelu", "logsigmoid", "glu",
}  # fmt: skip
UNCHANGING = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass
class _Call:
    name: str
    kind: str
    units: int
    axis: int
    numbers: dict[str, Tensor] = field(default_factory=dict)
    tallest: Tensor | None = None  # of a rectifier: by unit, the largest output so far


class Watch(TorchFunctionMode):
    """While it is entered, every layer's output is measured and its gradient waited for; see `watched`."""

    def __init__(self, net: nn.Module, samples: int, *, gradients: bool, heights_only: bool = False) -> None:
        super().__init__()
        self.samples, self.gradients, self.heights_only = samples, gradients, heights_only
        self.calls: list[_Call] = []
        self._counts: Counter[str] = Counter()
        self._stack: list[tuple[nn.Module, str, bool]] = []
        self._names = {module: name for name, module in net.named_modules()}
        self._axis = 1  # of channels, as the last layer with weights had them

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        kind = getattr(func, "__name__", "")
        if kind in FUNCTIONS and self._stack and isinstance(output, Tensor):
            module, name, _ = self._stack[-1]
            if not type(module).__module__.startswith("torch.nn.modules"):  # those are measured as modules
                self.measure(f"{name}:{kind}" if name else kind, kind, output)
        return output

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Before a module is called."""
        if self._stack:
            above, name, _ = self._stack[-1]
            self._stack[-1] = (above, name, True)
        self._stack.append((module, self._names.get(module, ""), False))

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """After a module was called; one that called no other is a layer."""
        _, name, calls_others = self._stack.pop()
        output = scores_of(output)  # of recurrent layers and attention the first of several
        if calls_others or not isinstance(output, Tensor) or isinstance(module, UNCHANGING):
            return
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.RNNBase | nn.MultiheadAttention | nn.Embedding):
            self._axis = -1
        elif next(module.parameters(recurse=False), None) is not None:
            self._axis = 1
        self.measure(name or type(module).__name__, _kind_of(module), output)

    def measure(self, name: str, kind: str, output: Tensor) -> None:
        """Reduce an output to numbers, now: the next layer may overwrite it."""
        if not output.is_floating_point() or output.ndim < 2 or not output.numel():
            return
        if self.heights_only and kind not in RECTIFIERS:
            return
        self._counts[name] += 1
        count = self._counts[name]
        name = name if count == 1 else f"{name}#{count}"
        axis = 1 if output.ndim == 2 or output.ndim > 3 else self._axis % output.ndim
        call = _Call(name, kind, output.shape[axis], axis)
        with torch._C.DisableTorchFunction(), torch.no_grad():
            values = output.detach().float()
            if kind in RECTIFIERS:
                call.tallest = values.amax([one for one in range(values.ndim) if one != axis])
            if self.heights_only:
                self.calls.append(call)
                return
            largest = torch.linalg.vector_norm(values, float("inf"))
            parts = values / largest.clamp_min(TINY)
            call.numbers = {
                "sum": parts.sum(),
                "norm": torch.linalg.vector_norm(parts),
                "largest": largest,
                "count": torch.tensor(float(values.numel())),
            }
            some = values[:8]  # counting is slow, and samples are alike
            call.numbers["zeros"] = (some == 0).float().mean()
            if kind in SATURATING:
                centred = 2 * some - 1 if "igmoid" in kind else some
                call.numbers["saturated"] = (centred.abs() > SATURATING[kind]).float().mean()
        if self.gradients and output.requires_grad:
            output.register_hook(self._receiver(call))
        self.calls.append(call)

    def _receiver(self, call: _Call) -> Callable[[Tensor], None]:
        def receive(gradient: Tensor) -> None:
            with torch._C.DisableTorchFunction(), torch.no_grad():
                values = gradient.detach().float().flatten(1)
                largest = torch.linalg.vector_norm(values, float("inf")).clamp_min(TINY)
                norms = torch.linalg.vector_norm(values / largest, dim=1)
                # the loss is a mean over samples, so a sample's own gradient is as many times larger
                call.numbers["gradient"] = norms.mean() * self.samples * largest

        return receive


@contextmanager
def watched(net: nn.Module, samples: int, *, gradients: bool, heights_only: bool = False) -> Iterator[Watch]:
    """Hooks on every module and a look at every function, until the context is left.

    Args:
        samples: in the batch that will go through.
        heights_only: of rectifiers, each unit's tallest output; nothing else of them, and nothing of other layers.
    """
    watch = Watch(net, samples, gradients=gradients, heights_only=heights_only)
    handles = [
        handle
        for module in net.modules()
        for handle in (
            module.register_forward_pre_hook(watch.enter),
            module.register_forward_hook(watch.leave),
        )
    ]
    try:
        with watch:
            yield watch
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Probed:
    """What a run of the probe brought."""

    layers: tuple[Layer, ...]
    probe: Probe
    gradients: Mapping[str, float]  # by parameter: norm of the probe loss's gradient; only what was asked for


def run_probe(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = cross_entropy,
    num_classes: int | None = None,
    call: Call = called,
    outputs: Outputs = foreseen,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    parameters: bool = False,
    unit_samples: int = UNIT_SAMPLES,
) -> Probed:
    """Run the probe batch through the network and measure every layer; the network is left as it was.

    Args:
        x: (N, C, *S) inputs; the first 64 are differentiated, the others only looked at for dead units.
        y: (N,) labels, of sequences (N, T).
        num_classes: of scores (N, K); None where the outputs are no scores, and then nothing is said of predictions.
        call, outputs: see `engram.clinic.subject`.
        autocast: the context of mixed precision in which the network is trained.
        parameters: whether the gradients of parameters are wanted as well.

    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    >>> found = run_probe(net, torch.randn(32, 3), torch.randint(0, 2, (32,)), num_classes=2)
    >>> [(one.name, one.kind, one.gradient > 0) for one in found.layers]
    [('0', 'Linear', True), ('1', 'ReLU', True), ('2', 'Linear', True)]
    """
    first, labels = x[:GRADIENT_SAMPLES], y[:GRADIENT_SAMPLES]
    wanted = {name: one for name, one in net.named_parameters() if one.requires_grad} if parameters else {}
    with untouched(net, batch_statistics=True):
        with torch.enable_grad(), watched(net, len(first), gradients=True) as watch:
            leaf = first.detach().clone()
            leaf.requires_grad_(leaf.is_floating_point())
            with autocast():
                # a copy goes in: a first layer that works in place must not meet a leaf
                output = call(net, leaf.clone(), labels)
            value = loss(output, labels)
            asked = [*wanted.values(), *([leaf] if leaf.requires_grad else [])]
            asked = asked or [one for one in net.parameters() if one.requires_grad]
            found = torch.autograd.grad(value, asked, allow_unused=True) if value.requires_grad and asked else []
        by_name = {name: one for name, one in zip(wanted, found, strict=False) if one is not None}
    with untouched(net), torch.no_grad(), autocast():
        evaluated = call(net, first, labels)
        value_eval = loss(evaluated, labels)
    calls = watch.calls
    numbers: dict[tuple[int, str], Tensor] = {
        (place, name): number for place, call in enumerate(calls) for name, number in call.numbers.items()
    }
    numbers |= {(place, "dead"): _silent(call) for place, call in enumerate(calls) if call.tallest is not None}
    judged = None if num_classes is None else outputs(evaluated, labels)
    whole = _whole(value, value_eval, output, judged, y, num_classes)
    norms = torch._foreach_norm([one.float() for one in by_name.values()]) if by_name else ()
    values = read([*numbers.values(), *whole.values(), *norms])
    measured = dict(zip(numbers, values, strict=False))
    told = dict(zip(whole, values[len(numbers) :], strict=False))
    found_norms = zip(by_name.items(), values[len(numbers) + len(whole) :], strict=True)
    gradients = {name: _norm(norm, one) for (name, one), norm in found_norms}
    probed = _wake(net, x, y, call, calls, measured, autocast, unit_samples)
    return Probed(_layers(calls, measured, probed), _probe(told, num_classes), gradients)


def _wake(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    call: Call,
    calls: list[_Call],
    measured: dict[tuple[int, str], float],
    autocast: Callable[[], AbstractContextManager[Any]],
    unit_samples: int,
) -> int:
    """Look at more samples while a layer has many silent units; returns how many were looked at in all."""
    done, total = min(GRADIENT_SAMPLES, len(x)), min(len(x), unit_samples)
    rectifiers = {place: call for place, call in enumerate(calls) if call.tallest is not None}
    while done < total and any(
        measured[place, "dead"] > SUSPICIOUS * max(call.units, 1) for place, call in rectifiers.items()
    ):
        part, labels = (one[done : min(total, max(2 * done, 2))] for one in (x, y))
        with (
            untouched(net, batch_statistics=True),
            torch.no_grad(),
            autocast(),
            watched(net, len(part), gradients=False, heights_only=True) as more,
        ):
            call(net, part, labels)
        by_name = {one.name: one for one in more.calls}
        for one in rectifiers.values():
            other = by_name.get(one.name)
            if other is not None and one.tallest is not None and other.tallest is not None:
                one.tallest = torch.maximum(one.tallest, other.tallest)
        silent = read([_silent(one) for one in rectifiers.values()])
        measured |= {(place, "dead"): number for place, number in zip(rectifiers, silent, strict=True)}
        done += len(part)
    return done


def _layers(calls: list[_Call], measured: Mapping[tuple[int, str], float], probed: int) -> tuple[Layer, ...]:
    layers = []
    for place, call in enumerate(calls):
        count = measured[place, "count"]
        largest = measured[place, "largest"]
        mean = measured[place, "sum"] / count * largest
        rms = measured[place, "norm"] / count**0.5 * largest
        square = rms * rms  # not ** 2, which raises where it overflows
        dead = measured.get((place, "dead"))
        spread = square - mean * mean
        layers.append(
            Layer(
                name=call.name,
                kind=call.kind,
                depth=place,
                mean=mean,
                std=max(spread, 0.0) ** 0.5 if spread == spread else spread,
                largest=largest,
                zeros=measured[place, "zeros"],
                gradient=measured.get((place, "gradient")),
                units=call.units,
                dead=None if dead is None else int(dead),
                saturated=measured.get((place, "saturated")),
                probed=probed if dead is not None else 0,
            )
        )
    return tuple(layers)


def _whole(
    value: Tensor,
    value_eval: Tensor,
    output: Any,
    judged: tuple[Tensor, Tensor] | None,
    y: Tensor,
    num_classes: int | None,
) -> dict[str, Tensor]:
    """The numbers of the whole network, still on its device.

    Args:
        judged: (M, K) scores in eval mode and (M,) labels of what is foreseen.
        y: the labels of all examples of the probe.
    """
    with torch.no_grad():
        numbers = {"loss": value.detach(), "loss_eval": value_eval}
        scores = scores_of(output)
        if isinstance(scores, Tensor) and scores.is_floating_point():
            scores = scores.detach().float()
            numbers["mean"], numbers["std"] = scores.mean(), scores.std(correction=0)
        if num_classes is not None and judged is not None:
            scores, labels = judged
            guesses = scores.argmax(1)
            numbers["accuracy"] = (guesses == labels).float().mean()
            given = y if y.ndim == 1 else labels
            for name, classes in (("predicted", guesses), ("labelled", labels), ("given", given)):
                shares = torch.bincount(classes, minlength=num_classes) / len(classes)
                numbers |= {f"{name}{one}": share for one, share in enumerate(shares)}
    return numbers


def _probe(told: Mapping[str, float], num_classes: int | None) -> Probe:
    kinds = ("predicted", "labelled", "given")
    shares = {name: tuple(told[f"{name}{one}"] for one in range(num_classes or 0)) for name in kinds}
    return Probe(
        told["loss"], told["loss_eval"], told.get("accuracy"), output_mean=told.get("mean", 0.0),
        output_std=told.get("std", 0.0), **shares,
    )  # fmt: skip


def weights_of(
    net: nn.Module,
    *,
    optimized: frozenset[str] | None,
    gradients: Mapping[str, float | None],
    updates: Mapping[str, float],
    norms: Mapping[str, float],
) -> dict[str, Weights]:
    """The record of every parameter, from the norms that were read."""
    kinds = {
        id(parameter): type(module).__name__
        for module in net.modules()
        for parameter in module.parameters(recurse=False)
    }
    return {
        name: Weights(
            name=name,
            kind=kinds[id(parameter)],
            shape=tuple(parameter.shape),
            trainable=parameter.requires_grad,
            optimized=optimized is None or name in optimized,
            norm=_norm(norms[name], parameter),
            gradient=gradients.get(name),
            update=updates.get(name),
        )
        for name, parameter in net.named_parameters()
        if name in norms
    }


def _norm(norm: float, of: Tensor) -> float:
    """In float64 where squares of large finite numbers overflowed."""
    return norm if math.isfinite(norm) else of.detach().cpu().double().norm().item()


def _kind_of(module: nn.Module) -> str:
    """The class's name; of a class of one's own that is a ReLU, ReLU."""
    for known in (nn.ReLU6, nn.ReLU, nn.Tanh, nn.Sigmoid):
        if isinstance(module, known):
            return known.__name__
    return type(module).__name__


def _silent(call: _Call) -> Tensor:
    if call.tallest is None:
        return torch.zeros(())
    return (call.tallest <= 0).sum()


def read(numbers: list[Tensor]) -> list[float]:
    """All of them as Python numbers, in one transfer from each device."""
    if not numbers:
        return []
    device = next((one.device for one in numbers if one.device.type != "cpu"), torch.device("cpu"))
    return torch.stack([one.detach().to(device, torch.float64, non_blocking=True) for one in numbers]).tolist()
