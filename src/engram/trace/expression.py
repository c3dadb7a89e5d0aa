"""Expressions as text, `(x*y + max(z, w)) * 2`: read against a closed list of operations, never run as Python.

The text is taken apart by Python's own parser, and the parts are walked here: numbers, names, signs, brackets, and
calls of what `operations.py` lists. Anything else, an attribute, a comparison chain, a lambda, is refused before
anything runs. A number that stands alone stays a number; one that an operation reads as a tensor becomes one.

Names without a value get small ones with a fixed seed. Which shape they need follows from what reads them: a pooling
wishes for an image of 4x4, a weight has to fit what it multiplies. All shapes are tried on torch's meta device first,
where nothing is computed, so that a mistake in a shape, or a result that would not fit, costs nothing.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, unknown
from engram.trace.graph import Trace
from engram.trace.operations import OPERATIONS, Operation, Shape
from engram.trace.record import trace

LONGEST = 2000
"""Characters of an expression."""
DEEPEST = 60
"""Brackets, signs and calls within one another."""
LARGEST = 100_000
"""Numbers of one tensor."""
ALLOWED = "numbers, names, + - * / ** @, comparisons, x[0, 1:], and operations such as relu(x)"
LIST = "engram trace, which lists the operations"

SIGNS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", lambda a, b: a + b),
    ast.Sub: ("-", lambda a, b: a - b),
    ast.Mult: ("*", lambda a, b: a * b),
    ast.Div: ("/", lambda a, b: a / b),
    ast.Pow: ("**", lambda a, b: a**b),
    ast.MatMult: ("@", lambda a, b: a @ b),
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: lambda a, b: a > b,
    ast.Lt: lambda a, b: a < b,
    ast.GtE: lambda a, b: a >= b,
    ast.LtE: lambda a, b: a <= b,
}


def trace_text(text: str, values: Mapping[str, Any] | None = None, *, gradient: str = "ones", seed: int = 0) -> Trace:
    """The trace of an expression.

    Args:
        values: by name: numbers, tensors, or text as in `value`; other names get small numbers by the seed.
        gradient: what is sent into the result, "ones" or "random"; through a softmax or a normalisation ones come to
            nothing, since their outputs always add up to the same.

    Raises:
        UserError: the text is no such expression, an operation or a name is not known, a shape does not fit.

    >>> trace_text("(x*y + max(z, w)) * 2", {"x": 3, "y": -4, "z": 2, "w": -1})["x"].gradient.item()
    -8.0
    """
    if gradient not in ("ones", "random"):
        raise unknown("gradient", gradient, ("ones", "random"))
    expression = Expression(text)
    given = dict(values or {})
    for name in given:
        if name not in expression.names:
            names = ", ".join(expression.names) or "none"
            raise UserError(f"the expression has no {name!r}", allowed=f"its names: {names}")
    tensors = {name: value(one, name=name, seed=seed) for name, one in given.items()}
    tensors = expression.bind(tensors, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of a dropout in it
        names = list(tensors)

        def run(*inputs: Tensor) -> Tensor:
            return expression(dict(zip(names, inputs, strict=True)))

        sent = None
        if gradient == "random":
            shape = tuple(expression(expression.on_meta(tensors)).shape)
            sent = small(shape, name="gradient", seed=seed)
        return trace(run, *tensors.values(), names=names, gradient=sent)


def value(given: Any, *, name: str, seed: int = 0) -> Tensor:
    """A tensor from what a person writes, float64.

    A number `-4`; a row `1,2,3`; rows `1,2;3,4`; JSON `[[1, 2], [3, 4]]`; or a shape `1x1x4x4`, filled by the seed.

    Raises:
        UserError: it is none of these.

    >>> value("1,2;3,4", name="x").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    >>> value("2x3", name="x").shape
    torch.Size([2, 3])
    """
    if isinstance(given, Tensor):
        return given
    if isinstance(given, int | float):
        return torch.tensor(float(given), dtype=torch.float64)
    text = str(given).strip()
    if re.fullmatch(r"\d+(x\d+)+", text):
        shape = tuple(map(int, text.split("x")))
        if not 0 < math.prod(shape) <= LARGEST:
            raise UserError(f"--{name} {text} would be {math.prod(shape):,} numbers", allowed=f"1 to {LARGEST:,}")
        return small(shape, name=name, seed=seed)
    try:
        rows = (
            json.loads(text)
            if text.startswith("[")
            else [[float(one) for one in row.split(",")] for row in text.split(";")]
        )
        made = torch.tensor(rows, dtype=torch.float64)
    except (ValueError, TypeError, RecursionError):
        raise UserError(
            f"--{name} {text[:60]} is no value",
            allowed="a number, 1,2,3, rows 1,2;3,4, JSON, or a shape such as 1x1x4x4",
        ) from None
    if text.startswith("["):
        return made
    return made[0, 0] if "," not in text and ";" not in text else made[0] if ";" not in text else made


def small(shape: Shape, *, name: str, seed: int = 0, positive: bool = False, whole: int = 0) -> Tensor:
    """Small numbers with two decimals, the same for the same name and seed.

    Args:
        whole: from 0 to below this, whole numbers.

    >>> small((2,), name="x").equal(small((2,), name="x"))
    True
    """
    rng = torch.Generator().manual_seed(seed * 1_000_003 + int.from_bytes(name.encode()[:6], "big"))
    if whole:
        return torch.randint(whole, shape, generator=rng).double()
    made = (torch.randn(shape, generator=rng, dtype=torch.float64) * 100).round() / 100
    return made.abs() + 0.1 if positive else made


class Expression:
    """A text taken apart; called with tensors by name, it gives its value.

    Raises:
        UserError: it is no expression of the allowed kind.

    >>> Expression("relu(w * x) + 1").names
    ['w', 'x']
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise UserError(f"the expression has {len(text):,} characters", allowed=f"at most {LONGEST:,}")
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            at = f" at character {error.offset}" if error.offset else ""
            raise UserError(f"{_cut(text)!r} is no expression: {error.msg}{at}", allowed=ALLOWED) from None
        except (ValueError, MemoryError, RecursionError):
            raise UserError(f"{_cut(text)!r} is no expression", allowed=ALLOWED) from None
        self.names = _check(self.tree)
        if not self.names:
            raise UserError(f"{_cut(text)!r} has no name that could get a gradient", then='engram trace "x * 2"')

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The value, computed by torch from tensors by name.

        Raises:
            UserError: torch cannot do it, or the result is no tensor.
        """
        return _Walk(dict(values)).result(self.tree)

    @staticmethod
    def on_meta(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shapes alone."""
        return {name: one.to("meta") for name, one in tensors.items()}

    def bind(self, given: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
        """A tensor for every name, in the order of the text.

        Raises:
            UserError: the shapes do not go together, or a tensor on the way would be too large.
        """
        walk = _Walk(self.on_meta(given), free=set(self.names) - set(given))
        walk.result(self.tree)
        made = {
            name: small(tuple(one.shape), name=name, seed=seed, **walk.kinds.get(name, {}))
            for name, one in walk.values.items()
            if name not in given
        }
        return {name: given[name] if name in given else made[name] for name in self.names}


class _Walk:
    """One walk over the parts of an expression.

    Args:
        free: names that get a tensor without values when they are first met.
    """

    def __init__(self, values: dict[str, Tensor], free: set[str] | None = None) -> None:
        self.values, self.free = values, free or set()
        self.kinds: dict[str, dict[str, Any]] = {}

    def result(self, tree: ast.expr) -> Tensor:
        found = self.of(tree, ())
        if not isinstance(found, Tensor):
            raise UserError(f"the expression gives {found!r}, and no tensor")
        return found

    def of(self, part: ast.expr, wish: Shape | None) -> Any:
        """The value of a part; `wish` is the shape that a free name there gets, None for a name that cannot be free."""
        if isinstance(part, ast.Constant):
            return part.value
        if isinstance(part, ast.Name):
            return self._name(part, wish or ())
        if isinstance(part, ast.Tuple | ast.List):
            return tuple(self.of(one, wish) for one in part.elts)
        if isinstance(part, ast.UnaryOp):
            inner = self.of(part.operand, wish)
            return -inner if isinstance(part.op, ast.USub) else inner
        if isinstance(part, ast.BinOp):
            sign, run = SIGNS[type(part.op)]
            if sign == "@":
                left = self.of(part.left, (2, 3))
                right = self.of(part.right, (_shape(left)[-1], 2) if _shape(left) else (2,))
            else:
                left, right = self._both(part.left, part.right, wish)
            return self._run(sign, lambda: _numbers(sign, left, right) if _plain(left, right) else run(left, right))
        if isinstance(part, ast.Compare):
            left, right = self._both(part.left, part.comparators[0], wish)
            return self._run("a comparison", lambda: COMPARISONS[type(part.ops[0])](left, right))
        if isinstance(part, ast.Subscript):
            whole, index = self.of(part.value, (3,)), _index(part.slice)
            return self._run("an index", lambda: whole[index])
        assert isinstance(part, ast.Call)
        assert isinstance(part.func, ast.Name)
        return self._call(part, part.func.id, wish)

    def _call(self, part: ast.Call, name: str, wish: Shape | None) -> Any:
        operation = OPERATIONS[name]
        arguments: list[Any] = []
        if operation.tensors == 2 and operation.keeps_shape and len(part.args) == 2:
            arguments = [*self._both(part.args[0], part.args[1], wish)]
        for place, one in enumerate(part.args[len(arguments) :], len(arguments)):
            is_tensor = place < operation.tensors
            if name == "cross_entropy" and place == 1 and isinstance(one, ast.Name) and one.id in self.free:
                self.kinds[one.id] = {"whole": _shape(arguments[0])[-1]}
            if operation.positive and isinstance(one, ast.Name):
                self.kinds[one.id] = {"positive": True}
            arguments.append(self.of(one, _wished(operation, place, arguments, wish) if is_tensor else ()))
        for place in range(min(operation.tensors, len(arguments))):
            arguments[place] = self._tensor(arguments[place])
        named = {str(word.arg): self.of(word.value, ()) for word in part.keywords}
        return self._run(name, lambda: operation.run(*arguments, **named))

    def _tensor(self, number: Any) -> Any:
        if isinstance(number, int | float):
            like = next(iter(self.values.values()), None)
            return torch.tensor(float(number), dtype=torch.float64, device=like.device if like is not None else None)
        return number

    def _both(self, left: ast.expr, right: ast.expr, wish: Shape | None) -> tuple[Any, Any]:
        """Two sides of which a free name takes the shape of the other."""
        if self._is_free(left) and not self._is_free(right) and not isinstance(right, ast.Constant):
            other = self.of(right, wish)
            return self.of(left, _shape(other) or wish), other
        first = self.of(left, wish)
        return first, self.of(right, _shape(first) or wish)

    def _is_free(self, part: ast.expr) -> bool:
        return isinstance(part, ast.Name) and part.id in self.free

    def _name(self, part: ast.Name, wish: Shape) -> Tensor:
        if part.id in self.free:
            self.free.discard(part.id)
            self.values[part.id] = torch.empty(wish, dtype=torch.float64, device="meta")
        return self.values[part.id]

    def _run(self, name: str, run: Callable[[], Any]) -> Any:
        try:
            found = run()
        except OverflowError:
            raise UserError(f"{name} gives a number that is too large") from None
        except (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError) as error:
            said = " ".join(str(error).split())
            raise UserError(f"{name} does not work here: {said[:220]}") from None
        if isinstance(found, Tensor) and found.numel() > LARGEST:
            raise UserError(f"{name} would give {found.numel():,} numbers", allowed=f"at most {LARGEST:,}")
        if not isinstance(found, Tensor | int | float):
            raise UserError(f"{name} gives {type(found).__name__} here, and not one tensor")
        return found


def _check(tree: ast.expr) -> list[str]:
    """The names in it, in the order of the text, once every part is found to be allowed.

    Raises:
        UserError: a part that is not.
    """
    names: list[str] = []
    ahead: list[tuple[ast.expr, int]] = [(tree, 0)]
    while ahead:
        part, depth = ahead.pop()
        if depth > DEEPEST:
            raise UserError(f"the expression is nested more than {DEEPEST} deep")
        inner = _inner(part)
        if isinstance(part, ast.Name):
            if part.id in OPERATIONS:
                raise UserError(f"{part.id} is an operation", allowed=f"{part.id}(x), or another name")
            if part.id not in names:
                names.append(part.id)
        ahead += [(one, depth + 1) for one in reversed(inner)]
    return names


def _inner(part: ast.expr) -> list[ast.expr]:
    """The parts of a part.

    Raises:
        UserError: an expression cannot have it.
    """
    if isinstance(part, ast.Constant) and type(part.value) in (int, float, bool):
        return []
    if isinstance(part, ast.Name):
        return []
    if isinstance(part, ast.Tuple | ast.List):
        return part.elts
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub | ast.UAdd):
        return [part.operand]
    if isinstance(part, ast.BinOp) and type(part.op) in SIGNS:
        return [part.left, part.right]
    if isinstance(part, ast.Compare) and len(part.ops) == 1 and type(part.ops[0]) in COMPARISONS:
        return [part.left, part.comparators[0]]
    if isinstance(part, ast.Subscript):
        _index(part.slice)
        return [part.value]
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
        if part.func.id not in OPERATIONS:
            raise unknown("operation", part.func.id, OPERATIONS, then=LIST)
        starred = [one for one in part.args if isinstance(one, ast.Starred)] or [
            word for word in part.keywords if word.arg is None
        ]
        if starred:
            raise UserError("an expression cannot have * before an argument", allowed=ALLOWED)
        return [*part.args, *(word.value for word in part.keywords)]
    text = _cut(ast.unparse(part))
    raise UserError(f"an expression cannot have {text!r}", allowed=ALLOWED)


def _index(part: ast.expr) -> Any:
    """A number, a slice, or several.

    Raises:
        UserError: it is something else.
    """
    if isinstance(part, ast.Tuple):
        return tuple(_index(one) for one in part.elts)
    if isinstance(part, ast.Slice):
        return slice(*(None if one is None else _index(one) for one in (part.lower, part.upper, part.step)))
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
        return -_index(part.operand)
    if isinstance(part, ast.Constant) and type(part.value) in (int, type(None), type(...)):
        return part.value
    raise UserError(f"an index cannot be {_cut(ast.unparse(part))!r}", allowed="whole numbers and slices, x[0, 1:]")


def _wished(operation: Operation, place: int, before: list[Any], wish: Shape | None) -> Shape | None:
    if place == 0 and operation.keeps_shape and wish:
        return wish
    if not operation.wishes:
        return wish
    wanted = operation.wishes[min(place, len(operation.wishes) - 1)]
    try:
        return wanted([_shape(one) for one in before])
    except IndexError:  # what stands before has too few dimensions; torch will say so
        return ()


def _shape(of: Any) -> Shape:
    return tuple(of.shape) if isinstance(of, Tensor) else ()


def _plain(left: Any, right: Any) -> bool:
    return not isinstance(left, Tensor) and not isinstance(right, Tensor)


def _numbers(sign: str, left: Any, right: Any) -> int | float:
    """Two plain numbers joined, in floating point, so that no tower of powers takes longer than it is shown."""
    made = next(run for spelled, run in SIGNS.values() if spelled == sign)(float(left), float(right))
    if isinstance(made, complex):  # a root of a negative number
        raise ValueError("the root of a number below zero is none")
    whole = isinstance(left, int) and isinstance(right, int) and made.is_integer() and abs(made) < 2**53
    return int(made) if whole else made


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
