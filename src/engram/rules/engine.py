"""A tiny autograd engine: values that remember how they came about, so that the chain rule can walk back.

The idea: every operation makes a node that knows its parents and the local rule: how a gradient that arrives here is
passed on to them. Going through the nodes from the last to the first, each after all that used it, and adding up what
arrives, gives every derivative in one pass, whatever the expression:

    add         passes the gradient on to both, as it is            "distributes"
    multiply    gives each parent the gradient times the other      "swaps"
    maximum     gives all of it to the larger                       "routes"
    a value used twice gets the sum of what both uses send

The order is topological, by depth-first search: a node's gradient must be complete before it is passed on. It needs one
pass where numerical differences need two for each input; it needs the memory of every value on the way. torch does
exactly this in C++; here it is short enough to read, on numbers and on arrays of either library. What was broadcast on
the way forward is summed on the way back, since it was used many times.

Where one is equal to the other, maximum gives all to the first, as the rules of max pooling here do. Good for learning
and for checks; slow for anything else.

Rumelhart, Hinton, Williams 1986; Linnainmaa 1970; Stanford CS231n, notes on back-propagation, "Intuitions".
"""

from collections.abc import Callable, Sequence
from math import exp, log, tanh
from typing import Any, TypeAlias

from array_api_compat import array_namespace, is_array_api_obj

Number: TypeAlias = Any
"""A number, a NumPy array or a torch tensor."""


class Value:
    """A node of the graph: a value, its parents, and how to send a gradient to them.

    Attributes:
        data: the value; a number, a NumPy array or a torch tensor.
        grad: the derivative of what `backward` was called on, zero before.
        parents: the nodes this one was made of.
        operation: its name.

    >>> x, y, z = Value(-2), Value(5), Value(-4)
    >>> f = (x + y) * z
    >>> f.backward()
    >>> f.data, x.grad, y.grad, z.grad
    (-12, -4, -4, 3)
    """

    __array_ufunc__ = None  # an array on the left leaves the operation to us

    def __init__(self, data: Number, parents: Sequence["Value"] = (), operation: str = "input") -> None:
        self.data, self.parents, self.operation = data, tuple(parents), operation
        self.grad: Number = data * 0
        self.send: Callable[[Number], Sequence[Number]] = lambda gradient: ()

    def __repr__(self) -> str:
        return f"Value({self.operation}: {self.data})"

    def __add__(self, other: Any) -> "Value":
        return _node("add", self.data + _data(other), (self, other), lambda g: (g, g))

    def __mul__(self, other: Any) -> "Value":
        a, b = self.data, _data(other)
        return _node("multiply", a * b, (self, other), lambda g: (g * b, g * a))

    def __pow__(self, power: float) -> "Value":
        x = self.data
        return _node("power", x**power, (self,), lambda g: (g * power * x ** (power - 1),))

    def __matmul__(self, other: Any) -> "Value":
        a, b = self.data, _data(other)
        return _node("matmul", a @ b, (self, other), lambda g: (g @ b.T, a.T @ g))

    def __rmatmul__(self, other: Any) -> "Value":
        return Value(other) @ self

    def __neg__(self) -> "Value":
        return _node("negate", -self.data, (self,), lambda g: (-g,))

    def __sub__(self, other: Any) -> "Value":
        return self + -other

    def __truediv__(self, other: Any) -> "Value":
        return self * _value(other).reciprocal()

    def __rsub__(self, other: Any) -> "Value":
        return -self + other

    def __rtruediv__(self, other: Any) -> "Value":
        return self.reciprocal() * other

    __radd__, __rmul__ = __add__, __mul__

    def reciprocal(self) -> "Value":
        """1 / x."""
        out = 1 / self.data
        return _node("reciprocal", out, (self,), lambda g: (-g * out**2,))

    def exp(self) -> "Value":
        """The exponential, which is its own derivative."""
        out = array_namespace(self.data).exp(self.data) if is_array_api_obj(self.data) else exp(self.data)
        return _node("exp", out, (self,), lambda g: (g * out,))

    def log(self) -> "Value":
        """The natural logarithm."""
        x = self.data
        out = array_namespace(x).log(x) if is_array_api_obj(x) else log(x)
        return _node("log", out, (self,), lambda g: (g / x,))

    def sigmoid(self) -> "Value":
        """A gate of its own: a whole chain of nodes whose derivative is s (1 − s).

        >>> x = Value(1.0)
        >>> x.sigmoid().backward()
        >>> round(x.grad, 4)
        0.1966
        """
        out = 0.5 * (1 + (0.5 * self).tanh().data)  # never overflows
        return _node("sigmoid", out, (self,), lambda g: (g * out * (1 - out),))

    def tanh(self) -> "Value":
        """The hyperbolic tangent."""
        out = array_namespace(self.data).tanh(self.data) if is_array_api_obj(self.data) else tanh(self.data)
        return _node("tanh", out, (self,), lambda g: (g * (1 - out**2),))

    def maximum(self, other: Any) -> "Value":
        """The larger of two; the gradient goes to it alone.

        >>> x, y = Value(4), Value(2)
        >>> x.maximum(y).backward()
        >>> x.grad, y.grad
        (1, 0)
        """
        a, b = self.data, _data(other)
        first = (a >= b) * 1
        return _node("maximum", a * first + b * (1 - first), (self, other), lambda g: (g * first, g * (1 - first)))

    def relu(self) -> "Value":
        """The positive part."""
        positive = (self.data > 0) * 1
        return _node("relu", self.data * positive, (self,), lambda g: (g * positive,))

    def sum(self) -> "Value":
        """All numbers of an array added up."""
        x = self.data
        return _node("sum", x.sum(), (self,), lambda g: (g + x * 0,))

    def graph(self) -> list["Value"]:
        """All nodes that this one depends on and itself, each after its parents.

        >>> [node.operation for node in (Value(2) * Value(3) + 1).graph()]
        ['input', 'input', 'multiply', 'input', 'add']
        """
        order: list[Value] = []
        seen: set[int] = set()
        waiting: list[tuple[Value, bool]] = [(self, False)]
        while waiting:  # no recursion: a long chain would be too deep for it
            node, parents_done = waiting.pop()
            if parents_done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                waiting.append((node, True))
                waiting.extend((parent, False) for parent in reversed(node.parents))
        return order

    def backward(self, upstream: Number = 1) -> None:
        """Find the derivative of this value by every node it depends on, into their `grad`.

        Args:
            upstream: what arrives here; a number, or an array like the value.
        """
        order = self.graph()
        for node in order:
            node.grad = node.data * 0
        self.grad = self.grad + upstream
        for node in reversed(order):
            for parent, gradient in zip(node.parents, node.send(node.grad), strict=True):
                parent.grad = parent.grad + _like(gradient, parent.data)


def _node(operation: str, data: Number, parents: Sequence[Any], send: Callable[[Number], Sequence[Number]]) -> Value:
    node = Value(data, [_value(parent) for parent in parents], operation)
    node.send = send
    return node


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else Value(x)


def _data(x: Any) -> Number:
    return x.data if isinstance(x, Value) else x


def _like(gradient: Number, data: Number) -> Number:
    """A gradient summed over the axes along which the value was repeated."""
    shape, wide = _shape(data), _shape(gradient)
    if wide == shape:
        return gradient
    xp = array_namespace(gradient)
    if len(wide) > len(shape):
        gradient = xp.sum(gradient, axis=tuple(range(len(wide) - len(shape))))
    repeated = tuple(axis for axis, side in enumerate(shape) if side == 1 and gradient.shape[axis] != 1)
    return xp.sum(gradient, axis=repeated, keepdims=True) if repeated else gradient


def _shape(x: Number) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))
