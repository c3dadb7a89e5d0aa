"""Numerical gradient: is the formula for the slope the slope?

The idea: move one number a little up and a little down and see what the result does. Both sides together are right to
the second order, so in float64 with h = 1e-5 a correct formula agrees to seven digits or better:

    numerical = Σ dout · (f(x + h) − f(x − h)) / 2h          error = |a − n| / max(1e-8, |a| + |n|)

Three things make a correct gradient look wrong, and each is looked for here:

- Kinks. Where a ReLU or a maximum changes over between x − h and x + h, the two sides have different slopes and their
  mean is neither. The bend D(h) = f(x + h) − 2 f(x) + f(x − h) of a smooth function falls by 4 when h is halved and by
  16 when it is quartered; around a kink it does not. Such places are reported and left out.
- Degenerate upstreams. A sum over the outputs of batch normalisation does not depend on its input at all, so an
  upstream of all ones has the true gradient 0 and the relative error is noise over noise (torch/nn#744). If the
  gradient vanishes and that of a random upstream does not, a warning says so.
- The first moment. Before training a network may sit on such a place with many units at once; `check_loss` can take a
  few steps first (burn-in) and check where learning really happens.

Use it in float64 (float32 is refused), on few and small inputs: it costs six evaluations a number. Errors: up to
1e-7 fine, 1e-4 fine only with kinks near, 1e-2 wrong. The course's functions stand below under their own names.

Stanford CS231n, notes on neural networks 3, "Gradient checks"; Nocedal and Wright 2006, section 8.1.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, like, zeros

NOISE = 2e3 * np.finfo(np.float64).eps
MATERIAL = 1e-6
DEGENERATE = 1e-7
UNSEEN = 1e2 * np.finfo(np.float64).eps


class DegenerateGradient(UserWarning):
    """The gradient that is checked is zero because of the upstream, not because of the input."""


@dataclass
class Checked:
    """What came of one input.

    Attributes:
        error: the largest relative error away from kinks; 0 where nothing is left.
        worst: the index where it is, or None.
        kinks: indices left out because a kink lies within h.
        count: how many numbers were looked at, kinks among them.
        vanishing: how many gradients are too small, on both sides, for the difference to see.
        degenerate: whether the true gradient is zero because of the upstream.
    """

    error: float = 0.0
    worst: tuple[int, ...] | None = None
    kinks: list[tuple[int, ...]] = field(default_factory=list)
    count: int = 0
    vanishing: int = 0
    degenerate: bool = False


@dataclass
class Report:
    """What came of a check, input by input.

    >>> Report({"x": Checked(error=2e-9), "w": Checked(error=3e-3)}).error
    0.003
    """

    inputs: dict[str, Checked]

    @property
    def error(self) -> float:
        """The largest error of all inputs."""
        return max(one.error for one in self.inputs.values())

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: error {one.error:.1e}"
            + (f" at {one.worst}" if one.worst is not None else "")
            + (f", {len(one.kinks)} of {one.count} left out at kinks" if one.kinks else "")
            + (f", {one.vanishing} of {one.count} vanish" if one.vanishing else "")
            + (", degenerate upstream" if one.degenerate else "")
            for name, one in self.inputs.items()
        )


def check_pair(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Array],
    upstream: Array | None = None,
    *,
    settings: Callable[[], dict[str, Any]] = dict,
    h: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> Report:
    """Check backward against forward, for every input.

    Args:
        forward: (*inputs, **settings) -> out, cache.
        backward: (dout, cache) -> a gradient, or a tuple of them in the order of the inputs.
        inputs: float64 arrays by name, in the order in which forward takes them; left as they were.
        upstream: like out; a random one where left out, which is hardly ever degenerate.
        settings: makes forward's settings anew for each call, since forward may change them or draw from them.
        h: step.
        rng: draws the upstream.

    Raises:
        UserError: an input is not float64.

    >>> from engram.rules import affine_backward, affine_forward
    >>> inputs = {"x": np.ones((2, 3)), "w": np.ones((3, 4)), "b": np.ones(4)}
    >>> check_pair(affine_forward, affine_backward, inputs).error < 1e-9
    True
    """
    rng = rng or np.random.default_rng(0)
    own = {name: _own(name, value) for name, value in inputs.items()}
    out, cache = forward(*own.values(), **settings())
    if upstream is None:
        upstream = like(out, rng.standard_normal(tuple(out.shape)))
    found = backward(upstream, cache)
    gradients = found if isinstance(found, tuple) else (found,)
    other = like(out, rng.standard_normal(tuple(out.shape)))
    report = Report({})
    for (name, value), gradient in zip(own.items(), gradients, strict=False):
        report.inputs[name] = _check_input(
            lambda: forward(*own.values(), **settings())[0], value, gradient, (upstream, other), h, _every(value)
        )
    _warn(report)
    return report


def check_loss(
    loss: Callable[[], tuple[Any, Mapping[str, Array]]],
    parameters: Mapping[str, Array],
    *,
    burn_in: int = 0,
    learning_rate: float = 1e-2,
    samples: int | None = None,
    h: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> Report:
    """Check the gradients that a network gives for its parameters, at first or after some steps.

    Args:
        loss: () -> loss, gradients by name; reads `parameters` each time, which are changed in place and put back.
        parameters: float64 arrays by name.
        burn_in: steps of gradient descent before the check. They are kept, so that what is checked can be looked at.
        learning_rate: of these steps.
        samples: numbers to look at in each parameter, drawn by rng; all where left out.
        h: step.
        rng: draws the numbers.

    Raises:
        UserError: a parameter is not float64, or burn-in made the loss larger.

    >>> w = np.array([1.0, 2.0])
    >>> check_loss(lambda: ((w**2).sum(), {"w": 2 * w}), {"w": w}, burn_in=1, learning_rate=0.25).error < 1e-9
    True
    >>> w
    array([0.5, 1. ])
    """
    rng = rng or np.random.default_rng(0)
    for name, value in parameters.items():
        _refuse_coarse(name, value)
    first = float(loss()[0])
    for _ in range(burn_in):
        for name, gradient in loss()[1].items():
            parameters[name][...] = parameters[name] - learning_rate * gradient
    value, gradients = loss()
    if burn_in and not float(value) < first:
        raise UserError(
            f"after {burn_in} steps the loss is {float(value):.4g}, before it was {first:.4g}",
            then="a smaller learning_rate, or look for an error in the gradient's sign",
        )
    report = Report({})
    for name, parameter in parameters.items():
        places = _every(parameter)
        if samples is not None and samples < len(places):
            places = [places[index] for index in sorted(rng.choice(len(places), samples, replace=False))]
        one = like(parameter, 1.0)
        report.inputs[name] = _check_input(
            lambda one=one: like(one, loss()[0]), parameter, gradients[name], (one, one), h, places
        )
    return report


def _check_input(
    f: Callable[[], Array],
    x: Array,
    gradient: Array,
    upstreams: tuple[Array, Array],
    h: float,
    places: Sequence[tuple[int, ...]],
) -> Checked:
    """Compare one input's gradient place by place; f reads x, which is moved and put back."""
    if tuple(gradient.shape) != tuple(x.shape):
        raise UserError(f"a gradient {tuple(gradient.shape)} for an input {tuple(x.shape)}", allowed="the same shape")
    xp = array_namespace(x)
    middle = f() * 1.0
    resolution = UNSEEN * float(xp.sum(xp.abs(middle * upstreams[0]))) / h
    checked = Checked(count=len(places))
    slopes = []
    for place in places:
        sides = _around(f, x, place, h)
        if _bends(sides, middle, h):
            checked.kinks.append(place)
            continue
        difference = (sides[0][0] - sides[0][1]) / (2 * h)
        slopes.append([float(xp.sum(difference * upstream)) for upstream in upstreams])
        analytic, numerical = float(gradient[place]), slopes[-1][0]
        if abs(analytic) + abs(numerical) < resolution:
            checked.vanishing += 1
            continue
        error = abs(analytic - numerical) / max(1e-8, abs(analytic) + abs(numerical))
        if not error <= checked.error:  # a NaN too
            checked.error, checked.worst = error, place
    if slopes:
        given, random = np.abs(slopes).max(axis=0)
        checked.degenerate = bool(given < DEGENERATE * random)
    return checked


def _around(f: Callable[[], Array], x: Array, place: tuple[int, ...], h: float) -> list[tuple[Array, Array]]:
    """f with one number moved by ±h, ±h/2 and ±h/4."""
    old = float(x[place])
    try:
        values = []
        for step in (h, h / 2, h / 4):
            pair = []
            for sign in (1, -1):
                x[place] = old + sign * step
                pair.append(f() * 1.0)  # a copy: what f gives may be x itself
            values.append(tuple(pair))
        return values
    finally:
        x[place] = old


def _bends(sides: list[tuple[Array, Array]], middle: Array, h: float) -> bool:
    """Whether a kink lies within h: the bend does not shrink as a smooth function's does, by 4 and by 16."""
    xp = array_namespace(middle)
    whole, half, quarter = (up - 2 * middle + down for up, down in sides)
    slope = xp.max(xp.abs(sides[0][0] - sides[0][1])) / (2 * h)
    allowed = max(NOISE * float(xp.max(xp.abs(middle))), MATERIAL * h * float(slope))
    return any(float(xp.max(xp.abs(bend))) > allowed for bend in (4 * half - whole, 16 * quarter - whole))


def _own(name: str, value: Array) -> Array:
    _refuse_coarse(name, value)
    return array_namespace(value).asarray(value, copy=True)


def _refuse_coarse(name: str, value: Array) -> None:
    if not str(value.dtype).endswith("float64"):
        raise UserError(
            f"{name} is {value.dtype}: rounding alone is larger than what is looked for",
            allowed="float64",
            then="convert the inputs and the network to float64 for the check",
        )


def _every(x: Array) -> list[tuple[int, ...]]:
    return list(np.ndindex(*x.shape))


def _warn(report: Report) -> None:
    for name, one in report.inputs.items():
        if one.degenerate:
            warnings.warn(
                f"with this upstream the true gradient of {name} is 0, so its relative error says nothing; "
                "use a random upstream",
                DegenerateGradient,
                stacklevel=3,
            )


def rel_error(x: Array, y: Array) -> float:
    """The course's largest relative error, max |x − y| / max(1e-8, |x| + |y|).

    >>> rel_error(np.array([1.0, 2.0]), np.array([1.0, 2.2])).__round__(4)
    0.0476
    """
    x, y = np.asarray(x), np.asarray(y)
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))))


def eval_numerical_gradient(f: Callable[[Array], Any], x: Array, verbose: bool = False, h: float = 1e-5) -> Array:
    """The gradient of a function with one number as its result, by central differences.

    Args:
        f: takes x, or reads it from where it is.
        x: moved in place and put back.
        verbose: print every slope, as the course's does.

    Returns:
        like x.

    >>> eval_numerical_gradient(lambda x: (x**2).sum(), np.array([1.0, -3.0])).round(6)
    array([ 2., -6.])
    """
    gradient = zeros(x, x.shape)
    for place in _every(x):
        up, down = _moved(f, x, place, h)
        gradient[place] = (float(up) - float(down)) / (2 * h)
        if verbose:
            print(place, float(gradient[place]))
    return gradient


def eval_numerical_gradient_array(f: Callable[[Array], Array], x: Array, df: Array, h: float = 1e-5) -> Array:
    """The gradient of a function with an array as its result, under the upstream df.

    Args:
        f: takes x, or reads it from where it is.
        x: moved in place and put back.
        df: like f's result.

    Returns:
        like x.

    >>> eval_numerical_gradient_array(lambda x: x**2, np.array([1.0, -3.0]), np.array([10.0, 1.0])).round(6)
    array([20., -6.])
    """
    gradient = zeros(x, x.shape)
    for place in _every(x):
        up, down = _moved(f, x, place, h)
        gradient[place] = (np.asarray(up - down) * np.asarray(df)).sum() / (2 * h)
    return gradient


def grad_check_sparse(
    f: Callable[[Array], Any],
    x: Array,
    analytic_grad: Array,
    num_checks: int = 10,
    h: float = 1e-5,
    *,
    rng: np.random.Generator | None = None,
) -> list[float]:
    """The course's spot check: some places drawn at random, printed, and their relative errors.

    Args:
        f: takes x and gives a number.
        x: moved in place and put back.
        analytic_grad: like x.

    >>> x = np.array([3.0])
    >>> errors = grad_check_sparse(lambda x: (x**2).sum(), x, 2 * x, num_checks=1)
    numerical: 6.000000 analytic: 6.000000, relative error: ...
    """
    rng = rng or np.random.default_rng(0)
    errors = []
    for _ in range(num_checks):
        place = tuple(int(rng.integers(side)) for side in x.shape)
        up, down = _moved(f, x, place, h)
        numerical, analytic = (float(up) - float(down)) / (2 * h), float(analytic_grad[place])
        errors.append(abs(numerical - analytic) / max(1e-8, abs(numerical) + abs(analytic)))
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {errors[-1]:e}")
    return errors


def _moved(f: Callable[[Array], Any], x: Array, place: tuple[int, ...], h: float) -> tuple[Any, Any]:
    """f with one number moved up and down by h; what f gives is copied, as it may be x itself."""
    old = float(x[place])
    try:
        x[place] = old + h
        up = f(x) * 1.0
        x[place] = old - h
        return up, f(x) * 1.0
    finally:
        x[place] = old
