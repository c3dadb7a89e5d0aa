"""Two directions through the space of the weights: those the path took, or random ones of the filters' own lengths.

*The path's.* With snapshots θ₀ … θₙ and rows dᵢ = θᵢ - θₙ of M, the principal components about the last point are the
right singular vectors of M. M is n x P with n small, so they come from the n x n Gram matrix:

    G = M Mᵀ = U Λ Uᵀ        v_k = Mᵀ u_k / √λ_k        coordinates of dᵢ: √λ_k u_ik        explained: λ_k / Σ λ

*Random.* A Gaussian direction, each filter of it scaled to the length of the network's filter, biases and the scales
and shifts of norm layers left alone:

    d_f ← d_f ‖w_f‖ / ‖d_f‖

Without the scaling a step of one would be small for layers with large weights and large for those with small ones, and
a ReLU network whose layers are scaled by c and 1 / c, the same function, would show another surface.

Li et al. 2018, arXiv:1712.09913, section 4 and section 7.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

from engram.errors import UserError
from engram.landscape.trajectory import Trajectory

PIECE = 2**16
"""Weights of every snapshot that are looked at together."""
STRAIGHT = 1e-10
"""λ₂ / λ₁ below which a path is a straight line: it is then the rounding of the weights."""
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Plane:
    """The points origin + a · one + b · other; all (P,), float32, the floating-point parameters in their order."""

    origin: Tensor
    one: Tensor
    other: Tensor

    def at(self, a: float, b: float) -> Tensor:
        """(P,) the weights at a place of the plane."""
        return self.origin + a * self.one + b * self.other

    def to(self, device: torch.device) -> "Plane":
        """The same plane on a device."""
        return Plane(self.origin.to(device), self.one.to(device), self.other.to(device))


@dataclass(frozen=True)
class Principal:
    """The plane of a path and how much of the path it holds, in the units of the weights.

    Args:
        plane: about the last snapshot, its directions of length one and orthogonal.
        steps: of the snapshots.
        coordinates: (n, 2) where each snapshot lies on the plane, the last at (0, 0).
        off_plane: (n,) the distance from the plane as a share of the distance from the last; 0 for the last.
        explained: (2,) share of the squared distances from the last snapshot that each direction accounts for.
    """

    plane: Plane
    steps: tuple[int, ...]
    coordinates: Tensor
    off_plane: Tensor
    explained: Tensor


def principal(trajectory: Trajectory) -> Principal:
    """The principal components of the snapshots about the last one.

    The path begins on the left, and its largest excursion along the second direction is upwards.

    Raises:
        UserError: fewer than three snapshots, or all of them the same.

    >>> net = nn.Linear(3, 1, bias=False)
    >>> trajectory = Trajectory(net, total_steps=8, most=9)
    >>> for step, weights in enumerate([[3.0, 0, 0], [2.0, 1, 0], [1.0, 0, 0], [0.0, 0, 0]]):
    ...     net.weight.data = torch.tensor([weights]); trajectory.parameters = [net.weight]
    ...     trajectory.keep(step)
    >>> found = principal(trajectory)
    >>> round(float(found.explained.sum()), 6), found.off_plane.max().item() < 1e-6
    (1.0, True)
    """
    count = len(trajectory)
    if count < 3:
        raise UserError(f"the path has {count} snapshots", allowed="3 or more")
    gram = torch.zeros(count, count, dtype=torch.float64)
    for rows in _pieces(trajectory):
        gram += rows @ rows.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:2].clamp(min=0), vectors.flip(1)[:, :2]
    if not values[0] > 0:
        raise UserError("the weights did not move", allowed="snapshots that differ")
    straight = bool(values[1] <= STRAIGHT * values[0])
    vectors = vectors * torch.stack([_sign(-vectors[0, 0]), _sign(vectors[vectors[:, 1].abs().argmax(), 1])])
    coordinates = vectors * values.sqrt()
    if straight:
        coordinates[:, 1] = 0
    mixed = vectors / values.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    directions = torch.cat([(mixed.T @ rows).float() for rows in _pieces(trajectory)], dim=1)  # (2, P)
    if straight:
        directions[1] = _across(directions[0])
    squared = gram.diagonal()
    left = (squared - coordinates.square().sum(1)).clamp(min=0)
    off_plane = torch.where(squared > 0, (left / squared).sqrt(), 0.0)
    plane = Plane(trajectory.weights(-1), directions[0], directions[1])
    return Principal(plane, tuple(trajectory.steps), coordinates, off_plane, values / gram.trace())


def random_plane(net: nn.Module, *, seed: int = 0, origin: Tensor | None = None) -> Plane:
    """A filter-normalised random plane.

    Args:
        seed: of the directions; no other generator moves on.
        origin: (P,) the weights to go through and to take the filters' lengths from; by default those of `net`.

    >>> plane = random_plane(nn.Linear(4, 3))
    >>> torch.allclose(plane.one[:12].view(3, 4).norm(dim=1), plane.origin[:12].view(3, 4).norm(dim=1))
    True
    >>> plane.one[12:].tolist()
    [0.0, 0.0, 0.0]
    """
    parameters = [(name, p) for name, p in net.named_parameters() if p.is_floating_point()]
    if origin is None:
        origin = torch.cat([p.detach().reshape(-1).float() for _, p in parameters]).cpu()
    owners = {id(p): module for module in net.modules() for p in module.parameters(recurse=False)}
    generator = torch.Generator().manual_seed(seed)
    weights = [part.view(p.shape) for part, (_, p) in zip(_split(origin, parameters), parameters, strict=True)]
    drawn = []
    for _ in range(2):
        direction = []
        for (name, parameter), weight in zip(parameters, weights, strict=True):
            module = owners[id(parameter)]
            still = weight.ndim < 2 or isinstance(module, NORMS) or name.rpartition(".")[2].startswith("bias")
            noise = torch.randn(weight.shape, generator=generator)
            direction.append(torch.zeros_like(weight) if still else _normalized(noise, weight, _filters(module)))
        drawn.append(torch.cat([part.reshape(-1) for part in direction]))
    return Plane(origin, drawn[0], drawn[1])


def _normalized(direction: Tensor, weight: Tensor, filters: int) -> Tensor:
    """The direction with each filter as long as the weight's, filters lying along the dimension `filters`."""
    others = [one for one in range(weight.ndim) if one != filters]
    wanted, drawn = (torch.linalg.vector_norm(one, dim=others, keepdim=True) for one in (weight, direction))
    return direction * (wanted / drawn)


def _filters(module: nn.Module) -> int:
    """The dimension of a weight along which its filters lie: that of the outputs."""
    return 1 if isinstance(module, _ConvTransposeNd) and module.groups == 1 else 0


def _split(weights: Tensor, parameters: list[tuple[str, nn.Parameter]]) -> tuple[Tensor, ...]:
    return weights.split([p.numel() for _, p in parameters])


def _pieces(trajectory: Trajectory) -> Iterator[Tensor]:
    """(n, at most PIECE) of dᵢ = θᵢ - θₙ at a time, float64."""
    for start in range(0, trajectory.size, PIECE):
        rows = trajectory.columns(start, start + PIECE)
        yield rows - rows[-1]


def _sign(value: Tensor) -> Tensor:
    return torch.where(value < 0, -1.0, 1.0).to(value.dtype)


def _across(direction: Tensor) -> Tensor:
    """A direction at right angles to another, for a path that has no second one: neighbouring weights trade places."""
    other, even = torch.zeros_like(direction), len(direction) // 2 * 2
    other[0:even:2], other[1:even:2] = direction[1:even:2], -direction[0:even:2]
    return other / other.norm().clamp(min=torch.finfo(other.dtype).tiny)
