"""How weights follow their gradients: eight methods on `torch.optim`, each one rule for the step.

In every rule w is a weight, g the gradient of the batch's mean loss, α the learning rate `lr`, λ the `weight_decay`.
They stand in order of increasing complexity. The defaults are for the one-cycle schedule, whose peak they are, and
for networks trained from nothing: among the rates tried on the embedded digits (two fully connected and two
convolutional networks, with and without batch normalisation, 10 epochs) and on 5,000 CIFAR-10 images, one near the
middle of those that work on all. To fine-tune, take a tenth.

Biases and the parameters of normalisations (at most one axis) are not decayed unless `decay_all` says so.
Where torch has a fused kernel for the parameters it is used: 5 times as fast as torch's loop over tensors for a
ResNet-18 on one core. Elsewhere the step is one call for all tensors (`foreach`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import registry
from engram.errors import UserError
from engram.regularizers import decay_groups

Parameters = Iterable[Tensor]


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


@registry.register("optimizer", paper="Robbins and Monro 1951", year=1951, lr=0.3)
def sgd(parameters: Parameters, *, lr: float = 0.3, weight_decay: float = 5e-4, decay_all: bool = False) -> Optimizer:
    """Stochastic gradient descent: a step against the gradient of one batch.

        w <- w - α (g + λw)

    The yardstick of all others: nothing to remember, nothing to go wrong but the rate. Slow where the loss is steep in
    one direction and flat in another, because the steep one bounds the rate. The default rate is several times that of
    `momentum`, whose steps add up; more breaks small networks without normalisation.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = sgd([w], lr=0.1, weight_decay=0.0)
    >>> (w**2).backward(); optimizer.step(); round(w.item(), 4)
    0.8
    """
    _check("sgd", lr=lr, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return _aligned(torch.optim.SGD(groups, lr=lr, **_fast(groups, "cpu", "cuda", "mps")))


@registry.register("optimizer", paper="Polyak 1964; Sutskever et al. 2013, equations 1-2", year=1964, lr=0.05)
def momentum(
    parameters: Parameters,
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_all: bool = False,
) -> Optimizer:
    """Heavy ball: steps add up along a valley and cancel across it.

        b <- ρb + g + λw
        w <- w - αb

    The velocity b starts at 0 and reaches 1 / (1 - ρ) times a steady gradient: ρ = 0.9 makes α worth ten times as much.
    Helps on ill-conditioned losses and carries over small bumps; overshoots where the minimum is sharp. Sutskever and
    others keep α inside the velocity (v <- ρv - αg), which differs only while α changes.
    ResNets take α = 0.1, networks without normalisation 0.01 to 0.05.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = momentum([w], lr=0.1, weight_decay=0.0)
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); (w**2).backward(); optimizer.step()
    >>> round(w.item(), 4)
    0.46
    """
    _check("momentum", lr=lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return _aligned(torch.optim.SGD(groups, lr=lr, momentum=momentum, **_fast(groups, "cpu", "cuda", "mps")))


@registry.register("optimizer", paper="Nesterov 1983; Sutskever et al. 2013, equations 3-4", year=1983, lr=0.05)
def nesterov(
    parameters: Parameters,
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_all: bool = False,
) -> Optimizer:
    """Momentum that looks ahead: first the step of the velocity, then the gradient where it leads, then a correction.

        b <- ρb + g + λw
        w <- w - α (g + λw + ρb)

    Written with the gradient at w, where w is the point looked at: the same path as the paper's, shifted by ρ times the
    velocity. A little steadier than `momentum` at the same rate, at no cost; hence the default of a run. With a
    momentum of 0 it is `sgd`.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = nesterov([w], lr=0.1, weight_decay=0.0)
    >>> for _ in range(3):
    ...     optimizer.zero_grad(); (w**2).backward(); optimizer.step()
    >>> round(w.item(), 6)
    -0.108352
    """
    _check("nesterov", lr=lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    fast = _fast(groups, "cpu", "cuda", "mps")
    return _aligned(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, **fast))


@registry.register("optimizer", paper="Duchi et al. 2011, section 1.1", year=2011, lr=0.02)
def adagrad(
    parameters: Parameters,
    *,
    lr: float = 0.02,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """A rate for each weight that falls with all it has been through.

        s <- s + g²
        w <- w - α g / (√s + ε)

    Helps where some inputs are rare: their weights keep a high rate. The sum only grows, so the rate of a steady
    gradient falls as 1/√t: right for convex problems, too early an end on long runs of deep networks.
    Decay, where wanted, is part of g.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adagrad([w], lr=0.1)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.9
    """
    _check("adagrad", lr=lr, eps=eps, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return _aligned(torch.optim.Adagrad(groups, lr=lr, eps=eps, **_fast(groups, "cpu", "cuda")))


@registry.register("optimizer", paper="Tieleman and Hinton 2012, Coursera lecture 6.5", year=2012, lr=0.002)
def rmsprop(
    parameters: Parameters,
    *,
    lr: float = 0.002,
    alpha: float = 0.99,
    momentum: float = 0.0,
    centered: bool = False,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """AdaGrad with a memory that fades, so the rate does not run out.

        s <- γs + (1 - γ) g²             γ is `alpha`
        w <- w - α g / (√s + ε)

    Helps where AdaGrad stalls. s starts at 0, so the first steps are larger, up to 1 / √(1 - γ) times α: the warm-up
    of the schedule is for them. `centered` subtracts the squared mean gradient from s (Graves 2013), `momentum` adds
    the steps up. The lecture's γ is 0.9; 0.99, torch's, learned faster here at every rate.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = rmsprop([w], lr=0.01, alpha=0.75)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.98
    """
    _check("rmsprop", lr=lr, alpha=alpha, momentum=momentum, centered=centered, eps=eps)
    _check("rmsprop", weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return torch.optim.RMSprop(
        groups, lr=lr, alpha=alpha, eps=eps, momentum=momentum, centered=centered, **_fast(groups)
    )


@registry.register("optimizer", paper="Kingma and Ba 2015, algorithm 1", year=2015, lr=0.003)
def adam(
    parameters: Parameters,
    *,
    lr: float = 0.003,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Momentum and a rate for each weight, both corrected for having started at 0.

        m <- β₁m + (1 - β₁) g            v <- β₂v + (1 - β₂) g²
        w <- w - α m̂ / (√v̂ + ε)          m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ),  t from 1

    Works nearly untuned and where gradients differ by orders of magnitude. Convolutional networks with normalisation
    often end a little better with `nesterov`. Its rate does not anneal by itself: it needs a schedule as any other.
    Decay inside the gradient is divided by √v̂ too and hardly decays; use `adamw` for it. The paper's α is 0.001 held
    constant; a one-cycle peak can be three times that.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adam([w], lr=0.01)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.99
    """
    _check("adam", lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    fast = _fast(groups, "cpu", "cuda", "mps")
    return _aligned(torch.optim.Adam(groups, lr=lr, betas=_pair(betas), eps=eps, amsgrad=amsgrad, **fast))


@registry.register("optimizer", paper="Loshchilov and Hutter 2019, algorithm 2", year=2019, lr=0.003)
def adamw(
    parameters: Parameters,
    *,
    lr: float = 0.003,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    weight_decay: float = 0.05,
    decay_all: bool = False,
) -> Optimizer:
    """Adam whose decay is apart from the gradient, so that every weight shrinks at the same rate.

        w <- (1 - αλ) w, then Adam's step

    The one to take when Adam should generalise. λ is multiplied by α, so a useful λ is a hundred times that of `sgd`:
    at 0.05 a weight without gradient halves in about 9,000 steps of a one-cycle run.

    >>> w = nn.Parameter(torch.tensor([[1.0]]))
    >>> optimizer = adamw([w], lr=0.01, weight_decay=0.1)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.989
    """
    _check("adamw", lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    fast = _fast(groups, "cpu", "cuda", "mps")
    return _aligned(torch.optim.AdamW(groups, lr=lr, betas=_pair(betas), eps=eps, amsgrad=amsgrad, **fast))


@registry.register(
    "optimizer", paper="Liu and Nocedal 1989, algorithm 2.1", year=1989, lr=1.0, closure=True, full_batch=True
)
def lbfgs(
    parameters: Parameters,
    *,
    lr: float = 1.0,
    max_iter: int = 20,
    history_size: int = 10,
    line_search: bool = True,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Newton's direction from the last few steps, without a Hessian; the whole training set at once.

        w <- w + αd,   d = -Hg,   H = (I - ρsyᵀ) H (I - ρysᵀ) + ρssᵀ for each remembered pair, from (sᵀy / yᵀy) I

    where s is a step, y the change of the gradient over it, ρ = 1 / yᵀs. Few parameters and little data: no rate to
    find, and a quarter of Adam's gradient evaluations. Needs about 2 history_size + 5 times the parameters' memory. The
    pairs compare gradients, so noise ruins them: never on small batches. Batch normalisation's running statistics mix
    all the points a search has tried; more steps settle them.

    One step is `max_iter` iterations, each with a search along d for the strong Wolfe conditions (Nocedal and Wright,
    algorithm 3.5); without `line_search` the step along d is α. `optimizer.step(closure)` takes a closure that clears
    the gradients, computes the mean loss of all examples and its gradients, and returns it.

    >>> w = nn.Parameter(torch.tensor([3.0, -2.0]))
    >>> optimizer = lbfgs([w])
    >>> def closure():
    ...     optimizer.zero_grad(); loss = ((w - 1.0) ** 2 * torch.tensor([1.0, 100.0])).sum(); loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), [round(value, 3) for value in w.tolist()]
    (904.0, [1.0, 1.0])
    """
    _check("lbfgs", lr=lr, max_iter=max_iter, history_size=history_size, line_search=line_search)
    _check("lbfgs", weight_decay=weight_decay, decay_all=decay_all)
    parameters = list(parameters)  # torch's takes one group only, so the decay knows its weights apart from it
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    search = "strong_wolfe" if line_search else None
    return _LBFGS(
        parameters, groups, lr=lr, max_iter=int(max_iter), history_size=int(history_size), line_search_fn=search
    )


class _LBFGS(torch.optim.LBFGS):
    """torch's, with weight decay as ½λ‖w‖² in the loss, and for gradients in any memory format."""

    def __init__(self, parameters: list[Tensor], decay_groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.decay_groups = decay_groups

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Run `max_iter` iterations; returns the closure's loss before them, without the decay's part."""
        losses: list[Tensor] = []

        def objective() -> Tensor:
            loss = closure().detach()
            losses.append(loss)
            for group in self.decay_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    loss = loss + 0.5 * group["weight_decay"] * p.detach().square().sum()
                    p.grad = p.grad.add(p.detach(), alpha=group["weight_decay"]).contiguous()  # torch views them flat
            return loss

        super().step(objective)
        return losses[0]


def _fast(groups: list[dict[str, Any]], *fused_on: str) -> dict[str, Any]:
    """torch's own fast path for these parameters: fused where its kernel exists, else one call for all tensors."""
    parameters = [p for group in groups for p in group["params"]]
    if all(p.device.type in fused_on and p.is_floating_point() and _is_dense(p) for p in parameters):
        return {"fused": True}
    return {"foreach": True} if all(p.device.type in ("cpu", "cuda") for p in parameters) else {}


def _aligned(optimizer: Optimizer) -> Optimizer:
    """Keep gradients and state in the memory order of their weights before every fused step.

    The fused kernels walk through memory and never look at strides. A channels-last weight with a gradient, or a
    state loaded from a run, in another order would be updated with its neighbours' values, and on the CPU without a
    word. Autograd keeps the order, so as a rule nothing has to be moved.
    """
    if not optimizer.defaults.get("fused"):
        return optimizer
    order: dict[Tensor, tuple[int, ...]] = {}

    @torch.no_grad()
    def align(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    continue
                if p.grad is not None and not _same_order(p.grad, p):
                    p.grad = torch.empty_like(p).copy_(p.grad)
                if order.get(p) == p.stride():
                    continue
                order[p] = p.stride()
                for name, value in optimizer.state.get(p, {}).items():
                    if value is not None and value.shape == p.shape and not _same_order(value, p):
                        optimizer.state[p][name] = torch.empty_like(p).copy_(value)

    optimizer.register_step_pre_hook(align)
    optimizer.register_load_state_dict_post_hook(lambda optimizer: order.clear())
    return optimizer


def _same_order(one: Tensor, other: Tensor) -> bool:
    if one.stride() == other.stride():
        return True
    return all(size == 1 or a == b for size, a, b in zip(one.shape, one.stride(), other.stride(), strict=True))


def _is_dense(p: Tensor) -> bool:
    """Whether the values fill their memory without gaps or overlaps, in any order of the axes."""
    return torch.empty_like(p, device="meta").stride() == p.stride()


def _pair(values: tuple[float, float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < high


def _above_0(value: Any) -> bool:
    return _within(value, 0, math.inf) and value > 0


def _is_count(value: Any) -> bool:
    return _within(value, 1, math.inf) and value == int(value)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda v: _within(v, 0, math.inf), "0 or more"),
    "lbfgs lr": (_above_0, "more than 0"),  # its line search divides by the first length
    "weight_decay": (lambda v: _within(v, 0, math.inf), "0 or more"),
    "momentum": (lambda v: _within(v, 0, 1), "from 0 up to 1, without 1"),
    "alpha": (lambda v: _within(v, 0, 1), "from 0 up to 1, without 1"),
    "betas": (
        lambda v: isinstance(v, tuple | list) and len(v) == 2 and all(_within(beta, 0, 1) for beta in v),
        "two numbers from 0 up to 1, without 1, such as 0.9,0.999",
    ),
    "eps": (_above_0, "more than 0"),
    "max_iter": (_is_count, "a whole number, 1 or more"),
    "history_size": (_is_count, "a whole number, 1 or more"),
    "decay_all": (lambda v: isinstance(v, bool), "true or false"),
    "centered": (lambda v: isinstance(v, bool), "true or false"),
    "amsgrad": (lambda v: isinstance(v, bool), "true or false"),
    "line_search": (lambda v: isinstance(v, bool), "true or false"),
}


def _check(optimizer: str, **settings: Any) -> None:
    """Refuse a value the method cannot use, naming the setting and what it allows."""
    for setting, value in settings.items():
        holds, allowed = RULES.get(f"{optimizer} {setting}", RULES[setting])
        if not holds(value):
            raise UserError(f"optimizer {optimizer}: {setting} cannot be {value!r}", allowed=allowed)
