"""A pair as an operation of torch: several outputs, settings, absent biases, integers, and what it refuses."""

import pytest
import torch
from torch import Tensor

from engram import rules
from engram.errors import UserError
from engram.rules.function import function, loss_function


def test_several_outputs_and_integers() -> None:
    """Gradients go to the floating-point tensors in their order; several outputs bring several upstreams."""

    def forward(places: Tensor, a: Tensor, b: Tensor, *, factor: float) -> tuple[Tensor, Tensor, tuple]:
        return a[places] * factor, a[places] * b, (places, a, b, factor)

    def backward(first: Tensor, second: Tensor, cache: tuple) -> tuple[Tensor, Tensor]:
        places, a, b, factor = cache
        da = torch.zeros_like(a).index_add(0, places, first * factor + second * b)
        return da, (second * a[places]).sum()

    a, b = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.tensor(2.0).double().requires_grad_()
    places = torch.tensor([0, 3, 3])
    operation = function(forward, backward)
    assert torch.autograd.gradcheck(lambda a, b: operation(places, a, b, factor=3.0), (a, b))


def test_the_bias_may_be_none() -> None:
    x, w = (torch.randn(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    affine = function(rules.affine_forward, rules.affine_backward)
    assert torch.autograd.gradcheck(lambda x, w: affine(x, w, None), (x, w))
    assert affine.__name__ == "affine"
    assert affine.__doc__ == rules.affine_forward.__doc__


def test_only_what_wants_a_gradient_gets_one() -> None:
    x, w = torch.ones(2, 3), torch.ones(3, 4, requires_grad=True)
    affine = function(rules.affine_forward, rules.affine_backward)
    assert not affine(x, x.T).requires_grad
    affine(x, w, torch.zeros(4)).sum().backward()
    assert x.grad is None
    assert w.grad is not None


def test_the_gradient_of_a_gradient_is_refused() -> None:
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    out = function(rules.tanh_forward, rules.tanh_backward)(x).sum()
    with pytest.raises(UserError, match="the gradient of a gradient"):
        torch.autograd.grad(out, x, create_graph=True)


def test_a_loss_is_scaled_by_what_stands_behind_it() -> None:
    x, y = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 1, 1])
    loss = loss_function(rules.svm_loss)
    assert loss.__name__ == "svm_loss"
    (3 * loss(x, y, delta=2.0)).backward()
    torch.testing.assert_close(x.grad, 3 * rules.svm_loss(x.detach(), y, delta=2.0)[1])


def test_it_trains_a_network() -> None:
    """Two layers of rules under torch's own optimiser learn exclusive or."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([0, 1, 1, 0])
    weights = [torch.randn(shape, generator=rng).requires_grad_() for shape in ((2, 8), (8,), (8, 2), (2,))]
    layer = function(rules.affine_relu_forward, rules.affine_relu_backward)
    last, loss = function(rules.affine_forward, rules.affine_backward), loss_function(rules.softmax_loss)
    optimizer = torch.optim.Adam(weights, lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss(last(layer(x, *weights[:2]), *weights[2:]), y).backward()
        optimizer.step()
    assert last(layer(x, *weights[:2]), *weights[2:]).argmax(1).tolist() == y.tolist()
