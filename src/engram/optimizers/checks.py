"""What the optimizers' settings may be, so that a value a method cannot use is refused with what is allowed."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from engram.errors import UserError


def pair(values: tuple[float, float]) -> tuple[float, float]:
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
    "rho": (lambda v: _within(v, 0, 1), "from 0 up to 1, without 1"),
    "momentum_decay": (lambda v: _within(v, 0, math.inf), "0 or more"),
    "damping": (lambda v: _within(v, 0, math.inf), "0 or more"),
    "flatness": (lambda v: _within(v, 0, 1) and v > 0, "between 0 and 1"),
    "tolerance": (lambda v: _within(v, 0, 1) and v > 0, "between 0 and 1"),
    "bfgs lr": (_above_0, "more than 0"),
    "largest": (_is_count, "a whole number, 1 or more"),
    "max_iter": (_is_count, "a whole number, 1 or more"),
    "history_size": (_is_count, "a whole number, 1 or more"),
    "decay_all": (lambda v: isinstance(v, bool), "true or false"),
    "centered": (lambda v: isinstance(v, bool), "true or false"),
    "bias_correction": (lambda v: isinstance(v, bool), "true or false"),
    "amsgrad": (lambda v: isinstance(v, bool), "true or false"),
    "line_search": (lambda v: isinstance(v, bool), "true or false"),
}


def check(optimizer: str, **settings: Any) -> None:
    """Refuse a value the method cannot use, naming the setting and what it allows."""
    for setting, value in settings.items():
        holds, allowed = RULES.get(f"{optimizer} {setting}", RULES[setting])
        if not holds(value):
            raise UserError(f"optimizer {optimizer}: {setting} cannot be {value!r}", allowed=allowed)
