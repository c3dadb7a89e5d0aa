"""How a loss bends: products with its Hessian, its extreme curvatures, a bowl to practise on, and contours to look at.

    Hv = ∇(gᵀv)        Gv = Jᵀ H_out J v        κ = λ_max / λ_min

A Hessian of n weights has n² values: 15.2 GB for LeNet-5's 61,706 weights, 76.6 PB for VGG-16. Its product with a
vector costs only about two more backward passes and no more memory than they take (Pearlmutter 1994), and products are
all that conjugate gradients and Lanczos' method ask for. The Gauss-Newton matrix G leaves out the curvature of the
network and keeps that of the loss over its outputs; it is never negative, so a step along it always leads down.

The condition number κ says how much steeper the steepest direction is than the flattest. Gradient descent with its best
rate 2 / (λ_max + λ_min) shrinks the distance to the minimum by (κ - 1) / (κ + 1) a step: from (1, 1) to a loss of 1e-6
takes 39, 444 and 5,008 steps for κ = 10, 100 and 1000, where Newton takes one. It helps to see why a rate cannot be
raised, and what momentum and a rate for each weight are for. It misleads where ReLUs make the loss flat in pieces: a
Hessian sees only the piece it stands on.

Lanczos' method here keeps all its vectors and makes each orthogonal to them: `steps` times n values of memory, and no
ghosts. Its extreme values are inside the true ones and close in from `steps` of 20 to 100.

Pearlmutter 1994, Fast exact multiplication by the Hessian. Schraudolph 2002, Fast curvature matrix-vector products for
second-order gradient descent, section 3. Golub and Van Loan 2013, Matrix computations, section 10.1 (Lanczos). Goh
2017, Why momentum really works (the bowl).
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""A matrix by what it does to a vector (n,)."""


def flat(parts: Iterable[Tensor]) -> Tensor:
    """The values of all tensors in one vector (n,).

    >>> flat([torch.ones(2, 2), torch.zeros(1)])
    tensor([1., 1., 1., 1., 0.])
    """
    return torch.cat([part.reshape(-1) for part in parts])


def parted(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A vector (n,) cut into the shapes of `like`.

    >>> [part.shape for part in parted(torch.zeros(5), [torch.ones(2, 2), torch.zeros(1)])]
    [torch.Size([2, 2]), torch.Size([1])]
    """
    pieces = vector.split([part.numel() for part in like])
    return [piece.view(part.shape) for piece, part in zip(pieces, like, strict=True)]


def gradient(loss: Tensor, weights: Sequence[Tensor], *, again: bool = False) -> Tensor:
    """The gradient (n,) of a loss; with `again`, it can be differentiated once more.

    >>> w = torch.tensor([3.0, 1.0], requires_grad=True); gradient((w**2).sum(), [w])
    tensor([6., 2.])
    """
    parts = torch.autograd.grad(loss, weights, create_graph=again, allow_unused=True, materialize_grads=True)
    return flat(parts)


def hessian_product(loss: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Product]:
    """The gradient (n,) of a loss, and its Hessian as a product; all products share one graph.

    >>> w = torch.tensor([3.0, 1.0], requires_grad=True)
    >>> g, product = hessian_product((w**3).sum(), [w]); product(torch.ones(2))
    tensor([18.,  6.])
    """
    weights = list(weights)
    g = gradient(loss, weights, again=True)
    if not g.requires_grad:  # a loss without any curvature
        return g.detach(), torch.zeros_like

    def product(v: Tensor) -> Tensor:
        return _pulled(g, weights, v)

    return g.detach(), product


def gauss_newton_product(loss: Tensor, outputs: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Product]:
    """The gradient (n,) of a loss, and its Gauss-Newton matrix as a product.

    Args:
        loss: a function of `outputs`, with its graph.
        outputs: of the network, such as logits (B, K), with their graph.

    >>> w = torch.tensor([3.0, 1.0], requires_grad=True); outputs = w**2
    >>> g, product = gauss_newton_product((outputs**2).sum(), outputs, [w]); product(torch.ones(2))
    tensor([72.,  8.])
    """
    weights = list(weights)
    (slope,) = torch.autograd.grad(loss, outputs, create_graph=True)
    at_zero = torch.zeros_like(outputs, requires_grad=True)
    back = flat(
        torch.autograd.grad(outputs, weights, at_zero, create_graph=True, allow_unused=True, materialize_grads=True)
    )  # Jᵀu, linear in u, so its own gradient towards u is J

    def product(v: Tensor) -> Tensor:
        (pushed,) = torch.autograd.grad(back, at_zero, v, retain_graph=True)  # J v
        if not slope.requires_grad:  # the loss is a straight line over the outputs
            return torch.zeros_like(v)
        (bent,) = torch.autograd.grad(slope, outputs, pushed, retain_graph=True)  # H_out J v
        return _pulled(outputs, weights, bent)

    return gradient(loss, weights, again=True).detach(), product


def _pulled(values: Tensor, weights: Sequence[Tensor], v: Tensor) -> Tensor:
    """The gradient (n,) of vᵀ values."""
    return flat(
        torch.autograd.grad(values, weights, v, retain_graph=True, allow_unused=True, materialize_grads=True)
    ).detach()


def hessian(loss: Tensor, weights: Sequence[Tensor], *, at_once: int = 64) -> tuple[Tensor, Tensor]:
    """The gradient (n,) and the whole Hessian (n, n), by a product for every weight.

    Args:
        at_once: products computed together, where every operation of the network can do several.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True); hessian(w[0] ** 2 * w[1], [w])[1]
    tensor([[4., 2.],
            [2., 0.]])
    """
    weights = list(weights)
    g = gradient(loss, weights, again=True)
    if not g.requires_grad:
        return g.detach(), torch.zeros(len(g), len(g), dtype=g.dtype, device=g.device)
    rows = []
    for directions in torch.eye(len(g), dtype=g.dtype, device=g.device).split(at_once):
        try:
            parts = torch.autograd.grad(
                g, weights, directions, retain_graph=True, is_grads_batched=True, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip
            rows.append(torch.cat([part.reshape(len(directions), -1) for part in parts], dim=1).detach())
        except RuntimeError:  # an operation of the network's own that knows one gradient at a time
            rows.append(torch.stack([_pulled(g, weights, direction) for direction in directions]))
    full = torch.cat(rows)
    return g.detach(), 0.5 * (full + full.T)


def matrix_bytes(parameters: int, *, bytes_each: int = 4) -> int:
    """Memory of a matrix with a row and a column for every weight.

    >>> matrix_bytes(61_706) / 1e9, matrix_bytes(138_357_544) / 1e15
    (15.230521744, 76.57123992684774)
    """
    return bytes_each * parameters**2


def history_bytes(parameters: int, pairs: int, *, bytes_each: int = 4) -> int:
    """Memory of L-BFGS in torch: a step and a change of the gradient for each remembered pair, and two vectors more.

    >>> round(history_bytes(138_357_544, 100) / 1e9)
    112
    """
    return bytes_each * parameters * (2 * pairs + 2)


def lanczos(product: Product, start: Tensor, steps: int) -> Tensor:
    """Approximate eigenvalues (at most `steps`,) of a symmetric matrix, ascending; the extreme ones first to be right.

    Args:
        start: (n,) any vector, best a random one.
        steps: products to spend; n of them find every eigenvalue that `start` has a share of.

    >>> lanczos(lambda v: torch.tensor([1.0, 2.0, 9.0]) * v, torch.ones(3), 3).round(decimals=3)
    tensor([1., 2., 9.])
    """
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for step in range(min(steps, len(start))):
        w = product(basis[-1])
        diagonal.append(basis[-1] @ w)
        held = torch.stack(basis)
        for _ in range(2):  # once is not enough in finite precision
            w = w - held.T @ (held @ w)
        length = w.norm()
        if step + 1 == min(steps, len(start)) or length <= 1e-6 * torch.stack(diagonal).abs().max():
            break
        beside.append(length)
        basis.append(w / length)
    small = torch.diag(torch.stack(diagonal))
    if beside:
        small = small + torch.diag(torch.stack(beside), 1) + torch.diag(torch.stack(beside), -1)
    return torch.linalg.eigvalsh(small)


def condition_number(product: Product, start: Tensor, steps: int = 50) -> float:
    """λ_max / λ_min of a symmetric positive matrix by Lanczos' method; infinite where it is not positive.

    The smallest eigenvalue is the hardest to find: with fewer steps than n the number is a lower bound.

    >>> round(condition_number(lambda v: torch.tensor([0.5, 2.0, 9.0]) * v, torch.ones(3)), 3)
    18.0
    """
    values = lanczos(product, start, steps)
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf


def bowl(curvatures: Sequence[float], *, rotation: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """The loss ½ wᵀ A w with those curvatures along the axes, or along the columns of `rotation` (n, n).

    >>> loss = bowl([1.0, 100.0]); loss(torch.tensor([1.0, 1.0]))
    tensor(50.5000)
    """
    scale = torch.tensor(curvatures, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:  # (n,)
        along = w if rotation is None else rotation.T.to(w.dtype) @ w
        return 0.5 * (scale.to(w.dtype) * along**2).sum()

    return loss


def best_rate(largest: float, smallest: float) -> tuple[float, float]:
    """Gradient descent's best rate on a bowl, and what is then left of the distance after a step.

    >>> best_rate(9.0, 1.0)
    (0.2, 0.8)
    """
    return 2 / (largest + smallest), (largest - smallest) / (largest + smallest)


def contours(
    loss: Callable[[Tensor], Tensor],
    centre: Tensor,
    one: Tensor,
    other: Tensor,
    *,
    reach: float = 1.0,
    points: int = 41,
) -> tuple[Tensor, Tensor]:
    """The loss on a grid of the plane centre + a one + b other, for a contour plot.

    Args:
        centre: (n,) as `one` and `other`, the directions.
        reach: a and b go from -reach to reach.

    Returns:
        The places (points,) along both directions, and the losses (points, points), a row for each b.

    >>> places, values = contours(bowl([1.0, 4.0]), torch.zeros(2), torch.eye(2)[0], torch.eye(2)[1], points=3)
    >>> values.tolist()
    [[2.5, 2.0, 2.5], [0.5, 0.0, 0.5], [2.5, 2.0, 2.5]]
    """
    places = torch.linspace(-reach, reach, points, dtype=centre.dtype, device=centre.device)
    with torch.no_grad():
        rows = [torch.stack([loss(centre + a * one + b * other) for a in places]) for b in places]
    return places, torch.stack(rows)
