"""What the rivals' hooks would save of a run: every tenth step, by matrix and activation, what their rules ask for."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from digits import Pictures
from torch import Tensor, nn

EVERY = 10


@dataclass
class Seen:
    """One recorded step: by matrix and by activation, the numbers that the rules ask for."""

    step: int
    matrices: dict[str, dict[str, float]] = field(default_factory=dict)
    activations: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Record:
    """What the rivals' hooks would save of a run."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    pictures: Pictures
    loss: Callable[[Tensor, Tensor], Tensor]
    start_loss: float
    rates: list[float]
    seen: list[Seen] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    passes: list[tuple[float, float, float, float]] = field(default_factory=list)

    @classmethod
    def of(
        cls, net: nn.Module, optimizer: torch.optim.Optimizer, pictures: Pictures,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> "Record":  # fmt: skip
        """Before the first step."""
        was = net.training
        net.eval()
        with torch.no_grad():
            value = loss(net(pictures.x), pictures.y).mean().item()
        net.train(was)
        return cls(net, optimizer, pictures, loss, value, [group["lr"] for group in optimizer.param_groups])

    @contextmanager
    def listening(self, step: int) -> Iterator[None]:
        """Around the forward pass: activations, on the steps that are recorded."""
        if step != 1 and step % EVERY:
            yield
            return
        now = Seen(step)
        handles = [
            one.register_forward_hook(
                lambda module, args, output: now.activations.append(_activation(module, args, output))
            )
            for one in self.net.modules()
            if isinstance(one, nn.ReLU | nn.Tanh | nn.Sigmoid | nn.GELU | nn.Linear | nn.Conv2d)
        ]
        yield
        for handle in handles:
            handle.remove()
        self.seen.append(now)

    @contextmanager
    def stepping(self, step: int) -> Iterator[None]:
        """Around the optimiser's step: weights, gradients and updates, on the steps that are recorded."""
        if step != 1 and step % EVERY:
            yield
            return
        held = {name: one for name, one in self.net.named_parameters() if one.ndim > 1 and one.requires_grad}
        before = {name: one.detach().clone() for name, one in held.items()}
        rows = self.seen[-1].matrices
        with torch.no_grad():
            for name, one in held.items():
                g = torch.zeros_like(one) if one.grad is None else one.grad
                spread = torch.quantile(g.flatten()[:4000], torch.tensor([0.05, 0.95])) if g.isfinite().all() else None
                rows[name] = {
                    "gradient": g.abs().mean().item(), "norm": g.norm().item(), "zeros": (g == 0).float().mean().item(),
                    "weight": one.abs().mean().item(), "variance": one.var().item(),
                    "small": (one.abs() < 1e-5).float().mean().item(), "negative": (one < 0).float().mean().item(),
                    "spread": math.inf if spread is None else (spread[1] - spread[0]).item(),
                }  # fmt: skip
        yield
        with torch.no_grad():
            for name, one in held.items():
                change = (one - before[name]).norm().item()
                rows[name]["changed"] = float(not torch.allclose(one, before[name], rtol=1e-5, atol=1e-8))
                rows[name]["update"] = change / (before[name].norm().item() + 1e-9)
                rows[name]["mean_update"] = (one - before[name]).abs().mean().item() / (rows[name]["weight"] + 1e-30)


def _activation(module: nn.Module, args: Any, output: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        a = output.detach()
        units = a.flatten(0, -2) if a.ndim == 3 else a.transpose(0, 1).flatten(1).T  # (samples and places, units)
        kind = type(module).__name__
        told: dict[str, Any] = {"kind": kind, "mean": a.abs().mean().item(), "std": a.std().item()}
        if kind == "ReLU":
            told["inactive"] = ((units > 0).float().mean(0) < 0.01).float().mean().item()
            told["dead"] = (torch.quantile(units[:512].float(), 0.95, dim=0) < 1e-5).float().mean().item()
        if kind in ("Tanh", "Sigmoid"):
            z = args[0].detach()
            outside = z.abs() > 9.4999 if kind == "Tanh" else (z < -23) | (z > 16.99999)
            per_unit = outside.transpose(0, 1).flatten(1).float().mean(1)
            told["outside"] = (per_unit > 0.01).float().mean().item()
            centred = units if kind == "Tanh" else 2 * units - 1
            told["rho"] = (centred.abs().mean(0) > 0.85).float().mean().item()
        return told
