"""Routing through pooling: which pixels of a max pooling get the gradient, and where a tie decided that.

    a window of k x k hands its gradient to its largest value alone: 1/k² of the inputs where windows do not overlap

Which place of the window wins should be chance: each about 1/k² of the time (0.24 to 0.26 of four was measured). Where
all values of a window are the same there is no largest, and the first place is taken: with channels that are 0
throughout, 100 % went to the top left. Behind a ReLU that is harmless, as a 0 there hands nothing on; it then says only
how much of the map is empty. Other ties (values rounded, an input with flat areas) shift the gradient to one side.

Sick: all-zero channels; values in few steps. Healthy: any continuous map.

What it cannot see: average and strided convolution route to all; overlapping windows share their winners, so that their
coverage is under 1/stride².

Boureau, Ponce and LeCun 2010, A theoretical analysis of feature pooling, ICML; Zhang 2019, arXiv:1904.11486 (shifts).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

FAVOURED = 0.6
"""Share of the windows that one place wins; of two by two, 0.24 to 0.26 were measured."""

SAMPLES = 8

POOLINGS = {"max_pool1d": 1, "max_pool2d": 2}


def routes(subject: Subject) -> Mapping[str, Any] | None:
    """By max pooling: shares of the winning places, of windows without a winner, of inputs that get a gradient."""
    net = subject.copy()
    with torch.no_grad(), _Poolings(net) as seen:
        subject.call(net, *subject.part(SAMPLES))
    return {"poolings": seen.found} if seen.found else None


class _Poolings(TorchFunctionMode):
    """While it is entered, every max pooling is looked at, and named by the module in which it stands."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.found: dict[str, dict[str, Any]] = {}
        self._stack: list[str] = []
        self._handles = [
            handle
            for name, module in net.named_modules()
            for handle in (
                module.register_forward_pre_hook(lambda _, __, name=name: self._stack.append(name)),
                module.register_forward_hook(lambda _, __, ___: self._leave()),
            )
        ]

    def _leave(self) -> None:
        self._stack.pop()

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        axes = POOLINGS.get(getattr(func, "__name__", "").removesuffix("_with_indices"))
        if axes and isinstance(args[0], Tensor) and args[0].ndim == axes + 2:
            words = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
            given = {
                **dict(zip(words, args[1:], strict=False)),
                **{name: kwargs[name] for name in words if name in kwargs},
            }
            with torch._C.DisableTorchFunction():
                name = (self._stack[-1] if self._stack else "") or func.__name__
                count = sum(one.partition("#")[0] == name for one in self.found)
                self.found[name if not count else f"{name}#{count + 1}"] = looked_at(args[0].detach().float(), **given)
        return func(*args, **kwargs)


def looked_at(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> dict[str, Any]:
    """Who wins in the windows of a max pooling of x: (B, C, W) or (B, C, H, W).

    Returns:
        `places`: share of the windows each place of the window wins; `ties`: share that hold one value
        alone; `zeros`: share of windows that are 0 throughout; `coverage`: share of inputs that win somewhere.

    >>> found = looked_at(torch.tensor([[[[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]]]]), 2)
    >>> found["places"], found["ties"], found["zeros"], found["coverage"]
    ([0.5, 0.0, 0.0, 0.5], 0.5, 0.5, 0.25)
    """
    axes = x.ndim - 2
    pool = F.max_pool2d if axes == 2 else F.max_pool1d
    kernel, steps, pads, gaps = (_each(one, axes) for one in (kernel_size, stride or kernel_size, padding, dilation))
    settings: dict[str, Any] = {"stride": steps, "padding": pads, "dilation": gaps, "ceil_mode": ceil_mode}
    largest, winners = pool(x, kernel, return_indices=True, **settings)
    flat = largest == -pool(-x, kernel, **settings)
    sizes = x.shape[2:]
    rest, place = winners, torch.zeros_like(winners)
    for axis in range(axes):
        below = sizes[1] if axes == 2 and axis == 0 else 1
        position, rest = rest // below, rest % below
        shape = [1] * x.ndim
        shape[2 + axis] = -1
        corner = torch.arange(largest.shape[2 + axis], device=x.device).view(shape) * steps[axis] - pads[axis]
        place = place * kernel[axis] + (position - corner) // gaps[axis]
    count = 1
    for size in kernel:
        count *= size
    shares = torch.bincount(place.flatten().clamp(0, count - 1), minlength=count).double() / max(place.numel(), 1)
    won = torch.zeros(x.shape[0], x.shape[1], x[0, 0].numel(), dtype=torch.bool, device=x.device)
    won.scatter_(2, winners.flatten(2), True)
    return {
        "places": shares.tolist(),
        "ties": flat.double().mean().item(),
        "zeros": (flat & (largest == 0)).double().mean().item(),
        "coverage": won.double().mean().item(),
        "kernel": list(kernel),
    }


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


@register(
    "diagnosis",
    paper="Boureau, Ponce and LeCun 2010; Zhang 2019",
    year=2010,
    when="during",
    level="full",
    measure=routes,
)
def pooling_routes(history: History) -> list[Finding]:
    """One place of the pooling windows gets most of the gradient."""
    own = history.own("pooling_routes")
    if own is None:
        return []
    findings: list[Finding] = []
    for name, one in own["poolings"].items():
        share = max(one["places"])
        if len(one["places"]) < 2 or share <= FAVOURED:
            continue
        harmless = one["zeros"] >= 0.9 * one["ties"] and one["ties"] > 0
        place = one["places"].index(share) + 1
        findings.append(
            Finding(
                "pooling_routes",
                "information" if harmless else "warning",
                f"place {place} of {len(one['places'])} wins {100 * share:.0f} % of {name}'s windows, over "
                f"{100 * FAVOURED:.0f} %; {100 * one['ties']:.0f} % of the windows hold one value alone, "
                f"{100 * one['zeros']:.0f} % only zeros",
                means="these parts of the map are empty; their gradient goes to a 0 of a ReLU, which hands nothing on"
                if harmless
                else "the gradient is drawn to one side of the windows, and most of the inputs never get any",
                remedy=Remedy("look at the dead units of the layer before")
                if harmless
                else Remedy("average pooling or a strided convolution in its place; or values that are not rounded"),
                refuted_by="the same layer on other images, with each place winning as often as any other",
                confidence=0.5 if harmless else 0.6,
                step=history.now.step,
                where=(name,),
                seen={
                    "share": share,
                    "place": place,
                    "ties": one["ties"],
                    "zeros": one["zeros"],
                    "coverage": one["coverage"],
                    "favoured": FAVOURED,
                },
            )
        )
    return findings
