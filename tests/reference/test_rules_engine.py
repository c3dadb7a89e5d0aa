"""The tiny engine against the course notes' worked circuits and against torch's autograd."""

from math import exp
from typing import Any

import numpy as np
import pytest
import torch

from engram.rules.engine import Value


def test_the_circuit_of_three() -> None:
    x, y, z = Value(-2), Value(5), Value(-4)
    q = x + y
    f = q * z
    f.backward()
    assert (q.data, f.data) == (3, -12)
    assert (x.grad, y.grad, z.grad, q.grad) == (-4, -4, 3, -4)


def test_the_sigmoid_neuron_gate_by_gate() -> None:
    w0, x0, w1, x1, w2 = (Value(float(one)) for one in (2, -1, -3, -2, -3))
    first, second = w0 * x0, w1 * x1
    both = first + second
    dot = both + w2
    negative = dot * -1
    power = negative.exp()
    total = power + 1
    f = total.reciprocal()
    f.backward()
    nodes = [w0, x0, w1, x1, w2, first, second, both, dot, negative, power, total, f]
    values = [2.0, -1.0, -3.0, -2.0, -3.0, -2.0, 6.0, 4.0, 1.0, -1.0, 0.37, 1.37, 0.73]
    assert [node.data for node in nodes] == pytest.approx(values, abs=0.006)
    assert [negative.grad, power.grad, total.grad, f.grad] == pytest.approx([-0.2, -0.53, -0.53, 1.0], abs=0.006)
    assert [w0.grad, w1.grad, w2.grad] == pytest.approx([-0.2, -0.39, 0.2], abs=0.006)
    assert [x0.grad, x1.grad] == pytest.approx([0.39, -0.59], abs=0.006)
    whole = (w0 * x0 + w1 * x1 + w2).sigmoid()
    assert whole.data == pytest.approx(f.data, rel=1e-14)
    gradients = [node.grad for node in nodes[:5]]
    whole.backward()
    assert [node.grad for node in nodes[:5]] == pytest.approx(gradients, rel=1e-12)


def test_the_staged_expression() -> None:
    x, y = Value(3.0), Value(-4.0)
    f = (x + y.sigmoid()) / (x.sigmoid() + (x + y) ** 2)
    f.backward()
    assert f.data == pytest.approx(1.5456448841066441, rel=1e-10)
    assert x.grad == pytest.approx(2.0595697955721652, rel=1e-10)
    assert y.grad == pytest.approx(1.5922327514838093, rel=1e-10)


def test_the_three_gates() -> None:
    x, y = Value(4), Value(2)
    x.maximum(y).backward()
    assert (x.grad, y.grad) == (1, 0)
    y.maximum(x).backward()
    assert (x.grad, y.grad) == (1, 0)
    x.maximum(4).backward()
    assert x.grad == 1  # of equals the first
    (x + y).backward(3)
    assert (x.grad, y.grad) == (3, 3)
    (x * y).backward(3)
    assert (x.grad, y.grad) == (6, 12)


def test_a_value_used_twice_adds_up_and_a_second_pass_begins_anew() -> None:
    x = Value(3.0)
    f = x * x + x
    for _ in range(2):
        f.backward()
        assert x.grad == 7


def test_every_node_comes_after_its_parents_and_once() -> None:
    x = Value(2.0)
    a = x * x
    f = (a + x) * a
    order = f.graph()
    assert len(order) == len({id(node) for node in order}) == 4
    for place, node in enumerate(order):
        assert all(parent in order[:place] for parent in node.parents)
    f.backward()
    assert x.grad == pytest.approx(4 * 2**3 + 3 * 2**2)


def test_a_long_chain_needs_no_deep_stack() -> None:
    x = f = Value(1.0)
    for _ in range(5000):
        f = f + 1
    f.backward()
    assert x.grad == 1


def test_extremes() -> None:
    for x, sigma in ((-1000.0, 0.0), (1000.0, 1.0)):
        value = Value(x)
        out = value.sigmoid()
        out.backward()
        assert (out.data, value.grad) == (sigma, 0.0)
    assert repr(Value(2) * 3) == "Value(multiply: 6)"


def expression(a: Any, b: Any, c: Any, w: Any) -> Any:
    """Every operation, on arrays that are broadcast; runs on Value and on torch tensors alike."""
    hidden = ((a @ w + b) / 3 - 0.5).tanh()  # (4, 3)
    gate = (hidden * c + 1.0).sigmoid() ** 3
    other = (1 - gate).relu() + (2 / (c * c + 1)) - hidden
    return ((gate * other + (-hidden).exp()) * 1.5 + (c * c + 2).log()).maximum(gate * 0.2).sum()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_equals_autograd_on_arrays(library: str) -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = [(4, 5), (3,), (4, 1), (5, 3)]
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in shapes]
    expected = expression(*tensors)
    expected.backward()
    values = [Value(one.detach().numpy() if library == "numpy" else one.detach()) for one in tensors]
    out = expression(*values)
    out.backward()
    np.testing.assert_allclose(out.data, expected.detach(), rtol=1e-13)
    for value, tensor in zip(values, tensors, strict=True):
        np.testing.assert_allclose(value.grad, tensor.grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_arrays_on_the_left(library: Any) -> None:
    array = library([[1.0, 2.0]])
    x = Value(library([[3.0], [4.0]]))
    out = (array @ x) * library([[2.0]]) + library([[1.0]])
    out.backward(library([[1.0]]))
    assert out.data.tolist() == [[23]]
    assert x.grad.tolist() == [[2], [4]]
    x = Value(library([3.0]))
    for f, value, slope in (
        (library([2.0]) * x, 6, 2),
        (library([2.0]) + x, 5, 1),
        (library([2.0]) - x, -1, -1),
        (library([6.0]) / x, 2, -2 / 3),
        (x.exp(), exp(3), exp(3)),
    ):
        f.backward()
        assert f.data.tolist() == pytest.approx([value])
        assert x.grad.tolist() == pytest.approx([slope])
